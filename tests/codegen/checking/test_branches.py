"""Which options make a step read the weights, or see a leaf as a whole."""

from pathlib import Path

import pytest

from mlax_codegen.checking.analysis import analyse
from mlax_codegen.reading.mistakes import SpecError
from mlax_codegen.reading.spec import read_spec
from mlax_codegen.resources import built_in_specs
from mlax_codegen.writing.render import render_module
from tests.codegen.checking.bad_specs import GOOD
from tests.codegen.checking.changed import analysis


@pytest.mark.parametrize(
    ("code", "reads", "when"),
    [
        ("", False, None),
        ("v = v + w", True, None),
        ("if nesterov:\n    v = v + w", True, "nesterov"),
        ("if not nesterov:\n    v = v + w", True, "not nesterov"),
        ("v = v + w if momentum is None else v", True, "momentum is None"),
        ('if order != "first":\n    v = v + w', True, 'order == "last"'),
        ("if b2 > 0.5:\n    v = v + w", True, "b2 > 0.5"),
        ("if not (b2 > 0.5):\n    v = v + w", True, "not (b2 > 0.5)"),
        ('if nesterov and order == "last":\n    v = v + w', True, 'nesterov and order == "last"'),
        ('if nesterov or order == "last":\n    v = v + w', True, 'order == "last" or nesterov'),
        ("v = v + w if nesterov else v - w", True, None),
        (
            "if nesterov and momentum is None:\n    v = v + w",
            False,
            None,
        ),  # the requirement forbids it
    ],
)
def test_when_the_weights_are_read(
    code: str, reads: bool, when: str | None, tmp_path: Path
) -> None:
    found = analysis(tmp_path, "update = -", f"{code}\nupdate = -")
    assert (found.reads_weights, found.weights_when) == (reads, when)


def test_always_read_weights_are_required(tmp_path: Path) -> None:
    (tmp_path / "probe.toml").write_text(GOOD.replace("update = -", "update = w - "))
    code = render_module(read_spec(tmp_path / "probe.toml"))
    assert "weights: Weights | None" not in code


def test_a_requirement_keeps_a_slot_from_being_read_in_vain(tmp_path: Path) -> None:
    """Where nesterov is on, there is a momentum, and so a velocity."""
    new = "if nesterov:\n    direction = direction + velocity\nupdate = -"
    analysis(tmp_path, "update = -", new)
    with pytest.raises(SpecError, match="'velocity' is kept only if `momentum is not None`"):
        analysis(tmp_path, "update = -", new.replace("nesterov", "b2 > 0.5"))


KEPT = [
    ("ndim >= 2", "ndim > 1"),
    ("ndim > 1", "ndim == 2 or ndim == 3"),
    ("not ndim == 0", "1 <= ndim"),
    ("ndim - 1 > 0", "ndim >= 2"),
    ("len(shape) == 2", "ndim == 2"),
    ("shape", "ndim > 0"),
    ("axes", "ndim >= 2"),
    ("ndim >= 2", "axes"),
    ("len(axes) == 2", "axes"),
    ("ndim >= 2", "matrix"),
    ("matrix and nesterov", "ndim == 2 and nesterov"),
    ("b2 > 0.5", "not b2 <= 0.5"),
    ("0.5 < b2", "b2 > 0.6"),
    ("b2 > 1 / 2", "b2 >= 0.75"),
    ("b2 >= 0", "nesterov"),  # by its bounds
    ("power > 1", "power >= 2"),
    ("power != 1", "power > 1"),
    ("power < ndim", "ndim > power"),
    ('order == "first"', 'order != "last"'),
    ("nesterov or b2 > 0.5", "nesterov"),
    ("not (nesterov and b2 > 0.5)", "not nesterov"),
    ("momentum is not None", "nesterov"),  # by the requirement
]
NOT_KEPT = [
    ("ndim >= 3", "ndim >= 2"),
    ("ndim < 2", "ndim >= 2"),
    ("ndim == 2", "axes"),
    ("matrix", "ndim >= 2"),
    ("b2 > 0.5", "b2 >= 0.5"),
    ("b2 > 0.6", "not b2 <= 0.5"),
    ("power > 2", "power >= 2"),
    ("power < ndim", "ndim >= power"),
    ("nesterov and b2 > 0.5", "nesterov"),
    ('order == "first"', "nesterov"),
    ("momentum is None", "b2 > 0.5"),
]


@pytest.mark.parametrize(
    ("when", "test", "kept"),
    [(*pair, True) for pair in KEPT] + [(*pair, False) for pair in NOT_KEPT],
)
def test_a_slot_is_kept_where_its_condition_follows(
    when: str, test: str, kept: bool, tmp_path: Path
) -> None:
    slot = f'extra = {{ init = "zeros", when = \'{when}\', doc = "Extra." }}'
    use = "    extra = extra + g\n    direction = direction + extra"
    shapes = 'axes = "two_axes(shape, \'last\', 0)"\nmatrix = "ndim == 2"\n\n[slots]'
    text = GOOD.replace("[slots]", f"[shapes]\n{shapes}\n{slot}")
    read = "direction = direction * (ndim if axes or matrix else 1.0)\n"
    text = text.replace("update = -", f"{read}if {test}:\n{use}\nupdate = -")
    (tmp_path / "probe.toml").write_text(text)
    spec = read_spec(tmp_path / "probe.toml")
    if kept:
        analyse(spec)
        return
    with pytest.raises(SpecError, match=r"^\S+: 'extra' is kept only if .*; test that first"):
        analyse(spec)


@pytest.mark.parametrize(
    ("new", "seen", "when"),
    [
        ("abs2(g)", False, None),
        ("mean(abs2(g))", True, None),
        ("abs2(g) * max(2, 3)", False, None),  # of two static numbers
        ("abs2(g) * max(g)", True, None),
        ("abs2(g) * ndim", True, None),
        ("(norm(g) if nesterov else abs2(g))", True, "nesterov"),
        ("(norm(g) if ndim < 1e308 * 10 else abs2(g))", True, None),  # always
        ("(abs2(g) if momentum is None else g * ndim)", True, "momentum is not None"),
    ],
)
def test_whether_leaves_are_seen_as_wholes(
    tmp_path: Path, new: str, seen: bool, when: str | None
) -> None:
    found = analysis(tmp_path, "abs2(g)", new)
    assert (found.sees_leaves, found.leaves_when) == (seen, when)


def test_totals_and_noise_see_no_leaf() -> None:
    specs = {path.stem: path for path in built_in_specs()}
    for name in ("prodigy", "dog", "polyak_sgd", "noisy_sgd"):
        assert not analyse(read_spec(specs[name])).sees_leaves
