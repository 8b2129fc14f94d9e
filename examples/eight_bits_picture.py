"""The picture of `eight_bits.py`: for each optimizer, the loss curves with its state in float32 and in eight bits."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
from jaxtyping import Array

mpl.use("Agg")  # a file, no window

from matplotlib import pyplot as plt


def save_picture(
    path: Path, curves: Mapping[str, tuple[Array, Array]], steps: int, title: str
) -> None:
    """Draw and save the picture.

    Args:
        path: Path of the picture.
        curves: For each optimizer, the training loss in float32 and in eight bits, `[points, seeds]`.
        steps: Number of steps from one point to the next.
        title: Above all panels.
    """
    figure, panels = plt.subplots(
        1, len(curves), figsize=(13, 3.8), layout="constrained", squeeze=False, sharey=True
    )
    for axes, (name, (wide, narrow)) in zip(panels[0], curves.items(), strict=True):
        for label, losses, color, line, width in (
            ("float32", wide, "0.68", "-", 6),
            ("slots in eight bits", narrow, "tab:blue", "--", 2),
        ):
            values = np.asarray(losses)
            x = steps * np.arange(1, len(values) + 1)
            axes.plot(x, np.median(values, axis=1), line, color=color, linewidth=width, label=label)
            band = {"color": color, "alpha": 0.2, "linewidth": 0}
            axes.fill_between(x, values.min(axis=1), values.max(axis=1), **band)
        axes.set_yscale("log")
        axes.set_title(name)
        axes.set_xlabel("Step")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0, 0].set_ylabel("Training loss")
    panels[0, 0].legend(frameon=False, loc="lower left")
    figure.suptitle(title)
    figure.savefig(path, dpi=110)
    plt.close(figure)
