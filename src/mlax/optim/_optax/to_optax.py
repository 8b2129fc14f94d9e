"""mlax's optimizers as gradient transformations of Optax."""

import dataclasses
import importlib
import inspect
from typing import TYPE_CHECKING, Any, cast

from mlax.optim.transformations._protocol import OptimizerLike, accepted
from mlax.optim.transformations._wrapping import Wrapper, as_optimizer
from mlax.optim.transformations.multi_optimizer import MultiOptimizer
from mlax.optimizer import Optimizer, initial
from mlax.optimizer._specified import is_array
from mlax.tree import describe

if TYPE_CHECKING:
    import optax  # pyright: ignore[reportMissingTypeStubs]  # read from its source

__all__ = ["import_optax", "to_optax"]


def to_optax(optimizer: OptimizerLike[Any, ...]) -> "optax.GradientTransformationExtraArgs":
    """Return an optimizer as a gradient transformation of Optax.

        transformation = optax.chain(optax.clip_by_global_norm(1.0),
            optim.to_optax(optim.Adam(1e-3)))

    `init`, `update` and the state are those of the optimizer, and the dtype rule holds: incoming
    updates must correspond to the weights. As in Optax, keyword arguments that the optimizer does
    not take are dropped.

    Hyperparameters are read from the state, so that `optax.tree.set(state, learning_rate=...)`
    changes them. But if the optimizer was made with an array, that array is used and not the state:
    `optax.inject_hyperparams` makes a new optimizer from arrays in every step.

        optax.inject_hyperparams(lambda learning_rate: optim.to_optax(optim.Adam(learning_rate)))

    Args:
        optimizer: Any object with `init` and `step`.

    Raises:
        ImportError: Optax is not installed.
        TypeError: `optimizer` is not an optimizer.
    """
    gradient_transformation = import_optax("to_optax").GradientTransformationExtraArgs
    try:
        as_optimizer(optimizer)
    except TypeError as error:
        raise TypeError(f"to_optax: expected {error}, got {describe(optimizer)}") from None
    needs_weights = _needs_weights(optimizer)

    def init(params: Any) -> Any:
        return optimizer.init(params)

    def update(updates: Any, state: Any, params: Any = None, **extra_args: Any) -> tuple[Any, Any]:
        if params is None and needs_weights:
            name = type(optimizer).__name__
            raise ValueError(f"{name}: update needs the weights: update(updates, state, params)")
        if isinstance(optimizer, Optimizer):
            state = _injected(optimizer, optimizer.own(state))
        return optimizer.step(updates, state, params, **accepted(optimizer, extra_args))

    result: optax.GradientTransformationExtraArgs = gradient_transformation(init, update)
    return result


def import_optax(user: str) -> Any:
    """Return the module `optax`. If it is missing, the error says which function needs it and how to install it."""
    try:
        return importlib.import_module("optax")
    except ModuleNotFoundError as error:
        if error.name != "optax":
            raise
        raise ImportError(f'{user} needs Optax: pip install "mlax[optax]"') from None


def _needs_weights(optimizer: OptimizerLike[Any, ...]) -> bool:
    """Return whether the third argument of `step` has no default."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(optimizer.step).parameters.values()
    third = [p for p in parameters if p.kind in positional][2:3]
    return any(p.default is p.empty for p in third)


def _injected(optimizer: OptimizerLike[Any, ...], state: Any) -> Any:
    """Return the state with numbers replaced by the arrays that the optimizer was made with, at any depth."""
    if not isinstance(optimizer, Optimizer):
        return state
    given = {field.name: getattr(optimizer, field.name) for field in dataclasses.fields(optimizer)}
    arrays: dict[str, Any] = {
        name: initial(value) for name, value in given.items() if is_array(value)
    }
    changes: dict[str, Any] = {
        name: value for name, value in arrays.items() if name in state._fields
    }
    changes["hyperparameters"] = state.hyperparameters.with_arrays(optimizer.held())
    if isinstance(optimizer, Wrapper):
        changes["inner"] = _injected(cast("Any", optimizer).optimizer, state.inner)
    elif isinstance(optimizer, MultiOptimizer):
        changes["inner"] = tuple(map(_injected, optimizer.optimizers, state.inner))
    return state._replace(**changes)
