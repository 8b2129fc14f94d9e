"""What the abstract run accepts, and what it finds only with some options. What else it refuses: bad_specs.py."""

from pathlib import Path

import pytest

from mlax_codegen.checking.analysis import analyse
from mlax_codegen.reading.mistakes import SpecError
from mlax_codegen.reading.spec import read_spec
from tests.codegen.checking.bad_lists import LISTS
from tests.codegen.checking.bad_specs import GOOD
from tests.codegen.checking.changed import analysis


@pytest.mark.parametrize(
    "update",
    [
        "trust_ratio(w, direction) * direction",
        "where(norm(g) > 1, direction, 0)",
        "every(2, direction, g)",
        "orthogonalize(direction) if ndim >= 2 else direction",
        "sum(direction) if ndim == 0 else direction",
        "direction / mean(direction, over=0) if ndim >= 1 else direction",
        "(max(direction) if nesterov else 1) * direction",
        "sum(direction) / count * direction / product(shape)",
    ],
)
def test_what_has_the_shape_of_the_leaf_is_an_update(update: str, tmp_path: Path) -> None:
    analysis(tmp_path, "-learning_rate * direction", f"-learning_rate * ({update})")


def test_a_leaf_without_axes_is_one_number(tmp_path: Path) -> None:
    old = "update = -learning_rate * direction"
    new = f"if ndim == 0:\n    direction = sum(direction)\n{old}"
    analysis(tmp_path, old, new)


@pytest.mark.parametrize(
    ("bounds", "factor"),
    [
        ("0 < x", "1 / power"),
        ("0 <= x", "1 / max(1, power)"),
        ("0 <= x", "(1 / power if power > 0 else 1.0)"),
        ("1 <= x", "power**0.5 * (1.0 * power) ** 2"),
        ("1 <= x", "(mean(mean(g, 7)) if ndim > 7 else 1.0)"),
        ("0 <= x", "(1 / (power - 2) if power - 2 > 0 else 1.0)"),
        ("0 <= x", "(1 / shape[0] if ndim > 0 and shape[0] > 1 else 1.0)"),
        ("0 <= x", "(clip(abs(g), b2, power) if b2 <= power else g)"),
        ("0 <= x", "(1 / (power - b2) if b2 < power else 1.0)"),
    ],
)
def test_cases_excluded_by_bounds_and_conditions_are_not_mistakes(
    bounds: str, factor: str, tmp_path: Path
) -> None:
    path = tmp_path / "probe.toml"
    text = GOOD.replace('bounds = "1 <= x"', f'bounds = "{bounds}"')
    path.write_text(text.replace("g / root**power", f"g * {factor} / root**power"))
    analyse(read_spec(path))


@pytest.mark.parametrize(
    "items",
    [
        "q[k - 1 - i] for i in range(k)",
        "q[-1 - i] for i in range(k)",
        "q[i - 1] for i in range(len(q))",
        "(q[i + 1] if i + 1 < k else g) for i in range(k)",
        "0.5**(len(q) - 1 - i) * g for i in range(k)",
    ],
)
def test_an_index_of_a_range_is_less_than_its_end(items: str, tmp_path: Path) -> None:
    (tmp_path / "probe.toml").write_text(LISTS.replace("q[0]", f"sum([{items}])"))
    analyse(read_spec(tmp_path / "probe.toml"))


def test_a_list_may_have_one_item_more_than_a_hyperparameter_says(tmp_path: Path) -> None:
    (tmp_path / "probe.toml").write_text(LISTS.replace('each = "k"', 'each = "k + 1"'))
    analyse(read_spec(tmp_path / "probe.toml"))


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
