"""Calls of a module from inside a transformation that a layer begins: a scan over blocks or time, a map over examples.

A key is not inherited there. So a layer takes the key of its own call, passes it into the transformation as an operand,
and gives each call inside one of its own.
"""

from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeVar

import jax
from jax.tree_util import GetAttrKey
from jaxtyping import Array

from mlax._jax.trees import class_of, leaves, leaves_with_path
from mlax._module import calls
from mlax._module.frames import NOT_GIVEN, Frame, StaticOptions, current_frame, static_options
from mlax._module.prepared import Prepared
from mlax.tree import describe, path_text

__all__ = [
    "Model",
    "P",
    "R",
    "S",
    "call",
    "check_same",
    "folded",
    "in_inference",
    "key_of_call",
    "sample",
]

_tree: Any = jax.tree  # its types are partly unknown
P = ParamSpec("P")
R = TypeVar("R", covariant=True)
S = TypeVar("S", covariant=True)


class Model(Protocol[P, R, S]):
    """A module: what its `forward` takes and returns, and S, its own type, which `Self` in its result tells."""

    def forward(self, *args: P.args, **kwargs: P.kwargs) -> tuple[R, S]: ...


def key_of_call() -> Array | None:
    """Return the key of the running call of the layer, or None if it has none."""
    frame = current_frame()
    return None if frame is None else frame.key()


def in_inference() -> bool:
    """Whether the running call is one in inference mode."""
    mode = static_options().inherited("inference_mode", current_frame())
    return False if mode is NOT_GIVEN else bool(mode)


def folded(key: Array | None, number: Any) -> Array | None:
    """Return a key that is folded with a number, or None without a key."""
    return None if key is None else jax.random.fold_in(key, number)


def call(
    layer: Any,
    field: str,
    child: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None = None,
    *,
    key: Array | None = None,
    batch_axis_name: Any = NOT_GIVEN,
    method: Callable[..., Any] | None = None,
) -> Any:
    """Call a module that stands for a field of the layer whose `forward` runs.

    Args:
        layer: The layer.
        field: Name of the field.
        child: The module, such as one block of those that the field holds as a stack.
        args: Its arguments.
        kwargs: Its keyword arguments.
        key: Its key, if it is to have one.
        batch_axis_name: Names of the axes that examples are mapped over, if they are others than outside.
        method: The method that is called. By default `forward`.

    Returns:
        The result and the module that came back.
    """
    function = class_of(child).forward if method is None else method
    frame = Frame(child, function, current_frame(), (GetAttrKey(field),))
    options = StaticOptions(batch_axis_name=batch_axis_name)
    prepared = Prepared(child, key, options, type(layer).__name__)
    return calls.start(frame, prepared, args, kwargs or {})


def sample(tree: Any, *, first: bool = False) -> Any:
    """Return the shapes and dtypes of arrays in a tree, or those of their elements along the first axis."""

    def of(leaf: Any) -> Any:
        if not hasattr(leaf, "shape"):
            return leaf
        return jax.ShapeDtypeStruct(leaf.shape[1:] if first else leaf.shape, leaf.dtype)

    return jax.tree.map(of, tree)


def check_same(what: str, other: str, expected: Any, got: Any) -> None:
    """Raise an error unless two trees have one structure, and their arrays the same shapes and dtypes."""
    if _tree.structure(expected) != _tree.structure(got):
        raise ValueError(f"{what} has another structure than {other}: {got}, not {expected}")
    pairs = zip(leaves_with_path(expected), leaves(got), strict=True)
    for (path, a), b in pairs:
        if a.shape != b.shape or a.dtype != b.dtype:
            place = f" at {path_text(path)}" if path else ""
            raise ValueError(f"{what} must be as {other}, {describe(a)}{place}, got {describe(b)}")
