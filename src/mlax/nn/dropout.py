"""`Dropout`."""

from typing import Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from mlax._jax.transforms import jit
from mlax._module.module import Module
from mlax.nn._fields import AxisNames, example_key, fraction

__all__ = ["Dropout"]


class Dropout(Module):
    """Sets random elements to 0 in training, and divides the others by `1 - rate` (Srivastava et al., 2014).

    Where the axis of the examples has a name, as in `nn.Batched`, each example draws its own elements from one
    key. Under a plain `jax.vmap`, examples that are given the same key lose the same elements.

    Args:
        rate: Probability that an element is set to 0: at least 0, less than 1.
    """

    rate: float = 0.5

    def __check__(self) -> None:
        fraction(self, "rate")

    def forward(
        self,
        x: Inexact[Array, "*shape"],
        rng: Array | None = None,
        inference_mode: bool = False,
        batch_axis_name: AxisNames = (),
    ) -> tuple[Inexact[Array, "*shape"], Self]:
        """Return the array, with elements set to 0 in training.

        Args:
            x: One example.
            rng: PRNG key, shape (). Not needed in inference, or if `rate` is 0.
            inference_mode: Whether to return the array as it is.
            batch_axis_name: Name of the axis that examples are mapped over, or a tuple of names.

        Raises:
            ValueError: There is no key.
        """
        if inference_mode or self.rate == 0:
            return x, self
        if rng is None:
            raise ValueError(
                "Dropout needs a key in training.\n"
                "  Give one to the call, mlax.training(model, rng=key)(x), or use mlax.inference(model)(x).\n"
                "  A child that is called directly has none: in a forward, use self.call(self.dropout, x)."
            )
        return _dropped(x, example_key(rng, batch_axis_name), self.rate), self


@jit(static_argnums=2)
def _dropped(x: Array, key: Array, rate: float) -> Array:
    keep = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(keep, x / (1 - rate), 0)
