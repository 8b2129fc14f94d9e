"""Set-up: nodes that are UNSET are made from the first input.

A lazy call sets up a module just before its `forward`. `mlax.set_up` sets up a whole model without
running it: the model is called under `jax.eval_shape`, so that modules are set up in the order of
the calls, with arrays that have only shapes and dtypes. What the modules' `set_up` methods return
is put into the model that was passed in. Nothing else in it changes.

During this, a module that is not set up is identified by its path in the whole model, which it
carries as the `label` of its aux data. Object identity is not enough: `vmap`, `scan` and others
flatten a module and build a new object from it, but aux data pass through them. Modules that are set up have
no label, so that `forward` sees them as in any other call.

If a `forward` calls `mlax.set_up` on a part of the model, that call joins the current run. If a
`set_up` calls it, or a `forward` in a lazy call, the call is a separate run; the latter has the key of
the part in that call.
"""

import contextvars
import functools
import inspect
import zlib
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import jax
import numpy as np
from jax.errors import ConcretizationTypeError, TracerArrayConversionError, UnexpectedTracerError
from jaxtyping import Array

from mlax._jax.recursion import make_room
from mlax._jax.tracebacks import trimmed
from mlax._jax.tracing import is_tracer
from mlax._jax.trees import KeyPath, class_of, flatten, leaves
from mlax._module.batch_axes import with_batch_axes
from mlax._module.flattening import is_flattened
from mlax._module.frames import (
    Frame,
    at,
    current_frame,
    enter,
    is_key,
    leave,
    static_options,
    static_value,
    trace_state,
    with_static_options,
)
from mlax._module.kept import with_nodes_of
from mlax._module.nodes import State
from mlax._module.places import (
    depth_of,
    map_modules,
    modules_inside,
    own_nodes,
    paths_to,
)
from mlax._module.prepared import Prepared
from mlax._module.recipes import NoKeyError, current_uses, noting_uses
from mlax._module.seen import UnknownError, seen
from mlax._module.unset import UNSET, refuse_unset
from mlax.tree import describe, keystr, refuse_shared

__all__ = ["assembled", "has_shape", "needs_values", "only_shapes", "set_up", "set_up_one"]

M = TypeVar("M", bound=State)

_SET_UP_FIRST = (
    "Set up the model first, `model = mlax.set_up(model, x, rng=key)`, or call it with "
    "mlax.training(model, rng=key)."
)
_CALL_INDIRECTLY = (
    "A direct call, `self.child(x)`, inherits no key. Use `self.call(self.child, x)`, or give it one: "
    "mlax.training(self.child, rng=key)(x)."
)
_PASS_ONE = "Pass one: mlax.set_up(model, x, rng=key)."
_PASS_ONE_INSIDE = (
    "Pass one, mlax.set_up(module, x, rng=key): it is not inherited in a `set_up`, by a module that the calling one "
    "does not hold,\n  or inside a jit, vmap, scan and the like. What a scan calls can be set up before it."
)


