"""Set-up: nodes that are UNSET are made from the first input.

A lazy call sets up a module just before its `forward`. `mlax.set_up` does it for a whole model, without running it:
the model is called under `jax.eval_shape`, each module on the way is set up with arrays that have shapes and dtypes
only, and what the set-ups made is put into the model that was given, so that nothing else of it changes.

Inside, a module is known by its path in the whole model, which it carries as the `label` of its aux data: that survives
`vmap`, `scan` and the like, through which a module comes out as another object.
"""

import contextlib
import contextvars
import functools
import inspect
import zlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
from jax.errors import ConcretizationTypeError, TracerArrayConversionError, UnexpectedTracerError
from jaxtyping import Array

from mlax._layout import is_laid_out
from mlax._trees import KeyPath, flatten, leaves, leaves_with_path, map_with_path
from mlax.state import UNSET, State, is_leaf_state
from mlax.tree import keystr, refuse_shared

__all__ = ["refuse_unset", "set_up", "set_up_one", "with_inference_mode"]

M = TypeVar("M", bound=State)


class _Run:
    """One `mlax.set_up` of a model.

    Attributes:
        key: Key of the whole model, or None.
        eager: Whether the set-ups compute at once; if not, they are traced by a transformation around.
        made: Modules as their set-up returned them, by path.
    """

    def __init__(self, key: Array | None, eager: bool) -> None:
        self.key = key
        self.eager = eager
        self.made: dict[KeyPath, Any] = {}

    def key_for(self, path: KeyPath) -> Array | None:
        """Return a key that depends on nothing but the key of the model and the path."""
        if self.key is None:
            return None
        return jax.random.fold_in(self.key, zlib.crc32(keystr(path).encode()))


_current = contextvars.ContextVar[_Run | None]("mlax_set_up", default=None)


