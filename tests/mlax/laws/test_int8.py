"""Slots in eight bits: how far numbers move, which slots they are, and that a step follows float32."""

import dataclasses
import functools
import pickle
import re
import warnings
from typing import Any

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, given, settings

import mlax
from mlax import optim
from mlax._int8 import Int8, decoded, encoded, scales_shape
from mlax.leafwise._rounding import random_bits
from mlax.optimizer._hyperparameters import SlotDtype
from mlax.tree import describe
from mlax.typing import LeafMismatchError
from tests.mlax.devices import run_on_devices
from tests.mlax.generated_optimizers import MODULES, arguments
from tests.mlax.optim.transformations import examples as transformations
from tests.quickly import QUICKLY

pytestmark = pytest.mark.one_python

IN_EIGHT_BITS = [
    name for name in MODULES if MODULES[name].init.__annotations__["slot_dtype"] == SlotDtype | None
]
MOMENTUM = {"adafactor": {"momentum": 0.9}, "sgd": {"momentum": 0.9}}
# Of means, which differ where the mean is near 0; of quotients of means, clipped. (Adai's are decays.)
SIGNS = {"adai", "lion", "signum", "sophia_h", "tiger"}

TOO_FEW = {
    "acprop": "s stays in float32: the largest updates are those divided by its smallest numbers",
    "madgrad": "s stays in float32: a sum that the weights themselves are computed from",
    "rprop": "size stays in float32: step sizes of one block may differ by many orders of magnitude",
}

SHAPES = [(300,), (3, 5, 20), (2, 257), (40,), (127,), (2, 128), (1, 1, 129)]


def like(shape: tuple[int, ...], dtype: Any) -> Int8:
    scales = scales_shape(shape)
    assert scales is not None
    return Int8(jnp.zeros(shape, dtype), jnp.zeros(scales, jnp.float32))


@jax.jit
def stored(x: Any, one: Int8, bits: Any) -> Any:
    return decoded(encoded(x, one, bits))


