"""Everything that does not fit is named, before anything is read or written."""

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import mlax
from mlax import Module, Parameter, optim


class Dense(Module):
    units: int
    activation: Callable[[Any], Any] = jax.nn.relu
    kernel: Parameter = Parameter()

    def set_up(self, x: Any) -> Self:
        return self.replace(kernel=Parameter(jnp.zeros((x.size, self.units))))

    def forward(self, x: Any) -> Any:
        return self.activation(x @ self.kernel.data), self


class Rate(Module):
    """Static only: no leaf shows a difference."""

    rate: Any


@dataclass(frozen=True)
class Decay:
    start: float
    steps: int = 10

    def __call__(self, step: Any) -> Any:
        return self.start / (1 + step / self.steps)


def model(units: int = 3, **options: Any) -> Dense:
    return mlax.set_up(Dense(units, **options), jnp.ones(2), rng=jax.random.key(0))


def refusal(path: Path, saved: Any, like: Any) -> str:
    """Return the message with which a saved tree is not loaded."""
    mlax.save(path / "x", saved)
    with pytest.raises(mlax.LeafMismatchError) as caught:
        mlax.load(path / "x", like=like)
    text = str(caught.value)
    assert text.startswith(f"mlax.load: {path / 'x'} and `like` differ")
    return text.partition("\n")[2]


def test_every_leaf_is_named(tmp_path: Path) -> None:
    """Missing, unexpected, of another shape, of another dtype, each on a line."""
    saved = {"a": jnp.ones(2), "b": [jnp.ones(3), 1], "c": {"x": jnp.ones(())}, "same": 1.0}
    like = {"a": jnp.ones(3), "b": [np.ones(3), 1.0], "d": jnp.ones(1, jnp.bfloat16), "same": 0.0}
    assert refusal(tmp_path, saved, like).splitlines() == [
        "  a: float32[2], but float32[3] in `like`",
        "  b.0: float32[3], but float64[3] in `like`",
        "  b.1: int64[], but float64[] in `like`",
        "  d: missing, `like` has bfloat16[1]",
        "  c.x: float32[], not in `like`",
    ]
    with pytest.raises(mlax.LeafMismatchError) as caught:
        mlax.unflatten(mlax.flatten(saved), like=like)
    assert str(caught.value).startswith("mlax.unflatten: `flat` and `like` differ")
    assert str(caught.value).partition("\n")[2] == refusal(tmp_path, saved, like)


@pytest.mark.parametrize(
    ("saved", "like", "line"),
    [
        (jnp.ones(2), None, "'': float32[2], not in `like`"),
        (None, jnp.ones(2), "'': missing, `like` has float32[2]"),
        ([jnp.ones(2)], [None], "0: float32[2], not in `like`"),
        ([np.ones(2)], [np.ones((1, 2))], "0: float64[2], but float64[1,2] in `like`"),
        ([np.ones(2, complex)], [np.ones((2, 2))], "0: complex128[2], but float64[2,2] in `like`"),
        ([jnp.ones(2, jnp.int4)], [jnp.ones(2, jnp.uint8)], "0: int4[2], but uint8[2] in `like`"),
        ([jax.random.key(0)], [jnp.zeros(2, jnp.uint32)], "0: key<fry>[], but uint32[2] in `like`"),
        (
            [jax.random.key(0)],
            [jax.random.key(0, impl="rbg")],
            "0: key<fry>[], but key<rbg>[] in `like`",
        ),
        ([True], [1], "0: bool[], but int64[] in `like`"),
        ([np.ones(1)], [jnp.ones(1)], "0: float64[1], but float32[1] in `like`"),
        ({"\x1b[2J": 1}, {}, r"'\x1b[2J': int64[], not in `like`"),
    ],
)
def test_no_value_is_converted(saved: Any, like: Any, line: str, tmp_path: Path) -> None:
    assert refusal(tmp_path, saved, like) == f"  {line}"


