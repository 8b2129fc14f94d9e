"""Every loss of Optax and MLX with the equivalent call of mlax, on inputs that both accept.

A case is one example. Optax's loss, `theirs`, takes one example too; MLX's takes a batch. `floor`
is the smallest result by which errors are divided: if terms of opposite sign cancel, float32
arithmetic has no relative accuracy.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import mlx.nn
import numpy as np
import optax

from mlax import losses

BATCH = 64
CLASSES = 5

opt: Any = optax.losses
nn: Any = mlx.nn.losses


@dataclass(frozen=True)
class Case:
    """One loss of another library and the equivalent call of mlax."""

    peer: str
    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    inputs: tuple[str, ...]
    name: str = ""
    floor: float = 0.0
    gradients: tuple[int, ...] | None = (
        None  # of which arguments to compare them; of all floats, unless given
    )

    @property
    def id(self) -> str:
        return f"{self.peer} {self.name}".strip()

    def differentiated(self, inputs: list[Any]) -> tuple[int, ...]:
        """Return the positions of the arguments whose gradients are compared."""
        if self.gradients is not None:
            return self.gradients
        return tuple(i for i, x in enumerate(inputs) if x.dtype.kind == "f")

    def batch(self, seed: int = 0) -> list[np.ndarray[Any, Any]]:
        """Return a batch of every input, floats in float32."""
        random = np.random.default_rng(seed)
        arrays = [np.asarray(KINDS[kind](random)) for kind in self.inputs]
        return [x.astype(np.float32) if x.dtype == np.float64 else x for x in arrays]


def _softmax(x: Any) -> Any:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _one_hot(labels: Any) -> Any:
    return np.eye(CLASSES)[labels]


def _mask(r: Any) -> Any:
    mask = r.random((BATCH, CLASSES)) < 0.7
    mask[:, 0] = True
    return mask


# Sizes and signs are spread over what occurs in training; what does not is for test_stability.
KINDS: dict[str, Callable[[np.random.Generator], Any]] = {
    "values": lambda r: r.normal(size=(BATCH, CLASSES)) * 2,
    "matrix": lambda r: r.normal(size=(BATCH, 3, CLASSES)) * 2,
    "variances": lambda r: r.uniform(0.1, 3, size=(BATCH, CLASSES)),
    "unit interval": lambda r: r.uniform(0.02, 0.98, size=(BATCH, CLASSES)),
    "distribution": lambda r: _softmax(r.normal(size=(BATCH, CLASSES))),
    "log distribution": lambda r: np.log(_softmax(r.normal(size=(BATCH, CLASSES)))),
    "one hot": lambda r: _one_hot(r.integers(0, CLASSES, BATCH)),
    "one hot image": lambda r: _one_hot(r.integers(0, CLASSES, (BATCH, 3))),
    "label": lambda r: r.integers(0, CLASSES, BATCH).astype(np.int32),
    "bits": lambda r: r.integers(0, 2, (BATCH, CLASSES)).astype(np.float32),
    "signs": lambda r: (2 * r.integers(0, 2, (BATCH, CLASSES)) - 1).astype(np.float32),
    "mask": _mask,
    "set": lambda r: r.normal(size=(BATCH, 6, CLASSES)),
    "groups": lambda r: np.tile(np.array([0, 0, 1, 1, 2, 2], np.int32), (BATCH, 1)),
    "time": lambda r: r.normal(size=(BATCH, 7, CLASSES)) * 2,
    "time paddings": lambda r: np.arange(7) >= r.integers(5, 8, (BATCH, 1)),
    "labels": lambda r: r.integers(1, CLASSES, (BATCH, 3)).astype(np.int32),
    "no paddings": lambda _: np.zeros((BATCH, 3), bool),
    "label paddings": lambda r: np.arange(3) >= r.integers(1, 4, (BATCH, 1)),
}


def _mean(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the mean over the elements of an example, of a loss that Optax computes for each element."""
    return lambda *args, **kwargs: jnp.mean(function(*args, **kwargs))


