"""The call of a module: set-up if needed, checks, and `forward`."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, cast, get_args, get_origin

import jax

from mlax._checking.hints import hints_of
from mlax._checking.values import checks_enabled
from mlax._jax.trees import class_of
from mlax._module import annotations, set_up
from mlax._module.annotations import Checked
from mlax._module.places import own_nodes, paths_to, with_node
from mlax.tree import describe, keystr

__all__ = ["run", "run_child"]


def run(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a module: see `Module.__call__`."""
    forward: Callable[..., Any] = class_of(module).forward
    kwargs = set_up.with_inference_mode(forward, args, kwargs)
    given = _bind(module, forward, args, kwargs)
    if not module.is_set_up:
        if checks_enabled():  # before set_up makes nodes from a wrong input
            items = _argument_items(forward, given)
            annotations.verify_together(module, f"{type(module).__name__}.forward", items)
        module = set_up.set_up_one(module, given)
    empty = [name for name, node in own_nodes(module) if node.data is None]
    if empty:
        raise ValueError(
            f"{type(module).__name__} cannot be called: nodes are filtered out (data=None): {', '.join(empty)}.\n"
            f"  Combine the parts first: params.combine(rest)"
        )
    if not checks_enabled():
        return _pair(module, forward(module, *args, **kwargs))
    return _checked(forward)(module, *args, **kwargs)


def _bind(
    module: Any, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> inspect.BoundArguments:
    signature = _signature(forward)
    try:
        return signature.bind(module, *args, **kwargs)
    except TypeError as error:
        names = [item.replace(annotation=item.empty) for item in signature.parameters.values()]
        raise TypeError(
            f"{type(module).__name__}.forward{inspect.Signature(names)}: {error}"
        ) from None


_signature = functools.cache(inspect.signature)


def _argument_items(forward: Callable[..., Any], given: inspect.BoundArguments) -> list[Checked]:
    """Return the arguments of a call with their annotations."""
    items: list[Checked] = []
    hints = hints_of(forward)
    for name, value in given.arguments.items():
        hint = hints.get(name, Any)
        if hint is not Any and not annotations.names_self(hint):
            items += _arguments(given.signature.parameters[name], value, hint)
    return items


@functools.cache
def _checked(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Return `forward` with checks of the module's nodes, the arguments and the result, which share dimension
    names.
    """
    signature = _signature(forward)

    def call(*args: Any, **kwargs: Any) -> Any:
        module = args[0]
        where = f"{type(module).__name__}.forward"
        hints = hints_of(forward)
        items = annotations.node_items(module)
        items += _argument_items(forward, signature.bind(*args, **kwargs))
        annotations.verify(where, items)
        result = _pair(module, forward(*args, **kwargs))
        hint = _of_result(hints.get("return", Any))
        if hint is not Any and not annotations.names_self(hint):
            annotations.verify(where, [Checked("the result", result[0], hint)], items)
        return result

    call.__signature__ = signature  # type: ignore[attr-defined]  # pyright: ignore[reportFunctionMemberAccess]
    return annotations.scoped(call)


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


def _pair(module: Any, result: Any, function: str = "forward") -> Any:
    """Return what `forward`, or the user's own `__call__`, returned; raise an error if it is not (result, self)."""
    items = cast("tuple[object, ...]", result) if isinstance(result, tuple) else None
    if items is not None and len(items) == 2 and isinstance(items[1], type(module)):
        return items
    got = _kind(cast("object", result)) if items is None else f"({', '.join(map(_kind, items))})"
    raise TypeError(
        f"{type(module).__name__}.{function} must return (result, self), got {got}.\n"
        f"  End it with `return result, self`; self may be a changed copy."
    )


def _kind(value: object) -> str:
    return "array" if isinstance(value, jax.Array) else type(value).__name__


def run_child(
    module: Any, child: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, Any]:
    """Call a child and put the module that it returns in its place: see `Module.call`."""
    where = f"{type(module).__name__}.call"
    if not callable(getattr(child, "forward", None)):
        raise TypeError(
            f"{where} takes a module inside this {type(module).__name__}, got {describe(child)}"
        )
    paths = paths_to(child, module, deep=False) or paths_to(child, module, deep=True)
    if not paths:
        raise ValueError(
            f"{where}: this {type(child).__name__} object is not in the {type(module).__name__}.\n"
            f"  Pass a module that self holds; put a changed copy there with replace first."
        )
    if len(paths) > 1:
        raise ValueError(
            f"{where}: this {type(child).__name__} is in {len(paths)} places of the {type(module).__name__}: "
            f"{', '.join(keystr(path) for path in paths)}.\n"
            "  Give each place its own module. To share one module, store it in one field and "
            "call that field in both places."
        )
    result, changed = _pair(child, child(*args, **kwargs), "__call__")
    return result, with_node(module, paths[0], changed)
