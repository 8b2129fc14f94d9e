"""What `make train` runs: train the classifier of `digits.py`, and save a picture of what came of it."""

import jax
from digits import digits, train
from digits_picture import save_picture


def main() -> None:
    """Train, draw, and say what to do next."""
    model, history = train()
    print(model)
    _, images, _, labels = digits()
    logits, _ = jax.vmap(model, out_axes=(0, None))(images)
    path = save_picture(history, images, labels, logits.argmax(axis=1))
    print(f"Test accuracy: {history[-1][-1]:.1%}. Picture: {path}")
    print(
        f"Next: open {path}; then try `optim.SGD(0.1, momentum=0.9)` in examples/digits.py "
        "(and `optim.sgd.State`), and run `make train` again."
    )


if __name__ == "__main__":
    main()