@pytest.mark.parametrize(
    ("saved", "like", "line"),
    [
        (Rate(0.1), Rate(0.2), "rate: 0.1, but 0.2 in `like`"),
        (Rate(1), Rate(1.0), "rate: 1, but 1.0 in `like`"),
        (Rate(1), Rate(True), "rate: 1, but True in `like`"),
        (Rate(0.0), Rate(-0.0), "rate: 0.0, but -0.0 in `like`"),
        (Rate("a"), Rate(None), "rate: 'a', not in `like`"),  # None makes a child of the field
        (Rate((1, "a")), Rate((1, "b")), "rate: (1, 'a'), but (1, 'b') in `like`"),
        (
            Rate(frozenset("edcba")),
            Rate(frozenset("a")),
            "rate: {'a', 'b', 'c', 'd', 'e'}, but {'a'} in `like`",
        ),
        (Rate(Decay(0.1)), Rate(Decay(0.2)), "rate: Decay(start=0.1, steps=10), but Decay("),
        (Rate(jnp.float32), Rate(jnp.bfloat16), "rate: float32, but bfloat16 in `like`"),
        (Rate(np.dtype("int8")), Rate(np.dtype("uint8")), "rate: int8, but uint8 in `like`"),
        (Rate(jax.nn.relu), Rate(jax.nn.gelu), "rate: relu, but gelu in `like`"),
        (
            Rate(functools.partial(jax.nn.gelu, approximate=False)),
            Rate(functools.partial(jax.nn.gelu, approximate=True)),
            "rate: gelu(approximate=False), but gelu(approximate=True) in `like`",
        ),
        (Rate((1,)), Rate((2,)), "rate: (1,), but (2,) in `like`"),
        (Rate(object()), Rate(Decay(1)), "rate: <object object>, but Decay("),
        ([Rate(1)], [], "0.rate: 1, not in `like`"),
    ],
)
def test_static_fields_are_compared(saved: Any, like: Any, line: str, tmp_path: Path) -> None:
    """Though no leaf differs."""
    assert refusal(tmp_path, saved, like).startswith(f"  {line}")


def test_hyperparameters_and_schedules_are_compared(tmp_path: Path) -> None:
    """Each by name with both values; numbers that the state holds are leaves and come from the file."""
    weights = {"w": jnp.ones(2)}
    saved = optim.Adam(learning_rate=0.5, b1=0.8).init(weights)
    assert refusal(tmp_path, saved, optim.Adam(Decay(0.1), b1=0.9).init(weights)).splitlines() == [
        "  hyperparameters.learning_rate: <in the state>, but Decay(start=0.1, steps=10) in `like`",
        "  hyperparameters.b1: 0.8, but 0.9 in `like`",
    ]
    loaded = mlax.load(tmp_path / "x", like=optim.Adam(learning_rate=0.5, b1=0.8).init(weights))
    assert float(loaded.learning_rate) == 0.5

    saved = optim.SGD(Decay(0.1), momentum=0.9).init(weights)
    assert refusal(tmp_path, saved, optim.SGD(Decay(0.2), momentum=0.9).init(weights)) == (
        "  hyperparameters.learning_rate: Decay(start=0.1, steps=10), but Decay(start=0.2, steps=10) in `like`"
    )
    text = refusal(tmp_path, saved, optim.Signum(Decay(0.1)).init(weights))
    assert "  hyperparameters: SGD, but Signum in `like`" in text
    text = refusal(tmp_path, saved, optim.Adam().init(weights))
    assert "eps_root" not in text  # it has its default
    assert "  hyperparameters: SGD, but Adam in `like`" in text
    assert "renamed" not in text  # from velocity, and the like


def test_optimizers_inside_others_are_compared_once(tmp_path: Path) -> None:
    """Where they are; around them they go by name, at any depth."""
    weights = {"a": jnp.ones(2), "b": jnp.ones(2)}

    def first(path: str, weight: Any) -> bool:
        return path == "a"

    def state(inner: Any, max_norm: float = 1.0) -> Any:
        clipped = optim.ClipGradients(optim.MasterWeights(inner), max_norm=max_norm)
        return optim.MultiOptimizer([optim.SGD(0.1), clipped], [first]).init(weights)

    saved = state(optim.Adam(b1=0.8))
    assert refusal(tmp_path, saved, state(optim.Adam(b1=0.9))).splitlines() == [
        "  inner.1.inner.inner.hyperparameters.b1: 0.8, but 0.9 in `like`"
    ]
    assert refusal(tmp_path, saved, state(optim.Adam(b1=0.8), 2.0)).splitlines() == [
        "  inner.1.hyperparameters.max_norm: 1.0, but 2.0 in `like`"
    ]
    lines = refusal(tmp_path, saved, state(optim.AdamW(b1=0.8))).splitlines()
    assert "  inner.1.inner.inner.hyperparameters: Adam, but AdamW in `like`" in lines
    assert "  inner.1.inner.hyperparameters.optimizer: Adam, but AdamW in `like`" in lines
    assert not any("MultiOptimizer" in line or "ClipGradients" in line for line in lines)


