"""Files that an older mlax saved still load.

`older.safetensors` was written by `python -m tests.mlax.saving.test_older_files` on 2026-11-29, at commit dc3637b,
before the files of the library moved into folders. It holds what `saved` returns: static fields, hyperparameters,
schedules, wrappers and a packed tree, whose text the file keeps. `older_lists.safetensors` was written in the same way
on 2026-11-29, at commit 028cb60, before modules stored lists and dicts as frozen ones.
"""

import contextlib
from collections import OrderedDict, namedtuple
from dataclasses import field, make_dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import pytest

import mlax
from mlax import Container, Module, Parameter, Variable, optim, tree_equal
from mlax.optimizer import Number, scheduled

FILE = Path(__file__).with_name("older.safetensors")
FILE_OF_LISTS = Path(__file__).with_name("older_lists.safetensors")


class Dense(Module):
    """A layer with a static field, a frozen parameter and a variable."""

    activation: Any
    kernel: Parameter
    scale: Parameter
    calls: Variable


def is_matrix(path: str, w: Any) -> bool:
    """Return whether a weight has two axes."""
    return w.ndim == 2


def model() -> Dense:
    """Return a model of which no array is all zeros or ones."""
    kernel = Parameter(jnp.arange(6.0).reshape(2, 3))
    scale = Parameter(jnp.array([0.5, 1.5, 2.5], jnp.bfloat16), frozen=True)
    return Dense(jax.nn.relu, kernel, scale, Variable(3))


def saved() -> dict[str, Any]:
    """Return what the file holds."""
    net = model()
    gradients = jax.tree.map(jnp.ones_like, net.filter())
    adam = optim.Adam(optim.cosine_decay(1e-2, 100), b1=0.8)
    wrapped = optim.AverageWeights(optim.ClipGradients(optim.SGD(0.1, momentum=0.9), 1.0), 0.9)
    groups = optim.MultiOptimizer([optim.Adafactor(), optim.Lion()], [is_matrix])
    states = {
        name: optimizer.update(net, gradients, optimizer.init(net))
        for name, optimizer in (("adam", adam), ("wrapped", wrapped), ("groups", groups))
    }
    return {"net": net, "packed": mlax.pack([net, net.kernel.data + 1]), **states}


def test_a_file_from_before_the_folders_loads() -> None:
    expected = saved()
    loaded = mlax.load(FILE, like=jax.eval_shape(saved))
    assert jax.tree.structure(loaded) == jax.tree.structure(expected)
    # Rounding may differ between versions of XLA; everything else is exact.
    jax.tree.map(_same, loaded, expected)
    assert tree_equal(loaded["net"], expected["net"])


class Layers(Module):
    """Layers in lists and dicts."""

    layers: list[Dense]
    named: dict[str, Any]


def saved_lists() -> dict[str, Any]:
    """Return what the file of lists holds."""
    net = Layers([model(), model()], {"b": [model()], "a": OrderedDict(y=model(), x=None)})
    optimizer = optim.AdamW(1e-2)
    gradients = jax.tree.map(jnp.ones_like, net.filter())
    updated = optimizer.update(net, gradients, optimizer.init(net))
    return {"net": net, "updated": updated, "packed": mlax.pack(net), "box": Container([model()])}


def test_a_file_from_before_lists_were_frozen_loads() -> None:
    expected = saved_lists()
    loaded = mlax.load(FILE_OF_LISTS, like=jax.eval_shape(saved_lists))
    assert jax.tree.structure(loaded) == jax.tree.structure(expected)
    jax.tree.map(_same, loaded, expected)
    assert tree_equal(loaded["net"], expected["net"])
    assert tree_equal(loaded["packed"].unpack(), expected["net"])


class Adam(optim.Adam):
    """What a later Adam may be: with an option, and with a number that its state holds."""

    shrunk: bool = False
    shrinkage: Annotated[Number, scheduled(at_least=0)] = 0.25


def test_fields_that_the_file_does_not_know_have_their_defaults() -> None:
    """A later mlax has more of them: options of modules and optimizers, and numbers with their leaves."""

    class Later(Dense):
        bias: bool = True
        axes: tuple[int, ...] = field(default_factory=lambda: (0, 1))

    Later.__qualname__ = "Dense"
    old = jax.eval_shape(saved)
    trained, adam = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), old["adam"])
    state_type: Any = namedtuple("State", [*adam._fields, "shrinkage"])

    def later(shrinkage: float = 0.25, **options: Any) -> dict[str, Any]:
        net = Later(**options, **{name: getattr(model(), name) for name in FIELDS})
        h = Adam(optim.cosine_decay(1e-2, 100), b1=0.8, shrinkage=shrinkage).held()
        state = state_type(
            **adam._replace(hyperparameters=h)._asdict(), shrinkage=jnp.float32(shrinkage)
        )
        return {**old, "net": net, "adam": (trained, state)}

    for like in (later(), jax.eval_shape(later)):
        loaded = mlax.load(FILE, like=like)
        assert jax.tree.structure(loaded) == jax.tree.structure(like)
        assert loaded["net"].bias
        assert loaded["adam"][1].shrinkage == 0.25
        assert loaded["adam"][1].step == 1
    with pytest.warns(UserWarning, match=r"adam.1.shrinkage: 0.25, but 0.5 in `like`"):
        assert mlax.load(FILE, like=later(0.5))["adam"][1].shrinkage == 0.25
    with pytest.raises(mlax.LeafMismatchError) as caught:
        mlax.load(FILE, like=later(bias=False))
    assert str(caught.value).splitlines()[1:] == ["  net.bias: missing, `like` has False"]


@pytest.mark.parametrize(
    ("fields", "fits"),
    [
        ({"start": 0.1}, True),
        ({"start": 0.1, "steps": 10}, True),
        ({"steps": 10}, False),
        ({"start": 0.1, "steps": 11}, False),
    ],
)
def test_schedules_may_have_new_fields(fields: Any, fits: bool, tmp_path: Path) -> None:
    """Their texts stand inside those of other values."""
    older: Any = make_dataclass("Decay", fields, frozen=True)
    newer: Any = make_dataclass(
        "Decay", ["start", ("steps", int, 10), ("floor", float, 0.0)], frozen=True
    )
    mlax.save(tmp_path / "x", Holder((older(**fields), 1.0)))
    like = Holder((newer(0.1), 1.0))
    with contextlib.nullcontext() if fits else pytest.raises(mlax.LeafMismatchError):
        assert mlax.load(tmp_path / "x", like=like).static == like.static


class Holder(Module):
    """Static only."""

    static: Any


FIELDS = ("activation", "kernel", "scale", "calls")


def _same(a: Any, b: Any) -> None:
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    assert jnp.allclose(a.astype(float), b.astype(float), rtol=1e-6, atol=1e-7)


if __name__ == "__main__":
    mlax.save(FILE, saved())
    mlax.save(FILE_OF_LISTS, saved_lists())
