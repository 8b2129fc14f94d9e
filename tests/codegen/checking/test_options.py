"""Conditions and configurations say the same."""

import ast
import itertools

from hypothesis import given
from hypothesis import strategies as st

from mlax_codegen.checking.logic import Facts, Range, configurations_of, is_possible
from mlax_codegen.checking.options import Configuration, condition_of, holds

CHOICES = {"order": ("first", "last", "never")}
FACTS = Facts(CHOICES)


ATOMS = [
    "a",
    "b",
    "x is None",
    "y is not None",
    'order == "first"',
    'order != "last"',
    "n > 2",
    "n <= 3",
    "2 < n",
    "m - n > 0",
    "n >= m",
]


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
    configurations = configurations_of([node], FACTS)
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


def test_configurations_agree_with_python() -> None:
    test = 'a and x is None or order != "last" and not (n > 2)'
    node = ast.parse(test, mode="eval").body
    configurations = configurations_of([node], FACTS)
    assert configurations is not None
    assert len(configurations) == 2 * 2 * 3 * 2
    expected = [
        eval(test, {"a": a, "x": x, "order": order, "n": n})
        for a, x, order, n in itertools.product((True, False), (None, 1), CHOICES["order"], (3, 1))
    ]
    assert [holds(node, configuration) for configuration in configurations] == expected


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["n", "x", "n + 1", "-x", "n - x"]),
            st.sampled_from(["<", "<=", "==", "!=", ">=", ">"]),
            st.sampled_from(["-1", "0", "0.5", "1", "2 / 4", "3 - 1", "x"]),
        ).map(" ".join),
        min_size=1,
        max_size=4,
    )
)
def test_comparisons_get_the_answers_that_some_numbers_give(tests: list[str]) -> None:
    """Those of an integer from 0 to 2, and of a number from -1 to 1, and no others."""
    ranges = {"n": Range(0, 2, whole=True), "x": Range(-1, 1)}
    facts = Facts(range_of=lambda node, _: ranges.get(ast.unparse(node), Range()))
    nodes = [ast.parse(test, mode="eval").body for test in tests]
    configurations = configurations_of(nodes, facts)
    assert configurations is not None
    found = {tuple(holds(node, each) for node in nodes) for each in configurations}
    grid = [(n, x / 8) for n in (0, 1, 2) for x in range(-8, 9)]
    given_by_numbers = {
        tuple(bool(eval(test, {"n": n, "x": x})) for test in tests) for n, x in grid
    }
    assert given_by_numbers <= found
    if all(" x" not in test.replace("- x", "") and "n - x" not in test for test in tests):
        assert found == given_by_numbers


def test_answers_that_contradict_each_other_are_not_possible() -> None:
    assert is_possible(Configuration((("b > 1", "True"), ("b <= 2", "True"))), FACTS)
    assert not is_possible(Configuration((("b > 1", "True"), ("b <= 1", "True"))), FACTS)
    assert not is_possible(Configuration((("order", "first"), ("order", "last"))), FACTS)
