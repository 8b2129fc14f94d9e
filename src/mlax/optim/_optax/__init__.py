"""Using mlax's optimizers in Optax, and Optax's here."""

from mlax.optim._optax.from_optax import from_optax
from mlax.optim._optax.to_optax import to_optax

__all__ = ["from_optax", "to_optax"]
