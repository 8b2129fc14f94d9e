"""The picture of `sweep.py`: a heat map of the accuracy, learning rates to the right and b2 upwards."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from jaxtyping import Array, Float

mpl.use("Agg")  # a file, no window

from matplotlib import pyplot as plt


def save_picture(
    path: Path,
    learning_rates: Float[Array, "columns"],
    b2s: Float[Array, "rows"],
    accuracies: Float[Array, "rows columns"],
) -> None:
    """Draw and save the picture.

    Args:
        path: Path of the picture.
        learning_rates: The learning rate of each column.
        b2s: The value of b2 of each row, from the lowest row up.
        accuracies: The accuracy of each pair, from 0 to 1.
    """
    percent = 100 * np.asarray(accuracies)
    figure, axes = plt.subplots(figsize=(8, 5.5), layout="constrained")
    image = axes.imshow(percent, origin="lower", aspect="auto", cmap="viridis")
    middle = (percent.min() + percent.max()) / 2
    for (row, column), value in np.ndenumerate(percent):
        color = "black" if value > middle else "white"
        axes.text(column, row, f"{value:.1f}", ha="center", va="center", color=color)
    axes.set_xticks(range(len(learning_rates)), [f"{float(rate):.2g}" for rate in learning_rates])
    axes.set_yticks(range(len(b2s)), [f"{float(b2):.4g}" for b2 in b2s])
    axes.set_xlabel("Learning rate")
    axes.set_ylabel("b2")
    axes.set_title(f"Adam on the digits: {percent.size} pairs trained in one compiled call")
    figure.colorbar(image, label="Test accuracy (%)")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
