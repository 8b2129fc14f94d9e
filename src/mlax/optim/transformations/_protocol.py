"""What counts as an optimizer that can be wrapped, and which arguments it takes."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

if TYPE_CHECKING:  # with defaults, so that `Lookahead` alone is a type
    from typing_extensions import ParamSpec, TypeVar

    S_co = TypeVar("S_co", covariant=True, default=Any)
    Inner = TypeVar("Inner", default=Any)
    P = ParamSpec("P", default=...)
else:
    from typing import ParamSpec, TypeVar

    S_co = TypeVar("S_co", covariant=True)
    Inner = TypeVar("Inner")
    P = ParamSpec("P")

__all__ = [
    "Inner",
    "OptimizerLike",
    "P",
    "accepted",
    "arguments_after_trees",
    "arguments_of",
    "trees_of",
]


@runtime_checkable
class OptimizerLike(Protocol[S_co, P]):
    """Anything with `init` and `step`: mlax's optimizers, and your own, which need not inherit from anything.

        state = optimizer.init(weights)
        updates, state = optimizer.step(gradients, state, weights)

    Updates have the structure, shapes and dtypes of the weights, and are added to them. `step` may
    take further arguments by keyword, such as the loss. The state is any tree with constant
    structure, shapes and dtypes. If the optimizer has `apply_gradients(gradients, state, weights)`
    too, it is called when new weights are wanted.
    """

    def init(self, weights: Any, /) -> Any:
        """Return the state before the first step."""
        ...

    # The type of the state is taken from here alone: mypy makes `object` of two places that say it.
    def step(
        self, gradients: Any, state: Any, weights: Any, /, *args: P.args, **kwargs: P.kwargs
    ) -> tuple[Any, S_co]:
        """Return the updates and the next state, given gradients, state, weights and keyword arguments."""
        ...


def arguments_of(optimizer: OptimizerLike[Any, ...]) -> frozenset[str] | None:
    """Return the names of `step`'s arguments after its three trees; None if it takes any name."""
    if hasattr(optimizer, "arguments"):
        names: Iterable[str] | None = cast("Any", optimizer).arguments
        return None if names is None else frozenset(names)
    return arguments_after_trees(optimizer.step)


def trees_of(optimizer: OptimizerLike[Any, ...]) -> frozenset[str]:
    """Return the names of those arguments of `step` that are trees like the weights: `trees`, if it has that."""
    return frozenset(cast("Iterable[str]", getattr(optimizer, "trees", ())))


def arguments_after_trees(function: Callable[..., Any]) -> frozenset[str] | None:
    """Return the names of a function's arguments after gradients, state and weights; None if it takes any name."""
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    trees = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY][:3]
    return frozenset(p.name for p in parameters if p.name not in trees)


def accepted(optimizer: OptimizerLike[Any, ...], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments that an optimizer's `step` takes."""
    names = arguments_of(optimizer)
    return {name: value for name, value in arguments.items() if names is None or name in names}
