"""Settings for comparisons with PyTorch's optimizers, as PyTorch and mlax spell them.

`make_torch_references.py` ran PyTorch's once; tests/mlax/parity/test_torch.py runs mlax's each
time.
"""

from typing import Any, NamedTuple

import numpy as np

STEPS = 100
PEAK = 0.1


class Case(NamedTuple):
    """One row: the name of its results, an optimizer of `torch.optim` and of `mlax_optimizers`, and their settings.

    A scheduled one has a learning rate that falls from PEAK to 0, set before each step. Where only matrices are moved,
    the leaf is `layer["w"]` alone.
    """

    name: str
    theirs: str
    settings: dict[str, Any]
    ours: str
    hyperparameters: dict[str, Any]
    scheduled: bool = False
    matrices: bool = False


BETAS = {"betas": (0.8, 0.95), "eps": 1e-4}
OURS = {"b1": 0.8, "b2": 0.95, "eps": 1e-4}
L2 = {"weight_decay": 0.1}
DECOUPLED = {"weight_decay": 0.1, "decoupled_weight_decay": True}
OUTSIDE = {"decay": 0.99, "eps_in_sqrt": False, "rate_in_velocity": False}
ADAGRAD = {"initial_accumulator_value": 0.0, "eps": 1e-10, "eps_in_sqrt": False}
ADAFACTOR = {
    "relative_step": True,
    "factored_axes": "last",
    "weight_decay_scale": "learning_rate",
    "eps_in": "minimum",
}
MAXIMUM = {"maximum_of": "moments"}
RADAM = {"eps_in": "moment"}
NADAM = {"learning_rate": 2e-3, "momentum_decay": 4e-3}
# With a norm as small as that neither a norm and eps nor the larger of them is anything but the norm.
MUON = {"layout": "out_in", "bias_correction": False, "eps": 1e-30}

