"""Files without the code that made them: what is in one, and what has changed since."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import mlax
from mlax import Container, Module, Parameter, Variable, optim
from mlax._saving.safetensors import write
from tests.mlax.saving.files import entry, file_of

pytestmark = pytest.mark.one_python


def version(source: str, module: str = "demo") -> Any:
    """Return the classes of one version of a user's code."""
    names: dict[str, Any] = {"Module": Module, "Parameter": Parameter, "__name__": module}
    exec(source, names)
    return type("Version", (), names)


OLD = version("""
class Dense(Module):
    units: int
    w: Parameter
    bias: Parameter
    scale: float = 1.0

class Net(Module):
    layers: tuple
    head: Dense
""")


def dense(cls: Any, units: int, **options: Any) -> Any:
    return cls(units, Parameter(jnp.ones((2, units))), Parameter(jnp.ones(units)), **options)


def net(code: Any, units: int = 3, **options: Any) -> Any:
    return code.Net(
        (dense(code.Dense, 2), dense(code.Dense, 2)), dense(code.Dense, units), **options
    )


def refusal(path: Path, saved: Any, like: Any) -> list[str]:
    """Return what an error says has changed."""
    mlax.save(path / "x", saved)
    with pytest.raises(mlax.LeafMismatchError) as caught:
        mlax.load(path / "x", like=like)
    return str(caught.value).splitlines()[1:]


def test_a_table_shows_what_is_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "x"
    mlax.save(file, (net(OLD), optim.SGD(0.1, momentum=0.9).init(jnp.ones(2))), {"data": "digits"})
    contents = mlax.load_contents(file)
    assert str(contents).splitlines() == [
        "10 arrays with 26 numbers",
        "metadata data: digits",
        "0: demo.Net",
        "  layers.0: demo.Dense",
        "    units: 2",
        "    scale: 1.0",
        "    w: float32[2,2]",
        "    bias: float32[2]",
        "  layers.1: demo.Dense",
        "    units: 2",
        "    scale: 1.0",
        "    w: float32[2,2]",
        "    bias: float32[2]",
        "  head: demo.Dense",
        "    units: 3",
        "    scale: 1.0",
        "    w: float32[2,3]",
        "    bias: float32[3]",
        *str(contents).splitlines()[18:],
    ]
    assert "1: mlax_optimizers.sgd.State" in str(contents)
    assert "    nesterov: False" in str(contents)
    assert contents.arrays["0.head.w"] == ((2, 3), "float32")
    assert contents.static["0.layers.0.units"] == "2"
    assert contents.classes["0.layers.0"] == "demo.Dense"
    assert contents.metadata == mlax.load_metadata(file) == {"data": "digits"}


class Pair(NamedTuple):
    first: Any
    second: Any


def test_classes_of_all_nodes_are_listed(tmp_path: Path) -> None:
    tree = {
        "box": Container([Variable(1)]),
        "pair": Pair(dense(OLD.Dense, 2), None),
        "list": [(1,)],
    }
    mlax.save(tmp_path / "x", tree)
    assert (
        mlax.load_contents(tmp_path / "x").classes
        == {
            "box": "mlax.Container",
            "pair": f"{__name__}.Pair",
            "pair.first": "demo.Dense",
        }
        or {}
    )
    mlax.save(tmp_path / "x", mlax.pack(net(OLD)))
    classes = mlax.load_contents(tmp_path / "x").classes
    assert classes == {
        "": "mlax.Packed",
        "layout": "demo.Net",
        "layout.layers.0": "demo.Dense",
        "layout.layers.1": "demo.Dense",
        "layout.head": "demo.Dense",
    }


def test_arrays_are_loaded_by_name_without_a_tree(tmp_path: Path) -> None:
    key = jax.random.key(1)
    mlax.save(
        tmp_path / "x", {"net": net(OLD), "key": key, "step": 3, "half": jnp.ones(2, "bfloat16")}
    )
    arrays = mlax.load(tmp_path / "x")
    assert [*arrays] == [*mlax.load_contents(tmp_path / "x").arrays]
    assert isinstance(arrays["net.head.w"], jax.Array)
    assert arrays["half"].dtype == jnp.bfloat16
    assert (arrays["key"] == key).all()
    assert isinstance(arrays["step"], np.ndarray)  # JAX has no int64
    assert arrays["step"] == 3
    unknown = {"x": entry("F4", (4,), (0, 2))}
    (tmp_path / "x").write_bytes(file_of(unknown, bytes(2)))
    with pytest.raises(
        ValueError, match=r"mlax\.load: x has the dtype F4, which JAX does not have"
    ):
        mlax.load(tmp_path / "x")


def test_everything_that_changed_is_named(tmp_path: Path) -> None:
    new = version("""
class Dense(Module):
    units: int
    kernel: Parameter
    bias: Parameter
    activation: str = "relu"

class Linear(Dense): ...

class Net(Module):
    blocks: tuple
    head: Dense
    extra: Parameter
""")
    like = new.Net(
        (dense(new.Dense, 2), dense(new.Linear, 2)), dense(new.Dense, 4), Parameter(jnp.ones(1))
    )
    assert refusal(tmp_path, net(OLD), like) == [
        "  blocks.1: demo.Dense, but demo.Linear in `like`",
        "  blocks: missing; renamed from layers? (4 of 8 values inside fit)",
        "  blocks.0.kernel: missing; renamed from blocks.0.w?",
        "  blocks.1.kernel: missing; renamed from blocks.1.w?",
        "  head.kernel: missing, `like` has float32[2,4]",
        "  head.bias: float32[3], but float32[4] in `like`",
        "  extra: missing, `like` has float32[1]",
        "  head.w: float32[2,3], not in `like`",
        "  head.units: 3, but 4 in `like`",
        "  blocks.0.scale: 1.0, not in `like`",
        "  blocks.1.scale: 1.0, not in `like`",
        "  head.scale: 1.0, not in `like`",
    ]
    with pytest.warns(UserWarning, match="only leaves that fit are loaded"):
        assert mlax.load(tmp_path / "x", like=like, strict=False).blocks[0].units == 2


