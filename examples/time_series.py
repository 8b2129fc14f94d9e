"""A recurrent net forecasts the voltage of a nerve cell, with half the error of the last value.

The recording comes with matplotlib, as scikit-learn and Python have no time series. A current makes the cell fire: in a
regular way for three seconds, then in an irregular one, in which forecasts of a period before are worst of all. The
first 80 % are learnt, the rest is forecast. `make examples` runs this, or `python examples/time_series.py`.
"""

from pathlib import Path
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib import cbook
from time_series_picture import save_picture
from tqdm import trange

import mlax
from mlax import Module, losses, nn, optim

STEP = 2  # ms
HORIZON = 16  # how many steps ahead are forecast
PERIOD = 36  # from one spike to the next, while the cell fires regularly
WINDOW = 200  # the net learns from pieces of that many steps
PICTURE = Path("out/time_series.png")

Forecasts = Float[Array, "time 16"]


class Forecaster(Module):
    """Map a series to forecasts of the next values at each of its steps."""

    memory: nn.Recurrent[nn.GRUCell]
    head: nn.Linear

    def forward(self, series: Float[Array, "time"]) -> tuple[Forecasts, Self]:
        changes, self = self.chain(series[:, None], self.memory, self.head)
        return series[:, None] + changes, self


def recording() -> Float[Array, "time"]:
    """Return the voltage in mV, at each step from the start of the current to its end."""
    path = cbook.get_sample_data("membrane.dat", asfileobj=False)
    volts = np.fromfile(path, np.float32).reshape(-1, 4).mean(axis=1)  # there are 4 values in 2 ms
    return jnp.asarray(100 * volts)[260:2730]


def next_values(series: Float[Array, "all"]) -> Forecasts:
    """Return what is to be forecast, at each step that is followed by enough of them."""
    return series[jnp.arange(len(series) - HORIZON)[:, None] + 1 + jnp.arange(HORIZON)]


def loss_fn(
    model: Forecaster, series: Float[Array, "batch time"]
) -> tuple[Float[Array, ""], Forecaster]:
    """Return the mean squared error of all forecasts."""
    forecasts, model = jax.vmap(model, out_axes=(0, None))(series[:, :-HORIZON])
    return losses.squared_error(forecasts, jax.vmap(next_values)(series)), model


@jax.jit(static_argnames="optimizer", donate_argnames=("model", "state"))
def train_step(
    model: Forecaster,
    state: optim.adamw.State[Forecaster],
    optimizer: optim.AdamW,
    series: Float[Array, "batch time"],
) -> tuple[Forecaster, optim.adamw.State[Forecaster], Array]:
    """Return model and state after one step, and the loss; the old ones are donated."""
    (loss, model), gradients = mlax.value_and_grad(loss_fn)(model, series)
    model, state = optimizer.update(model, gradients, state)
    return model, state, loss


def train(
    series: Float[Array, "time"], steps: int = 400, features: int = 64, batch: int = 16
) -> Forecaster:
    """Return a model that has learnt a series."""
    model = Forecaster(nn.Recurrent(nn.GRUCell(features)), nn.Linear(HORIZON))
    model = mlax.set_up(model, series, rng=jax.random.key(0))
    print(mlax.summary(model, series))
    optimizer = optim.AdamW(optim.cosine_decay(5e-3, steps))
    state = optimizer.init(model)
    for step in (progress := trange(steps, unit=" steps")):
        starts = jax.random.randint(jax.random.key(step), (batch, 1), 0, len(series) - WINDOW)
        model, state, loss = train_step(
            model, state, optimizer, series[starts + jnp.arange(WINDOW)]
        )
        progress.set_postfix(loss=f"{loss:.3f}", refresh=False)
    return model


def main(steps: int = 400, features: int = 64) -> dict[str, Float[Array, "16"]]:
    """Train, draw, and return the errors of the net and of two simple ways, by how far they look ahead, in mV."""
    voltage = recording()
    learnt = len(voltage) * 4 // 5
    mean, deviation = voltage[:learnt].mean(), voltage[:learnt].std()
    series = (voltage - mean) / deviation
    model = train(series[:learnt], steps, features)
    truth = next_values(voltage)
    forecasts = {
        "recurrent net": deviation * model(series[:-HORIZON])[0] + mean,
        "last value": jnp.broadcast_to(voltage[:-HORIZON, None], truth.shape),
        "value a period before": jnp.roll(truth, PERIOD, axis=0),
    }
    errors = {name: jnp.abs(x - truth)[learnt:].mean(axis=0) for name, x in forecasts.items()}
    for name, error in errors.items():
        print(f"{name:21}  mean error {error.mean():4.1f} mV")
    save_picture(PICTURE, STEP, voltage[learnt:], forecasts["recurrent net"][learnt:], errors)
    print(f"Picture: {PICTURE}")
    return errors


if __name__ == "__main__":
    main()
