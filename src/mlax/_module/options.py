"""`training` and `inference`: a model, or any function, that is called with options."""

import inspect
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from jaxtyping import Array

from mlax._module import calls
from mlax._module.flattening import is_flattened
from mlax._module.frames import (
    NOT_GIVEN,
    Frame,
    StaticOptions,
    current_frame,
    is_key,
    with_static_options,
)
from mlax._module.prepared import Prepared, target_of
from mlax.tree import describe

__all__ = ["inference", "training"]

F = TypeVar("F", bound=Callable[..., Any])


class _WithOptions(Prepared):
    """What `training` and `inference` return."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        target = target_of(self.function)
        if target is not None:
            return calls.start(Frame(*target, current_frame()), self, args, kwargs)
        named = self._named()
        with with_static_options(self.merged()):
            return self.function(*args, **{**named, **kwargs})

    def _named(self) -> dict[str, Any]:
        """Return the options that a function other than a module takes as arguments.

        A jitted or mapped module finds the static options in JAX's user context. As arguments, they
        would be traced.
        """
        try:
            names = frozenset(inspect.signature(self.function).parameters)
        except (TypeError, ValueError):  # a function of C without a signature
            names = frozenset[str]()
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
        return named

    def __getattr__(self, name: str) -> Any:
        # Type checkers see the type of the model, so its attributes are here, too.
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(self.function, name)
        is_own = is_flattened(self.function) and inspect.ismethod(found)
        return _WithOptions(found, self.rng, self.static, self.name) if is_own else found


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
        rng: PRNG key, shape (). Without one, the call inherits that of the call around it.
        batch_axis_name: Name of the axis, or tuple of names, over which examples are mapped, as in
            `jax.vmap(..., axis_name="batch")`. Without one, it is inherited.

    Returns:
        A callable with the signature of the model. Type checkers see the type of the model.

    Raises:
        TypeError: `model` cannot be called, or `rng` is not a key.
    """
    prepared: F = _prepared("mlax.training", model, rng, StaticOptions(False, batch_axis_name))
    return prepared


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


def _prepared(name: str, model: Any, rng: Any, static: StaticOptions) -> Any:
    if isinstance(model, type) or not callable(model):
        raise TypeError(f"{name} takes a model or a function, got {describe(model)}")
    if rng is not None and not is_key(rng):
        raise TypeError(
            f"{name}: rng must be a key, such as jax.random.key(0), got {describe(rng)}"
        )
    known = (
        model if isinstance(model, Prepared) else _WithOptions(model, None, StaticOptions(), name)
    )
    return known.with_options(name, rng, static)  # what is said last holds
