"""A typed classifier of handwritten digits: define, check, train, save. The README's tutorial explains it."""

from pathlib import Path
from typing import Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import trange

import mlax
from mlax import Module, losses, nn, optim


class Classifier(Module):
    """Map the pixels of one image to a logit for each class."""

    hidden: nn.MLP
    norm: nn.LayerNorm
    head: nn.Linear

    def forward(self, image: Float[Array, "pixels"]) -> tuple[Float[Array, "classes"], Self]:
        x, self = self.chain(image, self.hidden, self.norm)
        return self.call(self.head, jax.nn.relu(x))


Model = nn.Batched[Classifier]


def loss_fn(
    model: Model, images: Float[Array, "batch pixels"], labels: Int[Array, "batch"]
) -> tuple[Array, Model, Array]:
    """Return the mean cross-entropy, the model, and the accuracy."""
    logits, model = model(images)
    loss = jax.vmap(losses.cross_entropy)(logits, labels).mean()
    return loss, model, (logits.argmax(axis=1) == labels).mean()


def digits() -> tuple[Array, Array, Array, Array]:
    """Return training and test images, from 0 to 1, and training and test labels."""
    images, labels = load_digits(return_X_y=True)
    split = train_test_split(images / 16, labels, test_size=0.2, random_state=0, stratify=labels)
    images, test_images, labels, test_labels = map(jnp.asarray, split)
    return images, test_images, labels, test_labels


optimizer = optim.Adam(learning_rate=1e-3)


Run = tuple[Model, optim.adam.State[Model]]


@jax.jit(donate_argnames="run")
def train_epoch(run: Run, images: Array, labels: Array, batches: Int[Array, "steps batch"]) -> Run:
    """Return model and state after one step on each batch; the old ones are donated."""

    def train_step(run: Run, batch: Int[Array, "batch"]) -> tuple[Run, None]:
        model, state = run
        _, gradients = mlax.value_and_grad(loss_fn)(model, images[batch], labels[batch])
        return optimizer.update(model, gradients, state), None

    return jax.lax.scan(train_step, run, batches)[0]


CHECKPOINT = Path("out/checkpoint.safetensors")


def train(epochs: int = 40, batch_size: int = 64) -> tuple[Model, Float[Array, "epochs 4"]]:
    """Return a trained model, and for each epoch the training loss and accuracy, then the test ones."""
    images, test_images, labels, test_labels = digits()
    model = nn.Batched(Classifier(nn.MLP(512, 256), nn.LayerNorm(), nn.Linear(10)))
    model = mlax.set_up(model, images, rng=jax.random.key(0))
    start = model, optimizer.init(model), jnp.zeros((epochs, 4)), 0
    if CHECKPOINT.exists():
        print(f"Resuming from {CHECKPOINT}. Delete it to start over.")
        start = mlax.load(CHECKPOINT, like=start)
    CHECKPOINT.parent.mkdir(exist_ok=True)
    model, state, history, done = start
    evaluate = jax.jit(loss_fn)
    for epoch in (progress := trange(done, epochs, initial=done, total=epochs, unit=" epochs")):
        order = jax.random.permutation(jax.random.key(epoch), len(labels))
        batches = order[: len(order) // batch_size * batch_size].reshape(-1, batch_size)
        model, state = train_epoch((model, state), images, labels, batches)
        loss, _, accuracy = evaluate(model, images, labels)
        test_loss, _, test_accuracy = evaluate(model, test_images, test_labels)
        history = history.at[epoch].set(jnp.stack([loss, accuracy, test_loss, test_accuracy]))
        mlax.save(CHECKPOINT, (model, state, history, epoch + 1))
        progress.set_postfix(loss=f"{loss:.4f}", test_accuracy=f"{test_accuracy:.1%}")
    CHECKPOINT.unlink(missing_ok=True)  # the next run starts over
    return model, history
