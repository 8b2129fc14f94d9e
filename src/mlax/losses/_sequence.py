"""Connectionist temporal classification (CTC): sequences of labels whose positions are unknown."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Integer

from mlax.losses._arithmetic import surprisals
from mlax.losses._loss import Number, loss, require

__all__ = ["ctc", "ctc_with_forward_probabilities"]


@loss
def ctc(
    logits: Float[Array, "time classes"],
    labels: Integer[Array, "labels"],
    *,
    logit_paddings: Bool[Array, "time"] | None = None,
    label_paddings: Bool[Array, "labels"] | None = None,
    blank: int = 0,
    log_epsilon: Number = -1e5,
) -> Float[Array, ""]:
    """CTC loss: minus the log probability of a sequence of labels, however they are spread over time.

    At each time there is a label or a blank. Equal labels in a row count once, unless there is a
    blank between them.

    Args:
        logits: Unnormalised log probabilities of the classes at each time. One of the classes is
            the blank.
        labels: The classes in their order. A label that is negative or too large gives NaN, unless
            it is padding.
        logit_paddings: True for times to ignore; none by default.
        label_paddings: True for labels to ignore, all of which are at the end; none by default.
        blank: The class that stands for no label.
        log_epsilon: Used as the logarithm of a probability of 0, < 0. It is finite, so that a
            sequence that does not fit into the time has a large loss, and derivatives.

    References:
        Graves et al. 2006, https://doi.org/10.1145/1143844.1143891
    """
    return _ctc("ctc", logits, labels, logit_paddings, label_paddings, blank, log_epsilon)[0]


@loss
def ctc_with_forward_probabilities(
    logits: Float[Array, "time classes"],
    labels: Integer[Array, "labels"],
    *,
    logit_paddings: Bool[Array, "time"] | None = None,
    label_paddings: Bool[Array, "labels"] | None = None,
    blank: int = 0,
    log_epsilon: Number = -1e5,
) -> tuple[Float[Array, ""], Float[Array, "time labels+1"], Float[Array, "time labels"]]:
    """CTC loss, and the forward probabilities that it is computed from.

    Args:
        logits: Unnormalised log probabilities of the classes at each time, as in `ctc`.
        labels: The classes in their order.
        logit_paddings: True for times to ignore.
        label_paddings: True for labels to ignore.
        blank: The class that stands for no label.
        log_epsilon: Used as the logarithm of a probability of 0.

    Returns:
        loss: Shape (), in the dtype of the logits.
        blanks: For each time and each n from 0 on, the log probability that the first n labels have
            been seen and a blank is here; at the last time, that they have been seen.
        labels: For each time and label, the log probability that this label is here, after all
            those before it.

    References:
        Graves et al. 2006, https://doi.org/10.1145/1143844.1143891
    """
    name = "ctc_with_forward_probabilities"
    return _ctc(name, logits, labels, logit_paddings, label_paddings, blank, log_epsilon)


def _ctc(
    name: str,
    logits: Array,
    labels: Array,
    logit_paddings: Array | None,
    label_paddings: Array | None,
    blank: int,
    log_epsilon: Number,
) -> tuple[Array, Array, Array]:
    times, classes = logits.shape
    if not 0 <= blank < classes:
        raise ValueError(f"losses.{name}: blank must be >= 0 and < {classes}, got {blank}")
    require(f"{name}: log_epsilon", log_epsilon, below=0)
    padded_times = jnp.zeros(times, bool) if logit_paddings is None else logit_paddings
    length = jnp.asarray(labels.size)
    if label_paddings is not None:
        labels = jnp.where(label_paddings, lax.full_like(labels, blank), labels)
        length = jnp.sum(~label_paddings)

    log_p = -jax.vmap(surprisals)(logits)
    log_labels = log_p.at[:, labels].get(
        mode="fill", fill_value=jnp.nan, wrap_negative_indices=False
    )
    again = jnp.concatenate([labels[:-1] == labels[1:], jnp.zeros(1, bool)])[: labels.size]
    # Between a label and the same label again there has to be a blank.
    directly = jnp.where(again, log_epsilon, 0.0)
    over_blank = jnp.where(again, 0.0, log_epsilon)

    def step(
        carry: tuple[Array, Array], x: tuple[Array, Array, Array]
    ) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        seen, here = carry
        log_blank, log_label, padded = x
        before = _either(seen, here + directly)
        next_here = jnp.logaddexp(before[:-1], here) + log_label
        next_seen = _either(before, here + over_blank) + log_blank
        seen = jnp.where(padded, seen, next_seen)
        here = jnp.where(padded, here, next_here)
        return (seen, here), (seen, here)

    impossible = jnp.full(labels.size + 1, log_epsilon, logits.dtype)
    start = impossible.at[0].set(0.0), impossible[1:]
    (seen, here), (all_seen, all_here) = lax.scan(
        step, start, (log_p[:, blank], log_labels, padded_times)
    )
    seen = _either(seen, here)
    return -seen[length], all_seen.at[-1].set(seen), all_here


def _either(seen: Array, here: Array) -> Array:
    """Return the log probability that n labels were seen before, or that label n is here."""
    return jnp.concatenate([seen[:1], jnp.logaddexp(seen[1:], here)])
