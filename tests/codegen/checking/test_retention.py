"""The fraction of each slot that a step keeps, as generated into `init`."""

from pathlib import Path

import pytest

from mlax_codegen.checking.analysis import analyse
from mlax_codegen.reading.spec import read_spec
from mlax_codegen.writing.render import render_module
from tests.codegen.checking.bad_specs import GOOD
from tests.codegen.checking.changed import analysis


def test_what_a_step_keeps(tmp_path: Path) -> None:
    assert analysis(tmp_path).retained == {"v": ("b2",), "velocity": ("momentum",)}


@pytest.mark.parametrize(
    ("code", "kept"),
    [
        ("v = v * b2 + g", ("b2",)),
        ("v = g + b2 * v", ("b2",)),
        ("v = g * w + v * b2 + g", ("b2",)),
        ("v = maximum(b2 * v, abs(g))", ("b2",)),
        ("v = where(t == 1, abs2(g), b2 * v + abs2(g))", ("b2",)),
        ("v = learning_rate * v + g", ("learning_rate",)),
        ("v = v + abs2(g)", ("1.0",)),
        ("v = v - (1 - b2) * sign(v - abs2(g)) * abs2(g)", ("1.0",)),
        ("v = v + (1 - b2) * (abs2(g) - v)", ("b2",)),
        ("v = v + b2 * (abs2(g) - v)", ()),  # only 1 - b2 is looked for there
        ("v = v + (abs2(g) - v) / t", ()),
        ("v = g - b2 * v", ()),
        ("v = v + w * (abs2(g) - v)", ()),
        ("v = v + b2 * (b2 * (abs2(g) - v))", ()),
        ("v = 1 / t * v + abs2(g)", ()),
        ("v = 0.5 * v + abs2(g)", ("0.5",)),
        ("rest = b2**0.5\nv = rest * v + abs2(g)", ()),
        ("v = b2 * v + abs2(g) if nesterov else v + abs2(g)", ("b2", "1.0")),
        ("if nesterov:\n    v = v + g\nelse:\n    v = b2 * v", ("b2", "1.0")),
        ("v = b2 * v + abs2(g) if ndim > 1 else v + abs2(g)", ("b2", "1.0")),
        ("v = where(g > 0, b2 * v, v)", ("b2",)),
        ("v = maximum(v, abs2(g))", ()),  # selected, never changed
        ("v = g", ()),
        ("v = sqrt(v) + g", ()),  # not linear
        ("v = g * v + g", ()),  # not known
        ("v = (1 - learning_rate) * v + g", ()),  # not known where that is a schedule
    ],
)
def test_kept_of_a_slot(code: str, kept: tuple[str, ...], tmp_path: Path) -> None:
    old = "v = b2 * v + (1 - b2) * abs2(g)"
    assert analysis(tmp_path, old, code).retained.get("v", ()) == kept


def test_a_spec_may_say_what_is_kept(tmp_path: Path) -> None:
    new = 'v = { init = "zeros", keeps = "b2**0.5 if nesterov else 1.0"'
    found = analysis(tmp_path, 'v = { init = "zeros"', new).retained
    assert found["v"] == ("b2**0.5 if nesterov else 1.0",)
    code = render_module(read_spec(tmp_path / "probe.toml"))
    assert '"v": h.b2**0.5 if h.nesterov else 1.0,' in code


@pytest.mark.parametrize(
    ("code", "squares"),
    [
        ("v = b2 * v + g**2", {"v"}),
        ("v = maximum(v, mean(abs2(g)))", {"v"}),
        ("s = v + abs2(g)\nv = maximum(v, s)", {"v"}),
        ("v = abs2(g)", {"v"}),
        ("v = b2 * v + (g if nesterov else abs2(g))", {"v"}),
        ("v = b2 * v + sqrt(abs2(g))", set[str]()),
        ("v = b2 * v + g / abs2(g)", set[str]()),
    ],
)
def test_squares(code: str, squares: set[str], tmp_path: Path) -> None:
    old = "v = b2 * v + (1 - b2) * abs2(g)"
    assert analysis(tmp_path, old, code).squares == squares


@pytest.mark.parametrize(
    ("code", "is_so"),
    [
        ("v = b2 * v + abs2(g)", True),
        ("s = abs(g)\ns = s / 2\nv = b2 * v + s", True),
        ("v = b2 * v + g", False),
        ("g = g / 2\nv = b2 * v + g", False),  # of any sign before it is assigned from itself
        ("s = g\ns = s / 2\nv = b2 * v + s", False),
    ],
)
def test_what_is_never_negative(code: str, is_so: bool, tmp_path: Path) -> None:
    old = "v = b2 * v + (1 - b2) * abs2(g)"
    assert ("v" in analysis(tmp_path, old, code).nonnegative) == is_so


def test_a_mean_that_begins_with_the_weights_may_be_negative(tmp_path: Path) -> None:
    code = "s = b2 * s + abs(g)\nv = b2 * v + s"
    for begin in ("zeros", "copy"):
        (tmp_path / "probe.toml").write_text(
            GOOD.replace("[hyper", 'complex = "of no concern here"\n[hyper')
            .replace("[slots]", f'[slots]\ns = {{ init = "{begin}", doc = "Mean." }}')
            .replace("v = b2 * v + (1 - b2) * abs2(g)", code)
        )
        found = analyse(read_spec(tmp_path / "probe.toml")).nonnegative
        assert found == ({"s", "v"} if begin == "zeros" else set())


def test_scales(tmp_path: Path) -> None:
    scalar = '[scalars]\nd = {{ init = {}, doc = "Scale." }}\n[symbols]'
    for init, scale in (("1e-6", "1e-6"), ('"b2"', "b2"), ("0.0", None)):
        (tmp_path / "probe.toml").write_text(
            GOOD.replace("[symbols]", scalar.format(init))
            .replace("c = 1 - b2**t", "c = 1 - b2**t\nrate = d * c\nd = d + c")
            .replace("(1 - b2) * abs2(g)", "rate * abs2(g)")
        )
        found = analyse(read_spec(tmp_path / "probe.toml")).scales
        # The velocity is made of v, and not scaled itself.
        assert found == ({} if scale is None else {"v": scale})


def test_init_says_what_is_kept(tmp_path: Path) -> None:
    (tmp_path / "probe.toml").write_text(GOOD)
    code = render_module(read_spec(tmp_path / "probe.toml"))
    assert 'warn_if_narrow(state, kept={"v": h.b2, "velocity": h.momentum}, squares=["v"])' in code
    assert 'v=zeros(weights, h.slot_dtype, int8="nonnegative"),' in code
    velocity = 'zeros(weights, h.slot_dtype, int8="signed") if h.momentum is not None else None'
    assert f"velocity={velocity}," in code
