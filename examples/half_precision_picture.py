"""The picture of `half_precision.py`: for each task, the loss curves of all ways to store weights and moments."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from jaxtyping import Array

mpl.use("Agg")  # a file, no window

from matplotlib import pyplot as plt


class Style(NamedTuple):
    """How a curve is drawn, and its label, at a fraction of the way along it."""

    label: str
    color: str
    line: str
    width: float
    part: float
    offset: tuple[int, int]
    align: tuple[str, str]


STYLES = {
    "float32": Style(
        "float32\n12 bytes a weight", "0.68", "-", 7, 0.45, (-14, -8), ("right", "top")
    ),
    "bfloat16, nearest": Style(
        "bfloat16, rounded to nearest\n6 bytes a weight, stalls",
        "tab:red",
        "-",
        2,
        1.0,
        (0, -26),
        ("right", "top"),
    ),
    "bfloat16, stochastic": Style(
        "bfloat16, rounded stochastically\n6 bytes a weight",
        "tab:blue",
        "--",
        2,
        0.35,
        (14, 8),
        ("left", "bottom"),
    ),
}


def save_picture(path: Path, curves: Mapping[str, Mapping[str, Array]], steps: int) -> None:
    """Draw and save the picture.

    Args:
        path: Path of the picture.
        curves: For each task and way of storing, the training loss, `[points, seeds]`.
        steps: Number of steps from one point to the next.
    """
    figure, panels = plt.subplots(
        1, len(curves), figsize=(11, 4.8), layout="constrained", squeeze=False
    )
    seeds = 0
    for axes, (name, ways) in zip(panels[0], curves.items(), strict=True):
        for way, losses in ways.items():
            style, values = STYLES[way], np.asarray(losses)
            points, seeds = values.shape
            x, middle = steps * np.arange(1, points + 1), np.median(values, axis=1)
            axes.plot(x, middle, style.line, color=style.color, linewidth=style.width)
            band = {"color": style.color, "alpha": 0.2, "linewidth": 0}
            axes.fill_between(x, values.min(axis=1), values.max(axis=1), **band)
            place = round(style.part * (points - 1))
            axes.annotate(
                style.label,
                (x[place], middle[place]),
                style.offset,
                textcoords="offset points",
                ha=style.align[0],
                va=style.align[1],
                color="0.4" if way == "float32" else style.color,
                fontsize=11,
            )
        axes.set_yscale("log")
        axes.set_title(name)
        axes.set_xlabel("Step")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0, 0].set_ylabel("Training loss")
    figure.suptitle(
        "One training, stored in three ways: Adam(1e-4), arithmetic in float32\n"
        f"(median of {seeds} seeds; bands from minimum to maximum)"
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)
