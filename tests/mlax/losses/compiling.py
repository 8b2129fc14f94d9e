"""Fast compilation, for code that runs once. Tests against float64 use `jax.jit`, as users do."""

from functools import partial

import jax

__all__ = ["quick"]

quick = partial(
    jax.jit,
    compiler_options={
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    },
)
