"""A convolutional net with BatchNorm and Dropout on handwritten digits: it reads 99 % of those it has not seen.

`make examples` runs this, or `python examples/convolution.py`.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
from digits import digits
from digits_picture import save_picture
from jaxtyping import Array, Float, Int
from tqdm import trange

import mlax
from mlax import losses, nn, optim

PICTURE = Path("out/convolution.png")

Net = nn.Batched[nn.Series]
Images = Float[Array, "n 8 8 1"]
Labels = Int[Array, "n"]


def data() -> tuple[Images, Images, Labels, Labels]:
    """Return training and test images, and training and test labels."""
    images, test_images, labels, test_labels = digits()
    return images.reshape(-1, 8, 8, 1), test_images.reshape(-1, 8, 8, 1), labels, test_labels


def block(channels: int) -> nn.Series:
    """Return a convolution that keeps the size of an image, a norm and an activation."""
    conv = nn.Conv(channels, 3, padding="SAME", bias=None)
    return nn.Series(conv, nn.BatchNorm(), nn.F(jax.nn.relu))


def conv_net(channels: int) -> Net:
    """Return a net for batches of images."""
    first = nn.Series(block(channels), block(channels), nn.MaxPool(2), nn.Dropout(0.2))
    second = nn.Series(block(2 * channels), block(2 * channels), nn.MaxPool(2), nn.Dropout(0.5))
    return nn.Batched(nn.Series(first, second, nn.F(jnp.ravel), nn.Linear(10)))


def loss_fn(net: Net, images: Images, labels: Labels, rng: Array) -> tuple[Array, Net]:
    """Return the loss of a batch in training, and the net with new running statistics."""
    logits, net = mlax.training(net, rng=rng)(images)
    return jax.vmap(losses.cross_entropy)(logits, labels).mean(), net


@jax.jit(static_argnames="optimizer", donate_argnames=("net", "state"))
def train_step(
    net: Net,
    state: optim.adamw.State[Net],
    optimizer: optim.AdamW,
    images: Images,
    labels: Labels,
    rng: Array,
) -> tuple[Net, optim.adamw.State[Net]]:
    """Return net and state after one step; the old ones are donated."""
    (_, net), gradients = mlax.value_and_grad(loss_fn)(net, images, labels, rng)
    return optimizer.update(net, gradients, state)


@jax.jit
def evaluate(net: Net, images: Images, labels: Labels) -> tuple[Float[Array, "2"], Labels]:
    """Return loss and accuracy in inference, and the predictions."""
    logits, _ = mlax.inference(net)(images)
    predictions = logits.argmax(axis=1)
    loss = jax.vmap(losses.cross_entropy)(logits, labels).mean()
    return jnp.stack([loss, (predictions == labels).mean()]), predictions


def train(
    epochs: int = 20, channels: int = 32, batch: int = 64, seed: int = 0
) -> tuple[Net, Float[Array, "epochs 4"]]:
    """Return a trained net, and for each epoch the training loss and accuracy, then the test ones."""
    images, test_images, labels, test_labels = data()
    steps = len(labels) // batch
    root = jax.random.key(seed)
    net = mlax.set_up(conv_net(channels), images[:1], rng=root)
    print(mlax.summary(net, images[:1], depth=2))
    optimizer = optim.AdamW(optim.cosine_decay(3e-3, epochs * steps))
    state = optimizer.init(net)
    history: list[Array] = []
    for epoch in (progress := trange(epochs, unit=" epochs")):
        shuffle, *keys = jax.random.split(jax.random.fold_in(root, epoch), 1 + steps)
        order = jax.random.permutation(shuffle, len(labels))[: steps * batch]
        for key, chosen in zip(keys, order.reshape(steps, batch), strict=True):
            net, state = train_step(net, state, optimizer, images[chosen], labels[chosen], key)
        seen, _ = evaluate(net, images, labels)
        unseen, _ = evaluate(net, test_images, test_labels)
        history.append(jnp.concatenate([seen, unseen]))
        progress.set_postfix(loss=f"{seen[0]:.4f}", test_accuracy=f"{unseen[1]:.1%}")
    return net, jnp.stack(history)


def main(epochs: int = 20, channels: int = 32) -> None:
    """Train, and draw the learning curve and the digits that are misread."""
    net, history = train(epochs, channels)
    _, images, _, labels = data()
    _, predictions = evaluate(net, images, labels)
    save_picture(history, images, labels, predictions, PICTURE)
    print(f"Test accuracy: {history[-1, 3]:.1%}. Picture: {PICTURE}")


if __name__ == "__main__":
    main()
