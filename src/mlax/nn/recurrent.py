"""Recurrent networks: `GRUCell`, `LSTMCell`, and what runs a cell over a sequence, `Recurrent` and `Bidirectional`."""

import functools
from abc import abstractmethod
from dataclasses import KW_ONLY
from typing import Any, Generic, Self, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mlax._jax.trees import leaves, map_leaves
from mlax._module.module import Module
from mlax._module.nodes import Parameter, is_variable
from mlax._module.set_up import set_up as set_up_model
from mlax._module.unset import holds_unset
from mlax.nn import _inside
from mlax.nn._fields import at_least, check_dtype, made
from mlax.nn._methods import as_call
from mlax.nn.init import lecun_normal, orthogonal, zeros

__all__ = ["Bidirectional", "Cell", "GRUCell", "LSTMCell", "Recurrent"]

_State: TypeAlias = Float[Array, "{self.features}"]
_LSTMCarry: TypeAlias = tuple[_State, _State]
N = TypeVar("N", bound="Cell")


class Cell(Module):
    """Base class of recurrent cells: one step of a sequence.

    A cell defines `forward(x, carry)`, which returns its output with the next carry, and `initial_carry`. A sequence
    that the cell attends to in all steps is a part of the carry, which `forward` returns as it is.
    """

    @abstractmethod
    def initial_carry(self, x: Any) -> Any:
        """Return the carry of the first step, for an input (of which only shapes and dtypes are used)."""

    @abstractmethod
    def forward(self, x: Any, carry: Any) -> tuple[tuple[Any, Any], Self]:
        """Return the output of a step and the next carry."""


class GRUCell(Cell):
    """A step of a gated recurrent unit (Cho et al., 2014).

    As in PyTorch, with `r, z` for the gates and `n` for the candidate:
    `n = tanh(x @ kernel_n + bias_n + r * (h @ recurrent_n + candidate_bias))`, `h' = (1 - z) * n + z * h`.

    Args:
        features: Size of the state.
        kernel: Weights of the input for r, z and n, shape (in, 3 * features). By default LeCun normal.
        recurrent: Weights of the state, shape (features, 3 * features). By default orthogonal.
        bias: Shape (3 * features,). By default zeros; None for none.
        candidate_bias: Shape (features,), likewise.
    """

    features: int
    _: KW_ONLY
    kernel: Parameter[Float[Array, "in 3*{self.features}"]] = Parameter()
    recurrent: Parameter[Float[Array, "{self.features} 3*{self.features}"]] = Parameter()
    bias: Parameter[Float[Array, "3*{self.features}"]] | None = Parameter()
    candidate_bias: Parameter[Float[Array, "{self.features}"]] | None = Parameter()

    def __check__(self) -> None:
        at_least(self, 1, "features")

    def initial_carry(self, x: Float[Array, "in"]) -> Float[Array, "{self.features}"]:
        """Return zeros in the dtype of the input, on its devices."""
        return jnp.zeros_like(x, shape=(self.features,))

    def set_up(self, x: Float[Array, "in"], rng: Array) -> Self:
        """Make the weights, in the dtype of the input."""
        new, key = _with_weights(self, x, rng, 3)
        bias = made(self.candidate_bias, key, (self.features,), zeros, x.dtype)
        return new.replace(candidate_bias=bias)

    def forward(
        self, x: Float[Array, "in"], carry: Float[Array, "{self.features}"]
    ) -> tuple[tuple[Float[Array, "{self.features}"], Float[Array, "{self.features}"]], Self]:
        """Return the state twice, as output and as carry."""
        check_dtype(self, x, "kernel", "recurrent", "bias", "candidate_bias")
        check_dtype(self, carry, "recurrent", what="carry")
        of_input = _affine(x, self.kernel, self.bias)
        of_state = carry @ self.recurrent.data
        n = self.features
        reset, update = jnp.split(jax.nn.sigmoid(of_input[: 2 * n] + of_state[: 2 * n]), 2)
        inner = of_state[2 * n :]
        if self.candidate_bias is not None:
            inner = inner + self.candidate_bias.data
        candidate = jnp.tanh(of_input[2 * n :] + reset * inner)
        state = (1 - update) * candidate + update * carry
        return (state, state), self


class LSTMCell(Cell):
    """A step of a long short-term memory (Hochreiter and Schmidhuber, 1997), with a forget gate.

    As in PyTorch: `c' = sigmoid(f) * c + sigmoid(i) * tanh(g)`, `h' = sigmoid(o) * tanh(c')`. The carry is `(h, c)`.

    Args:
        features: Size of the state.
        kernel: Weights of the input for i, f, g and o, shape (in, 4 * features). By default LeCun normal.
        recurrent: Weights of the state, shape (features, 4 * features). By default orthogonal.
        bias: Shape (4 * features,). By default zeros; None for none.
    """

    features: int
    _: KW_ONLY
    kernel: Parameter[Float[Array, "in 4*{self.features}"]] = Parameter()
    recurrent: Parameter[Float[Array, "{self.features} 4*{self.features}"]] = Parameter()
    bias: Parameter[Float[Array, "4*{self.features}"]] | None = Parameter()

    def __check__(self) -> None:
        at_least(self, 1, "features")

    def initial_carry(self, x: Float[Array, "in"]) -> _LSTMCarry:
        """Return zeros in the dtype of the input, on its devices."""
        zero = jnp.zeros_like(x, shape=(self.features,))
        return zero, zero

    def set_up(self, x: Float[Array, "in"], rng: Array) -> Self:
        """Make the weights, in the dtype of the input."""
        new, _ = _with_weights(self, x, rng, 4)
        return new

    def forward(
        self, x: Float[Array, "in"], carry: _LSTMCarry
    ) -> tuple[tuple[Float[Array, "{self.features}"], _LSTMCarry], Self]:
        """Return the output and the next carry."""
        check_dtype(self, x, "kernel", "recurrent", "bias")
        hidden, cell = carry
        check_dtype(self, hidden, "recurrent", what="carry")
        check_dtype(self, cell, "recurrent", what="carry")
        gates = _affine(x, self.kernel, self.bias) + hidden @ self.recurrent.data
        i, f, g, o = jnp.split(gates, 4)
        cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
        hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
        return (hidden, (hidden, cell)), self