@pytest.mark.parametrize(
    ("saved", "like", "renamed"),
    [
        # Names that are spelled alike, where the shapes do not decide.
        (["q", "k", "v"], ["value", "query", "key"], {"query": "q", "key": "k", "value": "v"}),
        (["a1", "b2"], ["x2", "y1"], {"x2": "b2", "y1": "a1"}),
        (["a.x", "a.y", "c"], ["b.x", "b.y", "c"], {"b": "a"}),
        (["a.deep.x"], ["a.deeper.x"], {"a.deeper": "a.deep"}),
        (["0.x", "1.x"], ["first.x", "second.x"], {"first": "0", "second": "1"}),
        # Not renamed: it is still there, or an item of a list more.
        (["a", "b"], ["a", "c", "b", "d"], {}),
        (["0.x"], ["0.x", "1.x"], {}),
        (["a.x", "a.y"], ["a.x", "b.y"], {}),
        (["1.x"], ["2.x"], {}),
    ],
)
def test_names_that_were_changed_are_guessed(
    tmp_path: Path, saved: list[str], like: list[str], renamed: dict[str, str]
) -> None:
    lines = refusal(tmp_path, dict.fromkeys(saved, jnp.ones(3)), dict.fromkeys(like, jnp.ones(3)))
    guesses = {
        line.partition(":")[0].strip(): line.partition("renamed from ")[2].partition("?")[0]
        for line in lines
        if "renamed" in line
    }
    assert guesses == renamed


def test_many_renamed_layers_are_told_in_a_moment(tmp_path: Path) -> None:
    """Within a time that would not do if it grew with the square of their number."""
    ones = np.ones(2)
    saved = {f"layers.{i}": {"w": ones, "b": ones} for i in range(1000)}
    like = {f"layers.{i}": {"kernel": ones, "bias": ones} for i in range(1000)}
    lines = refusal(tmp_path, saved, like)
    assert len(lines) == 2000
    assert "  layers.7.bias: missing; renamed from layers.7.b?" in lines


def test_a_class_with_another_name_warns_and_one_that_moved_does_not(tmp_path: Path) -> None:
    source = "class Dense(Module):\n    units: int\n    w: Parameter\n    bias: Parameter\n"
    old, moved = version(source), version(source, "elsewhere")
    other = version(source.replace("Dense", "Affine"))
    model = dense(old.Dense, 3)
    mlax.save(tmp_path / "x", {"a": model})
    assert isinstance(
        mlax.load(tmp_path / "x", like={"a": dense(moved.Dense, 3)})["a"], moved.Dense
    )
    like = {"a": dense(other.Affine, 3)}
    with pytest.warns(UserWarning, match="everything in .* fits `like`") as caught:
        loaded = mlax.load(tmp_path / "x", like=like)
    assert str(caught[0].message).endswith("\n  a: demo.Dense, but demo.Affine in `like`")
    assert caught[0].filename == __file__
    assert mlax.tree_equal(loaded, like)
    mlax.save(tmp_path / "x", optim.Adam().init(jnp.ones(2)))
    with pytest.raises(mlax.LeafMismatchError) as refused:
        mlax.load(tmp_path / "x", like=optim.AdamW().init(jnp.ones(2)))
    assert str(refused.value).count("  hyperparameters: ") == 1


@pytest.mark.parametrize(
    "own",
    [
        {"nodes": {"": 1}, "classes": ["demo.Net"]},
        {"nodes": {"": 0}, "classes": [3]},
        {"nodes": {"": 0}},
        {"nodes": ["x"], "classes": ["demo.Net"]},
        {"nodes": {"": "x"}, "classes": ["demo.Net"]},
        {"nodes": {"": 0}, "classes": 3},
    ],
)
def test_classes_that_a_stranger_wrote_are_refused(tmp_path: Path, own: dict[str, Any]) -> None:
    text = json.dumps({"dtypes": {}, "static": {}, **own})
    with (tmp_path / "x").open("w+b") as file:
        write(file, [], {"mlax": text})
    for load in (mlax.load_contents, mlax.load):
        with pytest.raises(ValueError, match="metadata under 'mlax' were not written by mlax"):
            load(tmp_path / "x")


def test_files_of_others_have_contents_too(tmp_path: Path) -> None:
    name = "a\x1b[2J"
    safetensors.numpy.save_file(
        {"fc.w": np.ones((3, 2)), "": np.ones(1)}, tmp_path / "x", {name: "b"}
    )
    safetensors.numpy.save_file({"w": np.ones(1)}, tmp_path / "one")
    assert str(mlax.load_contents(tmp_path / "one")).startswith("1 array with 1 number\n")
    contents = mlax.load_contents(tmp_path / "x")
    assert (contents.static, contents.classes) == ({}, {})
    assert sorted(str(contents).splitlines()) == [
        "'': float64[1]", "2 arrays with 7 numbers", "fc.w: float64[3,2]", "metadata a\\x1b[2J: b"
    ]  # fmt: skip
    older = mlax.load_contents(Path(__file__).with_name("older.safetensors"))
    assert older.static
    assert not older.classes
