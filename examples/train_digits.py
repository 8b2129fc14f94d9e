"""`make train` runs this: train the classifier of `digits.py`, and save it with a picture of the result."""

import sys
from pathlib import Path

from digits import digits, train
from digits_picture import save_picture

import mlax

MODEL = Path("out/digits.safetensors")


def main() -> None:
    """Train, draw, and say what to do next."""
    try:
        model, history = train()
    except KeyboardInterrupt:
        sys.exit("\nInterrupted. The next run resumes here.")
    print(model)
    mlax.save(MODEL, model)
    _, images, _, labels = digits()
    logits, _ = model(images)
    path = save_picture(history, images, labels, logits.argmax(axis=1))
    print(f"Test accuracy: {history[-1][-1]:.1%}. Model: {MODEL}. Picture: {path}")
    print(
        f"Next: open {path}; then try `optim.SGD(0.1, momentum=0.9)` in examples/digits.py "
        "(and `optim.sgd.State`), and run `make train` again."
    )


if __name__ == "__main__":
    main()
