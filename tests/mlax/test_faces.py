"""Public objects know their public place: they print, document and pickle by it, and files may move."""

import importlib
import pickle
import pickletools
from types import FunctionType
from typing import Any

import jax.numpy as jnp
import pytest

import mlax
from mlax import Container, Module, Packed, Parameter, Variable, optim, tree_equal
from tests.mlax.models import linear

FACES = [
    "mlax",
    "mlax.experimental.losses",
    "mlax.experimental.optim",
    "mlax.leafwise",
    "mlax.losses",
    "mlax.nn",
    "mlax.nn.init",
    "mlax.optim",
    "mlax.optimizer",
    "mlax.tree",
    "mlax.typing",
    "mlax_codegen",
]


def exported(face: str) -> dict[str, Any]:
    """Return the classes and functions of mlax that a module exports."""
    module = importlib.import_module(face)
    names = getattr(module, "__all__", None) or [n for n in dir(module) if not n.startswith("_")]
    values = {name: getattr(module, name) for name in names}
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, type | FunctionType) and value.__module__.startswith("mlax")
    }


@pytest.mark.parametrize("face", FACES)
def test_public_objects_are_found_where_they_say(face: str) -> None:
    assert exported(face)
    for name, value in exported(face).items():
        parts = value.__module__.split(".")
        assert not any(part.startswith("_") for part in parts), (name, value.__module__)
        found = getattr(importlib.import_module(value.__module__), value.__qualname__)
        assert found is value, (name, value.__module__)


class Counter(Module):
    """A node of each kind, one still to be made, and containers."""

    weight: Parameter = Parameter(frozen=True)
    count: Variable = Variable(0)
    others: Container = Container((Parameter(1.0), {"a": Variable(2)}))


OPTIMIZER = optim.ClipGradients(optim.Adam(optim.cosine_decay(0.1, 10)), max_norm=1.0)


def packed() -> Packed[Any]:
    """Return a packed model of which one array is filtered out."""
    return mlax.pack(linear()).filter()


@pytest.mark.parametrize(
    "value",
    [
        Counter(),
        linear(),
        packed(),
        OPTIMIZER,
        OPTIMIZER.init({"w": jnp.ones((2, 3))}),
        optim.adafactor.init(jnp.ones((128, 128))),
        optim.join_schedules([optim.constant(1.0), optim.step_decay(1.0, 0.5, 3)], [5]),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_name_public_places_only(value: Any, protocol: int) -> None:
    data = pickle.dumps(value, protocol)
    back = pickle.loads(data)
    assert type(back) is type(value)
    assert back == value if isinstance(value, optim.Optimizer) else tree_equal(back, value)
    texts = [text for _, text, _ in pickletools.genops(data) if isinstance(text, str)]
    named = [text for text in texts if text.startswith("mlax")]
    assert named
    assert not [text for text in named if "._" in text.replace(" ", ".")]


def test_the_type_of_weights_pickles_by_its_public_name() -> None:
    data = pickle.dumps(mlax.typing.Weights)
    assert pickle.loads(data) is mlax.typing.Weights
    assert b"mlax.typing" in data
    assert b"._" not in data


@pytest.mark.parametrize("face", FACES)
def test_faces_export_no_helpers(face: str) -> None:
    assert not hasattr(importlib.import_module(face), "claim")
