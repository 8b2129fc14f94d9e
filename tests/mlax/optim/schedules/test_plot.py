"""Plots of schedules show the values that the schedules return."""

import subprocess
import sys
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from mlax import optim

pytestmark = pytest.mark.one_python

LINE = optim.linear_schedule(1.0, 0.0, 100)


def drawn(figure: Figure) -> dict[str, Any]:
    """Return the points of every line by its name."""
    (axes,) = figure.axes
    return {str(line.get_label()): np.asarray(line.get_xydata()) for line in axes.lines}


def test_one_schedule() -> None:
    figure = optim.plot(LINE, 100)
    points = drawn(figure)[repr(LINE)]
    np.testing.assert_array_equal(points[:, 0], np.arange(101))
    np.testing.assert_allclose(points[:, 1], LINE(np.arange(101)), rtol=1e-6)
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("step", "value", repr(LINE))
    assert axes.get_legend() is None
    figure.canvas.draw()
    assert axes.get_xlim() == (0, 100)


def test_several_schedules(tmp_path: Any) -> None:
    """By name or by repr; a function that takes one step at a time is called for many."""

    def halves(step: jax.Array) -> jax.Array:
        return jnp.where(step < 50, 1, 2) if step.shape == () else jnp.full(3, jnp.nan)

    figure = optim.plot({"line": LINE, "halves": halves}, 99)
    points = drawn(figure)
    np.testing.assert_array_equal(points["halves"][:, 1], [1] * 50 + [2] * 50)
    (axes,) = figure.axes
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["line", "halves"]
    figure.savefig(tmp_path / "a.png")
    assert list(drawn(optim.plot([LINE, optim.constant(0.5)], 9))) == [
        repr(LINE),
        repr(optim.constant(0.5)),
    ]


@pytest.mark.parametrize("steps", [np.int64(2**20), 2**31 - 1])
def test_of_many_steps_some_are_drawn(steps: Any) -> None:
    """The first and the last among them."""
    points = drawn(optim.plot(optim.linear_schedule(1.0, 0.0, 2**20), steps))
    (xy,) = points.values()
    assert len(xy) == 2001
    assert (xy[0, 0], xy[-1, 0]) == (0, steps)
    assert np.all(np.diff(xy[:, 0]) > 0)
    assert (xy[0, 1], xy[-1, 1]) == (1, 0)


@pytest.mark.parametrize("steps", [1, 7, 99_999, 2**30 + 1, 2**31 - 1])
def test_ticks_are_apart(steps: int) -> None:
    """However long the numbers of steps are; each is written once."""
    figure = optim.plot(LINE, steps)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    inside = [tick for tick in axes.xaxis.get_major_ticks() if 0 <= tick.get_loc() <= steps]
    texts = [tick.label1.get_text() for tick in inside]
    assert len(set(texts)) == len(texts) >= 2
    boxes = [tick.label1.get_window_extent() for tick in inside]
    for left, right in pairwise(boxes):
        assert left.x1 + 8 < right.x0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((LINE, 0), "plot: steps must be >= 1, got 0"),
        ((LINE, 2**31), "plot: steps must be an integer of 32 bits, got 2147483648"),
        ((LINE, 1000.5), "plot: steps must be an integer, got 1000.5"),
        ((LINE, "1e4"), "plot: steps must be an integer, got '1e4' (str)"),
        ((LINE, float("nan")), "plot: steps must be an integer, got nan"),
        ((LINE, True), "plot: steps must be an integer, got True"),
        ((0.1, 9), "plot: expected a schedule, got 0.1 (float)"),
        (({"rate": None}, 9), "plot: expected a schedule, got None"),
        ((optim.cosine_decay, 9), "plot: expected a schedule, got <class"),
        (([], 9), "plot: expected at least one schedule, got none"),
        (
            (lambda step: jnp.ones(3), 9),
            "plot: a schedule must return a real scalar, got float32[10,3] for 10 steps",
        ),
        ((lambda step: step * 1j, 9), "plot: a schedule must return a real scalar, got complex64"),
    ],
)
def test_what_is_refused(arguments: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        optim.plot(*arguments)
    assert str(caught.value).startswith(message)


def test_matplotlib_is_loaded_when_it_is_needed() -> None:
    """Not before; and where it is missing the message says how to get it."""
    code = """
import sys
from mlax import optim
optim.cosine_decay(1.0, 10)
assert "matplotlib" not in sys.modules
sys.modules["matplotlib"] = None  # as if it were not installed
try:
    optim.plot(optim.constant(1.0), 3)
except ImportError as error:
    assert str(error) == 'plot needs matplotlib: pip install "mlax[plot]"', error
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_long_names_are_folded() -> None:
    """The repr of a schedule may be wider than the picture."""
    long = optim.sgdr([optim.warmup_cosine_decay(0.0, 1.0, 1, steps) for steps in (2, 4, 8)])
    (axes,) = optim.plot(long, 9).axes
    lines = axes.get_title().splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= 80
    assert lines[2].endswith("...")


def test_pyplot_is_not_affected() -> None:
    """Otherwise figures would pile up until they are closed."""
    from matplotlib import pyplot

    optim.plot(LINE, 9)
    assert pyplot.get_fignums() == []
