"""Loss functions of one example.

    from mlax import losses

    losses.cross_entropy(logits, label)                           # one example, one number
    jax.vmap(losses.cross_entropy)(batch_of_logits, labels)       # one number per example

Every loss takes one example and returns one number. Losses defined for an example as a whole
(cross-entropy, divergences, cosine, CTC) return exactly that. Losses defined for a single element
(squared error, binary cross-entropy, hinge) return the mean over all elements of the example.
Losses that compare examples with each other take all of them at once.

Predictions and targets have the same dtype and shape, apart from integer labels: nothing is
promoted or broadcast. Half precision is computed in float32 and rounded once, at the end.
"""

from mlax.losses._classification import binary_cross_entropy as binary_cross_entropy
from mlax.losses._classification import cross_entropy as cross_entropy
from mlax.losses._classification import fenchel_young as fenchel_young
from mlax.losses._classification import nll as nll
from mlax.losses._classification import poly_cross_entropy as poly_cross_entropy
from mlax.losses._classification import sigmoid_focal as sigmoid_focal
from mlax.losses._classification import smooth_labels as smooth_labels
from mlax.losses._comparisons import cosine_distance as cosine_distance
from mlax.losses._comparisons import cosine_similarity as cosine_similarity
from mlax.losses._comparisons import margin_ranking as margin_ranking
from mlax.losses._comparisons import nt_xent as nt_xent
from mlax.losses._comparisons import ranking_softmax as ranking_softmax
from mlax.losses._comparisons import triplet_margin as triplet_margin
from mlax.losses._divergences import generalized_kl_divergence as generalized_kl_divergence
from mlax.losses._divergences import kl_divergence as kl_divergence
from mlax.losses._divergences import (
    kl_divergence_with_log_targets as kl_divergence_with_log_targets,
)
from mlax.losses._margins import hinge as hinge
from mlax.losses._margins import multiclass_hinge as multiclass_hinge
from mlax.losses._margins import multiclass_perceptron as multiclass_perceptron
from mlax.losses._margins import multiclass_sparsemax as multiclass_sparsemax
from mlax.losses._margins import perceptron as perceptron
from mlax.losses._margins import sparsemax as sparsemax
from mlax.losses._regression import absolute_error as absolute_error
from mlax.losses._regression import gaussian_nll as gaussian_nll
from mlax.losses._regression import half_squared_error as half_squared_error
from mlax.losses._regression import huber as huber
from mlax.losses._regression import log_cosh as log_cosh
from mlax.losses._regression import smooth_l1 as smooth_l1
from mlax.losses._regression import squared_error as squared_error
from mlax.losses._segmentation import binary_dice as binary_dice
from mlax.losses._segmentation import dice as dice
from mlax.losses._segmentation import generalized_dice as generalized_dice
from mlax.losses._sequence import ctc as ctc
from mlax.losses._sequence import ctc_with_forward_probabilities as ctc_with_forward_probabilities
