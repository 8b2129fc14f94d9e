"""Conditions and configurations say the same."""

import ast
import itertools

from hypothesis import given
from hypothesis import strategies as st

from mlax_codegen.checking.options import condition_of, configurations_of, holds

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


def test_configurations_agree_with_python() -> None:
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
