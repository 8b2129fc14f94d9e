"""Experimental optimizers, used like those of `mlax.optim`. They may be changed, moved or removed
without notice.

    from mlax.experimental import optim

    optimizer = optim.Prodigy()
    state = optimizer.init(weights)
    updates, state = optimizer.step(gradients, state, weights)
    weights = optim.apply_gradients(updates, weights)

Each optimizer's module is loaded when it is first used.
"""

from typing import TYPE_CHECKING, Any

import mlax_optimizers.experimental as generated
from mlax.optimizer import apply_updates
from mlax.typing import Weights, checked

if TYPE_CHECKING:
    from mlax_optimizers.experimental import *  # noqa: F403  # pyright: ignore[reportWildcardImportFromLibrary]

__all__ = ["apply_gradients"]
__all__ += generated.__all__


@checked
def apply_gradients(updates: Weights, weights: Weights) -> Weights:
    """Return `weights + updates`, the weights after a step. The same as `mlax.optim.apply_updates`.

    Raises:
        LeafMismatchError: Updates and weights do not correspond.
    """
    return apply_updates(updates, weights)


if not TYPE_CHECKING:  # with this, type checkers would accept any misspelt name

    def __getattr__(name: str) -> Any:
        if name in generated.__all__:
            return getattr(generated, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