def _where(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, y, where: function(x, y, where=where)


def _batch_of_one(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a loss of one example, of one that Optax computes for a batch only."""
    return lambda *args: function(*(x[None] for x in args))[0]


def _optax_ctc(function: Callable[..., Any]) -> Callable[..., Any]:
    def one(logits: Any, paddings: Any, labels: Any, label_paddings: Any) -> Any:
        return function(
            logits[None],
            paddings[None].astype(logits.dtype),
            labels[None],
            label_paddings[None].astype(logits.dtype),
        )

    return one


def _ctc(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda logits, paddings, labels, label_paddings: function(
        logits, labels, logit_paddings=paddings, label_paddings=label_paddings
    )


def _reached(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return one number of all forward probabilities; states that cannot be reached have logs near -1e5."""
    return lambda *args: sum(
        jnp.sum(jnp.where(x > -1e4, x, 0)) for x in jax.tree.leaves(function(*args))
    )


PAIR = ("values", "values")
SIGNED = ("values", "signs")
SOFT = ("values", "distribution")
HARD = ("values", "label")
CTC = ("time", "time paddings", "labels", "label paddings")
DIVERGENCE = ("log distribution", "distribution")

OPTAX = [
    Case("squared_error", losses.squared_error, _mean(opt.squared_error), PAIR),
    Case("l2_loss", losses.half_squared_error, _mean(opt.l2_loss), PAIR),
    Case("huber_loss", losses.huber, _mean(opt.huber_loss), PAIR),
    Case(
        "huber_loss",
        partial(losses.huber, delta=0.3),
        partial(_mean(opt.huber_loss), delta=0.3),
        PAIR,
        "delta",
    ),
    Case("log_cosh", losses.log_cosh, _mean(opt.log_cosh), PAIR, floor=1.0),  # log(2) is subtracted
    Case("cosine_similarity", losses.cosine_similarity, opt.cosine_similarity, PAIR, floor=1.0),
    Case(
        "cosine_similarity",
        _where(losses.cosine_similarity),
        _where(opt.cosine_similarity),
        (*PAIR, "mask"),
        "where",
        floor=1.0,
    ),
    Case("cosine_distance", losses.cosine_distance, opt.cosine_distance, PAIR, floor=1.0),
    Case("softmax_cross_entropy", losses.cross_entropy, opt.softmax_cross_entropy, SOFT, floor=1.0),
    Case(
        "softmax_cross_entropy",
        losses.cross_entropy,
        opt.softmax_cross_entropy,
        ("values", "one hot"),
        "one hot",
        floor=1.0,
    ),
    Case(
        "softmax_cross_entropy",
        _where(losses.cross_entropy),
        _where(opt.softmax_cross_entropy),
        (*SOFT, "mask"),
        "where",
        floor=1.0,
    ),
    Case(
        "safe_softmax_cross_entropy",
        losses.cross_entropy,
        opt.safe_softmax_cross_entropy,
        SOFT,
        floor=1.0,
    ),
    Case(
        "softmax_cross_entropy_with_integer_labels",
        losses.cross_entropy,
        opt.softmax_cross_entropy_with_integer_labels,
        HARD,
        floor=1.0,
    ),
    Case(
        "poly_loss_cross_entropy",
        losses.poly_cross_entropy,
        opt.poly_loss_cross_entropy,
        SOFT,
        floor=1.0,
    ),
    Case(
        "poly_loss_cross_entropy",
        partial(losses.poly_cross_entropy, epsilon=-1.0),
        partial(opt.poly_loss_cross_entropy, epsilon=-1.0),
        SOFT,
        "epsilon",
        floor=1.0,
    ),
    Case(
        "sigmoid_binary_cross_entropy",
        losses.binary_cross_entropy,
        _mean(opt.sigmoid_binary_cross_entropy),
        ("values", "unit interval"),
    ),
    Case(
        "sigmoid_focal_loss",
        losses.sigmoid_focal,
        _mean(opt.sigmoid_focal_loss),
        ("values", "bits"),
    ),
    Case(
        "sigmoid_focal_loss",
        partial(losses.sigmoid_focal, alpha=0.25, gamma=0.5),
        partial(_mean(opt.sigmoid_focal_loss), alpha=0.25, gamma=0.5),
        ("values", "unit interval"),
        "soft",
    ),
    Case("kl_divergence", losses.kl_divergence, opt.kl_divergence, DIVERGENCE, floor=1.0),
    Case(
        "kl_divergence",
        _where(losses.kl_divergence),
        _where(opt.kl_divergence),
        (*DIVERGENCE, "mask"),
        "where",
        floor=1.0,
    ),
    Case(
        "kl_divergence_with_log_targets",
        losses.kl_divergence_with_log_targets,
        opt.kl_divergence_with_log_targets,
        ("log distribution",) * 2,
        floor=1.0,
    ),
    Case(
        "kl_divergence_with_log_targets",
        _where(losses.kl_divergence_with_log_targets),
        _where(opt.kl_divergence_with_log_targets),
        ("log distribution", "log distribution", "mask"),
        "where",
        floor=1.0,
    ),
    Case(
        "generalized_kl_divergence",
        losses.generalized_kl_divergence,
        opt.generalized_kl_divergence,
        ("values", "variances"),
        floor=1.0,
    ),
    Case(
        "convex_kl_divergence",
        losses.generalized_kl_divergence,
        opt.generalized_kl_divergence,
        ("values", "variances"),
        floor=1.0,
    ),
    Case(
        "generalized_kl_divergence",
        _where(losses.generalized_kl_divergence),
        _where(opt.generalized_kl_divergence),
        ("values", "variances", "mask"),
        "where",
        floor=1.0,
    ),
    Case("hinge_loss", losses.hinge, _mean(opt.hinge_loss), SIGNED),
    Case("perceptron_loss", losses.perceptron, _mean(opt.perceptron_loss), SIGNED),
    Case("sparsemax_loss", losses.sparsemax, _mean(opt.sparsemax_loss), ("values", "bits")),
    Case(
        "multiclass_hinge_loss", losses.multiclass_hinge, opt.multiclass_hinge_loss, HARD, floor=1.0
    ),
    Case(
        "multiclass_perceptron_loss",
        losses.multiclass_perceptron,
        opt.multiclass_perceptron_loss,
        HARD,
    ),
    # Scores of up to 8 minus a threshold.
    Case(
        "multiclass_sparsemax_loss",
        losses.multiclass_sparsemax,
        _batch_of_one(opt.multiclass_sparsemax_loss),
        HARD,
        floor=4.0,
    ),
    Case(
        "make_fenchel_young_loss",
        partial(losses.fenchel_young, max_function=jax.nn.logsumexp),
        opt.make_fenchel_young_loss(jax.nn.logsumexp),
        SOFT,
        floor=1.0,
    ),
    Case(
        "smooth_labels",
        lambda x: losses.smooth_labels(x, 0.1)[1],
        lambda x: opt.smooth_labels(x, 0.1)[1],
        ("distribution",),
    ),
    Case(
        "smooth_labels",
        lambda x, w: losses.smooth_labels(x, 0.1, where=w)[0],
        lambda x, w: opt.smooth_labels(x, 0.1, where=w)[0],
        ("distribution", "mask"),
        "where",
    ),
    Case("ranking_softmax_loss", losses.ranking_softmax, opt.ranking_softmax_loss, SOFT, floor=1.0),
    Case(
        "ranking_softmax_loss",
        lambda x, y, v, w: losses.ranking_softmax(x, y, weights=v, where=w),
        lambda x, y, v, w: opt.ranking_softmax_loss(x, y, weights=v, where=w),
        ("values", "distribution", "unit interval", "mask"),
        "weights, where",
        floor=1.0,
    ),
    Case(
        "ntxent",
        partial(losses.nt_xent, temperature=0.5),
        partial(opt.ntxent, temperature=0.5),
        ("set", "groups"),
        floor=1.0,
    ),
    # The difference of two distances of up to 16.
    Case(
        "triplet_margin_loss",
        losses.triplet_margin,
        opt.triplet_margin_loss,
        ("values",) * 3,
        floor=8.0,
    ),
    Case(
        "triplet_margin_loss",
        partial(losses.triplet_margin, p=4, margin=0.1),
        partial(opt.triplet_margin_loss, norm_degree=4, margin=0.1),
        ("values",) * 3,
        "p, margin",
        floor=8.0,
    ),
    Case(
        "dice_loss",
        losses.dice,
        _batch_of_one(opt.dice_loss),
        ("matrix", "one hot image"),
        floor=1.0,
    ),
    Case(
        "dice_loss",
        lambda x, y, w: losses.dice(
            x, y, class_weights=w, smooth=0.5, alpha=0.3, beta=0.7, ignore_background=True
        ),
        lambda x, y, w: opt.dice_loss(
            x[None],
            y[None],
            class_weights=w,
            smooth=0.5,
            alpha=0.3,
            beta=0.7,
            ignore_background=True,
        )[0],
        ("matrix", "one hot image", "variances"),
        "Tversky",
        floor=1.0,
    ),
    Case(
        "binary_dice_loss",
        losses.binary_dice,
        lambda x, y: opt.binary_dice_loss(x[None, ..., None], y[None, ..., None])[0],
        ("values", "bits"),
        floor=1.0,
    ),
    Case(
        "multiclass_generalized_dice_loss",
        losses.generalized_dice,
        lambda x, y: opt.multiclass_generalized_dice_loss(x[None], y[None]),
        ("matrix", "one hot image"),
        floor=1.0,
    ),
    # Logs of probabilities of size 16, and derivatives that are exp of their differences.
    Case(
        "ctc_loss",
        _ctc(losses.ctc),
        lambda *args: _optax_ctc(opt.ctc_loss)(*args)[0],
        CTC,
        floor=16.0,
    ),
    Case(
        "ctc_loss_with_forward_probs",
        _reached(_ctc(losses.ctc_with_forward_probabilities)),
        _reached(_optax_ctc(opt.ctc_loss_with_forward_probs)),
        ("time", "time paddings", "labels", "no paddings"),
        floor=256.0,
        gradients=(),
    ),
]


def _each(function: Callable[..., Any], **kwargs: Any) -> Callable[..., Any]:
    """Return the losses of a batch, of a loss that MLX computes for each element."""
    return lambda *args: function(*args, reduction="none", **kwargs).mean(axis=-1)


MLX = [
    Case("cross_entropy", losses.cross_entropy, nn.cross_entropy, HARD, floor=1.0),
    # MLX takes it for granted that the targets sum to 1: its gradients with respect to them are others.
    Case(
        "cross_entropy",
        losses.cross_entropy,
        nn.cross_entropy,
        SOFT,
        "soft",
        floor=1.0,
        gradients=(0,),
    ),
    Case(
        "cross_entropy",
        partial(losses.cross_entropy, label_smoothing=0.1),
        partial(nn.cross_entropy, label_smoothing=0.1),
        HARD,
        "smoothed",
        floor=1.0,
    ),
    Case(
        "cross_entropy",
        partial(losses.cross_entropy, label_smoothing=0.1),
        partial(nn.cross_entropy, label_smoothing=0.1),
        SOFT,
        "soft, smoothed",
        floor=1.0,
        gradients=(0,),
    ),
    Case(
        "binary_cross_entropy",
        losses.binary_cross_entropy,
        _each(nn.binary_cross_entropy),
        ("values", "unit interval"),
        floor=1.0,
    ),
    Case(
        "binary_cross_entropy",
        lambda x, y, w: losses.binary_cross_entropy(x, y, weights=w),
        _each(nn.binary_cross_entropy),
        ("values", "unit interval", "variances"),
        "weights",
        floor=1.0,
    ),
    Case(
        "binary_cross_entropy",
        partial(losses.binary_cross_entropy, with_logits=False),
        _each(nn.binary_cross_entropy, with_logits=False),
        ("unit interval", "bits"),
        "probabilities",
        floor=1.0,
    ),
    Case("l1_loss", losses.absolute_error, _each(nn.l1_loss), PAIR),
    Case("mse_loss", losses.squared_error, _each(nn.mse_loss), PAIR),
    Case("nll_loss", losses.nll, nn.nll_loss, ("log distribution", "label")),
    Case(
        "gaussian_nll_loss",
        losses.gaussian_nll,
        _each(nn.gaussian_nll_loss),
        ("values", "values", "variances"),
        floor=1.0,
    ),
    Case(
        "gaussian_nll_loss",
        partial(losses.gaussian_nll, full=True, epsilon=0.5),
        _each(nn.gaussian_nll_loss, full=True, eps=0.5),
        ("values", "values", "variances"),
        "full",
        floor=1.0,
    ),
    Case(
        "kl_div_loss",
        losses.kl_divergence_with_log_targets,
        nn.kl_div_loss,
        ("log distribution",) * 2,
        floor=1.0,
    ),
    Case("smooth_l1_loss", losses.smooth_l1, _each(nn.smooth_l1_loss), PAIR),
    Case(
        "smooth_l1_loss",
        partial(losses.smooth_l1, beta=0.3),
        _each(nn.smooth_l1_loss, beta=0.3),
        PAIR,
        "beta",
    ),
    Case("triplet_loss", losses.triplet_margin, nn.triplet_loss, ("values",) * 3, floor=8.0),
    Case(
        "triplet_loss",
        partial(losses.triplet_margin, p=3, margin=0.1),
        partial(nn.triplet_loss, p=3, margin=0.1),
        ("values",) * 3,
        "p, margin",
        floor=8.0,
    ),
    Case("hinge_loss", losses.hinge, _each(nn.hinge_loss), SIGNED),
    Case("huber_loss", losses.huber, _each(nn.huber_loss), PAIR),
    Case("log_cosh_loss", losses.log_cosh, _each(nn.log_cosh_loss), PAIR, floor=1.0),
    Case(
        "cosine_similarity_loss",
        losses.cosine_similarity,
        nn.cosine_similarity_loss,
        PAIR,
        floor=1.0,
    ),
    Case(
        "margin_ranking_loss",
        losses.margin_ranking,
        _each(nn.margin_ranking_loss),
        (*PAIR, "signs"),
    ),
    Case(
        "margin_ranking_loss",
        partial(losses.margin_ranking, margin=0.5),
        _each(nn.margin_ranking_loss, margin=0.5),
        (*PAIR, "signs"),
        "margin",
    ),
]
