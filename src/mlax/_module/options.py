"""`training` and `inference`: a model, or any function, that is called with options."""

import functools
import inspect
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import jax
import jax.export
from jaxtyping import Array

from mlax._jax.tracebacks import trimmed
from mlax._module import calls
from mlax._module.frames import (
    NOT_GIVEN,
    Frame,
    StaticOptions,
    current_frame,
    is_key,
    is_one_key,
    with_static_options,
)
from mlax._module.prepared import Prepared, target_of
from mlax._module.printing import with_article
from mlax._module.resumed import resumed_with
from mlax.tree import describe

__all__ = ["inference", "training"]

F = TypeVar("F", bound=Callable[..., Any])


class _WithOptions(Prepared):
    """The result of `training` and `inference`."""

    @trimmed
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        target = target_of(self.function)
        if target is not None:
            return calls.start(Frame(*target, current_frame()), self, args, kwargs)
        named = self._named(args, kwargs)
        options = self.merged()
        with with_static_options(options):
            result = self.function(*args, **{**named, **kwargs})
        return resumed_with(options, result)

    def _named(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the options that a function other than a module takes as arguments.

        A jitted or mapped module finds the static options in JAX's user context. As arguments, they
        would be traced.
        """
        names, given = frozenset[str](), frozenset(kwargs)
        try:
            signature = inspect.signature(self.function)
            names = frozenset(signature.parameters)
            given = frozenset(signature.bind_partial(*args, **kwargs).arguments)
        except (TypeError, ValueError):
            pass  # a function in C without a signature, or the call will fail
        named: dict[str, Any] = {}
        if self.rng is not None:
            if "rng" not in names:
                raise TypeError(
                    f"{self.name}: {describe(self.function)} takes no rng, and a key cannot enter a function beside "
                    f"its arguments.\n"
                    f"  Give it to the module inside the function: mlax.training(model, rng=key)(x)"
                )
            named["rng"] = self.rng
        if target_of(inspect.unwrap(self.function)) is None:
            pairs = zip(self.static._fields, self.static, strict=True)
            named |= {
                name: value for name, value in pairs if value is not NOT_GIVEN and name in names
            }
        return {name: value for name, value in named.items() if name not in given}

    def __getattr__(self, name: str) -> Any:
        # Type checkers see the type of the model. But options are those of one call: parts would not have them.
        message = f"{self.name}(...) can only be called, it has no attribute {name!r}"
        if not name.startswith("__"):
            message += f"\n  Take it from the model: {self.name}(model.{name})"
        raise AttributeError(message)


@trimmed
def training(model: F, *, rng: Array | None = None, batch_axis_name: Hashable = NOT_GIVEN) -> F:
    """Return a model that is called in training mode, as are all modules inside it.

        y, model = mlax.training(model, rng=key)(x)

    Every `forward` that names `inference_mode`, `rng` or `batch_axis_name` is passed it, unless its
    caller passes one. Each call of a child gets a key of its own, folded from the key, the child's
    path, and how often it was called before. Inside a `forward`, `self.call` takes the result, too:
    `self.call(mlax.training(self.block, rng=key), x)`.

    Args:
        model: A Module, a method of one, or any function with a signature, such as
            `jax.jit(model)`. A function that is not a module has to name `rng` to be given one.
        rng: PRNG key, shape (). Without one, a call through `self.call` inherits that of the call around it.
        batch_axis_name: Name of the axis, or tuple of names, over which examples are mapped, as in
            `jax.vmap(..., axis_name="batch")`. Without one, it is inherited.

    Returns:
        A callable with the signature of the model. Type checkers see the type of the model.

    Raises:
        TypeError: `model` cannot be called, or `rng` is not a key.
    """
    prepared: F = _prepared("mlax.training", model, rng, StaticOptions(False, batch_axis_name))
    return prepared


@trimmed
def inference(model: F, *, rng: Array | None = None, batch_axis_name: Hashable = NOT_GIVEN) -> F:
    """Return a model that is called in inference mode, as are all modules inside it.

        y, model = mlax.inference(model)(x)

    Args:
        model: As in `mlax.training`.
        rng: PRNG key, shape (), for models that draw when they are used.
        batch_axis_name: As in `mlax.training`.

    Returns:
        A callable with the signature of the model. Type checkers see the type of the model.

    Raises:
        TypeError: `model` cannot be called, or `rng` is not a key.
    """
    prepared: F = _prepared("mlax.inference", model, rng, StaticOptions(True, batch_axis_name))
    return prepared


def _refuse_compiled(name: str, model: Any) -> None:
    """Raise an error for a function that was traced and compiled with options of its own."""
    function = inspect.unwrap(model)
    while isinstance(function, functools.partial):
        function = inspect.unwrap(function.func)
    owner = getattr(function, "__self__", function)
    if isinstance(owner, jax.stages.Compiled):
        again = f"jax.jit({name}(function)).lower(x).compile()"
    elif isinstance(owner, jax.export.Exported):
        again = f"jax.export.export(jax.jit({name}(function)))(x)"
    else:
        return
    raise TypeError(
        f"{name}: {with_article(type(owner).__name__)} was traced already, and always runs with the options of then.\n"
        f"  Give them to the function before: {again}"
    )


def _prepared(name: str, model: Any, rng: Any, static: StaticOptions) -> Any:
    if isinstance(model, type) or not callable(model):
        raise TypeError(f"{name} takes a model or a function, got {describe(model)}")
    _refuse_compiled(name, model)
    axis: object = static.batch_axis_name
    if not isinstance(axis, (Hashable, list)):
        raise TypeError(
            f"{name}: batch_axis_name must be the name of an axis or a tuple of names, got {describe(axis)}"
        )
    if rng is not None and not is_key(rng):
        raise TypeError(
            f"{name}: rng must be a key, such as jax.random.key(0), got {describe(rng)}"
        )
    if rng is not None and target_of(model) is not None and not is_one_key(rng):
        raise TypeError(f"{name}: rng must be one key, of shape (), got several: {describe(rng)}")
    known = (
        model if isinstance(model, Prepared) else _WithOptions(model, None, StaticOptions(), name)
    )
    return known.with_options(name, rng, static)  # what is said last holds
