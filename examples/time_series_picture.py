"""The picture of `time_series.py`: forecasts beside what came, and errors by how far a forecast looks ahead."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
from jaxtyping import Array

mpl.use("Agg")  # a file, no window

from matplotlib import pyplot as plt

COLORS = ("tab:orange", "0.5", "0.75")


def save_picture(
    path: Path, step: int, truth: Array, forecasts: Array, errors: Mapping[str, Array]
) -> None:
    """Draw and save the picture.

    Args:
        path: Path of the picture.
        step: Milliseconds from one value to the next.
        truth: The series in mV, `[time]`.
        forecasts: Forecasts of the next values, `[steps, horizon]`, for the first steps of the series.
        errors: For each way to forecast, the mean error, `[horizon]`; the net's is the first.
    """
    figure, (series, bars) = plt.subplots(
        1, 2, figsize=(12, 4), layout="constrained", width_ratios=(2.6, 1)
    )
    horizon = forecasts.shape[1]
    ahead = step * np.arange(horizon + 1)
    series.plot(step * np.arange(len(truth)), truth, color="0.6", linewidth=3, label="recorded")
    for start in range(0, len(forecasts), horizon + 2):
        line = np.concatenate([truth[start : start + 1], forecasts[start]])
        label = "forecast at the dot" if start == 0 else None
        series.plot(step * start + ahead, line, color=COLORS[0], linewidth=1.5, label=label)
        series.plot(step * start, truth[start], "o", color=COLORS[0], markersize=4)
    series.set_title("Voltage of a nerve cell, forecast by a GRU")
    series.set_xlabel("Time (ms)")
    series.set_ylabel("mV")
    series.set_ylim(top=15)
    series.legend(loc="upper right", ncols=2)
    for (name, error), color in zip(errors.items(), COLORS, strict=True):
        bars.plot(ahead[1:], error, color=color, linewidth=2, label=name)
    bars.set_title("Mean absolute error")
    bars.set_xlabel("Time ahead (ms)")
    bars.set_ylabel("mV")
    bars.set_ylim(0)
    bars.legend()
    for axes in (series, bars):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)
