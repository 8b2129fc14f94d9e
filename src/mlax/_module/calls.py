"""The call of a module: options, set-up if needed, checks, and `forward`."""

import functools
import inspect
import sys
import types
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, cast

import jax

from mlax._checking.spelling import qualname
from mlax._checking.values import checks_enabled
from mlax._jax.recursion import MANY, make_room
from mlax._jax.tracing import is_tracer
from mlax._jax.trees import KeyPath, class_of, leaves
from mlax._module import set_up
from mlax._module.apart import with_modules_apart
from mlax._module.call_checks import CallChecks, scope
from mlax._module.frames import (
    NOT_GIVEN,
    OPTIONS,
    Frame,
    StaticOptions,
    current_frame,
    enter,
    leave,
    static_options,
    static_value,
    with_static_options,
)
from mlax._module.nodes import UNSET, ENode
from mlax._module.places import (
    node_at,
    own_nodes,
    own_path_to,
    paths_to,
    with_node,
)
from mlax._module.prepared import Prepared, target_of
from mlax._module.seen import nodes_in
from mlax.tree import describe, keystr, path_text

__all__ = ["run", "run_chain", "run_child", "run_instead", "start"]


class _Plan:
    """What is known of a `forward`, or of another method that is called in its place.

    Attributes:
        function: The function.
        signature: Its signature, `self` included.
        options: The options that it names, each with its position among the arguments; a position
            that no argument can have if it is passed by keyword only.
        takes_any: Whether it has `**kwargs`.
        checks: The checks of its arguments and result.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.signature = inspect.signature(function)
        parameters = list(self.signature.parameters.values())
        for each in parameters[1:]:
            if each.name in OPTIONS and each.kind is each.POSITIONAL_ONLY:
                raise TypeError(
                    f"{qualname(function)}: the option {each.name} is positional-only, but options are passed by "
                    f"name.\n  Name it after the `/`."
                )
        self.takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters)
        self.options = [
            (each.name, sys.maxsize if each.kind is each.KEYWORD_ONLY else position)
            for position, each in enumerate(parameters[1:])
            if each.name in OPTIONS and each.kind in (each.KEYWORD_ONLY, each.POSITIONAL_OR_KEYWORD)
        ]
        self.checks = CallChecks(function, self.signature)

    def bind(
        self, frame: Frame, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> inspect.BoundArguments:
        """Return the arguments of a call by name; raise an error if they do not fit."""
        try:
            return self.signature.bind(frame.module, *args, **kwargs)
        except TypeError as error:
            names = [
                each.replace(annotation=each.empty) for each in self.signature.parameters.values()
            ]
            message = f"{frame.described(str(inspect.Signature(names)))}: {error}"
            for name in OPTIONS:
                if f"missing a required argument: {name!r}" in str(error):
                    message += f"\n  {_CURES[name]}"
                if f"unexpected keyword argument {name!r}" in str(error):
                    message += f"\n  {_UNNAMED}"
            raise TypeError(message) from None


_CURES = {
    "rng": "Pass a key, or give one to the call around it: mlax.training(model, rng=key)(x)",
    "inference_mode": "Pass it, or call the model with mlax.training(model) or mlax.inference(model)",
    "batch_axis_name": (
        'Pass it, or give it to the call around it: mlax.training(model, batch_axis_name="batch")(x). '
        'To set it up: mlax.set_up(model, x, batch_axis_name="batch")'
    ),
}

_UNNAMED = (
    "For the modules inside it, give the options to the call: mlax.training(model, rng=key)(x)"
)

_plan = functools.cache(_Plan)


def run(
    module: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    function: Callable[..., Any] | None = None,
) -> Any:
    """Call a module, or another method of it than its `forward`: see `Module.__call__`."""
    outer = current_frame()
    called: Callable[..., Any] = class_of(module).forward if function is None else function
    frame = Frame(module if outer is not None else with_modules_apart(module), called, outer)
    if outer is not None and outer.waiting and isinstance(module, class_of(outer.module)):
        frame.stand_in(outer)
    elif outer is not None and _are_traced(args, kwargs):
        frame.find_path()
    token = enter(frame)
    try:
        if frame.path:
            with _scope(frame.path):
                return _run(frame, args, kwargs)
        return _run(frame, args, kwargs)
    finally:
        leave(token)


def _run(frame: Frame, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call the method of a frame, which is the current one."""
    plan = _plan(frame.function)
    if frame.depth > MANY:
        make_room(frame.depth)
    try:
        if not plan.options and not (kwargs and plan.takes_any):
            result = _forward(plan, frame, args, kwargs)
        else:
            kwargs, inside = _with_options(plan, frame, args, kwargs)
            if inside is None:
                result = _forward(plan, frame, args, kwargs)
            else:
                with with_static_options(inside):
                    result = _forward(plan, frame, args, kwargs)
    except Exception as error:
        _say_where(error, frame)
        raise
    if frame.watch is not None:
        frame.watch(frame, args, kwargs, result)
    return result