def numbers(shape: tuple[int, ...], seed: int, size: float) -> np.ndarray[Any, Any]:
    """Return numbers of very different sizes, some of them 0."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape) * 10.0 ** rng.uniform(-6, 0, shape) * size
    return np.where(rng.random(shape) < 0.2, 0, x).astype(np.float32)


@given(
    st.sampled_from(SHAPES),
    st.integers(0, 2**31),
    st.sampled_from([1e-25, 1e-6, 1.0, 1e30]),
    st.booleans(),
)
@settings(max_examples=12)
def test_a_number_moves_by_at_most_a_scale(
    shape: tuple[int, ...], seed: int, size: float, stochastic: bool
) -> None:
    x = numbers(shape, seed, size)
    bits = random_bits(jnp.uint32(seed), 1, shape) if stochastic else None
    signed = stored(x, like(shape, jnp.int8), bits)
    largest = np.max(np.abs(x))
    share = 1.001 if stochastic else 0.501
    assert signed.dtype == jnp.float32
    np.testing.assert_array_less(np.abs(signed - x), share * largest / 127 + 1e-38)
    np.testing.assert_array_equal(signed[x == 0], 0)

    square = np.abs(x)
    kept = stored(square, like(shape, jnp.uint8), bits)
    limit = np.sqrt(np.max(square)) / 255
    off = np.abs(np.sqrt(kept) - np.sqrt(square))
    np.testing.assert_array_less(off, np.where(square > 0, 1.001, 0.001) * limit + 1e-30)
    np.testing.assert_array_equal(kept > 0, square > 0)


def test_stochastic_rounding_is_unbiased() -> None:
    x = numbers((128,), 0, 1.0)
    keys = jnp.arange(4000, dtype=jnp.uint32) * np.uint32(2654435761)

    def mean(of: Any, dtype: Any) -> Any:
        one = like((128,), dtype)
        return jax.vmap(lambda key: of(encoded(jnp.asarray(x), one, random_bits(key, 1, (128,)))))(
            keys
        ).mean(0)

    spread = np.max(np.abs(x)) / 127 / 2 / np.sqrt(4000)
    assert np.max(np.abs(mean(decoded, jnp.int8) - x)) < 5 * spread
    x = y = np.abs(x) * 0.5 + 0.5  # far from 0, where rounding up is not a choice
    roots = mean(lambda root: jnp.sqrt(decoded(root)), jnp.uint8)
    assert np.max(np.abs(roots - np.sqrt(y))) < 5 / 255 / 2 / np.sqrt(4000)


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.uint8])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e38, 1e-42])
def test_a_block_does_not_change_others(dtype: Any, bad: float) -> None:
    x = np.abs(numbers((3, 256), 0, 1.0))
    expected = stored(x, like(x.shape, dtype), None)
    x[1, 3] = bad
    found = stored(x, like(x.shape, dtype), None)
    others = np.ones_like(x, bool)
    others[1, :128] = False
    np.testing.assert_array_equal(found[others], expected[others])
    assert np.isfinite(found[1, 3]) == np.isfinite(bad)
    if np.isnan(bad):
        assert np.isnan(found[1, 3])


def test_a_row_has_blocks_that_are_equally_long_and_few() -> None:
    assert scales_shape((512, 512)) == (512, 4)
    assert scales_shape((3, 3, 64, 64)) == (3, 3, 32)
    assert scales_shape((1000, 10)) == (80,)
    assert scales_shape((300,)) == (3,)
    assert scales_shape((64, 768)) == (64, 8)
    assert scales_shape((64, 11008)) == (64, 86)
    assert scales_shape((257,)) == (3,)  # of 86, 86 and 85 numbers
    for small in [(), (39,), (5, 7), (0,), (3, 0), (2, 0, 500)]:
        assert scales_shape(small) is None


def weights(dtype: Any = jnp.float32) -> Any:
    return {"w": jnp.ones((8, 200), dtype), "b": jnp.ones(5, dtype)}


@pytest.mark.parametrize("name", MODULES)
def test_slots_are_in_eight_bits_or_said_not_to_be(name: str) -> None:
    module = MODULES[name]
    if name not in IN_EIGHT_BITS:
        with pytest.raises(TypeError, match="int8 is not possible: "):
            module.init(weights(), slot_dtype="int8")
        return
    options = MOMENTUM.get(name, {})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        state = jax.eval_shape(lambda w: module.init(w, slot_dtype="int8", **options), weights())
    # Once, of slots for which eight bits are too few; not of copies, bases and what is small.
    assert [str(warning.message).splitlines()[1:] for warning in caught] == [
        [f"  state.{TOO_FEW[x]}"] for x in TOO_FEW if x == name
    ]
    found = [x for x in jax.tree.leaves(state, is_leaf=optim.is_int8) if optim.is_int8(x)]
    assert found
    for slot in found:
        assert slot.is_whole
        assert slot.shape == (8, 200)
    dtypes = {slot.dtype for slot in found}
    assert dtypes <= {np.dtype(np.int8), np.dtype(np.uint8)}
    if hasattr(state, "v") and name != "adan" and any(map(optim.is_int8, state.v.values())):
        assert state.v["w"].dtype == jnp.uint8


ADAM = optim.Adam(1e-2, slot_dtype="int8", stochastic_rounding=True)


def trained(optimizer: Any, start: Any) -> tuple[Any, Any]:
    result: tuple[Any, Any] = training(optimizer)(start)
    return result


@functools.cache
def training(optimizer: Any, steps: int = 30) -> Any:
    """Return a function from weights to those after some steps, and the state."""

    def run(w: Any) -> Any:
        def one(carry: Any, i: Any) -> Any:
            w, state = carry
            noise = jax.random.normal(jax.random.fold_in(jax.random.key(0), i), (8, 200))
            g = {"w": (1 + noise).astype(w["w"].dtype), "b": w["b"]}
            return optimizer.apply_gradients(g, state, w)[:2], None

        return jax.lax.scan(one, (w, optimizer.init(w)), jnp.arange(steps))[0]

    return jax.jit(run)


@functools.cache
def start_and_gradients() -> Any:
    """Return weights, and gradients for some steps; a program that draws them takes longer to compile."""
    keys = jax.random.split(jax.random.key(0), 12)
    noise = jax.vmap(lambda key: jax.random.normal(key, (3, 100)))(keys)
    return jax.random.normal(jax.random.key(1), (3, 100)), 0.5 + noise


@pytest.mark.filterwarnings("ignore:.*does not apply to all slots")
@pytest.mark.parametrize("name", IN_EIGHT_BITS)
def test_steps_follow_those_in_float32(name: str) -> None:
    module = MODULES[name]
    start, gradients = start_and_gradients()

    def one(state: Any, w: Any, g: Any) -> Any:
        w, state = module.apply_gradients(g, state, w, **arguments(name, g))[:2]
        return state, w

    def run(dtype: Any) -> Any:
        first = module.init(start, slot_dtype=dtype, **MOMENTUM.get(name, {})), start
        return jax.lax.scan(lambda at, g: (one(*at, g), None), first, gradients)[0][1]

    exact, narrow = jax.jit(lambda: (run(None), run("int8")))()
    off, way = jnp.linalg.norm(exact - narrow), jnp.linalg.norm(exact - start)
    assert off < (0.06 if name in SIGNS else 0.02) * way
    # Rprop's slot in eight bits holds signs, which are exact.
    assert (off > 0) == (name != "rprop")


def in_eight_bits(optimizer: Any) -> Any:
    """Return an optimizer in which all that have slots for it hold them in eight bits."""
    if isinstance(optimizer, tuple):
        return tuple(map(in_eight_bits, optimizer))
    if isinstance(optimizer, optim.SGD | optim.Muon):
        return dataclasses.replace(optimizer, slot_dtype="int8")
    if not isinstance(optimizer, optim.Optimizer):
        return optimizer
    names = [field.name for field in dataclasses.fields(optimizer)]
    inner = {name: in_eight_bits(getattr(optimizer, name)) for name in names}
    return dataclasses.replace(optimizer, **inner)


WITH_SLOTS = [
    n for n in transformations.EXAMPLES if n not in {"Frozen", "DecayWeights independent"}
]


@pytest.mark.parametrize("name", WITH_SLOTS)
def test_wrappers_step_with_slots_in_eight_bits(name: str) -> None:
    wide = transformations.EXAMPLES[name]
    narrow, given = in_eight_bits(wide), transformations.arguments(wide)
    a, b, c = (jax.random.normal(jax.random.key(i), (3, 100)) for i in range(3))
    start = {"a": a, "b": [b, None], "c": c}

    def one(optimizer: Any, at: Any, i: Any) -> Any:
        w, state = at
        g = jax.tree.map(lambda x: jnp.cos(30 * x + i), w)
        return optimizer.apply_gradients(g, state, w, **given)[:2], None

    def run(optimizer: Any) -> Any:
        first = start, optimizer.init(start)
        return jax.lax.scan(functools.partial(one, optimizer), first, jnp.arange(3.0))[0]

    (exact, _), (found, state) = jax.jit(lambda: (run(wide), run(narrow)))()
    assert any(map(optim.is_int8, jax.tree.leaves(state, is_leaf=optim.is_int8)))
    for x, y, w in zip(*map(jax.tree.leaves, (exact, found, start)), strict=True):
        assert jnp.linalg.norm(x - y) <= 0.02 * jnp.linalg.norm(x - w)


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from mlax import optim

optimizer = optim.Adam(1e-2, slot_dtype="int8", stochastic_rounding=True)
step = jax.jit(optimizer.apply_gradients)
SHAPES = {
    "tall": (1536, 64), "cube": (8, 192, 4, 16), "odd": (32, 257), "wide": (4, 5120), "half": (32, 512),
    "vector": (512,), "narrow": (64, 32), "corner": (64, 32), "prime": (16, 2056),
}
# Each device has whole blocks; several share one; they do not fit each other.
GROUPS = [
    ("all-", {
        "a": P("d", "m"), "b": P("d", "m"), "rows": P("d"), "columns": P(None, "m"), "tall": P("m"),
        "cube": P("d", "m"), "odd": P("d"), "whole": P(), "wide": P(None, ("d", "m")),
    }),
    ("all-gather", {"half": P(None, ("d", "m")), "vector": P(("d", "m"))}),
    ("all-to-all", {"narrow": P(None, "d"), "corner": P("d", "m"), "prime": P(None, ("d", "m"))}),
]
for never, specs in GROUPS:
    whole = {name: jnp.zeros(SHAPES.get(name, (64, 1536))) for name in specs}
    whole = {name: jnp.linspace(-1, 1, x.size).reshape(x.shape) for name, x in whole.items()}
    start = optimizer.init(whole)
    expected, wanted = step(whole, start, whole)
    expected, wanted = step(expected, wanted, expected)
    for kind in AxisType.Auto, AxisType.Explicit:
        mesh = jax.make_mesh((4, 2), ("d", "m"), axis_types=(kind, kind))
        split = {name: NamedSharding(mesh, spec) for name, spec in specs.items()}
        weights = jax.device_put(whole, split)
        state = optimizer.init(weights)
        planned = optim.state_shardings(optimizer, whole, split)
        with jax.set_mesh(mesh):
            jitted = jax.jit(optimizer.init)(weights)
            by_plan = jax.jit(optimizer.init, out_shardings=planned)(whole)
        for name in whole:
            trees = [jax.tree.leaves((s.m[name], s.v[name])) for s in (start, state, jitted, by_plan, planned)]
            for x, *placed, place in zip(*trees, strict=True):
                for y in placed:
                    assert x.shape == y.shape and (x == np.asarray(y)).all(), name
                    assert y.sharding.is_equivalent_to(place, y.ndim), (name, y.sharding, place)
        program = step.lower(weights, state, weights).compile()
        if never != "all-to-all":
            assert "collective" not in program.as_text()
        assert never not in program.as_text()
        for _ in range(2):
            weights, state = program(weights, state, weights)
            for x, place in zip(*map(jax.tree.leaves, ((weights, state), (split, planned))), strict=True):
                assert x.sharding.is_equivalent_to(place, x.ndim), (x.sharding, place)
        # Steps are of 1e-2. Where XLA gathers, it sums in another order, and rounds a few numbers the other way.
        near = {"rtol": 1e-6} if never == "all-" else {"rtol": 0, "atol": 1e-4}
        for name in whole:
            np.testing.assert_allclose(weights[name], expected[name], **near)
        for x, y in zip(*map(jax.tree.leaves, ((state.m, state.v), (wanted.m, wanted.v))), strict=True):
            assert x.shape == y.shape
            assert x.dtype == jnp.float32 or np.mean(np.asarray(x) != np.asarray(y)) < 1e-3
            np.testing.assert_allclose(x.astype(float), y.astype(float), rtol=1e-5, atol=1)
"""


