"""The picture of a training run: a learning curve, and some digits with the model's predictions."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from jaxtyping import Array

mpl.use("Agg")  # a file, no window

from matplotlib import pyplot as plt

PICTURE = Path("out/digits.png")
ROWS, COLUMNS = 4, 8


def save_picture(
    history: Array, images: Array, labels: Array, predictions: Array, path: Path = PICTURE
) -> Path:
    """Draw and save the picture.

    Args:
        history: For each epoch, loss and accuracy on the training data, then on the test data, `[epochs, 4]`.
        images: Test images, `[n, ...]`, 64 pixels each, from 0 to 1.
        labels: Their labels, `[n]`.
        predictions: The model's predictions, `[n]`.
        path: Path of the picture.

    Returns:
        The path of the picture.
    """
    loss, accuracy, test_loss, test_accuracy = np.asarray(history).T
    epochs = np.arange(1, len(history) + 1)
    figure = plt.figure(figsize=(13, 5), layout="constrained")
    curves, digits = figure.subfigures(1, 2, squeeze=False, width_ratios=(1, 1.3))[0]

    above, below = curves.subplots(2, 1, sharex=True)
    for axes, train, test, name in (
        (above, loss, test_loss, "Loss"),
        (below, 100 * (1 - accuracy), 100 * (1 - test_accuracy), "Errors (%)"),
    ):
        axes.plot(epochs, train, label="training")
        axes.plot(epochs, test, label="test")
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
    above.set_yscale("log")
    above.set_title(f"Learning curve: test accuracy {test_accuracy[-1]:.1%}")
    above.legend()
    below.set_ylim(0, 10)
    below.set_xlabel("Epoch")

    # Mistakes first: they are the interesting ones.
    order = np.argsort(np.asarray(labels == predictions), kind="stable")[: ROWS * COLUMNS]
    for axes, index in zip(digits.subplots(ROWS, COLUMNS).flat, order, strict=False):
        label, prediction = int(labels[index]), int(predictions[index])
        right = label == prediction
        axes.imshow(images[index].reshape(8, 8), cmap="gray_r")
        axes.set_title(
            f"{prediction}" if right else f"{prediction}, is {label}",
            color="black" if right else "crimson",
            fontsize=10,
        )
        axes.set_axis_off()
    digits.suptitle("Test digits and predictions; mistakes first")

    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path
