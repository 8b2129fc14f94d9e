"""Where arrays are to lie: rules, and what is wrong with them. That states lie there: optimizer/test_meshes.py."""

import re
from functools import partial
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

import mlax
from mlax import nn, optim

P = PartitionSpec
pytestmark = pytest.mark.one_python

MESH = AbstractMesh((4, 2), ("data", "model"))


class Block(mlax.Module):
    """A layer with a residual."""

    dense: nn.Linear

    def forward(self, x: Float[Array, "n"]) -> tuple[Float[Array, "n"], "Block"]:
        y, self = self.call(self.dense, x)
        return x + y, self


class Model(mlax.Module):
    """Stacked blocks, and one that is not."""

    blocks: nn.Repeat[Block]
    head: nn.Linear

    def forward(self, x: Float[Array, "n"]) -> tuple[Float[Array, "m"], "Model"]:
        x, self = self.call(self.blocks, x)
        return self.call(self.head, x)


def model() -> Any:
    blank = Model(nn.Repeat(Block(nn.Linear(16)), 3), nn.Linear(8))
    return jax.eval_shape(lambda: mlax.set_up(blank, jnp.zeros(16), rng=jax.random.key(0)))


def specs(places: Any) -> dict[str, PartitionSpec]:
    return {path: place.spec for path, place in mlax.flatten(places).items() if any(place.spec)}


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({}, {}),  # data parallel
        (
            {r".*\.kernel": P("data")},
            {"blocks.block.dense.kernel": P(None, "data"), "head.kernel": P("data")},
        ),
        (
            {r"head\..*": P(), r".*kernel": P(None, ("data", "model")), ".*bias": P("model")},
            {
                "blocks.block.dense.kernel": P(None, None, ("data", "model")),
                "blocks.block.dense.bias": P(None, "model"),
            },
        ),
        (
            {"blocks.*kernel": P(None, None, "model"), "blocks.*bias": P(None, "model")},
            {
                "blocks.block.dense.kernel": P(None, None, "model"),
                "blocks.block.dense.bias": P(None, "model"),
            },
        ),
    ],
)
def test_the_first_rule_that_matches_counts_and_is_about_one_block(
    rules: Any, expected: Any
) -> None:
    tree = model()
    places = mlax.shardings(tree, MESH, rules)
    assert jax.tree.structure(places) == jax.tree.structure(tree)
    assert specs(places) == expected
    with jax.sharding.use_abstract_mesh(AbstractMesh((2,), ("other",))):
        state = optim.state_shardings(optim.AverageWeights(optim.AdamW()), tree, places)
    wanted = {f"inner.{slot}.{path}": spec for slot in "mv" for path, spec in expected.items()}
    found = {path: P(*filter_none(spec)) for path, spec in specs(state).items()}
    assert {path: found[path] for path in wanted} == {
        k: P(*filter_none(v)) for k, v in wanted.items()
    }
    by_rules = mlax.shardings(
        jax.eval_shape(optim.AdamW().init, tree),
        MESH,
        {rf"[mv]\.{rule}": spec for rule, spec in rules.items()},
    )
    assert specs(by_rules) == {
        f"{slot}.{path}": spec for slot in "mv" for path, spec in expected.items()
    }


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (P("data"), P(None, None, "data")),
        (P(None, "model"), P(None, None, None, "model")),
        (P(None, None, "data", "model"), P(None, None, "data", "model")),
        (P("data", "model", None), P("data", "model", None)),
    ],
)
def test_a_rule_for_blocks_in_blocks_is_about_the_innermost(
    spec: PartitionSpec, expected: PartitionSpec
) -> None:
    blank = nn.Repeat(nn.Repeat(nn.Linear(16), 2), 4)
    tree = jax.eval_shape(lambda: mlax.set_up(blank, jnp.zeros(16), rng=jax.random.key(0)))
    assert specs(mlax.shardings(tree, MESH, {r".*\.kernel": spec})) == {
        "block.block.kernel": expected
    }
    places = mlax.shardings(tree, MESH, {r"block\.block\.kernel": spec})
    state = specs(optim.state_shardings(optim.Adam(), tree, places))
    assert {path: P(*filter_none(place)) for path, place in state.items()} == {
        f"{slot}.block.block.kernel": P(*filter_none(expected)) for slot in "mv"
    }


def filter_none(spec: PartitionSpec) -> list[Any]:
    """Return the entries of a spec without those at its end that say nothing."""
    entries = [*spec]
    while entries and entries[-1] is None:
        entries.pop()
    return entries