def test_slots_are_sharded_as_the_weights_and_steps_move_nothing() -> None:
    run_on_devices(8, SHARDED)


def test_a_state_is_mapped_saved_packed_and_pickled(tmp_path: Any) -> None:
    start = weights(jnp.bfloat16)
    new, state = trained(ADAM, start)
    again = trained(ADAM, start)
    assert mlax.tree_equal((new, state), again)
    bytes_a_weight = sum(x.nbytes for x in jax.tree.leaves((new["w"], state.m["w"], state.v["w"])))
    assert bytes_a_weight / 1600 <= 4.2
    mlax.save(tmp_path / "state.safetensors", state)
    assert mlax.tree_equal(mlax.load(tmp_path / "state.safetensors", like=state), state)
    assert mlax.tree_equal(pickle.loads(pickle.dumps(state)), state)
    values = optim.slot_values(state.m)
    assert {x.dtype for x in jax.tree.leaves(values)} == {np.dtype(np.float32)}
    assert values.keys() == start.keys()

    stacked = jax.tree.map(lambda x: jnp.stack([x, x]), start)
    both = jax.vmap(training(ADAM))(stacked)
    assert mlax.tree_equal(jax.tree.map(lambda x: x[1], both), (new, state))
    assert optim.slot_values(both[1].m)["w"].shape == (2, 8, 200)

    packed = mlax.pack(start)
    g = jax.tree.map(jnp.ones_like, packed)
    donating: Any = jax.jit(ADAM.apply_gradients, donate_argnums=(1, 2))
    before = ADAM.init(packed)
    flat, state = donating(g, before, packed)
    assert all(x.is_deleted() for x in jax.tree.leaves((before.m, before.v)))
    assert jnp.all(flat.unpack()["w"] < 1)


