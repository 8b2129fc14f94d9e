"""Different optimizers for different weights."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Generic, NamedTuple, TypeVar, cast

from mlax._jax.trees import flatten, leaves
from mlax.optim.transformations._paths import PathPredicate, answers, holds, warn_of_none
from mlax.optim.transformations._protocol import OptimizerLike, accepted, arguments_of, trees_of
from mlax.optim.transformations._wrapping import Arguments, Move, Transformation, as_optimizer
from mlax.optimizer import exportable, no_steps, one_more, trainable
from mlax.optimizer._specified import Specification
from mlax.typing import Count, Weights, checked

__all__ = ["MultiOptimizer", "State"]

T = TypeVar("T")


def _optimizers(value: Any) -> tuple[OptimizerLike[Any, ...], ...]:
    if not isinstance(value, Sequence) or not value:
        raise TypeError("a list of optimizers")
    return tuple(as_optimizer(one) for one in cast("Any", value))


def _filters(value: Any) -> tuple[PathPredicate, ...]:
    if not isinstance(value, Sequence) or not all(map(callable, cast("Any", value))):
        raise TypeError("a list of functions of a path and a weight")
    return tuple(cast("Any", value))


class MultiOptimizer(Transformation):
    """Gives each weight to the first optimizer whose filter accepts it, and the rest to the last optimizer.

        def is_hidden_matrix(path, w):
            return w.ndim == 2 and "embedding" not in path

        MultiOptimizer([Muon(), AdamW(3e-4)], [is_hidden_matrix])

    Each optimizer sees a tree with the structure of the weights, with None in place of weights of
    other optimizers. Keyword arguments, such as the loss, are passed to those optimizers that take
    them; trees like the weights, such as the diagonal of the Hessian, in parts too.

    Args:
        optimizers: One or more optimizers.
        filters: One fewer than optimizers. Each takes a path, `"layers.0.kernel"`, and a weight,
            and returns whether the weight belongs to the optimizer at the same position. Only shape
            and dtype are known under `jit`.
    """

    optimizers: Annotated[Sequence[OptimizerLike[Any, ...]], Specification(_optimizers)]
    filters: Annotated[Sequence[PathPredicate], Specification(_filters)] = ()

    def __post_init__(self) -> None:
        """Check each hyperparameter, the number of filters, and that the gradients are not scaled."""
        super().__post_init__()
        self._refuse_scaled()
        count = len(self.optimizers)
        self.require(
            len(self.filters) == count - 1,
            f"there must be one filter fewer than optimizers, got {len(self.filters)} for {count}",
        )

    @property
    def arguments(self) -> frozenset[str] | None:
        """Names of the keyword arguments of `step`: those of the optimizers inside; None if one takes any."""
        names = frozenset[str]()
        for optimizer in self.optimizers:
            more = arguments_of(optimizer)
            if more is None:
                return None
            names |= more
        return names

    @property
    def trees(self) -> frozenset[str]:
        """Names of those arguments that are trees like the weights."""
        return frozenset[str]().union(*map(trees_of, self.optimizers))

    def init(self, weights: Weights) -> "State[Weights]":
        """Return the state before the first step. For a Module: of its unfrozen parameters."""
        return self._init(trainable(weights))

    if TYPE_CHECKING:

        def step(
            self,
            gradients: Weights,
            state: "State[Weights]",
            weights: Weights | None = None,
            **arguments: Any,
        ) -> "tuple[Weights, State[Weights]]": ...
        def apply_gradients(
            self,
            gradients: Weights,
            state: "State[Weights]",
            weights: Weights,
            **arguments: Any,
        ) -> "tuple[Weights, State[Weights]]": ...
        def update(
            self,
            model: Weights,
            gradients: Weights,
            state: "State[Weights]",
            **arguments: Any,
        ) -> "tuple[Weights, State[Weights]]": ...

    @checked
    def _init(self, weights: Weights) -> "State[Weights]":
        groups = self.groups(weights)
        for i in range(len(self.filters)):
            if i not in leaves(groups):
                warn_of_none(f"MultiOptimizer.filters[{i}]", weights)
        parts = self._split(weights, groups)
        inner = tuple(
            optimizer.init(part) for optimizer, part in zip(self.optimizers, parts, strict=True)
        )
        return State(no_steps(), inner, self.held())

    @checked
    def _step(
        self,
        move: Move,
        gradients: Weights,
        state: "State[Weights]",
        weights: Weights | None,
        arguments: Arguments,
    ) -> "tuple[Weights, State[Weights]]":
        groups = self.groups(gradients if weights is None else weights)
        count = len(self.optimizers)
        some = [None] * count if weights is None else self._split(weights, groups)
        given = self._given(arguments, groups)
        results: list[Any] = []
        inner: list[Any] = []
        for optimizer, part, before, part_weights, own in zip(
            self.optimizers, self._split(gradients, groups), state.inner, some, given, strict=True
        ):
            result, after = move.by(optimizer, part, before, part_weights, accepted(optimizer, own))
            results.append(result)
            inner.append(after)
        return _joined(results, groups), State(
            one_more(state.step), tuple(inner), state.hyperparameters
        )

    def groups(self, weights: Any) -> Any:
        """Return the tree with the index of its optimizer in place of each weight. For a Module: its unfrozen
        parameters.
        """

        def group(path: str, weight: Any) -> int:
            for i, accepts in enumerate(self.filters):
                if holds(f"MultiOptimizer.filters[{i}]", accepts, path, weight):
                    return i
            return len(self.filters)

        return answers("MultiOptimizer.filters", group, trainable(weights))

    def parts(self, weights: T) -> list[T]:
        """Return the weights of each optimizer: the tree with None in place of all others."""
        return self._split(weights, self.groups(weights))

    def _given(self, arguments: Arguments, groups: Any) -> list[Arguments]:
        """Return the keyword arguments for each optimizer: of trees like the weights, its part."""
        given: list[dict[str, Any]] = [dict(arguments) for _ in self.optimizers]
        for name in self.trees & {*arguments}:
            parts = self._split(arguments[name], groups)
            for own, part in zip(given, parts, strict=True):
                own[name] = part
        return [*given]

    def _split(self, tree: T, groups: Any) -> list[T]:
        """Return a tree for each optimizer."""
        indices, treedef = flatten(groups)
        pairs = list(zip(indices, leaves(tree), strict=True))
        return [
            treedef.unflatten(leaf if group == number else None for group, leaf in pairs)
            for number in range(len(self.optimizers))
        ]


@exportable
class State(NamedTuple, Generic[Weights]):
    """What the optimizer remembers between steps.

    Attributes:
        step: Number of steps done.
        inner: The states of the optimizers inside, each for its part of the weights.
        hyperparameters: The optimizer itself. Its only leaves are hyperparameters given as arrays.
    """

    step: Count
    inner: tuple[Any, ...]
    hyperparameters: MultiOptimizer


def _joined(parts: Sequence[T], groups: Any) -> T:
    """Put the parts made by `_split` together again."""
    indices, treedef = flatten(groups)
    columns = [cast("Any", treedef).flatten_up_to(part) for part in parts]
    joined: T = treedef.unflatten(columns[group][i] for i, group in enumerate(indices))
    return joined
