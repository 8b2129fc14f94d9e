"""How States print: an indented tree with `f32[64,10]` in the place of arrays."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["pretty", "shorten"]


def pretty(value: Any, width: int = 88) -> str:
    """Return a readable form of a State or of what it holds, on one line if it fits into `width`."""
    import wadler_lindig as wl

    from mlax.branch import is_container
    from mlax.module import is_module
    from mlax.state import State, is_leaf_state, is_state

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
        if node is not value and is_state(node) and type(node).__repr__ is not State.__repr__:
            return wl.TextDoc(repr(node))
        if is_leaf_state(node):
            pairs: list[tuple[str | None, Any]] = [(None, node.data)]
            if getattr(node, "frozen", False):
                pairs.append(("frozen", True))
        elif is_container(node):
            pairs = [(None, node.states)]
        elif is_module(node):
            shown = (field for field in dataclasses.fields(node) if field.repr)
            pairs = [(field.name, getattr(node, field.name, "<not assigned>")) for field in shown]
        else:
            return array(node)
        return wl.bracketed(
            begin=wl.TextDoc(f"{type(node).__name__}("),
            docs=[
                wl.TextDoc("" if name is None else f"{name}=") + wl.pdoc(value, custom=document)
                for name, value in pairs
            ],
            sep=wl.comma,
            end=wl.TextDoc(")"),
            indent=2,
        )

    return wl.pformat(value, width=width, custom=document)


def shorten(value: Any, limit: int = 60) -> str:
    """Return `value` on one line, with `f32[64,10]` in the place of arrays, cut where it is long."""
    text = " ".join(pretty(value).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."