def with_inference_mode(
    forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """During `mlax.set_up`, return the keywords with `inference_mode=True` where `forward` takes it."""
    if _current.get() is None or "inference_mode" in kwargs:
        return kwargs
    names = list(_parameters(forward))
    if "inference_mode" not in names or names.index("inference_mode") <= len(args):
        return kwargs
    return {**kwargs, "inference_mode": True}


@functools.cache
def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(function).parameters


def set_up_one(module: Any, arguments: Mapping[str, Any]) -> Any:
    """Return a module with its own nodes made.

    Args:
        module: Not set up.
        arguments: Of the call of its `forward`, by name.
    """
    run = _current.get()
    if run is None:
        return _made(module, arguments, arguments.get("rng"))
    path = module._aux_data.label
    if path is None:  # made during the run, by a `forward`: nothing can be put back for it
        raise ValueError(
            f"mlax.set_up: a {type(module).__name__} that a forward makes is no part of the model, and is not set up.\n"
            f"  Make it in __init__ or set_up, as a field of its parent."
        )
    if path not in run.made:
        with jax.ensure_compile_time_eval() if run.eager else contextlib.nullcontext():
            key = run.key_for(path)
            try:
                made = _made(module, arguments, key)
            except (
                ConcretizationTypeError,
                TracerArrayConversionError,
                UnexpectedTracerError,
            ) as error:
                raise _reads_values(module, path) from error
        if run.eager and any(isinstance(leaf, jax.core.Tracer) for leaf in leaves(made)):
            raise _reads_values(module, path)
        run.made[path] = _labelled(made, path)
    return run.made[path]


def _reads_values(module: Any, path: KeyPath) -> TypeError:
    return TypeError(
        f"{type(module).__name__}.set_up of {_name(path)} reads the values of its input; mlax.set_up knows shapes and "
        f"dtypes only.\n"
        f"  Call the model on data instead: result, model = model(x, ...)"
    )


def _made(module: Any, arguments: Mapping[str, Any], key: Array | None) -> Any:
    """Call the `set_up` of a module with those arguments that it names."""
    cls = type(module)
    given: dict[str, Any] = {}
    for name, parameter in list(_parameters(cls.set_up).items())[1:]:
        required = parameter.default is parameter.empty
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if name == "rng":
            if key is not None:
                given[name] = key
            elif required:
                raise ValueError(
                    f"{cls.__name__} is not set up ({', '.join(module._unset())}), and its set_up needs a key.\n"
                    f"  Set up the model first, `model = mlax.set_up(model, x, rng=key)`, or pass rng to the call."
                )
        elif name in arguments:
            given[name] = arguments[name]
        elif required:
            raise TypeError(
                f"{cls.__name__}.set_up asks for {name!r}, which this call of forward was not given "
                f"(it was given {', '.join(list(arguments)[1:]) or 'nothing'})"
            )
    made = module.set_up(**given)
    if not isinstance(made, cls):
        raise TypeError(
            f"{cls.__name__}.set_up must return the set-up copy, got {made!r}.\n"
            f"  End it with `return self.replace(...)`: modules are frozen."
        )
    if not made.is_set_up:
        raise ValueError(f"{cls.__name__}.set_up left {', '.join(made._unset())} UNSET")
    return made


def set_up(model: M, *inputs: Any, rng: Array | None = None, **options: Any) -> M:
    """Set up a whole model from a sample of its input, without running it.

    Args:
        model: Called as `model(*inputs, **options)` to find out what its modules are given. It gets `rng` and
            `inference_mode=True` where its `forward` takes them, as does each module inside.
        *inputs: Arrays, of which shape and dtype are used, or `jax.ShapeDtypeStruct`s.
        rng: PRNG key. Each module gets one of its own, from its path in the model: a layer added elsewhere
            changes nothing.
        **options: Passed on.

    Returns:
        The model with all nodes made, and nothing else changed: running statistics stay at their start.

    Raises:
        ValueError: A node is still UNSET because its module was not called, or an array or node is in two places.
        TypeError: A `set_up` reads the values of its input.
    """
    if not callable(model):
        raise TypeError(f"mlax.set_up takes a Module, got a {type(model).__name__}")
    refuse_shared("mlax.set_up", "model", model)
    eager = not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves((model, rng)))
    run = _Run(rng, eager)
    labelled = _labelled(model, ())
    parameters = _parameters(type(model).forward)
    if rng is not None and "rng" in parameters:
        options.setdefault("rng", rng)
    found, treedef = flatten(inputs)
    shaped = [
        isinstance(leaf, jax.ShapeDtypeStruct) or hasattr(leaf, "__array__") for leaf in found
    ]

    def call(arrays: list[Any]) -> None:
        arrays = list(arrays)
        filled = [
            arrays.pop(0) if is_array else leaf
            for leaf, is_array in zip(found, shaped, strict=True)
        ]
        labelled(*treedef.unflatten(filled), **options)

    token = _current.set(run)
    try:
        jax.eval_shape(
            call, [leaf for leaf, is_array in zip(found, shaped, strict=True) if is_array]
        )
    finally:
        _current.reset(token)
    model = _assembled(model, (), run.made)
    refuse_unset("mlax.set_up", model, "their modules were not called with these inputs")
    return model


def _map_modules(function: Callable[[KeyPath, Any], Any], module: Any) -> Any:
    """Return a module with the modules directly inside it replaced by `function(path, submodule)`."""

    def visit(path: KeyPath, node: Any) -> Any:
        return function(path, node) if is_laid_out(node) else node

    return map_with_path(
        visit, module, is_leaf=lambda node: node is not module and is_laid_out(node)
    )


def _with_label(module: Any, label: KeyPath | None) -> Any:
    """Return a copy of a module that knows its path, or no longer does."""
    children, aux_data = module._aux_data.layout.flatten(module)
    return aux_data.layout.unflatten(aux_data.labelled(label), children)


def _labelled(module: Any, path: KeyPath) -> Any:
    return _with_label(
        _map_modules(lambda inside, child: _labelled(child, path + inside), module), path
    )


def _assembled(module: Any, path: KeyPath, made: Mapping[KeyPath, Any]) -> Any:
    module = made.get(path, module)
    return _with_label(
        _map_modules(lambda inside, child: _assembled(child, path + inside, made), module), None
    )


def refuse_unset(where: str, tree: Any, why: str) -> None:
    """Refuse a tree that has nodes without data that were to be made.

    Raises:
        ValueError: Names the paths of the nodes.
    """
    unset = [
        _name(path)
        for path, node in leaves_with_path(tree, is_leaf=is_leaf_state)
        if is_leaf_state(node) and node.data is UNSET
    ]
    if unset:
        raise ValueError(f"{where}: {len(unset)} nodes are UNSET, {why}:\n  " + "\n  ".join(unset))


def _name(path: KeyPath) -> str:
    return f"model{keystr(path)}"