def test_the_same_in_another_process_is_the_same(tmp_path: Path) -> None:
    """Text of static values holds no addresses: those of plain objects and lambdas differ from run to run."""
    mlax.save(tmp_path / "x", [Rate(object()), Rate(lambda: 1), Rate(max), Rate("x".join)])
    mlax.load(tmp_path / "x", like=[Rate(object()), Rate(lambda: 2), Rate(max), Rate("x".join)])
    assert b"at 0x" not in (tmp_path / "x").read_bytes()


def test_frozen_is_not_compared(tmp_path: Path) -> None:
    """Whether a parameter is trained does not change what it is."""
    mlax.save(tmp_path / "x", Parameter(jnp.ones(2)))
    assert mlax.load(tmp_path / "x", like=Parameter(jnp.zeros(2), frozen=True)).frozen


def test_what_fits_is_loaded_where_asked_for(tmp_path: Path) -> None:
    """And the rest is named in a warning, and keeps what `like` has."""
    saved = {"a": jnp.ones(2), "b": jnp.ones(3), "old": 1, "rate": Rate(0.1)}
    like = {"a": jnp.zeros(2), "b": jnp.zeros(4), "new": jnp.zeros(1), "rate": Rate(0.2)}
    mlax.save(tmp_path / "x", saved)
    with pytest.warns(UserWarning, match="differ; only leaves that fit") as caught:
        loaded = mlax.load(tmp_path / "x", like=like, strict=False)
    assert mlax.tree_equal(loaded, like | {"a": jnp.ones(2)})
    (warning,) = caught
    assert warning.filename == __file__
    assert str(warning.message).splitlines() == [
        f"mlax.load: {tmp_path / 'x'} and `like` differ; only leaves that fit are loaded:",
        "  b: float32[3], but float32[4] in `like`",
        "  new: missing, `like` has float32[1]",
        "  old: int64[], not in `like`",
        "  rate.rate: 0.1, but 0.2 in `like`",
    ]
    with pytest.warns(UserWarning, match=r"mlax\.unflatten: `flat` and `like` differ; only"):
        flat = mlax.unflatten(mlax.flatten(saved), like=like, strict=False)
    assert mlax.tree_equal(flat, loaded)
    assert mlax.load(tmp_path / "x", like=saved, strict=False)["old"] == 1  # without a warning


def test_shapes_are_not_kept(tmp_path: Path) -> None:
    """Without values to fall back on, what is missing stays an error."""
    mlax.save(tmp_path / "x", {"a": jnp.ones(2)})
    like = jax.eval_shape(lambda: {"a": jnp.ones(2), "b": jnp.ones(1)})
    with pytest.raises(mlax.LeafMismatchError, match=r"no values to keep:\n  b: missing"):
        mlax.load(tmp_path / "x", like=like, strict=False)
    mlax.save(tmp_path / "x", {"a": jnp.ones(2), "b": jnp.ones(1), "c": 1})
    with pytest.warns(UserWarning, match="c: int64"):
        assert mlax.load(tmp_path / "x", like=like, strict=False)["a"][0] == 1


@pytest.mark.parametrize(
    "tree",
    [
        {"a.b": 1, "a": {"b": 2}},
        {"a": [1], "a.0": 2},
        {"a": Parameter({"x": jnp.ones(1)}), "a.data": {"x": 1}},
    ],
)
def test_two_leaves_of_one_path_are_refused(tree: Any, tmp_path: Path) -> None:
    """Both are named; nothing is written."""
    for where, function in (
        ("mlax.flatten: tree", mlax.flatten),
        ("mlax.save: tree", functools.partial(mlax.save, tmp_path / "x")),
        ("mlax.load: like", lambda tree: mlax.load(tmp_path / "x", like=tree)),
        ("mlax.unflatten: like", lambda tree: mlax.unflatten({}, like=tree)),
    ):
        with pytest.raises(ValueError, match=re.escape(where)) as caught:
            function(tree)
        assert str(caught.value).count("['a") == 2
    assert list(tmp_path.iterdir()) == []


def deleted() -> Any:
    x = jnp.ones(3)
    x.delete()
    return x


