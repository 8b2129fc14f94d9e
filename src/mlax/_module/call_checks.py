"""The checks of a call, and the memory of those that passed.

The module's own nodes, the arguments and the result are checked together, so that one name of a
dimension has one size. That takes 30 us and more. A check sees only structure, shapes, dtypes,
static fields and plain values. So where all of these are as in an earlier call that passed, nothing
is checked again: to compare them takes about 1 us.
"""

import contextlib
import inspect
import operator
from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager
from typing import Any, cast, get_args, get_origin

import jax
import jaxtyping
import numpy as np

from mlax._checking.hints import are_final, hints_of, hints_of_fields, warn_unresolved, with_self
from mlax._jax.trees import class_of, flatten
from mlax._module import annotations
from mlax._module.annotations import Checked

__all__ = ["CallChecks", "scope"]

_MOST = 1024  # calls remembered for each function


scope: AbstractContextManager[None] = cast("Any", jaxtyping).jaxtyped("context")
"""The jaxtyping context of a `forward`, in which a user's own `isinstance` checks are tied."""


class CallChecks:
    """The checks of all calls of one function.

    Args:
        function: `forward`, or another method of a module.
        signature: Its signature, `self` included.
    """

    def __init__(self, function: Callable[..., Any], signature: inspect.Signature) -> None:
        self._function = function
        self._signature = signature
        self._hints: dict[object, Mapping[str, Any]] = {}
        self._final: set[type] = set()
        self._computing: set[type] = set()
        self._passed: dict[Hashable, set[Hashable]] = {}

    def seen(
        self, module: Any, nodes: list[Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Hashable | None:
        """Return all that the checks of a call depend on; None if that cannot be remembered.

        Args:
            module: The module that is called.
            nodes: Its own nodes, with the structures of fields that hold several, and None for other fields.
            args: The arguments of the call.
            kwargs: The keywords of the call.
        """
        if type(module) not in self._final:
            self._look_up_hints(class_of(module))
        found: list[Hashable] = [module._aux_data]
        values: tuple[object, ...] = args
        try:
            if type(module) in self._computing:
                found.append(_of_computed(module, args, kwargs))
            for node in nodes:
                if node is None or type(node) is _TreeDef:
                    found.append(node)
                else:
                    found += class_of(node), _seen(node.data)
            for value in values:
                see = _see.get(type(value)) or _way_to_see(value)
                found.append(see(value))
            if kwargs:
                for name, value in kwargs.items():
                    found += name, _seen(value)
        except _UnknownError:
            return None
        return tuple(found)

    def _look_up_hints(self, cls: type) -> None:
        """Forget what has passed if an annotation has changed, because a name in it has been defined since."""
        function_hints = hints_of(self._function, cls)
        warn_unresolved(self._function, f"{cls.__name__}.{self._function.__name__}")
        for thing, hints in (((cls, "arguments"), function_hints), (cls, hints_of_fields(cls))):
            if self._hints.get(thing) is not hints:
                self._passed.clear()
                self._hints[thing] = hints
        if any(
            "{" in repr(hint) for hint in (*function_hints.values(), *hints_of_fields(cls).values())
        ):
            self._computing.add(cls)
        if are_final(self._function) and are_final(cls):
            self._final.add(cls)

    def passed(self, seen: Hashable | None) -> set[Hashable] | None:
        """Return what was seen of the results of such calls; None if none has passed."""
        try:
            return None if seen is None else self._passed.get(seen)
        except Exception:  # a foreign tree whose structures cannot be hashed or compared
            return None

    def was_seen(self, result: Any, passed: set[Hashable]) -> bool:
        """Whether a result like this one was checked."""
        try:
            return _seen(result) in passed
        except Exception:  # as in `passed`, or a result of an unknown kind
            return False

    def remember(self, seen: Hashable | None, result: Any) -> None:
        """Remember a call that passed."""
        if seen is None:
            return
        if len(self._passed) >= _MOST:
            self._passed.clear()
        with contextlib.suppress(Exception):  # as in `passed`, or a result of an unknown kind
            results = self._passed.setdefault(seen, set())
            if len(results) >= _MOST:
                results.clear()
            results.add(_seen(result))

    def verify(
        self, where: object, module: Any, given: inspect.BoundArguments, *, nodes: bool = True
    ) -> None:
        """Check the arguments of a call, and unless `nodes` is false the module's nodes.

        Raises:
            AnnotationMismatchError: One of them does not match its annotation.
        """
        self._verify(where, given, self._items(module, given, nodes=nodes))

    def verify_result(
        self, where: object, module: Any, given: inspect.BoundArguments, result: Any
    ) -> None:
        """Check the result of a call, with the nodes and arguments that its dimensions are tied to.

        Raises:
            AnnotationMismatchError: The result does not match its annotation.
        """
        hint = _of_result(hints_of(self._function, class_of(module)).get("return", Any))
        if hint is not Any:
            items = self._items(module, given, nodes=True)
            hint = with_self(hint, class_of(module))
            self._verify(where, given, [*items, Checked("the result", result, hint)])

    def _items(self, module: Any, given: inspect.BoundArguments, *, nodes: bool) -> list[Checked]:
        items = annotations.node_items(module) if nodes else []
        hints = hints_of(self._function, class_of(module))
        for name, value in given.arguments.items():
            hint = hints.get(name, Any)
            if hint is not Any:
                hint = with_self(hint, class_of(module))
                items += _arguments(self._signature.parameters[name], value, hint)
        return items

    def _verify(self, where: object, given: inspect.BoundArguments, items: list[Checked]) -> None:
        # jaxtyping wraps the function in objects that only the garbage collector frees. They must not hold arrays.
        held: list[Any] = [where, items]

        def verify(*_: Any, **__: Any) -> None:
            annotations.verify(*held)

        # A shape may name an argument, as in Float[Array, "{self.out_features}"]: jaxtyping looks them up.
        verify.__signature__ = self._signature  # type: ignore[attr-defined]  # pyright: ignore[reportFunctionMemberAccess]
        try:
            if items:
                annotations.scoped(verify)(*given.args, **given.kwargs)
        finally:
            held.clear()


def _of_result(returned: Any) -> Any:
    """Return the annotation of the result, the first of the pair that `forward` returns."""
    pair = get_args(returned) if get_origin(returned) is tuple else ()
    return pair[0] if len(pair) == 2 else Any


def _arguments(parameter: inspect.Parameter, value: Any, hint: Any) -> list[Checked]:
    if parameter.kind is parameter.VAR_POSITIONAL:
        return [Checked(f"{parameter.name}[{i}]", item, hint) for i, item in enumerate(value)]
    if parameter.kind is parameter.VAR_KEYWORD:
        return [Checked(str(name), item, hint) for name, item in value.items()]
    return [Checked(parameter.name, value, hint)]


class _UnknownError(Exception):
    """Raised for a value whose check may depend on what cannot be remembered."""


_of_array: Callable[[Any], Hashable] = operator.attrgetter("aval")


def _of_numpy(value: Any) -> Hashable:
    return class_of(value), value.shape, value.dtype


def _of_plain(value: Any) -> Hashable:
    return class_of(value), value


def _of_tree(value: Any) -> Hashable:
    found, treedef = flatten(value)
    if len(found) == 1 and found[0] is value:
        raise _UnknownError
    return treedef, tuple(map(_seen, found))


def _of_computed(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable:
    """Return what shapes such as `{self.child.width}` and `{n}` may read: all of the module, and numbers."""
    for value in (*args, *kwargs.values()):
        if getattr(value, "shape", None) == ():
            raise _UnknownError
    return _of_tree(module)


_TreeDef: type = cast("Any", jax.tree_util).PyTreeDef
_PLAIN = (bool, int, float, complex, str, bytes, type(None), jax.ShapeDtypeStruct, _TreeDef)
_see: dict[type, Callable[[Any], Hashable]] = dict.fromkeys(_PLAIN, _of_plain)


def _seen(value: object) -> Hashable:
    """Return what a check can see of a value."""
    see = _see.get(type(value)) or _way_to_see(value)
    return see(value)


_numpy: Any = (np.ndarray, np.generic)


def _way_to_see(value: Any) -> Callable[[Any], Hashable]:
    is_array = isinstance(value, jax.Array)  # a tracer, too
    see = _of_array if is_array else _of_numpy if isinstance(value, _numpy) else _of_tree
    _see[class_of(value)] = see
    return see
