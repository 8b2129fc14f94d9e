"""Annotations of leaf functions are true, and assertions tell type checkers what options say."""

from pathlib import Path

import pytest

from mlax_codegen.reading.spec import read_spec
from mlax_codegen.writing.render import render_module

SPEC = """
name = "probe"
summary = "Probe: nothing."
references = ["Nobody 2020"]

[hyperparameters]
learning_rate = { default = 1e-3, schedulable = true, doc = "Step size." }
b = { optional = true, bounds = "0 <= x < 1", doc = "Decay." }
mode = { default = "on", choices = ["on", "off"], doc = "Mode." }

[slots]
m = { init = "zeros", when = "b is not None", doc = "Mean." }
v = { init = "zeros", when = "mode == 'on' and ndim == 2", doc = "Square." }

[[step]]
scalars = '''
rate = learning_rate if b is None else 2.0
c = 0.5 if b is None else b
'''
leaf = '''
if mode == "on" and ndim == 2:
    v = 0.9 * v + abs2(g)
{leaf}
if mode == "on" and ndim == 2:
    g = g * v
update = -rate * c * g
'''
"""


def module(leaf: str, tmp_path: Path) -> str:
    path = tmp_path / "probe.toml"
    path.write_text(SPEC.replace("{leaf}", leaf))
    return render_module(read_spec(path))


def test_annotations_say_what_options_make_of_slots_and_scalars(tmp_path: Path) -> None:
    text = module("if b is not None:\n    m = b * m + g\n    g = m", tmp_path)
    assert (
        "m: Array | None, v: Array | tuple[()], *, rate: Array | float, c: Array | float"
        in " ".join(text.replace(",\n", ", ").split())
    )
    assert "-> tuple[Array, Array | None, Array | tuple[()]]:" in text


@pytest.mark.parametrize(
    ("leaf", "code"),
    [
        (
            "if b is not None:\n    m = b * m + g\n    g = m",
            "    if h.b is not None:\n        assert m is not None\n        m = h.b * m + g\n        g = m\n",
        ),
        (
            "g = g if b is None else b * m + w",
            "    if h.b is None:\n        g = g\n    else:\n"
            "        assert m is not None\n        assert w is not None\n"
            "        g = h.b * m + w\n",
        ),
        (
            "g = 2 * (g if b is None else b * m)\nif b is not None:\n    m = g",
            "    if h.b is None:\n        g = 2 * g\n    else:\n        assert m is not None\n"
            "        g = 2 * (h.b * m)\n",
        ),
        (
            'if mode == "on" and ndim == 2:\n    g = g / v',
            "        assert isinstance(v, Array)\n        v = 0.9 * v",
        ),
    ],
)
def test_an_assertion_stands_where_something_is_first_read(
    leaf: str, code: str, tmp_path: Path
) -> None:
    extra = "" if "m = " in leaf else "\nif b is not None:\n    m = b * m + g\n    g = g + m"
    assert code in module(leaf + extra, tmp_path).replace("  # for type checkers", "")


def test_only_the_first_assertion_says_what_it_is_for(tmp_path: Path) -> None:
    text = module("if b is not None:\n    m = b * m + g\n    g = m", tmp_path)
    found = [line.strip() for line in text.split("\n") if line.strip().startswith("assert ")]
    assert found == [
        "assert isinstance(v, Array)  # for type checkers",
        "assert m is not None",
        "assert isinstance(v, Array)",
    ]


def test_comments_stand_before_the_equations_that_they_are_at(tmp_path: Path) -> None:
    leaf = """\
# Eq. 3: "β"
if b is not None:  # given
    # the mean
    m = (  # of
        b * m + g  # what "#" is
    )
    g = m
else:
    # three quotes: \"\"\"
    g = 2 * g
# the end"""
    text = module(leaf, tmp_path)
    start = text.index("    # Eq. 3")
    assert (
        text[start:].split("    if h.mode", 1)[0]
        == """\
    # Eq. 3: "β"
    # given
    if h.b is not None:
        # the mean
        # of
        # what "#" is
        assert m is not None
        m = h.b * m + g
        g = m
    else:
        # three quotes: \"\"\"
        g = 2 * g
    # the end
"""
    )