class _Run:
    """One `mlax.set_up` of a model.

    Inside a transformation such as `vmap`, a module's arrays are tracers that are useless outside
    it. So `set_up` methods are called on the modules as they are in the model, found by path. If
    these or the key are themselves tracers, because a transformation is around `mlax.set_up`, each
    `set_up` is called twice: during the run for the shapes, and again after it, outside all inner
    transformations, for the result.

    Attributes:
        key: Key of the whole model, or None.
        cure: What an error says if a key is needed and there is none.
        eager: Whether `set_up` methods compute immediately; otherwise an outer transformation
            traces them.
        modules: The modules as they are in the model, by path.
        asked: For each path, the arguments of the first call that needed a set-up. Only used if not
            eager.
        made: The modules that `set_up` methods returned, by path.
        making: How many `set_up` methods are running. If one calls `mlax.set_up`, that is a
            separate run.
        joined: How many calls of `mlax.set_up` in a `forward` are running that joined this run.
        trace: State of the trace in which the model is called.
        by_forward: Modules that were made in a call of `mlax.set_up` in a `forward`, or inside a
            transformation that one has begun, by path.
    """

    def __init__(self, key: Array | None, cure: str, eager: bool) -> None:
        self.key = key
        self.cure = cure
        self.eager = eager
        self.modules: dict[KeyPath, Any] = {}
        self.asked: dict[KeyPath, inspect.BoundArguments] = {}
        self.made: dict[KeyPath, Any] = {}
        self.making = 0
        self.joined = 0
        self.trace: object = None
        self.by_forward: dict[KeyPath, Any] = {}

    def key_for(self, path: KeyPath) -> Array | None:
        """Return a key that depends only on the model's key and the path.

        So a layer that is added or removed elsewhere does not change the initial weights of this
        one.
        """
        if self.key is None:
            return None
        return jax.random.fold_in(self.key, zlib.crc32(keystr(path).encode()))

    def labelled(self, module: Any, path: KeyPath) -> Any:
        """Label a module and its submodules with their paths, except those already set up, and record each in
        `modules`.

        Modules that are set up have the same structure as in any other call, so that `forward` can
        compare, stack, combine and scan over them.
        """
        if self.modules.get(path) is module:  # labelled before
            return module
        module = self._labelled_inside(module, path)
        self.modules[path] = _with_label(module, None if module.is_set_up else path)
        return self.modules[path]

    def _labelled_inside(self, module: Any, path: KeyPath) -> Any:
        return map_modules(lambda inside, child: self.labelled(child, path + inside), module)

    def ask(self, path: KeyPath, given: inspect.BoundArguments) -> Any:
        """Return the module at a path after its set-up."""
        made = self._asked(path, given)
        if self.joined or trace_state() != self.trace:
            self.by_forward[path] = made
        return made

    def _asked(self, path: KeyPath, given: inspect.BoundArguments) -> Any:
        if not self.eager:
            self.asked.setdefault(path, given)
            return self._make(path, given)
        if path not in self.made:
            # The call runs under `eval_shape`. This makes the `set_up` in it compute real arrays. If any of
            # them is still a tracer, it was computed from the input, which has no values.
            with jax.ensure_compile_time_eval():
                made = self._make(path, given)
            if any(map(is_tracer, leaves(made))):
                raise _reads_values(made, path)
            self.made[path] = made
        return self.made[path]

    def refuse_changed(self, returned: Any) -> None:
        """Raise an error if a `forward` put something else in the place of a module that it made.

        For example, `mlax.set_up` under `vmap` makes a stack in a lazy call, but here each module is
        made once.

        Args:
            returned: The model that its call returned.
        """
        found = dict(_modules_in(returned, ())) if self.by_forward else {}
        for path, made in self.by_forward.items():
            after = dict(own_nodes(found.get(path, made)))
            for name, node in own_nodes(made):
                new = after.get(name)
                if new is None or _shapes(new.data) not in (_shapes(node.data), _NO_SHAPES):
                    raise _made_by_forward(path, name, new, f"makes {describe(node.data)} there")
        for path, module in found.items():
            for name, node in own_nodes(module):
                if path not in self.modules and _shapes(node.data) != _NO_SHAPES:
                    raise _made_by_forward(path, name, node, "makes no module there")

    def finish(self, beneath: KeyPath = ()) -> dict[KeyPath, Any]:
        """Make the modules that could not be made during the run. Return all that were made.

        Args:
            beneath: Only modules at this path and inside are made.
        """
        from jax.extend import core  # 12 ms: only here

        made = dict(self.made)
        for path, given in self.asked.items():
            if path[: len(beneath)] != beneath:
                continue
            # The inputs recorded in the run are tracers of a finished trace. A `set_up` may read their shapes,
            # not their values. So it is traced alone, and the jaxpr is searched for them: the outer
            # transformation would notice too, but too late to say which module it was.
            make = functools.partial(self._make, path, given)
            structures: list[Any] = []

            def traced(make: Callable[[], Any] = make, structures: list[Any] = structures) -> Any:
                arrays, structure = flatten(make())
                structures.append(structure)
                return arrays

            closed = cast("Any", jax.make_jaxpr)(traced)()
            used = {id(var) for eqn in closed.jaxpr.eqns for var in eqn.invars}
            used |= {id(var) for var in closed.jaxpr.outvars}
            dead = {id(leaf) for leaf in leaves((given.args[1:], given.kwargs)) if is_tracer(leaf)}
            pairs = zip(closed.jaxpr.constvars, closed.consts, strict=True)
            if any(id(var) in used and id(const) in dead for var, const in pairs):
                raise _reads_values(self.modules[path], path)
            # Not `make()` again: what a wrapper around a wrapper sets up would be traced once more at each level.
            made[path] = structures[0].unflatten(core.jaxpr_as_fun(closed)())
        return made

    def _make(self, path: KeyPath, given: inspect.BoundArguments) -> Any:
        # The module as it is in the model, without nodes: this may run twice, during the run and after it.
        module = self.modules[path]
        self.making += 1
        try:
            made = _made(module, given, functools.partial(self.key_for, path), self.cure, at(path))
            return _with_label(self._labelled_inside(made, path), None)
        except (
            ConcretizationTypeError,
            TracerArrayConversionError,
            UnexpectedTracerError,
        ) as error:
            raise _reads_values(module, path) from error
        finally:
            self.making -= 1


