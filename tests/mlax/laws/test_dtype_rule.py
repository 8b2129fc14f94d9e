"""Every generated optimizer refuses each single wrong leaf, before anything is computed."""

import contextlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from mlax.typing import LeafMismatchError
from tests.mlax.generated_optimizers import (
    MODULES,
    arguments,
    entries,
    every_case,
    every_optimizer,
    init,
    slots,
    step,
)

pytestmark = pytest.mark.one_python

WEIGHTS: Any = {"a": jnp.ones((2, 3)), "b": jnp.ones(())}
BLAMED = (
    r"step: leaves that (do not correspond to .* \(no implicit promotion\)"
    r"|are not floating-point or complex arrays):\n  "
)


def wrong(leaf: Any) -> Iterator[Any]:
    """Yield leaves that may be passed by mistake."""
    yield leaf.astype(jnp.bfloat16)
    yield leaf.astype(jnp.int32)
    yield leaf[None]
    yield None


def with_one_wrong(tree: Any) -> Iterator[tuple[str, Any]]:
    """Yield trees of which one leaf is wrong, and the path of it in the tree of the weights."""
    for key, entry in tree.items():
        leaves, treedef = jax.tree.flatten(entry)
        for i, leaf in enumerate(leaves):
            for other in wrong(leaf):
                changed = treedef.unflatten([*leaves[:i], other, *leaves[i + 1 :]])
                yield f"['{key}']", {**tree, key: changed}
        if not leaves:
            yield f"['{key}']", {**tree, key: jnp.ones(())}
        yield f"['{key}']", {other: entry for other, entry in tree.items() if other != key}


def check(name: str, tree: str, path: str, *trees: Any) -> None:
    """Check that gradients, state and weights are refused, and that nothing but one leaf is named."""
    with pytest.raises(LeafMismatchError, match=BLAMED) as caught:
        step(name, *trees)
    lines = str(caught.value).splitlines()[1:]
    assert lines
    assert all(tree in line and path in line for line in lines)


@every_case
def test_each_single_wrong_leaf_is_refused(name: str, options: dict[str, Any]) -> None:
    state = init(name, WEIGHTS, **options)
    for path, tree in with_one_wrong(WEIGHTS):
        check(name, "gradients", path, tree, state, WEIGHTS)
        check(name, "weights", path, WEIGHTS, state, tree)
    for slot, value in entries(state).items():
        for path, tree in with_one_wrong(value):
            changed = state._replace(**{slot: tree})
            check(name, f"state.{slot}", path, WEIGHTS, changed, WEIGHTS)


@every_optimizer
def test_other_scalars_are_refused(name: str) -> None:
    """Not only trees: each number that the state holds has a shape, and a kind of dtype."""
    state = init(name, WEIGHTS)
    own = entries(state)
    for field, value in state._asdict().items():
        if field in own or not isinstance(value, jax.Array):
            continue
        for other in (jnp.stack([value, value]), jnp.zeros((), bool)):
            with pytest.raises((TypeError, ValueError), match=field):
                step(name, WEIGHTS, state._replace(**{field: other}), WEIGHTS)


@every_optimizer
def test_without_weights_gradients_are_compared_with_the_slots(name: str) -> None:
    function = MODULES[name].step
    state = init(name, WEIGHTS)
    weights = inspect.signature(function).parameters["weights"]
    if weights.default is weights.empty or not slots(state):
        return
    with contextlib.suppress(ValueError):  # these hyperparameters read the weights
        function(WEIGHTS, state, **arguments(name, WEIGHTS))
        for path, tree in with_one_wrong(WEIGHTS):
            with pytest.raises(LeafMismatchError, match=re.escape(path)):
                function(tree, state, **arguments(name, WEIGHTS))


@every_optimizer
def test_a_state_of_other_leaves_is_refused(name: str) -> None:
    """If there is something to compare: a state without slots fits any weights."""
    state = init(name, {"a": jnp.ones((2, 4)), "b": jnp.ones(())})
    fitting = init(name, WEIGHTS)
    if [x.shape for x in jax.tree.leaves(state)] == [x.shape for x in jax.tree.leaves(fitting)]:
        return
    with pytest.raises(LeafMismatchError, match=r"state\.\w+\['a'\]"):
        step(name, WEIGHTS, state, WEIGHTS)
