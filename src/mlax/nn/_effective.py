"""`Effective`: the base of layers that call another model than they store."""

import re
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Concatenate, Generic, NamedTuple, Self, TypeVar

import jax
from jax.tree_util import GetAttrKey
from jaxtyping import Array

from mlax._jax.trees import KeyPath, class_of, leaves_with_path, map_with_path
from mlax._module import calls
from mlax._module.module import Module
from mlax._module.nodes import ENode, is_frozen_param, is_variable
from mlax._module.places import node_at
from mlax._module.set_up import set_up as set_up_model
from mlax._module.unset import holds_unset, refuse_unset
from mlax.nn import _inside
from mlax.nn._inside import P, R
from mlax.nn._methods import as_call, method_of
from mlax.nn.repeat import Repeat
from mlax.tree import keystr

__all__ = ["Effective", "Kernel", "kernels", "matching", "patterns", "with_kernels"]

M = TypeVar("M", covariant=True)
N = TypeVar("N")


class Effective(Module, Generic[M]):
    """Wraps a whole model, and calls one that is made of it in each call.

    The model keeps its classes, fields and paths: what changes are its arrays. Its Variables are those that the call
    returned.

    A subclass declares `inner` as its first field, and defines `_effective`. Its `forward`, which has its own types,
    is `_called`.
    """

    inner: M

    @property
    def is_set_up(self) -> bool:
        """Whether the model and the nodes of this layer are."""
        return not holds_unset(self)

    def set_up(self, *args: Any, rng: Array, **kwargs: Any) -> Self:
        """Set up the model, with the inputs as they are given."""
        inner: Any = self.inner
        given, named = _inside.sample((args, kwargs))
        return self.replace(inner=set_up_model(inner, *given, rng=rng, **named))

    def effective(self) -> M:
        """Return the model that is called."""
        refuse_unset(f"{type(self).__name__}.effective", "model", self, "set up the model first")
        return self._effective()

    @abstractmethod
    def _effective(self) -> M:
        """Return the model that is called, when all nodes are set up."""

    @as_call
    def run(  # noqa: D417 - **kwargs with *args
        self, method: Callable[Concatenate[M, P], tuple[R, Any]], *args: P.args, **kwargs: P.kwargs
    ) -> tuple[R, Self]:
        """Call another method of the model than its `forward`: `wrapped.run(Model.decode, x, cache)`.

        In a `forward`, it is `self.call(self.wrapped.run, Model.decode, x, cache)`.

        Args:
            method: A method of the model's class that returns `(result, self)`, or a function of the model that does.
            *args: Passed to it, as are `**kwargs`.

        Returns:
            Its result, and this module.
        """
        return self._called(args, kwargs, method)

    def _called(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], method: Any = Module.forward
    ) -> tuple[Any, Any]:
        """Return the result of a method of the effective model, and this module with the Variables after the call."""
        model = self._effective()
        method = method_of(f"{type(self).__name__}.run", model, method)
        result, after = calls.run_instead(model, args, kwargs, (GetAttrKey("inner"),), method)
        return result, self.replace(inner=after.filter(is_variable).combine(self.inner))


class Kernel(NamedTuple):
    """An array of a model.

    Attributes:
        array: Its value.
        stacked: How many of its first axes are the blocks of a `Repeat` that it stands in.
        frozen: Whether it is that of a frozen Parameter.
    """

    array: Array
    stacked: int
    frozen: bool

    def mapped(self, function: Callable[..., Any], *others: Any) -> Any:
        """Return what a function of one block's array, and of its part of others, returns for all blocks."""
        for _ in range(self.stacked):
            function = jax.vmap(function)
        return function(self.array, *others)


def kernels(model: Any, matches: Callable[[str], Any]) -> dict[str, Kernel]:
    """Return the arrays of a model whose paths match and that have at least two axes in a block, by path.

    Args:
        model: The model.
        matches: A predicate of paths, such as `layers[0].kernel`.
    """
    found: dict[str, Kernel] = {}
    for path, leaf in leaves_with_path(model):
        kernel = Kernel(leaf, *_place(model, path))
        if leaf.ndim - kernel.stacked >= 2 and matches(name := _name(path)):
            found[name] = kernel
    return found


def with_kernels(model: N, new: dict[str, Array]) -> N:
    """Return a model with other arrays at some paths."""
    changed: N = map_with_path(lambda path, leaf: new.get(_name(path), leaf), model)
    return changed


def _name(path: KeyPath) -> str:
    return keystr(path).lstrip(".")


def _place(model: Any, path: KeyPath) -> tuple[int, bool]:
    """Return how many stacks of blocks a leaf stands in, and whether it is frozen."""
    count = 0
    for key in path:
        count += issubclass(class_of(model), Repeat)
        model = node_at(model, (key,))
        if issubclass(class_of(model), ENode):
            break
    return count, is_frozen_param(model)


def patterns(layer: Any) -> list[re.Pattern[str]]:
    """Return a layer's regular expressions, `where`.

    Raises:
        ValueError: One is not a regular expression.
    """
    where: tuple[str, ...] = (layer.where,) if isinstance(layer.where, str) else layer.where
    try:
        return [*map(re.compile, where)]
    except re.error as error:
        raise ValueError(
            f"{type(layer).__name__}.where is not a regular expression ({error}), got {layer.where!r}"
        ) from None


def matching(layer: Any, model: Any) -> dict[str, Kernel]:
    """Return the kernels of a model that a layer's regular expressions, `where`, match.

    Raises:
        ValueError: There is none for one of them.
    """
    every = kernels(model, lambda _: True)
    found: set[str] = set()
    for pattern in patterns(layer):
        matched = {path for path in every if pattern.fullmatch(path)}
        if not matched:
            raise ValueError(
                f"{type(layer).__name__}: no array with two axes has a path that matches {pattern.pattern!r}.\n"
                f"  These are there: {', '.join(every) or 'none'}"
            )
        found |= matched
    return {path: kernel for path, kernel in every.items() if path in found}
