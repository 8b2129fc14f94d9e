"""Optimizers of mlax as gradient transformations of Optax."""

import dataclasses
import importlib
import inspect
from typing import TYPE_CHECKING, Any

from mlax.optim.transformations._protocol import OptimizerLike, accepted
from mlax.optim.transformations._wrapping import Wrapper, as_optimizer
from mlax.optim.transformations.multi_optimizer import MultiOptimizer
from mlax.optimizer import Optimizer, initial
from mlax.optimizer._hyperparameters import is_array
from mlax.tree import describe

if TYPE_CHECKING:
    import optax  # pyright: ignore[reportMissingTypeStubs]  # read from its source

__all__ = ["import_optax", "to_optax"]


def to_optax(optimizer: OptimizerLike) -> "optax.GradientTransformationExtraArgs":
    """Return an optimizer as what Optax chains, masks, accumulates and injects hyperparameters into.

        transformation = optax.chain(optax.clip_by_global_norm(1.0), optim.to_optax(optim.Adam(1e-3)))

    `init`, `update` and the state are the optimizer's own, and so is the dtype rule: updates that come in have to
    correspond to the weights. Keyword arguments that the optimizer does not take are dropped, as Optax does.

    Numbers are read from the state, so that `optax.tree.set(state, learning_rate=...)` changes them. Where the
    optimizer was given an array instead, the array wins: `optax.inject_hyperparams` makes a new optimizer from arrays
    in every step.

        optax.inject_hyperparams(lambda learning_rate: optim.to_optax(optim.Adam(learning_rate)))

    Args:
        optimizer: Any object with `init` and `step`.

    Raises:
        ImportError: Optax is not installed.
        TypeError: It is no optimizer.
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
    """Return the module `optax`, or say who needs it and how to install it."""
    try:
        return importlib.import_module("optax")
    except ModuleNotFoundError as error:
        if error.name != "optax":
            raise
        raise ImportError(f'{user} needs Optax: pip install "mlax[optax]"') from None


def _needs_weights(optimizer: OptimizerLike) -> bool:
    """Return whether the third argument of `step` has no default."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(optimizer.step).parameters.values()
    third = [p for p in parameters if p.kind in positional][2:3]
    return any(p.default is p.empty for p in third)


def _injected(optimizer: OptimizerLike, state: Any) -> Any:
    """Return the state with the arrays that an optimizer was given in place of the numbers in it, at any depth."""
    if not isinstance(optimizer, Optimizer):
        return state
    names = [field.name for field in dataclasses.fields(optimizer) if field.name in state._fields]
    given = {name: getattr(optimizer, name) for name in names}
    changes: dict[str, Any] = {name: initial(x) for name, x in given.items() if is_array(x)}
    if isinstance(optimizer, Wrapper):
        changes["inner"] = _injected(optimizer.optimizer, state.inner)
    elif isinstance(optimizer, MultiOptimizer):
        changes["inner"] = tuple(map(_injected, optimizer.optimizers, state.inner))
    return state._replace(**changes)
