"""What users take to other libraries and processes: a model with all that it can hold, and states of optimizers."""

import enum
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

import mlax
from mlax import Container, Module, Parameter, Variable, optim
from mlax.nn.init import he_normal, zeros

X = jnp.arange(6.0).reshape(2, 3)


class Kind(enum.Enum):
    """A choice."""

    WIDE = "wide"
    DEEP = "deep"


@dataclass(frozen=True)
class Scaled:
    """A function with a setting."""

    factor: float = 2.0

    def __call__(self, x: Array) -> Array:
        return self.factor * x


class Dense(Module):
    """An affine map and a function, made from the first input."""

    width: int
    function: Callable[[Array], Array] = jax.nn.relu
    _: KW_ONLY
    kernel: Parameter[Float[Array, "in out"]] = Parameter(init=he_normal)
    bias: Parameter[Float[Array, "out"]] = Parameter(dtype=jnp.float32)

    def set_up(self, x: Float[Array, "*batch in"], rng: Array) -> Self:
        kernel = self.kernel.made(rng, (x.shape[-1], self.width), he_normal, x.dtype)
        return self.replace(kernel=kernel, bias=self.bias.made(None, (self.width,), zeros, x.dtype))

    def forward(self, x: Float[Array, "*batch in"]) -> tuple[Float[Array, "*batch out"], Self]:
        return self.function(x @ self.kernel.data + self.bias.data), self


class Net(Module):
    """Lists, dicts, a Container, None, frozen nodes, Variables of every dtype, and static values of all kinds."""

    layers: list[Dense]
    table: dict[str, Any]
    ordered: OrderedDict[str, Variable]
    box: Container[Any]
    nothing: Parameter | None
    frozen: Parameter
    count: Variable
    key: Variable
    half: Variable
    pair: tuple[Parameter[Any], None]
    name: str
    sizes: tuple[int, ...]
    rate: float
    dtype: Any
    kind: Kind

    def __init__(self, widths: tuple[int, ...] = (4, 2)) -> None:
        self.layers = [Dense(widths[0]), Dense(widths[1], Scaled(0.5))]
        self.table = {"b": Variable(1), "a": Parameter(2.0)}
        self.ordered = OrderedDict(z=Variable(True), y=Variable(3))
        self.box = Container({"x": Parameter(jnp.ones(3))})
        self.nothing = None
        self.frozen = Parameter(jnp.arange(3), frozen=True)
        self.count = Variable(0)
        self.key = Variable(jax.random.key(0))
        self.half = Variable(jnp.ones(2, jnp.bfloat16))
        self.pair = (Parameter({"p": jnp.ones(2), "q": (jnp.zeros(1),)}), None)
        self.name = "net"
        self.sizes = widths
        self.rate = 0.1
        self.dtype = jnp.dtype("bfloat16")
        self.kind = Kind.DEEP

    def forward(self, x: Float[Array, "*batch in"]) -> tuple[Float[Array, "*batch out"], Self]:
        x, self = self.chain(x, *self.layers)
        return x, self.replace(count=Variable(self.count.data + 1))


def net() -> Net:
    """Return the model, set up."""
    return mlax.set_up(Net(), X, rng=jax.random.key(0))


ADAM = optim.Adam(1e-2)
WRAPPED = optim.AverageWeights(
    optim.ClipGradients(optim.AdamW(optim.cosine_decay(1e-2, 100)), max_norm=1.0), decay=0.9
)


def train(model: Net, state: Any, x: Array) -> tuple[Array, Net, Any]:
    """Return the loss, and model and state after one step of `WRAPPED`."""

    def loss_fn(model: Net) -> tuple[Array, Net]:
        y, model = model(x)
        return (y**2).mean(), model

    (loss, model), gradients = mlax.value_and_grad(loss_fn)(model)
    model, state = WRAPPED.update(model, gradients, state)
    return loss, model, state


def trees() -> dict[str, Any]:
    """Return trees by what they are."""
    model = net()
    return {
        "model": model,
        "state": ADAM.init(model),
        "wrapped state": WRAPPED.init(model),
        "model, state and step": (model, WRAPPED.init(model), jnp.int32(3)),
    }