@pytest.mark.parametrize(
    ("leaf", "error", "message"),
    [
        ("abc", TypeError, "'abc' (str): only arrays and numbers can be saved"),
        (object(), TypeError, "only arrays and numbers"),
        (np.array(["a"]), TypeError, "only arrays and numbers"),
        (np.array([None]), TypeError, "object[1]: only arrays and numbers"),
        (np.zeros(1, "M8[s]"), TypeError, "only arrays and numbers"),
        (np.zeros(1, "i4,f4"), TypeError, "only arrays and numbers"),
        (np.zeros(1, np.longdouble), TypeError, "only arrays and numbers"),
        (np.ma.masked_array([1.0]), TypeError, "only arrays and numbers"),
        (2**63, ValueError, "this integer needs more than 64 bits"),
        (-(2**63) - 1, ValueError, "this integer needs more than 64 bits"),
        (jax.ShapeDtypeStruct((2,), jnp.int8), ValueError, "int8[2] has no values"),
        (deleted(), ValueError, "float32[3] has been deleted"),
    ],
)
def test_leaves_that_cannot_be_saved(
    leaf: Any, error: type[Exception], message: str, tmp_path: Path
) -> None:
    """Are named before the old file is touched."""
    mlax.save(tmp_path / "x", 1)
    with pytest.raises(error, match=re.escape(message)) as caught:
        mlax.save(tmp_path / "x", {"a": jnp.ones(1), "b": [leaf]})
    assert str(caught.value).startswith("mlax.save: b.0 in `tree`: ")
    assert mlax.load(tmp_path / "x", like=0) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["x"]


def test_saving_inside_jit_is_refused(tmp_path: Path) -> None:
    def function(x: Any) -> Any:
        mlax.save(tmp_path / "x", {"x": x})
        return x

    with pytest.raises(ValueError, match=r"x in `tree`: float32\[2\] has no values; save outside"):
        jax.jit(function)(jnp.ones(2))
    assert list(tmp_path.iterdir()) == []


def test_unset_nodes_are_refused(tmp_path: Path) -> None:
    """They would be left out, and their shapes are not known."""
    with pytest.raises(
        ValueError, match=r"mlax\.save: a node is UNSET; set up the model first .*\n  tree\.kernel"
    ):
        mlax.save(tmp_path / "x", Dense(2))
    mlax.save(tmp_path / "x", model())
    with pytest.raises(ValueError, match=r"mlax\.load: a node is UNSET; .*\n  like\.kernel"):
        mlax.load(tmp_path / "x", like=Dense(3))
    shapes = jax.eval_shape(model)
    assert mlax.tree_equal(mlax.load(tmp_path / "x", like=shapes), model())


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ("abc", "mlax.load: '' in `like`: 'abc' (str): only arrays"),
        ([jax.ShapeDtypeStruct((1,), np.float64)], "0 in `like`: float64[1]: JAX has float64 only"),
    ],
)
def test_like_that_nothing_can_fill(like: Any, message: str, tmp_path: Path) -> None:
    """Among it what JAX would silently narrow without x64."""
    mlax.save(tmp_path / "x", [np.ones(1)])
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        mlax.load(tmp_path / "x", like=like)
    with jax.enable_x64(True):
        x64 = mlax.load(tmp_path / "x", like=[jax.ShapeDtypeStruct((1,), np.float64)])
        assert x64[0].dtype == np.float64
    with pytest.raises(ValueError, match="only with jax_enable_x64"):
        mlax.load(tmp_path / "x", like=x64)


@pytest.mark.parametrize("key", ["__metadata__", "\ud800"])
def test_names_that_the_format_lacks(key: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"mlax\.save: .* in `tree`: .*rename it"):
        mlax.save(tmp_path / "x", {key: 1})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("metadata", "error", "message"),
    [
        (
            {"a": 1},
            TypeError,
            "metadata must be strings, got 1 (int) at 'a'; convert it with json.dumps",
        ),
        ({1: "a"}, TypeError, "metadata must be strings, got 1 (int) at 1"),
        ({"mlax": "a"}, ValueError, "rename 'mlax'"),
        ({"mlax.crc32": "a"}, ValueError, "rename 'mlax.crc32'"),
        ({"a": "\ud800"}, ValueError, "not valid Unicode"),
    ],
)
def test_metadata_are_strings(
    metadata: Any, error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        mlax.save(tmp_path / "x", 1, metadata)
    assert list(tmp_path.iterdir()) == []


def test_unflatten_of_tracers() -> None:
    """Under every transformation, with `like` traced too, or concrete, or shapes."""
    tree = {"w": jnp.arange(3.0), "b": [jax.device_put(jnp.ones(2), jax.devices()[0])]}
    shapes = jax.eval_shape(lambda: tree)
    for like in (None, tree, shapes):

        def same(given: Any, like: Any = like) -> Any:
            return mlax.unflatten(mlax.flatten(given), like=given if like is None else like)

        def total(given: Any, same: Callable[[Any], Any] = same) -> Any:
            return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(same(given)))

        assert mlax.tree_equal(jax.jit(same)(tree), tree)
        assert mlax.tree_equal(jax.grad(total)(tree), jax.tree.map(jnp.ones_like, tree))
        assert mlax.tree_equal(jax.eval_shape(same, tree), shapes)
        batch = jax.tree.map(lambda x: jnp.stack([x, x]), tree)
        assert mlax.tree_equal(jax.vmap(same)(batch), batch)

    def numbers(given: Any) -> Any:
        return mlax.unflatten({"w": np.arange(3, dtype=np.float32)}, like=given)

    assert mlax.tree_equal(jax.jit(numbers)({"w": jnp.zeros(3)}), {"w": tree["w"]})
    message = r"w in `flat`: float32\[3\] has no value, but float32\[3\] in `like` needs one"
    with pytest.raises(ValueError, match=message):
        jax.jit(lambda x: mlax.unflatten({"w": x}, like={"w": np.zeros(3, np.float32)}))(tree["w"])


