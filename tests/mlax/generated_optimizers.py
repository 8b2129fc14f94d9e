"""Every generated optimizer, for tests that state what holds for all: a new one is tested by existing."""

import importlib
import pkgutil
from types import ModuleType
from typing import Any, get_args, get_type_hints

import mlax_optimizers
from mlax.optimizer import Optimizer
from mlax.typing import Weights

MODULES: dict[str, ModuleType] = {
    info.name.rpartition(".")[2]: importlib.import_module(info.name)
    for info in pkgutil.walk_packages(mlax_optimizers.__path__, "mlax_optimizers.")
    if not info.ispkg
}

# Options that change which slots there are, or which arguments are read; the defaults are tested in any case.
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "adam": [{"bias_correction": False, "eps_root": 1e-8}],
    "sgd": [
        {"momentum": None},
        {"momentum": 0.9, "nesterov": True},
        {"momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1},
    ],
}

CASES = [
    (name, options) for name in MODULES for options in [dict[str, Any](), *OPTIONS.get(name, [])]
]


def case_name(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(f"{key}={option}" for key, option in value.items()) or "default"
    return str(value)


def optimizer_class(module: ModuleType) -> type[Optimizer]:
    """Return the one optimizer class that a generated module defines."""
    (cls,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Optimizer)
        and value.__module__ == module.__name__
    )
    return cls


def slots(state: Any) -> dict[str, Any]:
    """Return the slots of a state that are like the weights."""
    hints = get_type_hints(type(state))
    return {
        name: value
        for name, value in state._asdict().items()
        if value is not None and (hints[name] is Weights or Weights in get_args(hints[name]))
    }
