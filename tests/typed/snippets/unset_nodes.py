"""Unset nodes that know how they are made, and what makes them."""

from typing import Any, Self, assert_type

import jax
import jax.numpy as jnp
from jax.nn import initializers
from jaxtyping import Array, Float

from mlax import Module, Parameter, Variable, nn
from mlax.nn.init import he_normal, normal, zeros


def my_init(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    return jax.random.normal(key, shape, dtype)


class Dense(Module):
    """Nodes with and without an init and a dtype."""

    width: int
    kernel: Parameter[Float[Array, "in out"]] = Parameter(init=he_normal, dtype=jnp.bfloat16)
    bias: Parameter[Float[Array, "out"]] = Parameter(init=zeros, frozen=True)
    scale: Parameter = Parameter(init=initializers.ones)
    mean: Variable[Float[Array, "out"]] = Variable(init=my_init, dtype="float32")
    state: Variable[dict[str, Array]] = Variable()
    kernel_init: nn.init.Initializer = normal(0.02)

    def set_up(self, x: Float[Array, "in"], rng: Array | None) -> Self:
        kernel = self.kernel.made(rng, (x.size, self.width), self.kernel_init, x.dtype)
        assert_type(kernel, Parameter[Float[Array, "in out"]])
        bias = self.bias.made(None, [self.width], zeros, float)
        scale = self.scale.made(rng, x.shape, initializers.he_normal(), jnp.float32)
        mean = self.mean.made(rng, x.shape, my_init, "float32")
        assert_type(mean, Variable[Float[Array, "out"]])
        return self.replace(kernel=kernel, bias=bias, scale=scale, mean=mean)

    def forward(self, x: Float[Array, "in"]) -> tuple[Float[Array, "out"], Self]:
        return x @ self.kernel.data + self.bias.data, self


def nodes(key: Array, node: Parameter) -> None:
    Dense(3)
    Dense(3, kernel=Parameter(init=normal(0.1)), bias=Parameter(dtype=jnp.float16))
    Dense(3, kernel_init=initializers.he_normal())
    assert_type(Parameter(init=he_normal), Parameter[Array])
    assert_type(Variable(dtype=jnp.int32), Variable[Array])
    Parameter(jnp.ones(3), init=he_normal)  # error: reportCallIssue // call-overload
    Variable(0, dtype=jnp.int8)  # error: reportCallIssue // call-overload
    Parameter(init=3)  # error: reportArgumentType // call-overload
    Parameter(he_normal, frozen=1)  # error: reportCallIssue, reportArgumentType // call-overload
    node.made(key, (3,))  # error: reportCallIssue // call-arg
    node.made(key, 3, zeros, float)  # error: reportArgumentType // arg-type
    node.made(key, (3,), 1.0, float)  # error: reportArgumentType // arg-type


def initializers_are_values(key: Array) -> None:
    assert_type(he_normal(key, (2, 3), jnp.float32), Array)
    assert_type(zeros(None, (2,)), Array)
    nn.init.variance_scaling(1.0, "fan_in", "normal", in_axis=(0, 1))
    nn.init.variance_scaling(1.0, "fan", "normal")  # error: reportArgumentType // arg-type
    nn.init.normal("big")  # error: reportArgumentType // arg-type
    nn.init.uniform(0.0)  # error: reportCallIssue // call-arg
    normal(0.1).stddev = 0.2  # error: reportAttributeAccessIssue // misc