class _OfShapes(_Run):
    """A run of which only shapes and dtypes are used. Modules that are alike share the arrays of the first."""

    def __init__(self, key: Array | None) -> None:
        super().__init__(key, _PASS_ONE, eager=False)
        self._alike: dict[Hashable, tuple[Any, object]] = {}  # with the trace of the arrays

    def key_for(self, path: KeyPath) -> Array | None:
        """Return the model's key, because folding takes time."""
        return self.key

    def _make(self, path: KeyPath, given: inspect.BoundArguments) -> Any:
        try:
            kind = self._kind(path, given)
        except UnknownError:
            return super()._make(path, given)
        known, trace = self._alike.get(kind, (None, None))
        if known is None or trace != trace_state():
            known = super()._make(path, given)
            self._alike[kind] = known, trace_state()
            return known
        return _with_label(self._labelled_inside(known, path), None)

    def _kind(self, path: KeyPath, given: inspect.BoundArguments) -> Hashable:
        """Return everything that the shapes of what `set_up` makes may depend on."""
        module = self.modules[path]
        children, aux_data = module._aux_data.flattening.flatten(module)
        arguments = [(name, seen(value)) for name, value in list(given.arguments.items())[1:]]
        found, treedef = flatten(children)
        own = aux_data.labelled(None), treedef, tuple(map(seen, found)), static_options()
        return class_of(module), *own, tuple(arguments)


_current = contextvars.ContextVar[_Run | None]("mlax_set_up", default=None)


@functools.cache
def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(function).parameters


def set_up_one(frame: Frame, given: inspect.BoundArguments) -> Any:
    """Return a module with its own nodes made.

    Args:
        frame: The call of a module that is not set up.
        given: The arguments of the call.
    """
    run = _current.get()
    module = frame.module
    if run is None:
        key_of = functools.partial(_key_of_lazy, frame)
        return _made(module, given, key_of, _cure_of_lazy(frame), frame.standing())
    path = module._aux_data.label
    if path is None:  # made by a `forward` during the run: the model has no place for its nodes
        raise ValueError(
            f"mlax.set_up: a {type(module).__name__} made in a forward is not in the model, so it cannot be set up.\n"
            f"  Make it in __init__ or set_up, as a field of its parent."
        )
    return run.ask(path, given)


def _key_of_lazy(frame: Frame) -> Array | None:
    """Return a key for the nodes of a module that is set up in a call: not the one that its `forward` gets."""
    key = frame.key()
    return None if key is None else jax.random.fold_in(key, zlib.crc32(b"set_up"))


def _cure_of_lazy(frame: Frame) -> str:
    """Return what the error says if a module that is set up in a call needs a key, and has none."""
    return _CALL_INDIRECTLY if frame.has_key_around() else _SET_UP_FIRST