def test_keys_and_numbers_are_whole() -> None:
    tree = {
        "key": jax.random.split(jax.random.key(0), 8),
        "x": jnp.ones(()),
        "n": 3,
        "w": jnp.ones(8),
    }
    assert specs(mlax.shardings(tree, MESH, {".*": P("data")})) == {"w": P("data")}


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (
            {"w": P("data", None, None)},
            "w: float32[8,6]: expected at most 2 entries, one for each axis",
        ),
        (
            {"w": P("date")},
            "the mesh has the axes 'data', 'model', and not 'date', got 'w': P('date',)",
        ),
        (
            {"w": P("data", "data")},
            "w: float32[8,6]: the axis 'data' of the mesh can shard only one",
        ),
        (
            {"w": P(None, "data")},
            "axis 1 of length 6 cannot be divided by 4, the size of 'data', got 'w'",
        ),
        ({"v": P()}, "the rule 'v' counts for no array: it matches no path.\n  Mend or remove it"),
        ({".*": P(), "w": P("data")}, "'w' counts for no array: others come before it wherever it"),
        ({"(": P()}, "'(' is not a regular expression: missing )"),
        (
            {"w": None},
            "rules must be a dict of jax.sharding.PartitionSpecs by regular expression, got None",
        ),
    ],
)
def test_rules_that_do_not_fit_are_refused(rules: Any, message: str) -> None:
    tree = {"w": jnp.ones((8, 6))}
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        mlax.shardings(tree, MESH, rules)
    with pytest.raises(TypeError, match=r"mesh must be a jax\.sharding\.Mesh, got None"):
        mlax.shardings(tree, cast("Any", None), rules)
    if "counts for no" in message:
        mlax.shardings(tree, MESH, rules, strict=False)


def test_an_abstract_tree_says_where_arrays_are_loaded(tmp_path: Path) -> None:
    mesh = jax.make_mesh((1,), ("data",), devices=jax.devices()[:1])
    tree: Any = {"w": jnp.arange(8.0), "n": 3}
    places = mlax.shardings(tree, mesh, {"w": P("data")})
    mlax.save(tmp_path / "x", tree)
    for given in (places, NamedSharding(mesh, P())):
        like = mlax.abstract(tree, given)
        loaded = mlax.load(tmp_path / "x", like=like)
        assert loaded["w"].sharding == like["w"].sharding
        assert mlax.tree_equal(loaded, tree)
    with pytest.raises(ValueError, match=r"must have the same structure.*they differ at n\.\n"):
        mlax.abstract(tree, {"w": places["w"]})
    several = NamedSharding(MESH, P("data"))
    uneven = re.escape("  1: float32[7]: axis 0 of length 7 cannot be divided by")
    for refused, of in (
        (mlax.abstract, "mlax.abstract"),
        (partial(optim.state_shardings, optim.Adam()), "optim.state_shardings"),
    ):
        with pytest.raises(ValueError, match=rf"{of}: shardings that do not fit.*\n{uneven}"):
            refused([tree["w"], jnp.ones(7)], several)
    with pytest.raises(ValueError, match="state_shardings: `weights` and `shardings` must have"):
        optim.state_shardings(optim.Adam(), tree, {"w": places["w"]})
    with pytest.raises(TypeError, match=r"state_shardings: expected .*an instance, not the class"):
        optim.state_shardings(cast("Any", optim.Adam), tree, places)
    with pytest.raises(TypeError, match=r"expected jax\.sharding\.NamedShardings, got 1"):
        optim.state_shardings(optim.Adam(), tree["w"], 1)
    with pytest.raises(ValueError, match="must have one mesh, got 2"):
        optim.state_shardings(
            optim.Adam(), [tree["w"]] * 2, [places["w"], NamedSharding(MESH, P())]
        )


def test_static_data_of_other_checkpoints_are_compared() -> None:
    tree = model()
    text = mlax.static_text(tree)
    mlax.check_static(text, tree)
    with pytest.raises(mlax.LeafMismatchError) as raised:
        mlax.check_static(text, tree.replace(blocks=tree.blocks.replace(unroll=2)))
    assert str(raised.value) == (
        "mlax.check_static: `saved` and `like` differ:\n  blocks.unroll: 1, but 2 in `like`"
    )
    with pytest.raises(ValueError, match=r"`saved` must be text from mlax\.static_text, got 'x'"):
        mlax.check_static("x", tree)
    with pytest.raises(ValueError, match=r"`saved` must be text from mlax\.static_text"):
        mlax.check_static('{"static": 3, "classes": 4}', tree)
