"""How an unset node is to be made: the initializer and the dtype that it was given itself."""

import contextvars
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array

from mlax._jax.dtypes import canonical
from mlax._jax.trees import class_of
from mlax._module.static import StaticError, tag
from mlax._module.unset import UNSET
from mlax.tree import describe

__all__ = ["Initializer", "NoKeyError", "Recipe", "dtype_of", "initialized", "noting_uses", "recipe"]

Initializer: TypeAlias = Callable[[Any, tuple[int, ...], Any], Array]
"""A function from a key, a shape and a dtype to an array: of `mlax.nn.init`, of
`jax.nn.initializers`, or your own. The key may be None if the function does not use it.
"""

_uses: contextvars.ContextVar["list[Recipe] | None"] = contextvars.ContextVar("uses", default=None)


class NoKeyError(ValueError):
    """An initializer failed, and it was given no key."""


class Recipe:
    """The initializer and the dtype of an unset node. One of them may be None: the layer decides.

    It is aux data, so recipes are compared as static values are: see `static`.
    """

    __slots__ = ("_tag", "dtype", "init")

    def __init__(self, init: Initializer | None, dtype: Any) -> None:
        self.init = init
        self.dtype = dtype
        self._tag = None if init is None else tag(init), dtype

    def parts(self) -> Iterable[tuple[str, Any]]:
        """Yield the name and value of each part, as an unset node shows them in its repr."""
        if self.init is not None:
            yield "init", _Text(_name(self.init))
        if self.dtype is not None:
            yield "dtype", _Text(self.dtype.name)

    @property
    def is_empty(self) -> bool:
        """Whether the layer decides everything."""
        return self.init is None and self.dtype is None

    def note_use(self) -> None:
        """Record that an array was made by this recipe, for the `set_up` that is running."""
        uses = _uses.get()
        if uses is not None:
            uses.append(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self._tag == other._tag

    def __hash__(self) -> int:
        return hash(self._tag)

    def __repr__(self) -> str:
        return ", ".join(f"{name}={part}" for name, part in self.parts())


class _Text:
    """Prints as a text, without quotes."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _name(init: object) -> str:
    name: object = getattr(init, "__qualname__", None)
    return name if isinstance(name, str) else repr(init)


@contextmanager
def noting_uses() -> Iterator[list[Recipe]]:
    """Collect the recipes that are used inside, one for each array made."""
    uses: list[Recipe] = []
    token = _uses.set(uses)
    try:
        yield uses
    finally:
        _uses.reset(token)


def recipe(node: str, data: object, init: object, dtype: object) -> Recipe | None:
    """Check what the constructor of a node was given; return the recipe, or None if it was given none.

    Args:
        node: Name of the node's class, for messages.
        data: The data.
        init: The initializer or None.
        dtype: The dtype or None.
    """
    if init is None and dtype is None:
        return None
    if data is not UNSET:
        given = " and ".join(
            name for name, one in (("init", init), ("dtype", dtype)) if one is not None
        )
        raise TypeError(
            f"{node}: {given} cannot be given together with data, got {describe(data)}; they say how set_up makes "
            f"the data.\n  Leave out {given}, and cast the data yourself; or leave out the data."
        )
    if init is not None:
        _refuse_other_than_initializers(f"{node}.init", init)
    known = None if dtype is None else dtype_of(f"{node}.dtype", dtype)
    try:
        return Recipe(cast("Any", init), known)
    except StaticError as error:
        raise TypeError(f"{node}.init = {_name(init)} is not valid: {error}.\n  {error.cure}") from None


def _refuse_other_than_initializers(name: str, init: object) -> None:
    if isinstance(init, type):
        raise TypeError(
            f"{name} must be an initializer, got the class {init.__name__}.\n"
            f"  Call it first: {init.__name__}(...)"
        )
    if not callable(init):
        raise TypeError(
            f"{name} must be a function of (key, shape, dtype), got {describe(init)}.\n"
            f"  Use one of mlax.nn.init or jax.nn.initializers, or write your own. An array is data: give it without "
            f"init."
        )


def dtype_of(name: str, dtype: Any) -> Any:
    """Return a dtype in NumPy's form; dtypes of keys as they are.

    The Python types `float`, `int`, `complex` and `bool` stand for JAX's default dtypes.
    """
    try:
        if any(dtype is kind for kind in (bool, int, float, complex)):
            return canonical(dtype)
        if jnp.issubdtype(dtype, jax.dtypes.extended):
            return dtype
        if not isinstance(dtype, (jax.Array, np.ndarray, np.generic)):  # NumPy would take theirs
            found = np.dtype(dtype)
            if hasattr(jnp, found.name):
                return found
    except TypeError:
        pass
    raise TypeError(f"{name} must be a dtype of JAX, such as jnp.bfloat16, got {describe(dtype)}")


def initialized(
    where: str, key: Array | None, shape: Sequence[int], init: Initializer, dtype: Any
) -> Array:
    """Return the array that an initializer makes, checked.

    Args:
        where: The method that calls, for messages.
        key: Passed to the initializer.
        shape: The shape that the array must have.
        init: The initializer.
        dtype: The dtype that the array must have, as `dtype_of` returns it.

    Raises:
        NoKeyError: The initializer failed, and `key` is None.
        TypeError: `shape` is not valid, or the initializer returned something other than an array.
        ValueError: The array has another shape or dtype, or JAX has no such dtype without x64.
    """
    _refuse_other_than_initializers(f"{where}: init", init)
    sizes = _sizes(where, shape)
    asked = f"{dtype.name}[{','.join(map(str, sizes))}]"
    if isinstance(dtype, np.dtype) and canonical(dtype) != dtype:
        raise ValueError(
            f"{where}: JAX makes no {dtype.name} arrays unless x64 is enabled.\n"
            f'  Choose another dtype, or call jax.config.update("jax_enable_x64", True) at the start of the program.'
        )
    try:
        made: Any = init(key, sizes, dtype)
    except Exception as error:
        if key is not None:
            raise
        raise NoKeyError(
            f"{where}: {_name(init)} failed to make {asked} without a key: {error}\n"
            f"  Set up with a key, `mlax.set_up(model, x, rng=key)`; set_up has to pass it on: "
            f"made(rng, shape, init, dtype)."
        ) from error
    if not isinstance(made, (jax.Array, np.ndarray, np.generic)):
        hint = f"\n  Call {_name(init)} first: it returns an initializer." if callable(made) else ""
        raise TypeError(
            f"{where}: {_name(init)} must return an array, {asked}, got {describe(made)}.{hint}"
        )
    if made.shape != sizes or made.dtype != dtype:
        raise ValueError(
            f"{where}: {_name(init)} was asked for {asked}, but returned {describe(cast('object', made))}.\n"
            f"  An initializer returns an array of the shape and the dtype that it is given."
        )
    return cast("Any", made)


def _sizes(where: str, shape: Any) -> tuple[int, ...]:
    if isinstance(shape, (tuple, list)):
        sizes: tuple[Any, ...] = tuple(cast("Any", shape))
        if all(_is_size(size) for size in sizes):
            return tuple(map(int, sizes))
    raise TypeError(
        f"{where}: shape must be a tuple of sizes, integers >= 0, got {describe(shape)}"
    )


def _is_size(size: object) -> bool:
    whole = isinstance(size, (int, np.integer)) and class_of(size) is not bool
    return whole and cast("Any", size) >= 0
