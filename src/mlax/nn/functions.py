"""Functions as layers: `F`, and activations with parameters, `PReLU`."""

from collections.abc import Callable
from typing import Generic, ParamSpec, Self, TypeVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from mlax._module.module import Module
from mlax._module.nodes import Parameter
from mlax.nn._fields import check_dtype
from mlax.nn.init import constant
from mlax.tree import describe

__all__ = ["F", "PReLU"]

P = ParamSpec("P")
R = TypeVar("R", covariant=True)


class F(Module, Generic[P, R]):
    """A function as a layer: `nn.F(jax.nn.relu)`, wherever a module is expected.

    Equinox calls it `Lambda`; `nn.F(lambda x: x)` is its `Identity`.

    Args:
        function: Any function of arrays. Arguments that are not arrays are bound first:
            `functools.partial(jnp.reshape, shape=(-1,))`.
    """

    function: Callable[P, R]

    def forward(self, *args: P.args, **kwargs: P.kwargs) -> tuple[R, Self]:
        """Return the function's result."""
        return self.function(*args, **kwargs), self


class PReLU(Module):
    """`max(x, 0) + slope * min(x, 0)`, with a trained slope (He et al., 2015).

    Args:
        slope: Shape (), or (channels,) for one of each channel. By default 0.25, shape ().
    """

    slope: Parameter[Float[Array, "*channels"]] = Parameter()

    def set_up(self, x: Float[Array, "*shape"]) -> Self:
        """Make the slope, in the dtype of the input."""
        return self.replace(slope=self.slope.made(None, (), constant(0.25), x.dtype))

    def forward(self, x: Float[Array, "*shape"]) -> tuple[Float[Array, "*shape"], Self]:
        """Return the activation of each element."""
        check_dtype(self, x, "slope")
        if self.slope.data.shape not in ((), x.shape[-1:]):
            raise ValueError(
                f"PReLU: the slope is {describe(self.slope.data)}, neither one number nor one for each channel of "
                f"{describe(x)}"
            )
        return jnp.where(x >= 0, x, self.slope.data * x), self
