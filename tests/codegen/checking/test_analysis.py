"""What the generator finds out about equations: reads, conditions, what slots keep."""

import ast
import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlax_codegen.checking.analysis import Analysis, analyse
from mlax_codegen.checking.options import condition_of, configurations_of, holds
from mlax_codegen.reading.mistakes import SpecError
from mlax_codegen.reading.spec import read_spec
from mlax_codegen.resources import built_in_specs
from mlax_codegen.writing.render import render_module
from tests.codegen.checking.bad_specs import GOOD


def analysis(tmp_path: Path, old: str = "", new: str = "") -> Analysis:
    assert old in GOOD
    (tmp_path / "probe.toml").write_text(GOOD.replace(old, new, 1))
    return analyse(read_spec(tmp_path / "probe.toml"))


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
    assert "velocity=zeros(weights, h.slot_dtype) if h.momentum is not None else None," in code


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
    with pytest.raises(SpecError, match="'velocity' exists only if `momentum is not None`"):
        analysis(tmp_path, "update = -", new.replace("nesterov", "b2 > 0.5"))


@pytest.mark.parametrize(
    ("new", "seen", "when"),
    [
        ("abs2(g)", False, None),
        ("mean(abs2(g))", True, None),
        ("abs2(g) * max(2, 3)", False, None),  # of two static numbers
        ("abs2(g) * max(g)", True, None),
        ("abs2(g) * ndim", True, None),
        ("(norm(g) if nesterov else abs2(g))", True, "nesterov"),
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


def test_what_the_leaf_is_given(tmp_path: Path) -> None:
    [leaf] = analysis(tmp_path).phases
    assert leaf.scalars == ("learning_rate", "momentum", "c")
    [leaf] = analysis(tmp_path, "abs2(g)", "abs2(g) / t").phases
    assert leaf.scalars == ("learning_rate", "momentum", "t", "c")


@pytest.mark.parametrize(
    "update",
    [
        "trust_ratio(w, direction) * direction",
        "where(norm(g) > 1, direction, 0)",
        "every(2, direction, g)",
        "orthogonalize(direction) if ndim >= 2 else direction",
        "sum(direction) if ndim == 0 else direction",
        "direction / mean(direction, 0) if ndim >= 1 else direction",
        "(max(direction) if nesterov else 1) * direction",
    ],
)
def test_what_has_the_shape_of_the_leaf_is_an_update(update: str, tmp_path: Path) -> None:
    analysis(tmp_path, "-learning_rate * direction", f"-learning_rate * ({update})")


def test_a_leaf_without_axes_is_one_number(tmp_path: Path) -> None:
    old = "update = -learning_rate * direction"
    new = f"if ndim == 0:\n    direction = sum(direction)\n{old}"
    analysis(tmp_path, old, new)


CHOICES = {"order": ("first", "last", "never")}
ATOMS = ["a", "b", "x is None", "y is not None", 'order == "first"', 'order != "last"', "n > 2"]


@given(
    st.recursive(
        st.sampled_from(ATOMS),
        lambda inner: st.one_of(
            inner.map(lambda test: f"not ({test})"),
            st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(
                lambda parts: f"({parts[0]}) {parts[1]} ({parts[2]})"
            ),
        ),
        max_leaves=6,
    )
)
def test_a_condition_says_which_configurations(test: str) -> None:
    node = ast.parse(test, mode="eval").body
    configurations = configurations_of([node], CHOICES)
    assert configurations is not None
    chosen = {configuration for configuration in configurations if holds(node, configuration)}
    if not chosen:
        return
    condition = condition_of(chosen, configurations)
    again = ast.parse(condition or "True", mode="eval").body
    kept = {
        configuration
        for configuration in configurations
        if condition is None or holds(again, configuration)
    }
    assert kept == chosen


def test_configurations_are_what_python_would_decide() -> None:
    test = 'a and x is None or order != "last" and not (n > 2)'
    node = ast.parse(test, mode="eval").body
    configurations = configurations_of([node], CHOICES)
    assert configurations is not None
    assert len(configurations) == 2 * 2 * 3 * 2
    expected = [
        eval(test, {"a": a, "x": x, "order": order, "n": n})
        for a, x, order, n in itertools.product((True, False), (None, 1), CHOICES["order"], (3, 1))
    ]
    assert [holds(node, configuration) for configuration in configurations] == expected


@pytest.mark.parametrize(
    ("bounds", "factor"),
    [
        ("0 < x", "1 / power"),
        ("0 <= x", "1 / max(1, power)"),
        ("0 <= x", "(1 / power if power > 0 else 1.0)"),
        ("1 <= x", "power**0.5 * (1.0 * power) ** 2"),
        ("1 <= x", "(mean(mean(g, 7)) if ndim > 7 else 1.0)"),
    ],
)
def test_what_bounds_and_conditions_exclude_is_no_mistake(
    bounds: str, factor: str, tmp_path: Path
) -> None:
    path = tmp_path / "probe.toml"
    text = GOOD.replace('bounds = "1 <= x"', f'bounds = "{bounds}"')
    path.write_text(text.replace("g / root**power", f"g * {factor} / root**power"))
    analyse(read_spec(path))


def test_a_state_without_slots_like_the_weights_says_its_type(tmp_path: Path) -> None:
    """A type checker would find the type of the weights nowhere else."""
    text = (
        'name = "probe"\nsummary = "Probe: one number."\nreferences = ["Doe 2020"]\n'
        '[slots]\nn = { init = "zeros", shape = "()", doc = "Size." }\n'
        '[[step]]\nleaf = """\nn = 0.999 * n + norm(g)\nupdate = -g / (n + 1e-8)\n"""\n'
    )
    for extra, annotated in (("", True), (' m = { init = "copy", doc = "M." }\n', False)):
        spec = text.replace("[[step]]", f"{extra}[[step]]").replace(
            "/ (n", "/ (m + n" if extra else "/ (n"
        )
        (tmp_path / "probe.toml").write_text(spec)
        module = render_module(read_spec(tmp_path / "probe.toml"))
        assert "    warn_if_narrow(state, " in module
        assert ("state: State[Weights] = State(" in module) is annotated


def test_options_that_a_requirement_excludes_are_not_tried(tmp_path: Path) -> None:
    scalar = "norm(g) if ndim > 1 and nesterov and momentum is None else "
    analysis(tmp_path, "direction = g / root**power", f"direction = {scalar}g / root**power")


def test_an_option_in_a_shape_decides_too(tmp_path: Path) -> None:
    text = GOOD.replace("[symbols]", '[shapes]\nlow = "ndim < 2 or nesterov"\n\n[symbols]')
    text = text.replace("* direction\n'''", "* (direction if low else norm(g))\n'''")
    (tmp_path / "probe.toml").write_text(text)
    with pytest.raises(
        SpecError, match=r"a single number, for leaves with 2 axes, when .*not nesterov"
    ):
        analyse(read_spec(tmp_path / "probe.toml"))


def test_a_requirement_that_compares_none_is_not_met(tmp_path: Path) -> None:
    text = GOOD.replace("default = 2,", 'optional = true, type = "integer",')
    text = text.replace("root**power", "(root if power is None else root**power)")
    text = text.replace(
        "not nesterov or momentum is not None",
        "power > 1 and (not nesterov or momentum is not None)",
    )
    (tmp_path / "probe.toml").write_text(text)
    with pytest.raises(SpecError):
        analyse(read_spec(tmp_path / "probe.toml"))