def _inherited(model: Any, frame: Frame | None) -> tuple[Array | None, str]:
    """Return the key of a part that a `forward` sets up in a lazy call, and what an error says if it has none.

    Args:
        model: The part.
        frame: The call of the module whose `forward` runs, or None.
    """
    if frame is None:
        return None, _PASS_ONE
    paths = paths_to(model, frame.module, deep=True)
    if not paths or current_uses() is not None:  # a `set_up` is given its key, and passes it on
        return None, _PASS_ONE_INSIDE
    part = Frame(model, class_of(model).forward, frame, paths[0])
    part.inherit(frame, counts=False)
    if part.is_elsewhere():
        return None, _PASS_ONE_INSIDE
    return _key_of_lazy(part), _cure_of_lazy(part)


def _modules_in(module: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    """Yield a module and all inside, with their paths."""
    yield path, module
    for inside, child in modules_inside(module):
        yield from _modules_in(child, path + inside)


def _shapes(data: Any) -> tuple[object, list[object]]:
    """Return the structure of a node's data, and the shapes and dtypes of its arrays."""
    found, treedef = flatten(None if data is UNSET else data)
    return treedef, [(leaf.shape, leaf.dtype) for leaf in found]


_NO_SHAPES = _shapes(None)


def _made_by_forward(path: KeyPath, name: str, node: Any, instead: str) -> ValueError:
    made = "is dropped" if node is None else f"becomes {describe(node.data)}"
    return ValueError(
        f"mlax.set_up: {_name(path)}.{name} {made} in a forward, but mlax.set_up makes each module of the model once, "
        f"and {instead}.\n"
        f"  Do it in the `set_up` of the module around it, which needs a property `is_set_up`; or call the model on "
        f"data: result, model = mlax.training(model, rng=key)(x)"
    )


def _reads_values(module: Any, path: KeyPath) -> TypeError:
    return TypeError(
        f"{type(module).__name__}.set_up of {_name(path)} reads the values of its input, but mlax.set_up knows only "
        f"shapes and dtypes.\n"
        f"  Call the model on data instead: result, model = model(x, ...)"
    )


def _made(
    module: Any,
    given: inspect.BoundArguments,
    key_of: Callable[[], Array | None],
    cure: str,
    at: str,
) -> Any:
    """Call the `set_up` of a module with the arguments that it names.

    Args:
        module: The module.
        given: The arguments of its call.
        key_of: Returns its key; called only if its `set_up` names `rng`.
        cure: What an error says if it needs a key and has none.
        at: Where it stands in the model, for messages: ` at layers[0]`.
    """
    cls = class_of(module)
    named = _named(given)
    passed: dict[str, Any] = {}
    for name, parameter in list(_parameters(cls.set_up).items())[1:]:
        required = parameter.default is parameter.empty
        if name == "rng":
            if (key := key_of()) is not None:
                passed[name] = key
            elif required:
                raise ValueError(
                    f"{_not_set_up(module, at)}, and its set_up needs a key.\n  {cure}"
                )
        elif parameter.kind is parameter.VAR_POSITIONAL and _is_of_other_method(module, given):
            raise ValueError(
                f"{_not_set_up(module, at)}, and the inputs of its forward have to tell how.\n  {cure}"
            )
        elif name in given.arguments:
            passed[name] = given.arguments[name]
        elif name in named:
            passed[name] = named[name]
        elif parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        elif required and _has_default(given.signature, name):
            passed[name] = given.signature.parameters[name].default
        elif required:
            raise TypeError(
                f"{cls.__name__}.set_up{at} takes {name!r}, but forward was called without it "
                f"(it got: {', '.join(named) or 'nothing'}).\n"
                f"  Name a PRNG key `rng`; all other parameters must be arguments of forward."
            )
    signature = inspect.signature(cls.set_up)
    arguments = {next(iter(signature.parameters)): module, **passed}
    bound = inspect.BoundArguments(signature, cast("Any", arguments))
    with noting_uses() as used:
        try:
            made = cls.set_up(*bound.args, **bound.kwargs)
        except NoKeyError as error:
            raise ValueError(f"{_not_set_up(module, at)}. {error}") from error
    if not isinstance(made, cls):
        raise TypeError(
            f"{cls.__name__}.set_up{at} must return the set-up copy, got {describe(made)}.\n"
            f"  End it with `return self.replace(...)`: modules are frozen."
        )
    made = with_nodes_of(made, module, used)
    if not made.is_set_up:
        raise ValueError(f"{cls.__name__}.set_up{at} was called, but {_not_set_up(made)}")
    return made


def _is_of_other_method(module: Any, given: inspect.BoundArguments) -> bool:
    """Whether a wrapper, set up with the inputs of its `forward`, is given those of another method."""
    is_wrapper = not module._has_plain_is_set_up
    return is_wrapper and given.signature != inspect.signature(class_of(module).forward)


def _named(given: inspect.BoundArguments) -> dict[str, Any]:
    """Return the arguments of a call by name, including those in `**kwargs` but not `self`."""
    named: dict[str, Any] = {}
    for name, value in list(given.arguments.items())[1:]:
        if given.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            named |= value
        else:
            named[name] = value
    return named


def _has_default(signature: inspect.Signature, name: str) -> bool:
    parameter = signature.parameters.get(name)
    return parameter is not None and parameter.default is not parameter.empty


def _not_set_up(module: Any, at: str = "") -> str:
    unset = ", ".join(module._unset())
    return f"{type(module).__name__}{at} is not set up" + (f" (UNSET: {unset})" if unset else "")


@trimmed
def set_up(model: M, *inputs: Any, rng: Array | None = None, **options: Any) -> M:
    """Set up a whole model from a sample of its input, without running it.

    Args:
        model: It is called as `model(*inputs, **options)` to find out which inputs its modules get.
            As in `mlax.inference(model, rng=rng)`, modules whose `forward` names `inference_mode`
            or `rng` are passed these. If it is `mlax.training(model, ...)` or
            `mlax.inference(model, ...)`, they are passed the options that these were given.
        *inputs: Arrays, of which only shape and dtype are used, or `jax.ShapeDtypeStruct`s.
        rng: PRNG key. Each module gets its own key, derived from its path in the model. A layer
            added elsewhere does not change it. A part that a `forward` sets up has, without this,
            the key of that part in the running call.
        **options: Passed to the model. `batch_axis_name` holds for all modules inside, and an axis
            of this name has one example unless a `vmap` around maps over it.

    Returns:
        The model with all nodes made, and nothing else changed. For example, running statistics
        keep their initial values.

    Raises:
        ValueError: A node is still UNSET because its module was not called, or an array or node is
            in two places.
        TypeError: A `set_up` reads the values of its input.
    """
    static = static_options()._replace(inference_mode=True)
    if isinstance(model, Prepared) and model.is_for_call:
        static, rng = model.merged(), model.rng if rng is None else rng
        model = cast("Any", model.function)
    if "batch_axis_name" in options:
        name = static_value("batch_axis_name", options.pop("batch_axis_name"))
        static = static._replace(batch_axis_name=name)
    if not is_flattened(model):
        raise TypeError(f"mlax.set_up takes a Module, got {describe(model)}")
    if rng is not None and not is_key(rng):
        raise TypeError(
            f"mlax.set_up: rng must be a key, such as jax.random.key(0), got {describe(cast('object', rng))}"
        )
    make_room(depth_of(model))
    refuse_shared("mlax.set_up", "model", model)
    _refuse_shared_modules(model, (), {})
    around = _current.get()
    part = None if around is None or around.making else _place_of(model)
    joins = part is not None
    if around is not None and part is not None:  # a `forward` sets up a part of the model
        run, place, labelled = around, part, cast("Any", model)
    else:
        key, cure = rng, _PASS_ONE if around is None else _PASS_ONE_INSIDE
        if rng is None and around is None:
            key, cure = _inherited(model, current_frame())
        run = _Run(key, cure, eager=not any(map(is_tracer, leaves((model, key)))))
        place = ()
        labelled = run.labelled(model, place)
    found, treedef = flatten((inputs, options, rng))
    arrays = [leaf for leaf in found if has_shape(leaf)]
    frame = Frame(labelled, class_of(labelled).forward, current_frame())

    def call(arrays: list[Any]) -> None:
        given = iter(arrays)
        args, kwargs, key = treedef.unflatten(
            next(given) if has_shape(leaf) else leaf for leaf in found
        )
        # The key is for nodes. A `forward` that cannot inherit it, as inside a scan, does without in inference mode.
        frame.give(key, lenient=True)
        before = enter(frame)
        try:
            with with_static_options(static):
                frame.waiting = True
                if joins:
                    labelled(*args, **kwargs)
                else:
                    run.trace = trace_state()
                    run.refuse_changed(labelled(*args, **kwargs)[1])
        finally:
            leave(before)

    token = _current.set(run)
    run.joined += joins
    try:
        cast("Any", jax.eval_shape)(with_batch_axes(call, static), arrays)
        made = run.finish(place)
    except (ConcretizationTypeError, TracerArrayConversionError) as error:
        cure = "Call the model on data instead: result, model = model(x, ...)"
        raise TypeError(f"{needs_values('mlax.set_up', model)}\n  {cure}") from error
    finally:
        run.joined -= joins
        _current.reset(token)
    model = assembled(model, place, made)
    refuse_unset("mlax.set_up", "model", model, "their modules were not called with these inputs")
    return model


def needs_values(where: str, model: Any) -> str:
    """Return the message about a model that cannot be called with only shapes."""
    return (
        f"{where} calls {class_of(model).__name__} with only shapes and dtypes, but a forward in it needs values, "
        f"for example in an `if`."
    )


@contextmanager
def only_shapes(model: M, key: Array | None) -> Generator[M]:
    """Yield a model whose calls set up its modules on the way, for a call under `eval_shape`.

    Args:
        model: It holds tracers, so that what its `set_up` methods return is traced too.
        key: Key of the model, a tracer or None.
    """
    run = _OfShapes(key)
    token = _current.set(run)
    try:
        yield run.labelled(model, ())
    finally:
        _current.reset(token)


def _place_of(module: Any) -> KeyPath | None:
    """Return the path in the whole model of a part that a `forward` uses; None if it is unknown."""
    path: KeyPath | None = module._aux_data.label
    if path is not None:
        return path
    for inside, child in modules_inside(module):
        below = _place_of(child)
        if below is not None:
            return below[: len(below) - len(inside)]
    return None


def _refuse_shared_modules(module: Any, path: KeyPath, seen: dict[int, KeyPath]) -> None:
    """Raise an error if a module that is not set up is in two places: set-up would make two modules of it."""
    if module._unset():
        if id(module) in seen:
            raise ValueError(
                f"mlax.set_up: {_name(seen[id(module)])} and {_name(path)} are the same {type(module).__name__}.\n"
                "  Give each place its own module. To share one module, store it in one field and "
                "call that field in both places."
            )
        seen[id(module)] = path
    for inside, child in modules_inside(module):
        _refuse_shared_modules(child, path + inside, seen)


def has_shape(leaf: object) -> bool:
    """Whether only the shape and dtype of an input's leaf are used."""
    return isinstance(leaf, (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct))


def _with_label(module: Any, label: KeyPath | None) -> Any:
    """Return a copy of a module with a path as its label, or without one."""
    children, aux_data = module._aux_data.flattening.flatten(module)
    return aux_data.flattening.unflatten(aux_data.labelled(label), children)


def assembled(module: Any, path: KeyPath, made: Mapping[KeyPath, Any]) -> Any:
    """Return a module, and all inside, with those that were made in their places."""
    module = made.get(path, module)
    return _with_label(
        map_modules(lambda inside, child: assembled(child, path + inside, made), module), None
    )


def _name(path: KeyPath) -> str:
    return f"model{keystr(path)}"
