"""The picture of `eight_bits.py`: for each task a row, and in it for each optimizer the loss curves with its state in
float32 and in eight bits.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from jaxtyping import Array

mpl.use("Agg")  # a file, no window

from matplotlib import pyplot as plt
from matplotlib.ticker import NullFormatter, ScalarFormatter


class Panels(NamedTuple):
    """The panels of a task.

    Attributes:
        curves: For each optimizer, the training loss in float32 and in eight bits, `[points, seeds]`.
        steps: Number of steps from one point to the next.
    """

    curves: Mapping[str, tuple[Array, Array]]
    steps: int


def save_picture(path: Path, tasks: Mapping[str, Panels], seeds: int) -> None:
    """Draw and save the picture.

    Args:
        path: Path of the picture.
        tasks: The panels of each task; all have as many.
        seeds: Number of seeds.
    """
    columns = max(len(panels.curves) for panels in tasks.values())
    figure, rows = plt.subplots(
        len(tasks),
        columns,
        figsize=(13, 3.6 * len(tasks)),
        layout="constrained",
        squeeze=False,
        sharey="row",
    )
    for row, (task, panels) in zip(rows, tasks.items(), strict=True):
        for axes, (name, ways) in zip(row, panels.curves.items(), strict=True):
            styles = ("float32", "0.68", "-", 6), ("slots in eight bits", "tab:blue", "--", 2)
            for (label, color, line, width), losses in zip(styles, ways, strict=True):
                values = np.asarray(losses)
                x = panels.steps * np.arange(1, len(values) + 1)
                middle = np.median(values, axis=1)
                axes.plot(x, middle, line, color=color, linewidth=width, label=label)
                band = {"color": color, "alpha": 0.2, "linewidth": 0}
                axes.fill_between(x, values.min(axis=1), values.max(axis=1), **band)
            axes.set_yscale("log")
            axes.set_title(name, fontsize=11)
            axes.set_xlabel("Step")
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
        low, high = row[0].get_ylim()
        if high < 10 * low:  # a logarithmic axis would show one number, or none
            row[0].set_yticks([x for x in (0.5, 1, 2, 2.5, 3, 4, 5, 6) if low < x < high])
            row[0].yaxis.set_major_formatter(ScalarFormatter())
            row[0].yaxis.set_minor_formatter(NullFormatter())
        row[0].set_ylabel(f"{task}: training loss")
    rows[0, 0].legend(frameon=False, loc="lower left")
    figure.suptitle(f"Median of {seeds} seeds; bands from minimum to maximum")
    figure.savefig(path, dpi=110)
    plt.close(figure)