LEAVES = st.tuples(
    st.sampled_from([*SHAPES, (1,), (39,), (5, 7)]),
    st.sampled_from([jnp.float32, jnp.bfloat16, jnp.float16]),
    st.sampled_from([0.0, 1e-3, 1.0, 1e3]),
)


def agree(found: Any, expected: Any, share: float = 0.02) -> None:
    """State that two trees are equal, but for a share of the numbers in eight bits, which are neighbours: the last bit
    of a number may decide how it is rounded.
    """
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        if x.dtype in (jnp.int8, jnp.uint8):
            off = jnp.abs(x.astype(int) - y.astype(int))
            assert jnp.max(off) <= 1
            assert jnp.sum(off) <= share * x.size
        else:
            exact = x.dtype.kind == "i" or x.size == 0
            unit = 0 if exact else 4 * float(jnp.finfo(x.dtype).eps * jnp.max(jnp.abs(y)))
            np.testing.assert_allclose(x.astype(float), y.astype(float), rtol=0, atol=unit)


@pytest.mark.filterwarnings(
    "ignore:Adam. the dtype of these slots is too narrow"
)  # of small leaves
@given(st.lists(LEAVES, min_size=2, max_size=2), st.integers(0, 2**31))
@settings(max_examples=2, phases=[Phase.generate])  # to find a smaller tree takes minutes
def test_a_step_of_any_tree(
    tmp_path_factory: pytest.TempPathFactory, leaves: list[Any], seed: int
) -> None:
    """Saved, mapped, packed, donated, and with a leaf that is not trained."""
    optimizer = optim.Adam(1e-2, slot_dtype="int8")
    w: list[Any] = [jnp.asarray(numbers(x, seed, 1.0), dtype) for x, dtype, _ in leaves]
    g: list[Any] = [jnp.asarray(numbers(x, seed + 1, size), dtype) for x, dtype, size in leaves]
    jit: Any = functools.partial(jax.jit, compiler_options=QUICKLY)
    take = jit(optimizer.apply_gradients)
    state = optimizer.init(w)
    once = new, first = take(g, state, w)
    for x, y in zip(g, optim.slot_values(first.m), strict=True):
        mean = 0.1 * x.astype(jnp.float32)
        unit = float(jnp.finfo(x.dtype).eps) if x.size < 40 else 1.001 / 127
        assert jnp.all(jnp.abs(y - mean) <= unit * jnp.max(jnp.abs(mean)) + 1e-7)

    twice = take(g, first, new)
    path = tmp_path_factory.mktemp("saved") / "state.safetensors"
    mlax.save(path, twice)
    assert mlax.tree_equal(mlax.load(path, like=once), twice)

    both = jax.tree.map(lambda *x: jnp.stack(x), (g, first, new), (g, state, w))
    mapped = jit(jax.vmap(optimizer.apply_gradients))(*both)
    for i, expected in enumerate((twice, once)):
        agree(jax.tree.map(lambda x, i=i: x[i], mapped), expected)

    masked, held = take([None, *g[1:]], optimizer.init([None, *w[1:]]), [None, *w[1:]])
    rest = new[1:], first.m[1:], first.v[1:]
    agree((masked[1:], held.m[1:], held.v[1:]), rest, share=1)  # with other random bits

    packed: Any = mlax.pack(w)
    flat, _ = take(mlax.pack(g), optimizer.init(packed), packed)
    agree(flat.unpack(), new)

    given: Any = jit(optimizer.apply_gradients, donate_argnums=(1, 2))
    agree(given(g, first, new), twice)
    assert all(x.is_deleted() for x in jax.tree.leaves((first.m, first.v)))


