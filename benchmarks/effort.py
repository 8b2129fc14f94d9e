"""How much is measured: everything, or as much as fits into two minutes."""

from dataclasses import dataclass

from benchmarks.algorithms import FEW
from benchmarks.trees import Tree, large_leaves, small_leaves, stacked_models, transformer

__all__ = ["FULL", "MANY", "QUICK", "Effort"]


@dataclass(frozen=True)
class Effort:
    """The sizes to measure, and how often.

    Args:
        name: "full" or "quick".
        trees: The trees that are stepped.
        rounds: How often steps are timed.
        builds: How often a step is built (traced, lowered, compiled), by the largest number of leaves.
        turn: Seconds that each candidate steps in one turn.
        large: The tree on which optimizers, number formats and memory are compared.
        swept: The models that are trained with different hyperparameters.
        triad: MiB of each array in the measurement of the memory bandwidth.
        leaves: Number of leaves of the tree on which the cost of checks is measured.
        blocks: Number of blocks of the language model whose forward pass is traced.
        depths: Numbers of blocks of the transformers whose first call and step are measured.
        few_and_many: Two numbers of blocks whose first calls are compared.
        first_calls: How often that is compared.
        traces: How often each network is traced.
        imports: How often each library is imported, in a new process.
        algorithms: The optimizers that are compared with Optax's; none for all.
        splits: Numbers of leaves that the large tree's weights are divided into.
        on_demand: Areas that are measured only on request.
    """

    name: str
    trees: tuple[Tree, ...]
    rounds: int
    builds: tuple[tuple[int, int], ...]
    turn: float
    large: Tree
    swept: Tree
    triad: int
    leaves: int
    blocks: int
    depths: tuple[int, ...]
    few_and_many: tuple[int, ...]
    first_calls: int
    traces: int
    imports: int
    splits: tuple[int, ...]
    algorithms: tuple[str, ...] = ()
    on_demand: tuple[str, ...] = ()

    def builds_of(self, tree: Tree) -> int:
        """Return how often the steps of this tree are built: once in bfloat16, where only steps are compared."""
        if tree.dtype != "float32":
            return 1
        return next(count for leaves, count in self.builds if tree.leaves <= leaves)


MANY = 1_000
"""Only some peers step trees with more leaves than this; the others take minutes to build a step."""

_both = ("float32", "bfloat16")

FULL = Effort(
    name="full",
    trees=(
        *(small_leaves(count) for count in (10, 100)),
        *(small_leaves(1_000).of(dtype) for dtype in _both),
        small_leaves(3_000),
        *(large_leaves().of(dtype) for dtype in _both),
        *(transformer().of(dtype) for dtype in _both),
    ),
    rounds=15,
    builds=((100, 9), (300, 5), (1_000, 3), (3_000, 1)),
    turn=0.05,
    large=large_leaves(),
    swept=stacked_models(),
    triad=256,
    leaves=1_000,
    blocks=24,
    depths=(4, 24, 48),
    few_and_many=(4, 48),
    first_calls=3,
    traces=5,
    imports=9,
    splits=(1, 8, 64, 512),
)

QUICK = Effort(
    name="quick",
    trees=(small_leaves(10), small_leaves(100), small_leaves(1_000), large_leaves()),
    rounds=5,
    builds=((100, 3), (1_000, 1)),
    turn=0.03,
    large=large_leaves(),
    swept=stacked_models(),
    triad=256,
    leaves=300,
    blocks=24,
    depths=(4,),
    few_and_many=(4, 48),
    first_calls=1,
    traces=3,
    imports=3,
    splits=(1, 8, 64),
    algorithms=tuple(FEW),
    on_demand=("memory", "imports"),
)
