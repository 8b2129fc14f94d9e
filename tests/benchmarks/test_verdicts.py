"""Ratios, growth and targets are computed as they are described, on figures that are known."""

import pytest

from benchmarks.algorithms import ALGORITHMS
from benchmarks.devices import sent
from benchmarks.networks import DEPTHS, MANY_UNROLLED, PEERS, UNROLLED
from benchmarks.results import Results, spread
from benchmarks.tables import quantity, ratio, tables
from benchmarks.targets import MANY, TARGETS, exponents, missed
from benchmarks.timing import take_turns
from benchmarks.trees import small_leaves

pytestmark = pytest.mark.one_python


def empty() -> Results:
    """Return results without any."""
    return Results("tiny", "cpu", {"mlax": "0"})


def test_ratio_is_of_rounds_that_belong_together() -> None:
    """A machine that is ten times slower in one round changes nothing."""
    results = empty()
    results.add("steps", MANY, "step", "s", {"Optax": [1, 20, 3], "mlax": [2, 40, 6]})
    found = results.ratio("steps", MANY, "step", of="mlax", to="Optax")
    assert found is not None
    assert (found.low, found.median, found.high) == (2, 2, 2)
    assert results.ratio("steps", MANY, "step", of="mlax", to="MLX") is None


def test_spread_of_one_round_is_that_round() -> None:
    """And of five, the second, third and fourth."""
    assert vars(spread([7.0])) == {"low": 7, "median": 7, "high": 7}
    assert vars(spread([5.0, 1, 4, 2, 3])) == {"low": 2, "median": 3, "high": 4}


@pytest.mark.parametrize(("seconds", "verdict"), [(5.9, "ok"), (6.1, "MISSED")])
def test_verdict(seconds: float, verdict: str) -> None:
    """The median decides. Targets that were not measured are marked so."""
    results = empty()
    figures = {"Optax": [100, 100, 100], "mlax packed": [1, seconds, 100]}
    results.add("steps", MANY, "step", "s", figures)
    target, other = TARGETS[:2]
    assert target.verdict(results) == verdict
    assert other.verdict(results) == "not measured"
    assert missed(results) == ([target.text] if verdict == "MISSED" else [])
    *_, shown = tables(results)
    assert shown.title == "Targets"
    assert shown.rows[0][-1] == verdict


def test_targets_are_those_of_their_issue() -> None:
    """So that none is loosened in passing."""
    assert {(t.text, t.to): t.at_most for t in TARGETS} == {
        ("step, moments in int8", "float32"): 4,
        ("kept for each weight, moments in int8", "float32"): 0.345,
        ("memory, moments in int8", "float32"): 0.6,
        ("packed Adam step, 1,000 x 1 kB", "Optax"): 0.06,
        ("packed trace + lower + compile, 1,000 x 1 kB", "Optax"): 0.08,
        ("plain Adam step, 1,000 x 1 kB", "Optax"): 1.05,
        ("plain trace + lower, 1,000 x 1 kB", "Optax"): 0.35,
        **{
            (f"{name} step, {2 if name == 'Muon' else 64} x 1 MB", "Optax"): 1.05
            for name in ALGORITHMS
        },
        ("trace of step with checks", "without checks"): 1.1,
        ("trace of apply_gradients with checks", "without checks"): 1.1,
        ("flatten and unflatten modules", "Equinox"): 0.9,
        ("read a field", "plain class"): 1.05,
        ("call with a model", "Equinox, jax.jit"): 1.05,
        ("call with a model", "Equinox, filter_jit"): 0.5,
        ("call one module", "mlax, without checks"): 2,
        ("call ten modules, without checks", "Equinox"): 5,
        ("call ten modules", "Equinox"): 10,
        ("call each of many", "mlax, of 100"): 1.1,
        ("trace each of many", "mlax, of 100"): 1.1,
        ("trace 24 blocks", "flax.nnx"): 1.05,
        ("trace 24 blocks", "Equinox"): 0.65,
        ("step, MLP", UNROLLED): 1.05,
        ("step, convolutional net", UNROLLED): 1.05,
        ("step, transformer, 4", UNROLLED): 1.05,
        ("step, transformer, 24", UNROLLED): 1.05,
        ("step, transformer, 24", PEERS): 1.1,
        ("step, transformer, 48", PEERS): 1.1,
        ("trace, MLP", "flax.nnx"): 1.05,
        ("trace, convolutional net", "flax.nnx"): 1.05,
        ("trace, transformer, 4", "flax.nnx"): 1.05,
        ("trace, transformer, 24", "flax.nnx"): 1.05,
        ("trace, transformer, 24", "flax.nnx, scan with remat"): 1.05,
        (DEPTHS, "4 blocks"): 1.1,
        (DEPTHS, MANY_UNROLLED): 0.3,
        ("lines of code, MLP", "Equinox"): 0.99,
        ("lines of code, MLP", "flax.nnx"): 1,
        ("lines of code, convolutional net", "Equinox"): 0.99,
        ("lines of code, convolutional net", "flax.nnx"): 1,
        ("lines of code, transformer", "Equinox"): 0.99,
        ("lines of code, transformer", "flax.nnx"): 1,
        ("step of a sweep", "learning rates"): 1.1,
        **{
            (f"{quantity}, {placement}, {optimizer}", "Optax"): 1
            for quantity in ("collectives", "bytes")
            for placement in ("data parallel", "FSDP", "tensor parallel", "ZeRO-1")
            for optimizer in ("Adam", "AdamW, clipped", "Muon")
        },
        ("import", "jax"): 1.2,
    }