CASES = [
    Case("sgd", "SGD", {}, "sgd", {"learning_rate": 1e-3, "momentum": None}),
    Case(
        "sgd_momentum",
        "SGD",
        {"momentum": 0.9, **L2},
        "sgd",
        {"learning_rate": 1e-3, "momentum": 0.9, **L2},
    ),
    Case(
        "sgd_dampening",
        "SGD",
        {"momentum": 0.9, "dampening": 0.5},
        "sgd",
        {"learning_rate": 1e-3, "momentum": 0.9, "dampening": 0.5, "dampen_first_step": False},
    ),
    Case(
        "sgd_nesterov",
        "SGD",
        {"momentum": 0.9, "nesterov": True},
        "sgd",
        {"momentum": 0.9, "nesterov": True},
        True,
    ),
    Case("adam", "Adam", {}, "adam", {}),
    Case("adam_l2", "Adam", BETAS | L2, "adam", OURS | L2, True),
    Case("adam_decoupled", "Adam", BETAS | DECOUPLED, "adamw", OURS | L2, True),
    Case("adam_amsgrad", "Adam", {"amsgrad": True}, "amsgrad", MAXIMUM),
    Case(
        "adam_amsgrad_l2",
        "Adam",
        {"amsgrad": True} | BETAS | L2,
        "amsgrad",
        MAXIMUM | OURS | L2,
        True,
    ),
    Case("adamw", "AdamW", {}, "adamw", {"weight_decay": 0.01}),
    Case(
        "adamw_amsgrad",
        "AdamW",
        {"amsgrad": True} | BETAS | L2,
        "amsgrad",
        MAXIMUM | OURS | DECOUPLED,
        True,
    ),
    Case("adamax", "Adamax", {}, "adamax", {}),
    Case("adamax_l2", "Adamax", BETAS | L2, "adamax", OURS | L2, True),
    Case("nadam", "NAdam", {}, "nadam", NADAM),
    Case("nadam_l2", "NAdam", BETAS | L2, "nadam", {"momentum_decay": 4e-3} | OURS | L2, True),
    Case(
        "nadam_decoupled",
        "NAdam",
        {"momentum_decay": 0.1} | BETAS | DECOUPLED,
        "nadamw",
        {"momentum_decay": 0.1} | OURS | L2,
        True,
    ),
    Case("radam", "RAdam", {}, "radam", RADAM),
    Case("radam_l2", "RAdam", BETAS | L2, "radam", RADAM | OURS | L2, True),
    Case("radam_decoupled", "RAdam", BETAS | DECOUPLED, "radam", RADAM | OURS | DECOUPLED, True),
    Case("rmsprop", "RMSprop", {}, "rmsprop", OUTSIDE),
    Case(
        "rmsprop_centered",
        "RMSprop",
        {"alpha": 0.9, "eps": 0.1, "momentum": 0.9, "centered": True} | L2,
        "rmsprop",
        OUTSIDE | {"decay": 0.9, "eps": 0.1, "momentum": 0.9, "centered": True} | L2,
        True,
    ),
    Case("adagrad", "Adagrad", {}, "adagrad", ADAGRAD),
    Case(
        "adagrad_lr_decay",
        "Adagrad",
        {"lr_decay": 0.1, "eps": 1e-4, "initial_accumulator_value": 0.5} | L2,
        "adagrad",
        ADAGRAD | {"lr_decay": 0.1, "eps": 1e-4, "initial_accumulator_value": 0.5} | L2,
        True,
    ),
    Case("adadelta", "Adadelta", {}, "adadelta", {}),
    Case(
        "adadelta_l2",
        "Adadelta",
        {"rho": 0.95, "eps": 1e-4} | L2,
        "adadelta",
        {"rho": 0.95, "eps": 1e-4} | L2,
        True,
    ),
    Case("adafactor", "Adafactor", {}, "adafactor", ADAFACTOR),
    Case(
        "adafactor_minimum",  # large enough to be what some leaves are divided by
        "Adafactor",
        {"eps": (0.01, 0.1), "d": 1.5, "beta2_decay": -0.5} | L2,
        "adafactor",
        ADAFACTOR
        | {"eps": 0.01, "min_scale": 0.1, "clipping_threshold": 1.5, "decay_rate": 0.5}
        | {"weight_decay_rate": 0.1},
        True,
    ),
    Case("asgd", "ASGD", {}, "asgd", {}),
    Case(
        "asgd_averaged",
        "ASGD",
        {"lambd": 0.01, "alpha": 0.5, "t0": 30.0} | L2,
        "asgd",
        {"learning_rate": 1e-2, "lambd": 0.01, "alpha": 0.5, "t0": 30.0} | L2,
    ),
    Case("rprop", "Rprop", {}, "rprop", {}),
    Case(
        "rprop_bounds",
        "Rprop",
        {"lr": 0.1, "etas": (0.3, 1.7), "step_sizes": (0.05, 0.2)},
        "rprop",
        {
            "learning_rate": 0.1,
            "eta_minus": 0.3,
            "eta_plus": 1.7,
            "min_step_size": 0.05,
            "max_step_size": 0.2,
        },
    ),
    Case("muon", "Muon", {}, "muon", MUON | {"learning_rate": 1e-3} | L2, matrices=True),
    Case(
        "muon_match_rms_adamw",
        "Muon",
        {
            "momentum": 0.8,
            "nesterov": False,
            "ns_steps": 3,
            "weight_decay": 0.0,
            "adjust_lr_fn": "match_rms_adamw",
        },
        "muon",
        MUON | {"beta": 0.8, "nesterov": False, "ns_steps": 3, "consistent_rms": 0.2},
        True,
        True,
    ),
]


def rate_at(step: Any, library: Any = np) -> Any:
    """Return the learning rate of scheduled cases."""
    return PEAK * (1 + library.cos(library.pi * step / STEPS)) / 2
