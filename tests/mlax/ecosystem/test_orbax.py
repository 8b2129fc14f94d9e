"""Orbax saves and restores models, states of optimizers and of wrappers around them."""

import functools
import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import mlax
from mlax import Module, Parameter, Variable
from tests.mlax.ecosystem.things import WRAPPED, X, net, train, trees
from tests.mlax.generated_optimizers import MODULES, OPTIONS
from tests.mlax.optim.transformations.examples import EXAMPLES

pytestmark = pytest.mark.one_python
NAMES = ["model", "state", "wrapped state", "model, state and step"]
cached_trees = functools.cache(trees)


def orbax() -> Any:
    """Return the module, imported on first use: it takes a while, and has no types."""
    return importlib.import_module("orbax.checkpoint")


def standard(path: Path, tree: Any, like: Any) -> Any:
    with orbax().StandardCheckpointer() as checkpointer:
        checkpointer.save(path, tree)
        checkpointer.wait_until_finished()
        return checkpointer.restore(path, like)


def pytree(path: Path, tree: Any, like: Any) -> Any:
    with orbax().PyTreeCheckpointer() as checkpointer:
        checkpointer.save(path, tree)
        return checkpointer.restore(path, args=orbax().args.PyTreeRestore(like))


def asynchronous(path: Path, tree: Any, like: Any) -> Any:
    with orbax().AsyncCheckpointer(orbax().StandardCheckpointHandler()) as checkpointer:
        checkpointer.save(path, args=orbax().args.StandardSave(tree))
        checkpointer.wait_until_finished()
        return checkpointer.restore(path, args=orbax().args.StandardRestore(like))


def manager(path: Path, tree: Any, like: Any) -> Any:
    with orbax().CheckpointManager(path) as checkpoints:
        checkpoints.save(3, args=orbax().args.StandardSave(tree))
        checkpoints.wait_until_finished()
        return checkpoints.restore(
            checkpoints.latest_step(), args=orbax().args.StandardRestore(like)
        )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("through", [standard, pytree, asynchronous, manager])
def test_everything_comes_back(
    through: Callable[[Path, Any, Any], Any], name: str, tmp_path: Path
) -> None:
    """Keys, integers, bfloat16, scalars, frozen nodes, Variables and None too, from shapes alone."""
    tree = cached_trees()[name]
    like = jax.eval_shape(lambda: tree)
    restored = through(tmp_path / "checkpoint", tree, like)
    assert mlax.tree_equal(restored, tree)
    assert jax.tree.structure(restored) == jax.tree.structure(tree)


def test_training_goes_on(tmp_path: Path) -> None:
    like = cached_trees()["model, state and step"]
    model, state, _ = standard(tmp_path / "checkpoint", like, like)
    loss, model, state = jax.jit(train)(model, state, X)
    expected = jax.jit(train)(net(), WRAPPED.init(net()), X)
    assert mlax.tree_equal((loss, model, state), expected)
    with pytest.raises(AttributeError):
        model.name = "frozen"


def test_without_a_target_names_come_back(tmp_path: Path) -> None:
    """Fields and keys are names; tuples come back as lists, NamedTuples as dicts; `data` is the array of a node."""
    with orbax().StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "checkpoint", cached_trees())
        checkpointer.wait_until_finished()
        found = checkpointer.restore(tmp_path / "checkpoint")
    model = found["model"]
    assert sorted(model) == sorted(
        ["layers", "table", "ordered", "box", "nothing", "frozen", "count", "key", "half", "pair"]
    )
    assert mlax.tree_equal(
        model["layers"][1]["bias"]["data"], cached_trees()["model"].layers[1].bias.data
    )
    assert mlax.tree_equal(model["box"]["states"]["x"]["data"], jnp.ones(3))
    assert mlax.tree_equal(model["key"]["data"], cached_trees()["model"].key.data)
    assert model["nothing"] is None
    assert found["state"]["step"].shape == ()
    assert found["state"]["hyperparameters"] is None
    assert found["state"]["m"]["layers"][0]["kernel"]["data"].shape == (3, 4)


def test_a_model_with_other_leaves_is_refused_by_path(tmp_path: Path) -> None:
    class More(Module):
        kernel: Any
        bias: Parameter

    with pytest.raises(ValueError, match=r"do not match:\nbias:"):
        standard(
            tmp_path / "checkpoint",
            {"kernel": {"data": jnp.ones(2)}},
            More(Parameter(jnp.ones(2)), Parameter(jnp.ones(2))),
        )


def test_packed_trees_and_filtered_models_come_back(tmp_path: Path) -> None:
    tree = (mlax.pack(net()), net().filter(), Variable(None))
    assert mlax.tree_equal(
        pytree(tmp_path / "checkpoint", tree, jax.eval_shape(lambda: tree)), tree
    )


def states() -> Iterator[tuple[str, Any]]:
    """Yield shapes of the states of all optimizers for weights as they occur: vectors, matrices, kernels, a scalar."""
    weights = {
        "a": jnp.ones((2, 3)),  # the examples ask for "a" and "b"
        "b": jnp.ones(3),
        "s": jnp.ones(()),
        "k": jnp.ones((2, 2, 3, 4)),
    }
    for name, module in MODULES.items():
        for options in [{}, *OPTIONS.get(name, [])]:
            init = lambda weights, m=module, o=options: m.init(weights, **o)  # noqa: E731
            yield f"{name} {options}", jax.eval_shape(init, weights)
    for name, optimizer in EXAMPLES.items():
        yield name, jax.eval_shape(optimizer.init, weights)


def test_no_state_has_an_array_of_size_zero() -> None:
    """Orbax refuses them."""
    empty = [
        name for name, state in states() if any(leaf.size == 0 for leaf in jax.tree.leaves(state))
    ]
    assert not empty
