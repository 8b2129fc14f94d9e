"""Losses and optimizers that may be changed, moved or removed without notice."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlax.experimental import losses as losses
    from mlax.experimental import optim as optim

__all__ = ["losses", "optim"]


if not TYPE_CHECKING:  # with this, type checkers would accept any misspelt name

    def __getattr__(name: str) -> Any:
        if name in __all__:  # loaded on first use
            return importlib.import_module(f"mlax.experimental.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
