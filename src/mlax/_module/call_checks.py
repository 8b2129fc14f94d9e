"""The checks of a call, and the memory of those that passed.

The module's own nodes, the arguments and the result are checked together, so that one name of a
dimension has one size. Where all that these checks can see (`seen`) is as in an earlier call that
passed, nothing is checked again.
"""

import contextlib
import inspect
from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager
from typing import Any, cast, get_args, get_origin

import jaxtyping

from mlax._checking.hints import (
    are_final,
    hints_of,
    hints_of_fields,
    is_unpacked,
    of_all,
    warn_unresolved,
    with_self,
)
from mlax._checking.spelling import qualname
from mlax._jax.trees import class_of
from mlax._module import annotations
from mlax._module.annotations import Checked
from mlax._module.seen import UnknownError, computes_shapes, seen, seen_in_nodes, seen_in_tree

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
            nodes: Its own nodes, as `nodes_in` returns them.
            args: The arguments of the call.
            kwargs: The keywords of the call.
        """
        if type(module) not in self._final:
            self._look_up_hints(class_of(module))
        found: list[Hashable] = [module._aux_data]
        try:
            if type(module) in self._computing:
                found.append(_of_computed(module, args, kwargs))
            found += seen_in_nodes(nodes)
            found += map(seen, args)
            if kwargs:
                for name, value in kwargs.items():
                    found += name, seen(value)
        except UnknownError:
            return None
        return tuple(found)

    def _look_up_hints(self, cls: type) -> None:
        """Forget what has passed if an annotation has changed, because a name in it has been defined since."""
        function_hints = hints_of(self._function, cls)
        warn_unresolved(
            self._function, f"{cls.__name__}.{qualname(self._function).rpartition('.')[2]}"
        )
        for thing, hints in (((cls, "arguments"), function_hints), (cls, hints_of_fields(cls))):
            if self._hints.get(thing) is not hints:
                self._passed.clear()
                self._hints[thing] = hints
        if computes_shapes(function_hints) or computes_shapes(hints_of_fields(cls)):
            self._computing.add(cls)
        if are_final(self._function) and are_final(cls):
            self._final.add(cls)

    def passed(self, call: Hashable | None) -> set[Hashable] | None:
        """Return what was seen of the results of calls like this; None if none has passed."""
        try:
            return None if call is None else self._passed.get(call)
        except Exception:  # a foreign tree whose structures cannot be hashed or compared
            return None

    def was_seen(self, result: Any, passed: set[Hashable]) -> bool:
        """Whether a result like this one was checked."""
        try:
            return seen(result) in passed
        except Exception:  # as in `passed`, or a result of an unknown kind
            return False

    def remember(self, call: Hashable | None, result: Any) -> None:
        """Remember a call that passed."""
        if call is None:
            return
        if len(self._passed) >= _MOST:
            self._passed.clear()
        with contextlib.suppress(Exception):  # as in `passed`, or a result of an unknown kind
            results = self._passed.setdefault(call, set())
            if len(results) >= _MOST:
                results.clear()
            results.add(seen(result))

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
        vars(verify)["__signature__"] = self._signature
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
    if is_unpacked(hint):
        return [Checked(parameter.name, value, of_all(parameter, hint), is_argument=True)]
    if parameter.kind is parameter.VAR_POSITIONAL:
        return [
            Checked(f"{parameter.name}[{i}]", item, hint, is_argument=True)
            for i, item in enumerate(value)
        ]
    if parameter.kind is parameter.VAR_KEYWORD:
        return [Checked(str(name), item, hint, is_argument=True) for name, item in value.items()]
    return [Checked(parameter.name, value, hint, is_argument=True)]


def _of_computed(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable:
    """Return what shapes such as `{self.child.width}` and `{n}` may read: all of the module, and numbers."""
    for value in (*args, *kwargs.values()):
        if getattr(value, "shape", None) == ():
            raise UnknownError
    return seen_in_tree(module)
