"""The base class of all optimizers, and the functions that generated optimizers are written with.

They can be used for handwritten optimizers too. To train models, use `mlax.optim`.
"""

from mlax._faces import claim as _claim
from mlax._module.exporting import exportable
from mlax._packing.weights import refuse_packed
from mlax.optimizer._hyperparameters import HELD as HELD  # pickles refer to it here
from mlax.optimizer._hyperparameters import LEAF as LEAF
from mlax.optimizer._hyperparameters import (
    Dtype,
    Float,
    Number,
    Schedule,
    SlotDtype,
    integer,
    not_int8,
    number,
    scheduled,
)
from mlax.optimizer._labels import Label, label
from mlax.optimizer._narrow import warn_if_narrow, warn_if_wide
from mlax.optimizer._optimizer import Optimizer
from mlax.optimizer._slots import copies, full, identities, normals, slot_values, zeros
from mlax.optimizer._stepping import (
    apply_updates,
    folded,
    follow_schedules,
    initial,
    key,
    merged,
    no_steps,
    one_more,
    refuse_complex,
    renewed,
    scalar,
    trainable,
)

__all__ = [
    "Dtype",
    "Float",
    "Label",
    "Number",
    "Optimizer",
    "Schedule",
    "SlotDtype",
    "apply_updates",
    "copies",
    "exportable",
    "folded",
    "follow_schedules",
    "full",
    "identities",
    "initial",
    "integer",
    "key",
    "label",
    "merged",
    "no_steps",
    "normals",
    "not_int8",
    "number",
    "one_more",
    "refuse_complex",
    "refuse_packed",
    "renewed",
    "scalar",
    "scheduled",
    "slot_values",
    "trainable",
    "warn_if_narrow",
    "warn_if_wide",
    "zeros",
]

# These belong to `mlax.optim`.
_claim(__name__, {*__all__} - {"Optimizer", "Schedule", "apply_updates", "slot_values"})