def test_a_target_may_name_the_fastest_of_several() -> None:
    """That is the one with the smallest median, of those that were measured."""
    results = empty()
    figures = {"mlax": [3, 6, 30], "Equinox": [4, 8, 40], "flax.nnx": [2, 4, 90]}
    results.add("networks", "MLP", "step", "s", figures)
    (target,) = [target for target in TARGETS if target.text == "step, MLP"]
    found = target.measured(results)
    assert found is not None
    assert found.median == 1.5


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.8])
def test_exponent_of_a_power_is_found(exponent: float) -> None:
    """From 100 leaves on: what a call costs by itself is not growth."""
    results = empty()
    for count in (10, 100, 1_000, 3_000):
        seconds = 5.0 if count == 10 else 3 * count**exponent
        results.add("steps", small_leaves(count).case, "step", "s", {"mlax": [seconds]})
    assert exponents(results) == {("mlax", "step"): pytest.approx(exponent)}


def test_figures_are_readable() -> None:
    """Three digits and a unit; small ratios with a third place."""
    results = empty()
    figures = {"a": [0.0123], "b": [1.5e-6], "c": [123.0]}
    results.add("steps", MANY, "step", "s", figures)
    shown = [quantity(results.find("steps", MANY, name, "step")) for name in figures]
    assert shown == ["12.3 ms", "1.50 us", "123 s"]
    assert quantity(None) == "-"
    assert ratio(spread([0.0412, 0.0412, 0.05])) == "0.041 (0.041 to 0.046)"
    assert ratio(spread([1.04])) == "1.04 (once)"


def test_turns_are_taken() -> None:
    """Round by round, each candidate in each of them."""
    order = list[str]()
    candidates = {name: lambda name=name: order.append(name) for name in ("a", "b")}
    timings = take_turns(candidates, rounds=3, turn=0, progress=order.append)
    assert [len(times) for times in timings.values()] == [3, 3]
    after = order[order.index("round 1 of 3") :]
    assert after == [x for i in (1, 2, 3) for x in (f"round {i} of 3", "a", "b")]


PROGRAM = """
%sum.1 (a: f32[], b: f32[]) -> f32[] {
  ROOT %add.0 = f32[] add(%a, %b)
}
%small.2 (x: f32[4]) -> f32[4] {
  ROOT %all-gather.9 = f32[4]{0} all-gather(%x), dimensions={0}
}
%large.3 (x: f32[4]) -> f32[4] {
  ROOT %all-to-all.9 = f32[4]{0} all-to-all(%x), dimensions={0}
}
ENTRY %main.4 (x: bf16[2,8]) -> f32[4] {
  %all-reduce.5 = (bf16[2,8]{1,0}, f32[]) all-reduce(%x, %y), to_apply=%sum.1
  %all-gather.8 = f32[4]{0} CONDITIONAL
  %while.7 = f32[4] while(%t), condition=%sum.1, body=%small.2, backend_config={"known_trip_count":{"n":"3"}}
  %all-to-all.6 = f32[4]{0} all-gather-done(%all-gather.8)
}
"""


@pytest.mark.parametrize(
    "conditional",
    [
        "conditional(%i, %x, %x), branch_computations={%small.2, %large.3}",
        "conditional(%p, %x, %x), true_computation=%large.3, false_computation=%small.2",
        "call(%x), to_apply=%small.2",
    ],
)
def test_collectives_that_run_are_counted(conditional: str) -> None:
    """A combined one counts once, with the bytes of all its results; a branch not taken does not count."""
    count, size = sent(PROGRAM.replace("CONDITIONAL", conditional))
    assert count == {"all-reduce": 1, "all-gather": 1 + 3}
    assert size == 2 * 16 + 4 + (1 + 3) * 16
