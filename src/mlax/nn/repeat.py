"""`Repeat`: a deep model whose compile time does not depend on its depth."""

import operator
from collections.abc import Callable
from dataclasses import KW_ONLY
from typing import Any, ClassVar, Generic, Self, TypeVar, overload

import jax
import jax.numpy as jnp
from jaxtyping import Array

from mlax._jax.tracing import is_tracer
from mlax._jax.trees import leaves, leaves_with_path, map_leaves
from mlax._module.module import Module
from mlax._module.nodes import is_variable
from mlax._module.set_up import set_up as set_up_model
from mlax._module.unset import holds_unset
from mlax.nn import _inside
from mlax.nn._fields import at_least, one_by_one
from mlax.nn._inside import Model, P, R, S
from mlax.nn._methods import as_call, method_of
from mlax.tree import keystr

__all__ = ["Repeat"]

M = TypeVar("M", covariant=True)
N = TypeVar("N", bound=Module)
E = TypeVar("E")
X = TypeVar("X")
Y = TypeVar("Y")
_NONE: Any = None
_jax: Any = jax  # the types of its checkpoint are partly unknown


class Repeat(Module, Generic[M]):
    """Several blocks of one kind in series, their nodes stacked along a new first axis, run by `jax.lax.scan`.

        blocks = nn.Repeat(Block(...), 24)
        y, blocks = blocks(x)

    JAX traces and compiles one block, whatever the depth. Each block has its own weights, a key of its
    own in each call, and its own Variables. The first weights of block i and its key in a call do not depend on the
    depth. A block's result has the shape and dtype of its input.

    `len(blocks)` is the depth; `blocks[i]` is one block, `blocks[i:j]` a Repeat of several, `blocks.unstack()` a tuple
    of all; `Repeat.stack(*blocks)` is the inverse, but for `remat` and `unroll`, which it takes.

    Args:
        block: A block that is not set up, which `depth` blocks are made of; or blocks that are stacked. Nodes that
            have a value before the block is set up have the same one in each block.
        depth: Number of blocks. With 0, the input is returned.
        remat: Whether the backward pass computes a block's intermediate results again, in place of keeping
            them: `jax.checkpoint`. One of `jax.checkpoint_policies` says which are kept.
        unroll: How many blocks make one step of the loop.
    """

    _stacked: ClassVar[str] = "block"
    """The field whose arrays have a new first axis, for `mlax.shardings`."""

    block: M
    depth: int
    _: KW_ONLY
    remat: bool | Callable[..., Any] = False
    unroll: int = 1

    def __check__(self) -> None:
        at_least(self, 0, "depth")
        at_least(self, 1, "unroll")
        if not self.is_set_up:
            return  # what it has already, each block will have
        for path, leaf in leaves_with_path(self.block):
            shape: tuple[int, ...] | None = getattr(leaf, "shape", None)
            if shape is not None and shape[:1] != (self.depth,):
                raise ValueError(
                    f"Repeat: block{keystr(path)} has shape {shape}, but the first axis of a stack of "
                    f"depth={self.depth} blocks has that size.\n"
                    f"  Give a block that is not set up, or make a stack of blocks: nn.Repeat.stack(*blocks)."
                )

    @property
    def is_set_up(self) -> bool:
        """Whether the blocks are."""
        return not holds_unset(self.block)

    def set_up(self, *args: Any, rng: Array, **kwargs: Any) -> Self:
        """Set up each block with a key of its own."""
        given, named = _inside.sample((args, kwargs))
        block: Any = self.block

        def make(i: Array | int) -> Any:
            return set_up_model(block, *given, rng=jax.random.fold_in(rng, i), **named)

        if self.depth == 0 or any(map(is_tracer, leaves((block, rng)))):
            return self.replace(block=jax.vmap(make)(jnp.arange(self.depth)))
        # One by one, blocks share what JAX compiles with each other and with the layers of any other model.
        return self.replace(block=_stacked(tuple(map(make, range(self.depth)))))

    def forward(
        self: "Repeat[Model[P, R, S]]", *args: P.args, **kwargs: P.kwargs
    ) -> "tuple[R, Repeat[S]]":
        """Return the result of the last block.

        The first argument is the input of the first block. All others are the same for each block.
        """
        layer: Any = self
        if not args and "x" not in kwargs:
            raise TypeError("Repeat: the first argument is missing, the input of the first block")
        y, layer = layer._forward(*args, **kwargs)
        return y, layer

    def _forward(self, x: Any, *args: Any, **kwargs: Any) -> tuple[Any, Self]:
        def call(block: Any, key: Array | None, x: Any, _: None) -> Any:
            y, block = _inside.call(self, "block", block, (x, *args), kwargs, key=key)
            return (y, None), block

        (y, _), self = self._run(call, x, None)
        return y, self

    @as_call
    def scan(
        self, method: Callable[[M, X, E], tuple[tuple[X, Y], Any]], x: X, each: E = _NONE
    ) -> tuple[tuple[X, Y], Self]:
        """Call another method of each block in turn, with an input of its own: `blocks.scan(Block.decode, x, caches)`.

        Args:
            method: A method of the block's class or a function, called as `method(block, x, of_block)`, which returns
                `((x, result), block)`.
            x: Input of the first block.
            each: An array or a PyTree of arrays whose first axis are the blocks.

        Returns:
            The pair of the last block's `x` and of the stacked results; and the Repeat with changed Variables.
        """
        function = method_of("Repeat.scan", self.block, method)

        def call(block: Any, key: Array | None, x: Any, of_block: Any) -> Any:
            return _inside.call(self, "block", block, (x, of_block), key=key, method=function)

        return self._run(call, x, each)

    def _run(self, call: Callable[..., Any], x: Any, each: Any) -> tuple[tuple[Any, Any], Self]:
        """Call each block by `call(block, key, x, of_block)`, which returns `((x, result), block)`."""
        key = _inside.key_of_call()
        block: Any = self.block
        variables, rest = block.partition(is_variable)

        def body(before: Any, inputs: Any) -> Any:
            variables, rest, of_block, i = inputs
            block = rest.combine(variables)
            (x, result), after = call(block, _inside.folded(key, i), before, of_block)
            _inside.check_same("Repeat: a block's result", "its input", before, x)
            return x, (result, after.filter(is_variable))  # the Parameters would be written again

        run: Callable[[Any, Any], Any] = body
        if self.remat is not False:
            policy = None if self.remat is True else self.remat
            run = _jax.checkpoint(body, policy=policy, prevent_cse=False)
        x, (results, variables) = jax.lax.scan(
            run, x, (variables, rest, each, jnp.arange(self.depth)), unroll=self.unroll
        )
        return (x, results), self.replace(block=rest.combine(variables))

    def __len__(self) -> int:
        return self.depth

    @overload
    def __getitem__(self, index: slice) -> Self: ...
    @overload
    def __getitem__(self, index: int | Array) -> M: ...
    def __getitem__(self, index: Any) -> Any:
        """Return one block, or a Repeat of several."""
        if isinstance(index, slice):
            depth = len(range(self.depth)[index])
            return self.replace(block=map_leaves(lambda a: a[index], self.block), depth=depth)
        if not is_tracer(index):
            i = operator.index(index)
            if not -self.depth <= i < self.depth:
                raise IndexError(f"Repeat: there is no block {i} of {self.depth}")
        return map_leaves(lambda a: a[index], self.block)

    def unstack(self) -> tuple[M, ...]:
        """Return the blocks."""
        return tuple(self[i] for i in range(self.depth))

    @staticmethod
    def stack(*blocks: N, remat: bool | Callable[..., Any] = False, unroll: int = 1) -> "Repeat[N]":
        """Return a Repeat of blocks that are set up, of one structure.

        Args:
            *blocks: The blocks.
            remat: As in the constructor: blocks do not know it.
            unroll: Likewise.

        Raises:
            TypeError: A list of blocks is given.
            ValueError: There is none, or their structures, shapes or dtypes differ.
        """
        one_by_one("Repeat.stack", "blocks", blocks)
        if not blocks:
            raise ValueError("Repeat.stack needs at least one block")
        for i, block in enumerate(blocks):
            if holds_unset(block):
                raise ValueError(
                    f"Repeat.stack: block {i} is not set up.\n"
                    f"  Set it up, or let nn.Repeat(block, depth) make the blocks."
                )
            _inside.check_same(f"Repeat.stack: block {i}", "block 0", blocks[0], block)
        return Repeat(_stacked(blocks), len(blocks), remat=remat, unroll=unroll)


def _stacked(blocks: tuple[N, ...]) -> N:
    """Return blocks of one structure as one, their arrays stacked along a new first axis."""
    stacked: N = jax.tree.map(lambda *a: jnp.stack(a), *blocks)
    return stacked
