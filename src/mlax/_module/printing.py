"""How States are printed: as an indented tree, with `f32[64,10]` in place of arrays, and functions by name."""

import importlib
import re
import reprlib
from collections.abc import Iterable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

__all__ = ["Printed", "pretty", "shorten", "with_article"]


class Printed:
    """Base class of objects that print as their class around named parts.

    `State` inherits from it, so that this module need not know States.
    """

    __slots__ = ()
    _only: ClassVar = "data"

    def _parts(self) -> Iterable[tuple[str | None, Any]]:
        """Yield the name and value of each part. A name of None is not printed: that of the attribute `_only`."""
        return ()

    def __treescope_repr__(self, path: str | None, subtree_renderer: Any) -> Any:
        """Return what treescope shows in notebooks: the class around its parts."""
        repr_lib: Any = importlib.import_module("treescope.repr_lib")
        parts = {name or self._only: part for name, part in self._parts()}
        return repr_lib.render_object_constructor(type(self), parts, path, subtree_renderer)

    @reprlib.recursive_repr()  # a field may hold a bound method, whose repr prints the object it is bound to
    def __repr__(self) -> str:
        return pretty(self)


def pretty(value: Any, width: int = 88) -> str:
    """Return a readable form of a State or its contents, on one line if it fits into `width`."""
    import wadler_lindig as wl

    def array(value: Any) -> Any:
        if isinstance(value, jax.ShapeDtypeStruct) or (
            isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.extended)
        ):
            shape = ",".join(map(str, value.shape))
            return wl.TextDoc(f"{value.dtype}[{shape}]")
        if isinstance(value, jax.Array):
            return wl.array_summary(value.shape, str(value.dtype), None)
        return None

    def document(node: Any) -> Any:
        if not isinstance(node, Printed):
            name = None if node is value else _function_name(node)
            return array(node) if name is None else wl.TextDoc(name)
        if node is not value and type(node).__repr__ is not Printed.__repr__:
            return wl.TextDoc(repr(node))
        return wl.bracketed(
            begin=wl.TextDoc(f"{type(node).__name__}("),
            docs=[
                wl.TextDoc("" if name is None else f"{name}=") + wl.pdoc(part, custom=document)
                for name, part in node._parts()  # pyright: ignore[reportPrivateUsage]
            ],
            sep=wl.comma,
            end=wl.TextDoc(")"),
            indent=2,
        )

    return wl.pformat(value, width=width, custom=document)


def _function_name(value: Any) -> str | None:
    """Return the name of a function, even if JAX has wrapped it, as in `jax.nn.relu`; None for other values."""
    name = getattr(value, "__qualname__", None) if callable(value) else None
    return name if isinstance(name, str) else None


def shorten(value: Any, limit: int = 60) -> str:
    """Return a value on one line, with `f32[64,10]` in place of arrays, cut off if it is long."""
    text = " ".join(pretty(value).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


def with_article(name: str) -> str:
    """Return the name of a class after "a" or "an": `an Adam`, `a Linear`, `an LSTM`."""
    plain = name.lstrip("_")
    spelled = plain[:2].isupper()  # said letter by letter
    vowel = re.match("[AEFHILMNORSX]" if spelled else "[aeio]|un|up", plain, re.IGNORECASE)
    return f"{'an' if vowel else 'a'} {name}"