def _with_weights(cell: N, x: Any, rng: Array, gates: int) -> tuple[N, Array]:
    """Return a cell with kernel, recurrent and bias, and a key that was not used."""
    kernel, recurrent, bias, rest = jax.random.split(rng, 4)
    of: Any = cell
    n: int = of.features
    new: N = of.replace(
        kernel=of.kernel.made(kernel, (x.shape[-1], gates * n), lecun_normal, x.dtype),
        recurrent=of.recurrent.made(recurrent, (n, gates * n), orthogonal(), x.dtype),
        bias=made(of.bias, bias, (gates * n,), zeros, x.dtype),
    )
    return new, rest


def _affine(x: Array, kernel: Parameter[Any], bias: Parameter[Any] | None) -> Array:
    y: Array = x @ kernel.data
    return y if bias is None else y + bias.data


C = TypeVar("C", bound=Cell, covariant=True)


class Recurrent(Module, Generic[C]):
    """Runs a cell over a sequence, by `jax.lax.scan`.

        ys, rnn = nn.Recurrent(nn.GRUCell(64))(xs)

    The cell has a key of its own in each step, and its Variables change from step to step.

    Args:
        cell: The cell.
        reverse: Whether the sequence is run through from its end. Outputs stand where their inputs do.
    """

    cell: C
    _: KW_ONLY
    reverse: bool = False

    @property
    def is_set_up(self) -> bool:
        """Whether the cell is."""
        return not holds_unset(self.cell)

    def set_up(self, x: Any, rng: Array, carry: Any = None) -> Self:
        """Set up the cell from the first step."""
        first = _inside.sample(x, first=True)
        carry = jax.eval_shape(lambda: self.cell.initial_carry(first)) if carry is None else carry
        cell = set_up_model(self.cell, first, _inside.sample(carry), rng=rng)
        return self.replace(cell=cell)

    def forward(
        self, x: Any, carry: Any = None, *, length: Int[Array, ""] | int | None = None
    ) -> tuple[Any, Self]:
        """Return the outputs of all steps.

        Args:
            x: An array, or a PyTree of arrays, with time as first axis.
            carry: The carry of the first step. By default `cell.initial_carry`.
            length: How many steps are not padding. Outputs of the others are 0, and the carry stays as it is.
        """
        (outputs, _), self = self.run(x, carry, length=length)
        return outputs, self

    @as_call
    def run(
        self, x: Any, carry: Any = None, *, length: Int[Array, ""] | int | None = None
    ) -> tuple[tuple[Any, Any], Self]:
        """Return the outputs of all steps with the last carry, as `forward` does without it."""
        key, steps = _inside.key_of_call(), _steps(x)
        cell: Any = self.cell
        if carry is None:
            first = map_leaves(lambda a: jnp.zeros_like(a, shape=a.shape[1:]), x)
            carry = cell.initial_carry(first)
        variables, rest = cell.partition(is_variable)

        def step(before: Any, inputs: Any) -> Any:
            carry, variables = before
            x, i = inputs
            if (
                length is not None
            ):  # a gradient of 0 times what the cell makes of padding could be NaN
                x = map_leaves(lambda a: jnp.where(i < length, a, jnp.zeros_like(a)), x)
            (y, new), after = _inside.call(
                self, "cell", rest.combine(variables), (x, carry), key=_inside.folded(key, i)
            )
            _inside.check_same("Recurrent: the cell's next carry", "the one before", carry, new)
            new = new, after.filter(is_variable)
            if length is not None:
                is_real = i < length
                new = jax.tree.map(functools.partial(jnp.where, is_real), new, before)
                y = map_leaves(lambda a: jnp.where(is_real, a, jnp.zeros_like(a)), y)
            return new, y

        (carry, variables), outputs = jax.lax.scan(
            step, (carry, variables), (x, jnp.arange(steps)), reverse=self.reverse
        )
        return (outputs, carry), self.replace(cell=rest.combine(variables))


def _steps(x: Any) -> int:
    lengths: set[Any] = {leaf.shape[0] if leaf.ndim else None for leaf in leaves(x)}
    if len(lengths) != 1 or None in lengths:
        raise ValueError(
            f"Recurrent takes arrays with time as first axis, of one length, got {_inside.sample(x)}"
        )
    return int(lengths.pop())


class Bidirectional(Module):
    """Runs one cell from the start and one from the end of a sequence, and joins their outputs along the last axis.

    Args:
        ahead: The cell that runs from the start.
        back: The cell that runs from the end.
    """

    ahead: Recurrent[Cell]
    back: Recurrent[Cell]

    def __init__(self, ahead: Cell, back: Cell) -> None:
        super().__init__(ahead=Recurrent(ahead), back=Recurrent(back, reverse=True))

    def forward(
        self, x: Any, *, length: Int[Array, ""] | int | None = None
    ) -> tuple[Float[Array, "time features"], Self]:
        """Return the outputs of both cells."""
        first, self = self.call(self.ahead, x, length=length)
        second, self = self.call(self.back, x, length=length)
        return jnp.concatenate([first, second], axis=-1), self
