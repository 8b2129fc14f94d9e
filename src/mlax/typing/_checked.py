"""The decorator that holds a function's trees to the dtype rule, and its other arguments to their annotations."""

import functools
import inspect
import sys
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import GenericAlias
from typing import (
    Annotated,
    Any,
    NamedTuple,
    NoReturn,
    ParamSpec,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np

from mlax._checking.spelling import spelled
from mlax._checking.values import check_value, checks_enabled
from mlax._jax.trees import leaves
from mlax._module.unset import refuse_unset
from mlax.tree import describe, mismatches, refuse_shared
from mlax.typing._entries import Entries, entry_mismatches, expected_entries
from mlax.typing._weights import Scalar, Signature, Weights, as_weights, refused_leaves, ties

__all__ = ["LeafMismatchError", "checked"]

P = ParamSpec("P")
R = TypeVar("R")


class LeafMismatchError(TypeError):
    """Trees given to one function whose leaves do not correspond in structure, shape and dtype."""

    __module__ = "mlax.typing"


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Check a function's annotated arguments and its result, before and after it runs.

    All `Weights` of one call have to correspond leaf by leaf, those in the fields of a `State[Weights]` included. The
    argument `weights` is what the others are compared with; where it is not given, the slots of a state are; without
    those, the first tree is. Where a state's hyperparameters have a `slot_dtype`, its slots are compared with that
    instead of the weights' dtype. Slots annotated as `Entries` are compared with the shapes that follow from the
    weights'. Other annotations are checked by typeguard, with dimensions and structures tied by name as in jaxtyping.

    Annotations are resolved when the function is first called. Arguments of an `init` that are fields of the
    hyperparameters in its result are left to that class, which validates them.

    Args:
        function: A plain function. Its type stays as it is.

    Raises:
        LeafMismatchError: By the decorated function, with a line for each leaf that does not correspond.
        ValueError: By the decorated function, for an argument `weights` that holds one array in two places.
        TypeError: By the decorated function, for another argument or result that is not what its annotation says.
    """
    plan: _Plan | None = None

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        nonlocal plan
        if not checks_enabled():
            return function(*args, **kwargs)
        if plan is None:
            plan = _Plan.of(function, cast("Any", wrapper).__module__)
        arguments = plan.bind(args, kwargs)
        if arguments is None:
            return function(*args, **kwargs)  # raises Python's own TypeError
        with cast("Any", jaxtyping).jaxtyped("context"):
            reference = plan.check_arguments(arguments)
            result = function(*args, **kwargs)
            plan.check_result(result, reference)
        return result

    return wrapper


class _Tree(NamedTuple):
    """A tree annotated `Weights`, somewhere in an argument or the result."""

    argument: str
    name: str
    tree: Any
    slots_of: Any = None  # the hyperparameters of the state that it is a slot of
    shape: Any = None  # of `Entries`: what their shapes are
    optional: bool = False  # whether the annotation allows None as well

    @property
    def slot_dtype(self) -> Any:
        return getattr(self.slots_of, "slot_dtype", None)


@dataclass
class _Found:
    """What the arguments, or the result, of one call hold."""

    trees: list[_Tree] = field(default_factory=list[_Tree])
    entries: list[_Tree] = field(default_factory=list[_Tree])
    arrays: list[tuple[str, Any, Any]] = field(default_factory=list[tuple[str, Any, Any]])


@dataclass
class _Reference:
    """What the trees of one call are compared with."""

    name: str
    signature: Signature


@dataclass
class _Plan:
    """What to check in the calls of one function."""

    label: str
    signature: inspect.Signature
    hints: dict[str, Any]
    result_hint: Any
    optimizer: str | None  # the class whose state the function returns

    @classmethod
    def of(cls, function: Callable[..., Any], module: str) -> "_Plan":
        hints = _type_hints(function)
        result_hint = hints.pop("return", Any)
        optimizer = _hyperparameter_class(result_hint)
        validated = getattr(optimizer, "__dataclass_fields__", ())
        return cls(
            # A private function stands behind a public one, which is what users called.
            label=f"{_short(module)}.{function.__name__.lstrip('_')}",
            signature=inspect.signature(function),
            hints={k: v for k, v in hints.items() if v is not Any and k not in validated},
            result_hint=result_hint,
            optimizer=getattr(optimizer, "__name__", None),
        )

    def bind(self, args: Any, kwargs: Any) -> dict[str, Any] | None:
        """Return the arguments by name, without defaults; None if the call does not fit the signature."""
        try:
            return self.signature.bind(*args, **kwargs).arguments
        except TypeError:
            return None

    def check_arguments(self, arguments: dict[str, Any]) -> _Reference | None:
        found = _Found()
        for argument, value in arguments.items():
            if argument not in self.hints:
                continue
            hint, kind = self.hints[argument], self.signature.parameters[argument].kind
            if kind is inspect.Parameter.VAR_POSITIONAL:
                hint = GenericAlias(tuple, (hint, ...))
            elif kind is inspect.Parameter.VAR_KEYWORD:
                hint = GenericAlias(dict, (str, hint))
            self._collect(_Tree(argument, argument, value), hint, found)
        for at in found.trees:
            if at.name == "weights":
                self._refuse_none(at, found.trees)
                refuse_shared(self.label, at.name, at.tree)
                refuse_unset(
                    self.label,
                    at.name,
                    at.tree,
                    "set up first: model = mlax.set_up(model, x, rng=key)",
                )
        return self._hold_together(found, None)

    def _refuse_none(self, weights: _Tree, trees: list[_Tree]) -> None:
        """Refuse None for the weights, unless that is a tree without leaves among others."""
        if weights.tree is not None or not any(leaves(at.tree) for at in trees):
            return
        names = [type(at.slots_of).__name__ for at in trees if at.slots_of is not None]
        name, _, function = self.label.rpartition(".")
        raise ValueError(f"{names[0] if names else name}: {function} needs the weights")

    def check_result(self, result: Any, reference: _Reference | None) -> None:
        if self.result_hint is Any:
            return
        found = _Found()
        self._collect(_Tree("result", "result", result), self.result_hint, found)
        self._hold_together(found, reference)

    def _collect(self, at: _Tree, hint: Any, found: _Found) -> None:
        """Add the trees in a value to those found, and check what else is in it."""
        if hint is Weights:
            found.trees.append(at)
            return
        origin, args = get_origin(hint), get_args(hint)
        if hint is Entries:
            return
        if origin is Annotated and args[0] is Entries:
            found.entries.append(at._replace(shape=args[1]))
            return
        if origin is Union or origin is types.UnionType:
            options = [arg for arg in args if arg is not type(None)]
            if at.tree is None and len(options) < len(args):
                return
            if len(options) == 1:
                self._collect(at._replace(optional=True), options[0], found)
                return
        parts = _parts(at, origin or hint, args)
        if parts is None:
            self._check(at, hint, found)
        else:
            for part, part_hint in parts:
                self._collect(part, part_hint, found)

    def _check(self, at: _Tree, hint: Any, found: _Found) -> None:
        from typeguard import TypeCheckError

        try:
            check_value(at.tree, hint)
        except TypeCheckError:
            tied = "".join(
                f", where {name} is {describe(value)} as {spelled(other)}"
                for name, value, other in found.arrays
                if getattr(hint, "dim_str", "")
            )
            or_none = " | None" if at.optional else ""
            raise TypeError(
                f"{self.label}: {at.name} must be {_hint_name(hint)}{or_none}, got "
                f"{_given(at.tree, hint)}{tied}"
            ) from None
        if hint is Scalar and at.slots_of is not None:
            default = jnp.result_type(float)
            if at.tree.dtype != default:
                raise TypeError(
                    f"{self.label}: {at.name} must have JAX's default float dtype, {default.name}, "
                    f"got {describe(at.tree)}"
                )
        if getattr(hint, "dim_str", ""):
            found.arrays.append((at.name, at.tree, hint))

    def _hold_together(self, found: _Found, reference: _Reference | None) -> _Reference | None:
        """Tie all trees to the reference, or to one of them; report every leaf if they do not correspond."""
        trees = found.trees
        if reference is None:
            if not trees:
                return None
            first = self._first(trees, found.entries)
            signature = Signature.of(first.tree)
            if signature is None:
                self._refuse(first)
            ties("Weights", signature)
            trees = [at for at in trees if at is not first or at.slot_dtype is not None]
            reference = _Reference(first.name, signature)
        expected: dict[Any, Signature] = {}
        for at in trees:
            if at.slot_dtype is None:
                corresponds = as_weights(at.tree)
            else:
                if at.slot_dtype not in expected:
                    expected[at.slot_dtype] = reference.signature.with_dtype(at.slot_dtype)
                    ties(f"Slots_{at.slot_dtype}", expected[at.slot_dtype])
                slots = Signature.of(at.tree)
                corresponds = slots is not None and ties(f"Slots_{at.slot_dtype}", slots)
            if not corresponds:
                self._report(
                    [other for other in found.trees if other.argument == at.argument], reference
                )
        self._check_entries(found.entries, reference)
        return reference

    def _check_entries(self, entries: list[_Tree], reference: _Reference) -> None:
        """Compare slots of other shapes with those that follow from the reference; report every leaf."""
        lines: list[str] = []
        for at in entries:
            weights = reference.signature
            if at.slot_dtype is not None:
                weights = weights.with_dtype(at.slot_dtype)
            expected = expected_entries(weights, at.shape, at.slots_of)
            lines += entry_mismatches(
                at.name, at.tree, reference.name, reference.signature, expected
            )
        if lines:
            self._raise(lines, reference)

    def _first(self, trees: list[_Tree], entries: list[_Tree]) -> _Tree:
        """Return the tree that the others are compared with."""
        for at in trees:
            if at.name == "weights":
                return at
        slots = [at for at in trees if at.slots_of is not None]
        for at in slots:
            if at.slot_dtype is None:
                return at
        slots += [at for at in entries if at.slot_dtype is not None]
        if slots and "weights" in self.signature.parameters:
            # Slots in another dtype do not tell the weights' dtype, and the gradients are what is to be checked.
            raise ValueError(
                f"{type(slots[0].slots_of).__name__}: {self.label.rpartition('.')[2]} needs the weights "
                "(slot_dtype is not None)"
            )
        return trees[0]

    def _refuse(self, at: _Tree) -> NoReturn:
        lines = refused_leaves(at.name, at.tree, self.optimizer)
        raise LeafMismatchError(
            f"{self.label}: leaves that are not floating-point or complex arrays:\n  "
            + "\n  ".join(lines)
        )

    def _report(self, trees: list[_Tree], reference: _Reference) -> None:
        lines: list[str] = []
        for at in trees:
            signature, suffix = reference.signature, ""
            if at.slot_dtype is not None:
                signature, suffix = signature.with_dtype(at.slot_dtype), " in slot_dtype"
            lines += mismatches(at.name, at.tree, reference.name, signature.as_tree(), suffix)
        if not lines:
            for at in trees:
                self._refuse(at)
        self._raise(lines + _packed_otherwise(trees, reference), reference)

    def _raise(self, lines: list[str], reference: _Reference) -> NoReturn:
        raise LeafMismatchError(
            f"{self.label}: leaves that do not correspond to `{reference.name}` (no implicit promotion):\n  "
            + "\n  ".join(lines)
        )


def _packed_otherwise(trees: list[_Tree], reference: _Reference) -> list[str]:
    """Return a line with the cure where trees do not correspond because they are not packed alike."""
    from mlax._module.static_texts import static_texts
    from mlax._packing.packed import layouts

    expected = layouts(reference.signature.as_tree())
    for at in trees:
        given = layouts(at.tree)
        if len(given) < len(expected):
            return [
                f"{reference.name} is packed, {at.name} is not: packed.filter().repack({at.name})"
            ]
        if len(given) > len(expected):
            return [
                f"{at.name} is packed, {reference.name} is not: pack both, or {at.name}.unpack(); "
                "a loss function that unpacks its model returns packed.repack(model)"
            ]
        for layout, other in zip(given, expected, strict=True):
            told, texts = (dict(static_texts(one.numbered())) for one in (layout, other))
            for name, text in told.items():
                if texts.get(name, text) != text:
                    return [
                        f"{at.name} and {reference.name} differ in {name}: {text}, but {texts[name]}"
                    ]
        if given != expected:
            return [
                f"{at.name} and {reference.name} were packed from other trees, or with another threshold or group"
            ]
    return []


def _short(module: str) -> str:
    """Return the last part of a module's name, and `experimental` before it where it is: others have the same last."""
    package, _, last = module.rpartition(".")
    return f"experimental.{last}" if package.endswith(".experimental") else last


def _parts(at: _Tree, cls: Any, args: tuple[Any, ...]) -> list[tuple[_Tree, Any]] | None:
    """Return the items of a tuple, list or dict with their annotations; None of what is to be checked as a whole."""
    value, named = at.tree, hasattr(cls, "_fields")
    parts: Iterable[tuple[str, Any, Any]]
    slots_of = at.slots_of
    if not (named or cls in (tuple, list, dict)) or not isinstance(value, cls):
        return None
    if named:
        hints = _field_hints(cls)
        arguments = dict(zip(getattr(cls, "__parameters__", ()), args, strict=False))
        slots_of = getattr(value, "hyperparameters", None)
        parts = [
            (f".{name}", getattr(value, name), _substitute(hints.get(name, Any), arguments))
            for name in cast("Any", cls)._fields
        ]
    elif cls is dict and len(args) == 2:
        parts = [(f"[{key!r}]", item, args[1]) for key, item in value.items()]
    elif cls is tuple and Ellipsis not in args and len(args) == len(value):
        parts = [(f"[{i}]", *both) for i, both in enumerate(zip(value, args, strict=True))]
    elif (cls is list and len(args) == 1) or (cls is tuple and Ellipsis in args):
        parts = [(f"[{i}]", item, args[0]) for i, item in enumerate(value)]
    else:
        return None
    return [
        (_Tree(at.argument, at.name + suffix, item, slots_of), hint) for suffix, item, hint in parts
    ]


def _type_hints(owner: Any) -> dict[str, Any]:
    """Return resolved annotations; `Any` for one that names something that does not exist at run time."""
    try:
        return get_type_hints(owner, include_extras=True)
    except (AttributeError, NameError):
        module = sys.modules.get(owner.__module__)
        hints: dict[str, Any] = {}
        for name, hint in inspect.get_annotations(owner).items():
            alone = types.SimpleNamespace(__annotations__={name: hint})
            try:
                hints.update(
                    get_type_hints(alone, vars(module) if module else {}, include_extras=True)
                )
            except (AttributeError, NameError):
                hints[name] = Any
        return hints


@functools.cache
def _field_hints(cls: type) -> dict[str, Any]:
    return _type_hints(cls)


def _hyperparameter_class(result_hint: Any) -> Any:
    """Return the class of the hyperparameters in a state that a function is annotated to return; None of others."""
    cls = get_origin(result_hint) or result_hint
    if not (isinstance(cls, type) and hasattr(cls, "_fields")):
        return None
    return _field_hints(cls).get("hyperparameters")


def _substitute(hint: Any, replaced: dict[Any, Any]) -> Any:
    """Put the arguments of a generic class in the place of its type variables."""
    if isinstance(hint, TypeVar):
        return replaced.get(hint, hint)
    parameters = getattr(hint, "__parameters__", ())
    if not parameters or not any(p in replaced for p in parameters):
        return hint
    return hint[tuple(replaced.get(p, p) for p in parameters)]


def _hint_name(hint: Any) -> str:
    """Return an annotation as one writes it; a class of its own with its module: two may be called State."""
    cls = get_origin(hint) or hint
    if hasattr(cls, "_fields"):
        return f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}"
    return spelled(hint)


def _given(value: object, hint: Any) -> str:
    if isinstance(value, np.ndarray | np.generic):
        kind = "array" if isinstance(value, np.ndarray) else "scalar"
        options = get_args(hint) or (hint,)
        wants_jax = any(getattr(option, "array_type", None) is jax.Array for option in options)
        cure = _CURE if wants_jax else ""
        return f"a NumPy {kind} {describe(cast('Any', value))}{cure}"
    if isinstance(value, int | float) and _is_fine(jnp.asarray(value), hint):
        return describe(value) + _CURE
    if hasattr(value, "_fields"):
        return _hint_name(type(value))
    return describe(value)


_CURE = " (make it a JAX array: jnp.asarray)"


def _is_fine(value: object, hint: Any) -> bool:
    from typeguard import TypeCheckError

    try:
        check_value(value, hint)
    except TypeCheckError:
        return False
    return True
