"""Checks of a module against its annotations: the data of its nodes, and the arguments of a call.

Values that are checked together share one scope of jaxtyping, in which dimensions are tied by name. A shape may
refer to a static field, `Float[Array, "in {self.out_features}"]`.
"""

import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self, cast, get_args, get_origin

import jax
import jaxtyping
import numpy as np

from mlax._checking.spelling import spelled
from mlax._checking.values import check_value, checks_enabled
from mlax._jax.trees import class_of, flatten, leaves, map_leaves
from mlax._module.branches import Container
from mlax._module.nodes import UNSET, ENode
from mlax.tree import describe

__all__ = [
    "AnnotationMismatchError",
    "Checked",
    "check_changes",
    "check_nodes",
    "hints_of",
    "names_self",
    "node_items",
    "scoped",
    "verify",
    "verify_together",
]


class AnnotationMismatchError(TypeError):
    """A value does not match its annotation: which value, which annotation, and what was checked with it."""

    __module__ = "mlax"


class Checked(NamedTuple):
    """A value, what it is called, and its annotation."""

    name: str
    value: Any
    annotation: Any


def scoped(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of which each call has a scope of jaxtyping of its own, in which dimensions are tied."""
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


def verify(where: str, items: Sequence[Checked], before: Sequence[Checked] = ()) -> None:
    """Check values in the current scope of jaxtyping.

    Args:
        where: Who checks: `Linear.forward`.
        items: What to check.
        before: What was checked in this scope already, for the message.

    Raises:
        AnnotationMismatchError: A value does not match its annotation.
    """
    from typeguard import TypeCheckError

    for number, item in enumerate(items):
        try:
            check_value(item.value, item.annotation)
        except TypeCheckError:
            raise AnnotationMismatchError(
                _message(where, item, [*before, *items[:number]])
            ) from None


def _message(where: str, item: Checked, before: Sequence[Checked]) -> str:
    lines = [
        f"{where}: {item.name} does not match its annotation",
        f"  {item.name}: {_summary(item.value)}, expected {spelled(item.annotation)}",
    ]
    tied = [other for other in before if _dimensions(other.annotation)]
    if isinstance(item.value, np.ndarray):
        lines.append(f"  NumPy arrays are not converted in a call: pass jnp.asarray({item.name})")
    if tied and _dimensions(item.annotation):
        lines.append("  dimensions are tied by name to")
        lines += [
            f"    {other.name}: {_summary(other.value)} as {spelled(other.annotation)}"
            for other in tied
        ]
    return "\n".join(lines)


def _summary(value: Any) -> str:
    found = leaves(value)
    if isinstance(value, np.ndarray):
        return f"{describe(cast('object', value))} (a NumPy array)"
    if not found or found[0] is value:
        return describe(value)
    return str(map_leaves(_Bare, value))


class _Bare:
    """Prints as the description of a leaf, without quotes."""

    def __init__(self, leaf: Any) -> None:
        self._text = describe(leaf)

    def __repr__(self) -> str:
        return self._text


def _dimensions(annotation: Any) -> str:
    """Return the dimensions of an array annotation, "" for anything else."""
    return getattr(annotation, "dim_str", "")


def node_items(module: Any) -> list[Checked]:
    """Return the data of the module's own nodes beside their annotations; empty nodes are left out."""
    annotations = hints_of_fields(class_of(module))
    found: list[Checked] = []
    for name in module._aux_data.layout.children:
        annotation = annotations.get(name, Any)
        if annotation is not Any:
            found += _nodes(name, getattr(module, name), annotation)
    return found


def _nodes(name: str, value: Any, annotation: Any) -> Iterator[Checked]:
    """Walk through a field and its annotation side by side, down to the nodes."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        fitting = [arm for arm in arguments if _fits(value, arm)]
        if len(fitting) == 1:
            yield from _nodes(name, value, fitting[0])
        elif isinstance(value, ENode) and _is_checkable(value.data):
            kinds = [get_args(arm)[0] for arm in fitting if get_args(arm)]
            if len(kinds) == len(fitting) > 1:
                yield Checked(name, value.data, typing.Union[tuple(kinds)])  # noqa: UP007
    elif origin is typing.Annotated:
        yield from _nodes(name, value, arguments[0])
    elif isinstance(value, ENode):
        if not (isinstance(origin, type) and issubclass(origin, ENode)):
            return
        if arguments[0] is jax.Array and isinstance(value.data, jax.Array):
            return  # nothing more to check
        if _is_checkable(value.data):
            yield Checked(name, value.data, arguments[0])
    elif isinstance(value, Container):
        if arguments:
            yield from _nodes(f"{name}.states", value.states, arguments[0])
    elif hasattr(value, "_fields"):  # a NamedTuple, which annotates its fields
        for field, hint in hints_of_fields(class_of(value)).items():
            yield from _nodes(f"{name}.{field}", getattr(value, field), hint)
    elif isinstance(origin, type) and arguments:
        for key, item, hint in _items(value, origin, arguments):
            yield from _nodes(f"{name}[{key!r}]", item, hint)


def _items(
    container: Any, origin: type, arguments: tuple[Any, ...]
) -> Iterator[tuple[object, Any, Any]]:
    """Yield key, value and annotation for each item of a tuple, list or dict."""
    kind = class_of(container)
    if issubclass(kind, tuple) and origin is tuple and arguments[-1] is not Ellipsis:
        yield from zip(range(len(container)), container, arguments, strict=False)
    elif issubclass(kind, (tuple, list)) and issubclass(kind, origin):
        for i, item in enumerate(container):
            yield i, item, arguments[0]
    elif issubclass(kind, dict) and issubclass(origin, Mapping):
        for key, item in container.items():
            yield key, item, arguments[-1]


def _fits(value: Any, annotation: Any) -> bool:
    kind = get_origin(annotation) or annotation
    return kind is not Any and isinstance(kind, type) and isinstance(value, kind)


def _is_checkable(data: Any) -> bool:
    """Whether a node holds arrays; it may be empty, or hold their shapes only."""
    return (
        data is not UNSET
        and data is not None
        and all(isinstance(leaf, jax.Array) for leaf in leaves(data))
    )


class _Hints(NamedTuple):
    """Annotations, and the names in them that were not found, with the namespaces where they may yet appear."""

    found: dict[str, Any]
    missing: list[tuple[str, Mapping[str, Any]]]

    def resolve(
        self, annotations: Mapping[str, Any], namespace: dict[str, Any], names: dict[str, Any]
    ) -> None:
        """Add annotations, those that are strings evaluated; `Any` for what is for checkers and readers only."""
        for name, annotation in annotations.items():
            alone = types.SimpleNamespace(__annotations__={name: annotation})
            try:
                hint = typing.get_type_hints(alone, namespace, names, include_extras=True)[name]
            except NameError as error:  # a class defined later, or imported under TYPE_CHECKING
                self.missing.append((error.name or "", namespace))
                hint = Any
            except Exception:  # whatever evaluating a string may raise
                hint = Any
            self.found[name] = hint


_hints: dict[object, _Hints] = {}


def _known(thing: object) -> _Hints | None:
    """Return what was found before, unless a name that was missing has appeared."""
    hints = _hints.get(thing)
    if hints is None or any(name in namespace for name, namespace in hints.missing):
        return None
    return hints


def hints_of_fields(cls: type) -> Mapping[str, Any]:
    """Return the annotations of a class and its bases; `Any` for one that cannot be resolved at run time."""
    hints = _known(cls)
    if hints is None:
        hints = _hints[cls] = _Hints({}, [])
        for base in reversed(cls.__mro__):
            namespace = vars(sys.modules[base.__module__]) if base.__module__ in sys.modules else {}
            parameters = {item.__name__: item for item in getattr(base, "__type_params__", ())}
            names = {**parameters, **vars(base), base.__name__: base}
            hints.resolve(inspect.get_annotations(base), namespace, names)
    return hints.found


def hints_of(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Return the annotations of a function; `Any` for one that cannot be resolved at run time."""
    hints = _known(function)
    if hints is None:
        hints = _hints[function] = _Hints({}, [])
        plain = inspect.unwrap(function)
        namespace: dict[str, Any] = getattr(plain, "__globals__", {})
        parameters = {item.__name__: item for item in getattr(plain, "__type_params__", ())}
        hints.resolve(inspect.get_annotations(plain), namespace, parameters)
    return hints.found


def names_self(annotation: Any) -> bool:
    """Whether `Self` is in an annotation, which typeguard cannot check outside a class."""
    return annotation is Self or any(map(names_self, get_args(annotation)))


@scoped
def verify_together(self: Any, where: str, items: Sequence[Checked]) -> None:
    """Verify in a scope of its own. Its parameter is called `self` for shapes that read `{self.field}`."""
    verify(where, items)


def check_nodes(module: Any) -> None:
    """Check the nodes of a new module: of which kind they are, and what they hold."""
    if not checks_enabled():
        return
    _refuse_other_kinds(module)
    if items := node_items(module):
        verify_together(module, type(module).__name__, items)


def _refuse_other_kinds(module: Any) -> None:
    """Refuse what is no Parameter (Variable) in a field that is annotated as one."""
    for name, annotation in hints_of_fields(class_of(module)).items():
        kind = get_origin(annotation) or annotation
        if isinstance(kind, type) and issubclass(kind, ENode) and name in module._names:
            value: object = getattr(module, name)
            if value is not None and not isinstance(value, kind):
                raise AnnotationMismatchError(
                    f"{type(module).__name__}.{name} must be a {kind.__name__}, got {describe(value)}"
                )


def check_changes(old: Any, new: Any) -> None:
    """Check those nodes of a changed copy that have another shape or dtype than before."""
    if not checks_enabled():
        return
    before = {item.name: _signature(item.value) for item in node_items(old)}
    items = [item for item in node_items(new) if before.get(item.name) != _signature(item.value)]
    if items:
        verify_together(new, f"{type(new).__name__}.replace", items)


def _signature(data: Any) -> Any:
    found, treedef = flatten(data)
    return treedef, [(leaf.shape, leaf.dtype) for leaf in found]
