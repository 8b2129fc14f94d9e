"""Checks of a module against its annotations: the data of its nodes, and the arguments of a call.

Values that are checked together share one context of jaxtyping, in which dimensions are tied by
name. A shape may refer to a static field: `Float[Array, "in {self.out_features}"]`.
"""

import functools
import types
import typing
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple, cast

import jax
import jaxtyping
import numpy as np

from mlax._checking.hints import hints_of_fields
from mlax._checking.items import is_typed_dict, items_beside
from mlax._checking.spelling import spelled
from mlax._checking.values import check_value
from mlax._jax.trees import class_of, leaves, map_leaves
from mlax._module.branches import Container
from mlax._module.kinds import AnnotationMismatchError, form_of, redefined
from mlax._module.nodes import UNSET, ENode
from mlax.tree import describe

__all__ = [
    "Checked",
    "dimensions",
    "node_items",
    "scoped",
    "verify",
    "verify_together",
]


class Checked(NamedTuple):
    """A value to check, with its name and annotation, and whether it is an argument of a call."""

    name: str
    value: Any
    annotation: Any
    is_argument: bool = False


def scoped(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function each of whose calls has its own jaxtyping context, in which dimensions are tied by name."""
    in_scope: Callable[..., Any] = cast("Any", jaxtyping).jaxtyped(function, typechecker=None)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return in_scope(*args, **kwargs)
        except (
            Exception
        ) as error:  # jaxtyping suspects a wrong type in every error, also in a user's own
            notes = getattr(error, "__notes__", [])
            notes[:] = [note for note in notes if "`jaxtyping.jaxtyped`" not in note]
            raise

    return call


def verify(where: object, items: Sequence[Checked], *, all_sized: bool = True) -> None:
    """Check values in the current jaxtyping context.

    Args:
        where: The function that checks, for the message; its text is `Linear.forward`.
        items: The values to check.
        all_sized: Whether values are refused whose shapes are computed from the size of a dimension, as in
            `n+1`, that none before it has. If not, they pass.

    Raises:
        AnnotationMismatchError: A value does not match its annotation.
    """
    from typeguard import TypeCheckError

    for number, item in enumerate(items):
        try:
            check_value(item.value, item.annotation)
        except jaxtyping.AnnotationError as error:
            if not all_sized:
                continue
            raise TypeError(
                f"{where}: {item.name}: {spelled(item.annotation)} cannot be checked: {error}\n"
                f"  Names of dimensions have a size from the nodes and arguments before this one on."
            ) from None
        except TypeCheckError:
            raise AnnotationMismatchError(_message(where, item, items[:number])) from None


def _message(where: object, item: Checked, before: Sequence[Checked]) -> str:
    lines = [
        f"{where}: {item.name} does not match its annotation",
        f"  {item.name}: {_summary(item.value)}, expected {spelled(item.annotation)}",
    ]
    tied = [other for other in before if dimensions(other.annotation)]
    if isinstance(item.value, np.ndarray):
        lines.append(f"  NumPy arrays are not converted in a call: pass jnp.asarray({item.name})")
    if again := redefined(cast("object", item.value), item.annotation):
        lines.append(f"  {again}")
    if item.is_argument and _has_axis_too_many(item):
        lines.append("  if its first axis is that of a batch: use nn.Batched(model), or jax.vmap")
    if tied and dimensions(item.annotation):
        lines.append("  dimensions are tied by name to")
        lines += [
            f"    {other.name}: {_summary(other.value)} as {spelled(other.annotation)}"
            for other in tied
        ]
    return "\n".join(lines)


def _has_axis_too_many(item: Checked) -> bool:
    axes = dimensions(item.annotation).split()
    fixed = bool(axes) and not any("*" in axis or "..." in axis for axis in axes)
    return fixed and isinstance(item.value, jax.Array) and item.value.ndim == len(axes) + 1


def _summary(value: Any) -> str:
    found = leaves(value)
    if isinstance(value, np.ndarray):
        return f"{describe(cast('object', value))} (a NumPy array)"
    if not found or found[0] is value:
        return describe(value)
    return str(map_leaves(_Bare, value))


class _Bare:
    """Prints the description of a leaf without quotes."""

    def __init__(self, leaf: Any) -> None:
        self._text = describe(leaf)

    def __repr__(self) -> str:
        return self._text


def dimensions(annotation: Any) -> str:
    """Return the dimensions of an array annotation; "" for anything else."""
    return getattr(annotation, "dim_str", "")


def node_items(module: Any, names: Collection[str] | None = None) -> list[Checked]:
    """Return the data of the module's own nodes with their annotations. Empty nodes are left out.

    Args:
        module: The module.
        names: The fields to look at. Default: all.
    """
    annotations = hints_of_fields(class_of(module))
    found: list[Checked] = []
    for name in module._aux_data.flattening.children:
        annotation = annotations.get(name, Any)
        if annotation is not Any and (names is None or name in names):
            found += _nodes(name, getattr(module, name), annotation)
    return found


def _nodes(name: str, value: Any, annotation: Any) -> Iterator[Checked]:
    """Walk a field and its annotation side by side, down to the nodes."""
    annotation, origin, arguments, _ = form_of(annotation)
    if origin in (typing.Union, types.UnionType):
        fitting = [arm for arm in arguments if _fits(value, arm)]
        if len(fitting) == 1:
            yield from _nodes(name, value, fitting[0])
        elif isinstance(value, ENode) and _is_checkable(value.data):
            kinds = [form.arguments[0] for form in map(form_of, fitting) if form.arguments]
            if len(kinds) == len(fitting) > 1:
                yield Checked(name, value.data, cast("Any", typing.Union)[tuple(kinds)])
    elif isinstance(value, ENode):
        if not (isinstance(origin, type) and issubclass(origin, ENode)):
            return
        if arguments[0] is jax.Array and isinstance(value.data, jax.Array):
            return  # an array of any dtype and shape: nothing more to check
        if _is_checkable(value.data):
            yield Checked(name, value.data, arguments[0])
    elif isinstance(value, Container):
        if arguments:
            yield from _nodes(f"{name}.states", value.states, arguments[0])
    else:
        for suffix, item, hint in items_beside(value, annotation) or ():
            yield from _nodes(name + suffix, item, hint)


def _fits(value: Any, annotation: Any) -> bool:
    hint, origin, _, _ = form_of(annotation)
    kind = origin or hint
    if is_typed_dict(kind):
        return isinstance(value, dict)
    try:
        return kind is not Any and isinstance(kind, type) and isinstance(value, kind)
    except Exception:  # most protocols do not allow it, and classes may define what an instance is
        return False


def _is_checkable(data: Any) -> bool:
    """Whether a node holds arrays. It may also be empty, or hold only shapes."""
    return (
        data is not UNSET
        and data is not None
        and all(isinstance(leaf, jax.Array) for leaf in leaves(data))
    )


@scoped
def verify_together(
    self: Any, where: str, items: Sequence[Checked], *, all_sized: bool = True
) -> None:
    """Check values in a new context. The parameter is called `self` because shapes may contain `{self.field}`."""
    verify(where, items, all_sized=all_sized)
