"""Fast compilation, for code that runs once. Tests against float64 use `jax.jit`, as users do."""

from functools import partial

import jax

from tests.quickly import QUICKLY

__all__ = ["quick"]

quick = partial(jax.jit, compiler_options=QUICKLY)
