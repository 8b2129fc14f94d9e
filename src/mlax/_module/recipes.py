"""How an unset node is to be made: the initializer and the dtype that it was given itself."""

import contextvars
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from mlax._jax.dtypes import canonical, is_key
from mlax._module.static import StaticError, tag
from mlax._module.unset import UNSET
from mlax.tree import describe

__all__ = [
    "Initializer",
    "NoKeyError",
    "Recipe",
    "available_dtype",
    "current_uses",
    "dtype_of",
    "initialized",
    "noting_uses",
    "recipe",
    "sizes_of",
]

Initializer: TypeAlias = Callable[[Any, tuple[int, ...], Any], Array]
"""A function from a key, a shape and a dtype to an array: of `mlax.nn.init`, of
`jax.nn.initializers`, or your own. The key may be None if the function does not use it.
"""

_ARRAYS: tuple[type, ...] = (jax.Array, np.ndarray, np.generic)


class Uses:
    """The recipes that were used while a `set_up` ran, one for each array made.

    Until then it is part of the aux data of nodes with a recipe. So a jitted function that is given
    one is traced again for each `set_up`, and calls `made` each time.
    """

    def __init__(self) -> None:
        self.recipes: list[Recipe] = []


_uses: contextvars.ContextVar[Uses | None] = contextvars.ContextVar("uses", default=None)


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
            uses.recipes.append(self)

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
def noting_uses() -> Generator[list[Recipe]]:
    """Collect the recipes that are used inside, one for each array made. They count in a `set_up` around, too."""
    uses, around = Uses(), _uses.get()
    token = _uses.set(uses)
    try:
        yield uses.recipes
    finally:
        _uses.reset(token)
        if around is not None:
            around.recipes += uses.recipes


def current_uses() -> Uses | None:
    """Return those of the `set_up` that is running, if any."""
    return _uses.get()


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
        raise TypeError(
            f"{node}.init = {_name(init)} is not valid: {error}.\n  {error.cure}"
        ) from None


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


def dtype_of(name: str, dtype: object) -> Any:
    """Return a dtype in NumPy's form; dtypes of keys as they are.

    The Python types `float`, `int`, `complex` and `bool` stand for JAX's default dtypes.
    """
    try:
        if any(dtype is kind for kind in (bool, int, float, complex)):
            return canonical(cast("Any", dtype))
        if not isinstance(dtype, _ARRAYS):  # NumPy would take theirs
            found: Any = dtype if is_key(dtype) else cast("Any", np.dtype)(dtype)
            if is_key(found) or hasattr(jnp, found.name):
                return found
    except TypeError:
        pass
    raise TypeError(f"{name} must be a dtype of JAX, such as jnp.bfloat16, got {describe(dtype)}")


def available_dtype(where: str, dtype: object) -> Any:
    """Return a dtype in NumPy's form; raise an error if JAX makes no arrays of it now."""
    found = dtype_of(f"{where}: dtype", dtype)
    if not is_key(found) and canonical(found) != found:
        raise ValueError(
            f"{where}: JAX makes no {found.name} arrays unless x64 is enabled.\n"
            f'  Choose another dtype, or call jax.config.update("jax_enable_x64", True) at the start of the program.'
        )
    return found


def initialized(
    where: str, key: Array | None, shape: Sequence[int], init: Initializer, dtype: Any
) -> Array:
    """Return the array that an initializer makes, checked.

    Args:
        where: The method that calls, for messages.
        key: Passed to the initializer.
        shape: The shape that the array must have.
        init: The initializer.
        dtype: The dtype that the array must have.

    Raises:
        NoKeyError: The initializer failed, and `key` is None.
        TypeError: `shape` is not valid, or the initializer returned something other than an array.
        ValueError: The array has another shape or dtype, or JAX has no such dtype without x64.
    """
    _refuse_other_than_initializers(f"{where}: init", init)
    sizes = sizes_of(where, shape)
    dtype = available_dtype(where, dtype)
    asked = f"{dtype.name}[{','.join(map(str, sizes))}]"
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
    if not isinstance(made, _ARRAYS):
        hint = f"\n  Call {_name(init)} first: it returns an initializer." if callable(made) else ""
        raise TypeError(
            f"{where}: {_name(init)} must return an array, {asked}, got {describe(made)}.{hint}"
        )
    if describe(made) != asked:
        raise ValueError(
            f"{where}: {_name(init)} was asked for {asked}, but returned {describe(made)}.\n"
            f"  An initializer returns an array of the shape and the dtype that it is given."
        )
    return cast("Array", made)


def sizes_of(where: str, shape: Any) -> tuple[int, ...]:
    """Return a shape as a tuple of ints; raise an error if it is not valid."""
    if isinstance(shape, (tuple, list)):
        sizes: tuple[Any, ...] = tuple(cast("Any", shape))
        if all(_is_size(size) for size in sizes):
            return tuple(map(int, sizes))
    raise TypeError(
        f"{where}: shape must be a tuple of sizes, integers >= 0, got {describe(cast('object', shape))}"
    )


def _is_size(size: Any) -> bool:
    return isinstance(size, (int, np.integer)) and not isinstance(size, bool) and bool(size >= 0)