@pytest.mark.optimized
def test_leaves_share_temporary_arrays() -> None:
    """XLA on CPU would compute all leaves at once, with two temporary arrays of float32 for each."""
    rows = [64, 32, 64, 128, 256, 32, 512, 1024, 1]
    leaves = [jnp.ones((n, 2**15 // n), jnp.bfloat16) for n in rows]
    state = jax.eval_shape(ADAM.init, leaves)
    step: Any = jax.jit(ADAM.apply_gradients, donate_argnums=(1, 2))
    plan = step.lower(leaves, state, leaves).compile().memory_analysis()
    assert plan.temp_size_in_bytes < 4 * 2**15 * 4


def test_the_dtype_rule_compares_the_shape_of_the_values() -> None:
    start = weights()
    state = ADAM.init(start)
    wrong = Int8(jnp.zeros((8, 100), jnp.int8), jnp.zeros((8, 1)))
    with pytest.raises(LeafMismatchError) as error:
        ADAM.step(start, state._replace(m={**state.m, "w": wrong}), start)
    assert str(error.value).splitlines()[1:] == [
        "  state.m['w']: int8[8,100], but weights['w'] in slot_dtype: float32[8,200]"
    ]
    for other in optim.Adam(), optim.Adam(slot_dtype=jnp.float32):
        wide = other.init(start)._replace(m=state.m)
        with pytest.raises(LeafMismatchError, match=r"state.m\['w'\]: Int8, but weights\['w'\]"):
            other.step(start, wide, start)
    with pytest.raises(ValueError, match="step needs the weights"):
        optim.adam.step(start, optim.Adam(slot_dtype="int8").init(start))


def test_arrays_that_are_not_those_of_the_slot_are_refused(tmp_path: Any) -> None:
    start = weights()
    state = ADAM.init(start)
    mlax.save(tmp_path / "state", state)
    values = jnp.zeros((8, 200), jnp.int8)
    for scales in (jnp.zeros((8, 1)), jnp.zeros((8, 6)), jnp.zeros((8, 2), jnp.float16)):
        wrong = state._replace(m={**state.m, "w": Int8(values, scales)})
        message = re.escape(f"scales {describe(scales)} do not fit values int8[8,200]")
        with pytest.raises(LeafMismatchError, match=rf"  state.m\['w'\]: {message}"):
            ADAM.step(start, wrong, start)
        with pytest.raises(LeafMismatchError, match=f"migrate: m.w in the old state: {message}"):
            optim.migrate(wrong, optim.Adam(), start)
        with pytest.raises(TypeError, match=rf"slot\['w'\]: {message}"):
            optim.slot_values(wrong.m)
        with pytest.raises(LeafMismatchError, match=r"m\.w\.scales: float32\[8,2\], but"):
            mlax.load(tmp_path / "state", like=wrong)
    # Those of the other slot, which are squares.
    wrong = state._replace(m=state.v, v=state.m)
    with pytest.raises(
        LeafMismatchError, match=r"state.m\['w'\]: uint8.* signed, .* int8"
    ) as error:
        ADAM.step(start, wrong, start)
    assert "state.v['w']: int8[8,200], but its numbers are nonnegative" in str(error.value)
    with pytest.raises(LeafMismatchError, match=r"m\.w\.values: int8\[8,200\], but uint8"):
        mlax.load(tmp_path / "state", like=wrong)
    # In another optimizer, the numbers of a slot of the same name have signs.
    state = ADAM.step(start, state, start)[1]
    adan = optim.Adan(slot_dtype="int8")
    with pytest.warns(UserWarning, match="not everything continues"):
        new = optim.migrate(state, adan, start, replaced={optim.Adam: optim.Adan}, strict=False)
    assert new.v["w"].dtype == jnp.int8
    assert jnp.allclose(optim.slot_values(new.v)["w"], optim.slot_values(state.v)["w"])
