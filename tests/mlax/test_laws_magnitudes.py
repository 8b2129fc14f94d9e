"""No NaN and no infinity, whatever the gradients: zero, tiny or large; of every generated optimizer."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest

from mlax.optimizer import apply_updates
from tests.mlax.generated_optimizers import every_case, every_optimizer, init, is_key, step

SHAPES = [(), (0,), (3,), (2, 3), (2, 1, 3), (2, 1, 2, 1)]
FEW = [(), (2, 3)]


class Numbers(NamedTuple):
    """Leaves, and what a large gradient of them is."""

    leaves: tuple[tuple[Any, list[tuple[int, ...]]], ...]
    large: float
    slot_dtype: Any = None

    def weights(self) -> Any:
        return [jnp.ones(shape, dtype) for dtype, shapes in self.leaves for shape in shapes]


NUMBERS = {
    "float32 and bfloat16": Numbers(((jnp.float32, SHAPES), (jnp.bfloat16, FEW)), 1e15),
    "float16": Numbers(((jnp.float16, FEW),), 1e2),
    "float16 with float32 slots": Numbers(((jnp.float16, FEW),), 1e4, jnp.float32),
}
# Factors of the large gradient; tiny is 1e-30 (in float16 nothing).
SEQUENCES = {
    "zero": [0.0, 0.0, 0.0, 0.0],
    "large": [1.0, 1.0, -1.0, 1.0],
    "tiny": ["tiny", "tiny", "tiny", "tiny"],
    "tiny, then large": ["tiny", 1.0, "tiny", -1.0],
    "large, then zero": [1.0, 0.0, 0.0, "tiny"],
    "zero, then large": [0.0, 1.0, 0.0, 1.0],
    "one": [1e-2, -1e-2, 1e-2, 1e-2],
}


def check(name: str, options: dict[str, Any], numbers: Numbers) -> None:
    weights = numbers.weights()
    directions = [jnp.linspace(-1, 1, w.size).reshape(w.shape).astype(w.dtype) for w in weights]

    def body(carry: Any, magnitude: Any) -> Any:
        weights, state = carry
        gradients = [d * magnitude.astype(d.dtype) for d in directions]
        updates, state = step(name, gradients, state, weights)
        weights = apply_updates(updates, weights)
        everything = [x for x in jax.tree.leaves((updates, state)) if not is_key(x)]
        return (weights, state), jnp.array([jnp.all(jnp.isfinite(x)) for x in everything])

    state = init(name, weights, slot_dtype=numbers.slot_dtype, **options)
    run = jax.jit(lambda magnitudes: jax.lax.scan(body, (weights, state), magnitudes)[1])
    failures = []
    for sequence, factors in SEQUENCES.items():
        magnitudes = [1e-30 if f == "tiny" else f * numbers.large for f in factors]
        finite = run(jnp.array(magnitudes))
        if not finite.all():
            paths = [
                jax.tree_util.keystr(path)
                for path, x in jax.tree_util.tree_leaves_with_path((weights, state))
                if not is_key(x)
            ]
            at = int(jnp.argmin(finite.all(axis=1)))
            where = [p for p, fine in zip(paths, finite[at], strict=True) if not fine]
            failures.append(f"{sequence}: not finite in step {at + 1}: {', '.join(where)}")
    assert not failures, "\n".join(failures)


@every_optimizer
@pytest.mark.parametrize("numbers", NUMBERS)
def test_all_numbers_stay_finite(name: str, numbers: str) -> None:
    check(name, {}, NUMBERS[numbers])


@every_case
def test_all_numbers_stay_finite_with_options(name: str, options: dict[str, Any]) -> None:
    if options:
        check(name, options, Numbers(((jnp.float32, FEW),), 1e15))
