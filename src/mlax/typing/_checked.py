"""The decorator that enforces the dtype rule for a function's trees, and its other annotations."""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ParamSpec, Self, TypeVar, cast, get_args, get_origin

import jaxtyping

from mlax._checking.hints import (
    hints_of,
    hints_of_fields,
    is_unpacked,
    of_all,
    warn_unresolved,
    with_self,
    written,
)
from mlax._checking.names import refuse_unknown
from mlax._checking.spelling import qualname
from mlax._checking.values import checks_enabled
from mlax._jax.tracebacks import trimmed
from mlax._jax.trees import UnsortableError, leaves
from mlax._module.unset import refuse_unset
from mlax.tree import describe, refuse_shared
from mlax.typing._collecting import Found, Tree, collect
from mlax.typing._complaints import Reference, refuse_leaves, refuse_lines, refuse_trees
from mlax.typing._entries import entry_mismatches, expected_entries
from mlax.typing._weights import Signature, as_weights, ties

__all__ = ["checked"]

P = ParamSpec("P")
R = TypeVar("R")


@trimmed
def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Check a function's annotated arguments before it runs, and its result afterwards.

    All `Weights` of one call must correspond leaf by leaf, including those in the fields of a
    `State[Weights]`. They are compared with the argument `weights`; if it is not given, with the
    slots of a state; if there are none, with the first tree. If a state's hyperparameters have a
    `slot_dtype`, its slots must have that dtype instead of the weights'; with int8, an `Int8` may be
    in place of a leaf, whose shape its values must have. Slots annotated as
    `Entries` must have the shapes that follow from those of the weights. All other annotations are
    checked by typeguard, with dimensions and structures tied by name as in jaxtyping.

    In a method, `Self` is the class of the first argument. Annotations are resolved when the
    function is first called. If an argument of `init` is also a field of the hyperparameters in its
    result, it is not checked here, because that class validates it.

    This is also a type checker for jaxtyping: `@jaxtyped(typechecker=checked)`, and for a whole package
    `jaxtyping.install_import_hook("package", "mlax.typing.checked")`, or
    `pytest --jaxtyping-packages=package,mlax.typing.checked`.

    Args:
        function: A function, which may be async. Its type does not change. Put the decorator below
            `@property`, `@classmethod` and the like.

    Raises:
        TypeError: This is not a function.
        LeafMismatchError: The decorated function raises it, with a line for each leaf that does not
            correspond.
        ValueError: The decorated function raises it if the argument `weights` holds one array in
            two places.
        TypeError: The decorated function raises it for other arguments or results that do not match
            their annotations.
    """
    _require_function(function)
    plan: _Plan | None = None

    @trimmed
    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        nonlocal plan
        if not checks_enabled():
            return function(*args, **kwargs)
        if plan is None:
            plan = _Plan.of(function, cast("Any", wrapper).__module__)
        arguments = plan.bind(args, kwargs)
        if arguments is None:
            if plan.optimizer is not None:
                refuse_unknown(plan.label, kwargs, plan.signature.parameters)
            plan.refuse_missing(kwargs)
            return function(*args, **kwargs)  # raises Python's own error
        with cast("Any", jaxtyping).jaxtyped("context"):
            called = plan.of_method(arguments)
            reference = called.check_arguments(arguments)
            result = function(*args, **kwargs)
            if not is_async:
                called.check_result(result, reference)
        return cast("R", called.awaited(result, arguments)) if is_async else result

    is_async = inspect.iscoroutinefunction(function)
    mark: Any = getattr(inspect, "markcoroutinefunction", None)  # since Python 3.12
    if is_async and mark is not None:
        mark(wrapper)
    return wrapper


def _require_function(function: object) -> None:
    """Raise an error for a class, a property and the like."""
    kind = type(function)
    if callable(function) and not issubclass(kind, type | classmethod | staticmethod):
        return
    is_class = issubclass(kind, type)
    cure = "Decorate its methods" if is_class else f"Put @checked below @{kind.__name__}"
    raise TypeError(f"checked takes a function, got {describe(function)}.\n  {cure}.")


@dataclass
class _Plan:
    """What to check in calls of one function. It is made once, at the first call."""

    label: str
    signature: inspect.Signature
    hints: dict[str, Any]
    result_hint: Any
    optimizer: str | None  # the class whose state the function returns
    names_self: bool  # whether `Self` is in an annotation
    receiver: inspect.Parameter | None  # what takes the object or class, in a method

    @classmethod
    def of(cls, function: Callable[..., Any], module: str) -> "_Plan":
        hints = _hints_of(function)
        name = qualname(function).rpartition("<locals>.")[2]
        last = name.rpartition(".")[2]
        is_inner = qualname(function).endswith(f"<locals>.{last}")  # a function in a function
        if last.startswith("_") and not last.startswith("__"):
            name = last.lstrip("_")  # called by a public one of the same name, which users know
        label = f"{_short(module)}.{name}"
        warn_unresolved(written(function), label)
        result_hint = hints.pop("return", Any)
        optimizer = _hyperparameter_class(result_hint)
        validated = getattr(optimizer, "__dataclass_fields__", ())
        signature = inspect.signature(function)
        return cls(
            label=label,
            signature=signature,
            hints={k: v for k, v in hints.items() if v is not Any and k not in validated},
            result_hint=result_hint,
            optimizer=getattr(optimizer, "__name__", None),
            names_self=any(
                with_self(hint, Any) is not hint for hint in (*hints.values(), result_hint)
            ),
            receiver=None if is_inner else _receiver(signature, hints),
        )

    def bind(self, args: Any, kwargs: Any) -> dict[str, Any] | None:
        """Return the arguments by name, without defaults; None if the call does not fit the signature."""
        try:
            return self.signature.bind(*args, **kwargs).arguments
        except TypeError:
            return None

    def refuse_missing(self, kwargs: Mapping[str, Any]) -> None:
        """Raise an error for arguments that can only be passed by name, are required, and are missing."""
        function = self.label.rpartition(".")[2]
        for name, parameter in self.signature.parameters.items():
            required = (
                parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty
            )
            if required and name not in kwargs:
                raise TypeError(
                    f"{self.label} needs `{name}`.\n  Pass {function}(..., {name}=...)."
                )

    def of_method(self, arguments: dict[str, Any]) -> "_Plan":
        """Return the plan with the class of the object that has the method for `Self`."""
        if not self.names_self:
            return self
        cls: Any = Any
        if self.receiver is not None and self.receiver.name in arguments:
            first = arguments[self.receiver.name]
            if self.receiver.kind is inspect.Parameter.VAR_POSITIONAL:
                first = first[0]
            cls = first if isinstance(first, type) else type(first)
        hints = {name: with_self(hint, cls) for name, hint in self.hints.items()}
        return replace(self, hints=hints, result_hint=with_self(self.result_hint, cls))

    def check_arguments(self, arguments: dict[str, Any]) -> Reference | None:
        try:
            return self._checked_arguments(arguments)
        except UnsortableError as error:
            raise TypeError(f"{self.label}: {error}") from None

    def _checked_arguments(self, arguments: dict[str, Any]) -> Reference | None:
        found = Found()
        for argument, parameter in self.signature.parameters.items():
            hint = self.hints.get(argument, Any)
            if hint is not Any and (argument in arguments or is_unpacked(hint)):
                nothing: Any = () if parameter.kind is parameter.VAR_POSITIONAL else {}
                tree = Tree(argument, argument, arguments.get(argument, nothing))
                collect(self.label, tree, of_all(parameter, hint), found)
        for at in found.trees:
            if at.name == "weights":
                self._refuse_none(at, found.trees)
                refuse_shared(self.label, at.name, at.tree)
                refuse_unset(
                    self.label,
                    at.name,
                    at.tree,
                    "set up the model first, model = mlax.set_up(model, x, rng=key)",
                )
        return self._hold_together(found, None)

    def _refuse_none(self, weights: Tree, trees: list[Tree]) -> None:
        """Raise an error if the weights are None, unless all trees are without leaves."""
        if weights.tree is not None or not any(leaves(at.tree) for at in trees):
            return
        names = [type(at.slots_of).__name__ for at in trees if at.slots_of is not None]
        name, _, function = self.label.rpartition(".")
        raise ValueError(f"{names[0] if names else name}: {function} needs the weights")

    def check_result(self, result: Any, reference: Reference | None) -> None:
        if self.result_hint is Any:
            return
        found = Found()
        collect(self.label, Tree("result", "result", result), self.result_hint, found)
        self._hold_together(found, reference)

    async def awaited(self, result: Any, arguments: dict[str, Any]) -> Any:
        """Await the result of an async function and check it. Other functions may run meanwhile, so names of
        dimensions are bound to those of the arguments anew.
        """
        result = await result
        with cast("Any", jaxtyping).jaxtyped("context"):
            self.check_result(result, self.check_arguments(arguments))
        return result

    def _hold_together(self, found: Found, reference: Reference | None) -> Reference | None:
        """Bind all trees to the reference, or to the first of them. If they do not correspond, report every
        leaf.

        jaxtyping compares the trees: each is turned into a `Signature`, and the name "Weights" is
        bound to the first one. Slots in another dtype have a name of their own, bound to what the
        weights would be in that dtype.
        """
        trees = found.trees
        if reference is None:
            if not trees:
                return None
            first = self._first(trees, found.entries)
            signature = Signature.of(first.tree)
            if signature is None:
                refuse_leaves(self.label, first, self.optimizer)
            ties("Weights", signature)
            trees = [at for at in trees if at is not first or at.slot_dtype is not None]
            reference = Reference(first.name, signature)
        expected: dict[Any, Signature] = {}
        for at in trees:
            if at.slot_dtype is None:
                corresponds = as_weights(at.tree)
            else:
                if at.slot_dtype not in expected:
                    expected[at.slot_dtype] = reference.signature.with_dtype(at.slot_dtype)
                    ties(f"Slots_{at.slot_dtype}", expected[at.slot_dtype])
                slots = Signature.of_slots(at.tree, expected[at.slot_dtype], at.int8)
                corresponds = slots is not None and ties(f"Slots_{at.slot_dtype}", slots)
            if not corresponds:
                blamed = [other for other in found.trees if other.argument == at.argument]
                refuse_trees(self.label, blamed, reference, self.optimizer)
        self._check_entries(found.entries, reference)
        return reference

    def _check_entries(self, entries: list[Tree], reference: Reference) -> None:
        """Compare slots of other shapes with the shapes that follow from the reference. Report every leaf."""
        lines: list[str] = []
        for at in entries:
            weights = reference.signature
            if at.slot_dtype is not None:
                weights = weights.with_dtype(at.slot_dtype)
            expected = expected_entries(weights, at.shape, at.slots_of)
            lines += entry_mismatches(
                at.name, at.tree, reference.name, reference.signature, expected, at.int8
            )
        if lines:
            refuse_lines(self.label, lines, reference)

    def _first(self, trees: list[Tree], entries: list[Tree]) -> Tree:
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
            # The weights' dtype cannot be inferred from slots in another dtype, nor from the gradients,
            # which are to be checked.
            raise ValueError(
                f"{type(slots[0].slots_of).__name__}: {self.label.rpartition('.')[2]} needs the weights "
                "(slot_dtype is not None)"
            )
        return trees[0]


def _hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of a function. jaxtyping gives an empty copy of one, which has Any for names that
    were not defined when the function was decorated, and the result as one more argument if that is to be checked.
    """
    hints = dict(hints_of(function))
    original = written(function)
    if original is not function:
        of_original = hints_of(original)
        checks_result = len(inspect.signature(function).parameters) > len(
            inspect.signature(original).parameters
        )
        hints |= {
            name: hint
            for name, hint in of_original.items()
            if hints.get(name, Any) is Any and (name != "return" or checks_result)
        }
    return hints


def _receiver(signature: inspect.Signature, hints: dict[str, Any]) -> inspect.Parameter | None:
    """Return the parameter that takes the object of a method, or the class of a classmethod; None if its annotation
    says that it takes something else: then Python's rules allow no `Self`.
    """
    first = next(iter(signature.parameters.values()), None)
    if first is None or first.kind in (first.KEYWORD_ONLY, first.VAR_KEYWORD):
        return None
    hint = hints.get(first.name, Any)
    of_class = get_args(hint)[0] if get_origin(hint) is type else hint
    own = first.kind is first.VAR_POSITIONAL or of_class in (Any, Self)
    return first if own else None


def _short(module: str) -> str:
    """Return the last part of a module's name, with `experimental.` in front if that is where it is.

    Modules in `experimental` may have the same names as others.
    """
    package, _, last = module.rpartition(".")
    return f"experimental.{last}" if package.endswith(".experimental") else last


def _hyperparameter_class(result_hint: Any) -> Any:
    """Return the class of the hyperparameters in a state that a function returns; None if it returns no state."""
    cls = get_origin(result_hint) or result_hint
    if not (isinstance(cls, type) and hasattr(cls, "_fields")):
        return None
    return hints_of_fields(cls).get("hyperparameters")