@pytest.mark.parametrize(
    ("flat", "got"),
    [
        ([1, 2], "got [1, 2] (list)"),
        (None, "got None"),
        (jnp.ones(2), "got float32[2]"),
        ({0: 1}, "the key 0"),
    ],
)
def test_unflatten_takes_a_dict_by_path(flat: Any, got: str) -> None:
    with pytest.raises(TypeError, match=r"unflatten: `flat` must be a dict of arrays by") as caught:
        mlax.unflatten(flat, like={"w": jnp.ones(2)})
    assert got in str(caught.value)


def test_other_numbers_in_a_state_are_told(tmp_path: Path) -> None:
    """The file's are loaded. A schedule follows the step, and shapes have no numbers."""
    path, weights = tmp_path / "state", jnp.ones(2)

    def state(rate: Any, decay: float = 0.5) -> Any:
        return 0, optim.ClipGradients(optim.AdamW(rate, weight_decay=decay), max_norm=1.0).init(
            weights
        )

    mlax.save(path, state(0.25))
    with pytest.warns(UserWarning, match="numbers of optimizers") as caught:
        _, loaded = mlax.load(path, like=state(jnp.float32(0.75)))
    assert float(loaded.inner.learning_rate) == 0.25
    assert str(caught[0].message).splitlines()[1:] == [
        "  1.inner.learning_rate: 0.25, but 0.75 in `like`",
        "  To go on with your own, replace them in the state: optim.with_numbers(state, {path: ...}).",
    ]
    mlax.load(path, like=state(0.25))
    mlax.load(path, like=(0, jax.eval_shape(lambda: state(0.75)[1])))
    schedule = optim.cosine_decay(0.5, 10)
    mlax.save(path, (0, state(schedule)[1]._replace(step=jnp.int32(3))))
    mlax.load(path, like=state(schedule))


def adam(learning_rate: Any) -> Any:
    return optim.to_optax(optim.Adam(learning_rate))


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (
            lambda x: optim.KeepNorm(optim.Adam(b1=jnp.float32(x))).init(jnp.ones(2)),
            "inner.hyperparameters.b1: 0.25, but 0.75 in `like`",
        ),
        (
            lambda x: optim.from_optax(optax.inject_hyperparams(optax.adam)(x)).init(jnp.ones(2)),
            "inner.hyperparams.learning_rate: 0.25, but 0.75 in `like`",
        ),
        (
            lambda x: optax.inject_hyperparams(adam)(x).init(jnp.ones(2)),
            "hyperparams.learning_rate: 0.25, but 0.75 in `like`",
        ),
        (
            lambda x: jax.vmap(lambda rate: optim.adam.init(jnp.ones(2), learning_rate=rate))(
                jnp.array([0.0, x, x])
            ),
            "learning_rate: 2 of 3 differ, such as 0.25, but 0.75 in `like`, at [1]",
        ),
    ],
)
def test_all_numbers_are_told_of(tmp_path: Path, make: Any, line: str) -> None:
    """Those given as arrays, those of Optax, which replace the optimizer's own in each step, and sweeps."""
    mlax.save(tmp_path / "state", make(0.25))
    with pytest.warns(UserWarning, match="numbers of optimizers") as caught:
        mlax.load(tmp_path / "state", like=make(0.75))
    assert str(caught[0].message).splitlines()[1:-1] == [f"  {line}"]
    mlax.load(tmp_path / "state", like=make(0.25))