def _with_options(
    plan: _Plan, frame: Frame, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[dict[str, Any], StaticOptions | None]:
    """Fill in the options that a call inherits. Take those that it is given for what is called inside.

    Returns:
        The keywords, and the static options inside if they differ from those outside.
    """
    around = static_options()
    given = dict[str, Any]()
    filled = dict[str, Any]()
    for name, position in plan.options:
        if name in kwargs:
            given[name] = kwargs[name]
        elif position < len(args):
            given[name] = args[position]
        elif name == "rng":
            if (key := frame.key()) is not None:
                filled[name] = key
        elif (value := around.inherited(name, frame)) is not NOT_GIVEN:
            filled[name] = value
    if plan.takes_any:
        given |= {name: kwargs[name] for name in OPTIONS if name in kwargs}
    if "rng" in given:
        frame.give(given.pop("rng"))
    inside = around._replace(**{name: static_value(name, value) for name, value in given.items()})
    return {**kwargs, **filled} if filled else kwargs, None if inside == around else inside


def _forward(plan: _Plan, frame: Frame, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Set up a module if needed, check it and its arguments, and call its `forward`."""
    module = frame.module
    nodes = _own_nodes(module)
    if _holds(UNSET, nodes) if module._has_plain_is_set_up else not module.is_set_up:
        given = plan.bind(frame, args, kwargs)
        if checks_enabled():  # before set_up makes nodes from a wrong input
            plan.checks.verify(frame, module, given, nodes=False)
        frame.find_path()  # while the module is the one that the outer module holds
        module = frame.module = set_up.set_up_one(frame, given)
        nodes = _own_nodes(module)
    if _holds(None, nodes):
        raise _is_filtered_out(frame)
    function = plan.function
    if not checks_enabled():
        try:
            return _pair(frame, function(module, *args, **kwargs))
        except TypeError:
            plan.bind(frame, args, kwargs)  # if the arguments do not fit, this says so better
            raise
    checks = plan.checks
    call = checks.seen(module, nodes, args, kwargs)
    passed = checks.passed(call)
    if passed is None:
        checks.verify(frame, module, plan.bind(frame, args, kwargs))
    with scope:
        result = _pair(frame, function(module, *args, **kwargs))
    if passed is None or not checks.was_seen(result[0], passed):
        checks.verify_result(frame, module, plan.bind(frame, args, kwargs), result[0])
        checks.remember(call, result[0])
    return result


def _own_nodes(module: Any) -> list[Any]:
    """Return the nodes in the module's own fields, as `nodes_in` does."""
    return nodes_in(module._aux_data.flattening.flatten(module)[0])


def _holds(data: object, nodes: list[Any]) -> bool:
    """Whether one of the nodes has this data."""
    for node in nodes:  # noqa: SIM110 - `any` takes three times as long
        if isinstance(node, ENode) and node.data is data:
            return True
    return False


def _is_filtered_out(frame: Frame) -> ValueError:
    empty = [name for name, node in own_nodes(frame.module) if node.data is None]
    name = type(frame.module).__name__ + frame.standing()
    return ValueError(
        f"{name} cannot be called: nodes are filtered out (data=None): {', '.join(empty)}.\n"
        f"  Combine the parts first: params.combine(rest)"
    )


def _pair(frame: Frame, result: Any, method: str = "") -> Any:
    """Return what `forward`, or the user's own `__call__`, returned; raise an error if it is not (result, self)."""
    items = cast("tuple[object, ...]", result) if isinstance(result, tuple) else None
    if items is not None and len(items) == 2 and isinstance(items[1], type(frame.module)):
        return items
    got = _kind(cast("object", result)) if items is None else f"({', '.join(map(_kind, items))})"
    cure = "End it with `return result, self`; self may be a changed copy."
    if isinstance(result, types.GeneratorType):
        cure = "It cannot `yield`: loop around the call of the model."
    elif isinstance(result, (types.CoroutineType, types.AsyncGeneratorType)):
        cure = "It cannot be async: await around the call of the model."
    if isinstance(result, types.CoroutineType):
        result.close()  # or Python warns that it was never awaited
    raise TypeError(
        f"{frame.described(method=method)} must return (result, self), got {got}.\n  {cure}"
    )


def _kind(value: object) -> str:
    return "array" if isinstance(value, jax.Array) else type(value).__name__


def _say_where(error: Exception, frame: Frame) -> None:
    """Add to an error where the innermost module stands in the model, unless the message has it."""
    notes = getattr(error, "__notes__", ())
    if isinstance(error, NameError) and "unbound axis" in str(error) and _UNMAPPED not in notes:
        error.add_note(_UNMAPPED)
    if frame.outer is None or any(note.startswith(_NOTE) for note in notes):
        return
    place = frame.place()
    if place and f" at {place}" not in str(error):
        error.add_note(f"{_NOTE}{frame}")


_NOTE = "in "
_UNMAPPED = (
    '  Map over examples around the call: jax.vmap(call, axis_name="batch"). mlax.set_up and mlax.summary need no map '
    'if they are given the name: batch_axis_name="batch".'
)


def run_child(
    module: Any, child: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, Any]:
    """Call a child and put the module that it returns in its place: see `Module.call`."""
    frame, path, prepared = _find(module, child, current_frame(), "call")
    before = frame.module
    result, changed = _call(frame, path, prepared, args, kwargs)
    return result, module if changed is before else with_node(module, path, changed)


def run_chain(module: Any, x: Any, children: tuple[Any, ...]) -> tuple[Any, Any]:
    """Call children one after another: see `Module.chain`."""
    outer = current_frame()
    for frame, path, prepared in [_find(module, child, outer, "chain") for child in children]:
        before = frame.module = node_at(module, path)  # an earlier call may have changed it
        x, changed = _call(frame, path, prepared, (x,), {})
        if changed is not before:
            module = with_node(module, path, changed)
    return x, module


def _find(
    module: Any, child: Any, outer: Frame | None, method: str
) -> tuple[Frame, KeyPath, Prepared | None]:
    """Return the frame of the call of a child, the child's path in the module, and the options it is to have."""
    prepared = child if isinstance(child, Prepared) and child.is_for_call else None
    target = target_of(child if prepared is None else prepared.function)
    if target is None:
        name = type(module).__name__
        raise TypeError(
            f"{name}.{method} takes a module inside this {name}, or a method of one, got {_called(child)}"
        )
    found, function = target
    if not found._has_forward and function is class_of(found).forward:
        raise TypeError(
            f"{type(module).__name__}.{method}: {class_of(found).__name__} does not define forward.\n"
            f"  Rename its __call__ to forward, and let it return (result, self)."
        )
    path = own_path_to(found, module, {} if outer is None else outer.hints)
    if path is None:
        path = _deep_path_to(found, module, f"{type(module).__name__}.{method}")
    return Frame(found, function, outer, path), path, prepared


def _called(child: object) -> str:
    name: object = getattr(child, "__name__", None)
    if callable(child) and isinstance(name, str):
        return f"the function {name}.\n  Call a function yourself, between calls of modules: x = {name}(x)"
    return describe(child)


def _deep_path_to(child: Any, module: Any, where: str) -> KeyPath:
    """Return the path to a submodule that is not in a field of the module itself."""
    if child is module:
        raise ValueError(
            f"{where} takes a module inside this {type(module).__name__}, got the {type(module).__name__} itself.\n"
            f"  Call its other methods directly: y, self = self.forward(x)"
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
    return paths[0]


def _call(
    frame: Frame,
    path: KeyPath,
    prepared: Prepared | None,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    if frame.outer is not None:
        frame.inherit(frame.outer)
    if _are_traced(args, kwargs):
        with _scope(path):
            return start(frame, prepared, args, kwargs)
    return start(frame, prepared, args, kwargs)


def _scope(path: KeyPath) -> AbstractContextManager[Any]:
    """Return a context that shows the place of a module in profiles and in HLO."""
    scope: AbstractContextManager[Any] = jax.named_scope(path_text(path))
    return scope


_tracers: dict[type, bool] = {}


def _are_traced(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return any(map(_is_traced, args)) or (bool(kwargs) and any(map(_is_traced, kwargs.values())))


def _is_traced(argument: object) -> bool:
    traced = _tracers.get(type(argument))
    if traced is None:
        if not isinstance(argument, jax.Array):
            return any(map(is_tracer, leaves(argument)))
        traced = _tracers[type(argument)] = is_tracer(argument)
    return traced


def start(
    frame: Frame, prepared: Prepared | None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Call the module of a frame, with options of its own or without."""
    if prepared is not None and prepared.rng is not None:
        frame.give(prepared.rng)
    if frame.outer is None:
        frame.module = with_modules_apart(frame.module)
    token = enter(frame)
    try:
        if prepared is None:
            return _enter(frame, args, kwargs)
        with with_static_options(prepared.merged()):
            return _enter(frame, args, kwargs)
    finally:
        leave(token)


def _enter(frame: Frame, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    module = frame.module
    if module._has_plain_call or frame.function is not class_of(module).forward:
        return _run(frame, args, kwargs)
    frame.waiting = True  # a user's own __call__, which may call that of Module, even several times
    return _pair(frame, module(*args, **kwargs), "__call__")


def run_instead(
    model: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    within: KeyPath = (),
    function: Callable[..., Any] | None = None,
) -> Any:
    """Call another model than the module whose `forward` runs, with the same options and key.

    Args:
        model: The model.
        args: Its arguments.
        kwargs: Its keyword arguments.
        within: Where what it is made of stands in the module, for messages.
        function: Its method that is called. By default `forward`.
    """
    outer = current_frame()
    frame = Frame(model, class_of(model).forward if function is None else function, outer, ())
    frame.within = within
    if outer is not None:
        frame.stand_in(outer)
    return start(frame, None, args, kwargs)
