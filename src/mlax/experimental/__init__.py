"""What may be changed, moved or removed without notice: `mlax.experimental.optim`."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlax.experimental import optim as optim

__all__ = ["optim"]


if not TYPE_CHECKING:  # checkers would take every misspelt name for one that this finds

    def __getattr__(name: str) -> Any:
        if name == "optim":  # loaded on first use
            return importlib.import_module("mlax.experimental.optim")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
