"""Weights that others trained: their names and layouts, and models in several files with an index.

PyTorch is no dependency of the tests. `torch_transformer.safetensors` and `torch_convolutions.safetensors` were written
on 2026-11-30 by PyTorch 2.13.0 and `save_model` of safetensors 0.8.0, from these models with random weights. They hold
an input and the output of the model beside its weights.

    self.embedding = nn.Embedding(11, 8)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, norm_first=True)
    self.encoder = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(8))
    self.head = nn.Linear(8, 11, bias=False)
    self.head.weight = self.embedding.weight

    self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
    self.up = nn.ConvTranspose2d(4, 2, 2, stride=2)

The page docs/saving.md has a transformer of MLX.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Array, Float, Int

import mlax
from mlax import Module, Parameter, nn
from tests.mlax.saving.files import entry, file_of
from tests.mlax.saving.test_round_trip import identical

pytestmark = pytest.mark.one_python

TRANSFORMER = Path(__file__).with_name("torch_transformer.safetensors")
CONVOLUTIONS = Path(__file__).with_name("torch_convolutions.safetensors")

NAMES = {
    r"^blocks\.block": "encoder.layers.{}",
    r"attention\.(query|key|value)$": "self_attn.in_proj_weight",
    r"attention\.(query|key|value)_bias": "self_attn.in_proj_bias",
    r"attention\.output$": "self_attn.out_proj.weight",
    r"attention\.output_bias": "self_attn.out_proj.bias",
    r"attention_norm": "norm1",
    r"feed_forward_norm": "norm2",
    r"feed_forward\.layers\.0": "linear1",
    r"feed_forward\.layers\.1": "linear2",
    r"^norm": "encoder.norm",
    r"^head": "embedding",  # tied
    r"(kernel|scale)$": "weight",
}
QKV = ("query", "key", "value")


class Transformer(Module):
    """The same model."""

    embedding: nn.Embedding
    blocks: nn.Repeat[nn.TransformerBlock]
    norm: nn.LayerNorm
    head: nn.Linear

    def forward(self, tokens: Int[Array, "time"]) -> tuple[Float[Array, "time classes"], Self]:
        return self.chain(tokens, self.embedding, self.blocks, self.norm, self.head)


def transformer() -> Transformer:
    """Return the model with weights of its own."""
    bias: Any = Parameter()
    attention = nn.MultiHeadAttention(
        2, query_bias=bias, key_bias=bias, value_bias=bias, output_bias=bias
    )
    blocks = nn.Repeat(nn.TransformerBlock(attention, nn.MLP(16, 8)), 2)
    model = Transformer(nn.Embedding(11, 8), blocks, nn.LayerNorm(), nn.Linear(11, bias=None))
    return mlax.set_up(model, jnp.zeros(6, int), rng=jax.random.key(0))


def rename(path: str) -> str | list[str]:
    """Return what PyTorch calls a leaf. One array has the kernels of queries, keys and values."""
    for ours, theirs in NAMES.items():
        path = re.sub(ours, theirs, path)
    return [path.format(i) for i in range(2)] if "{}" in path else path


def transform(path: str, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return an array as mlax has it."""
    part = path.rpartition(".")[2]
    kind, _, bias = part.partition("_")
    if kind in QKV:
        ours: Any = np.split(array, 3)[QKV.index(kind)]
        return ours.reshape(2, 4) if bias else ours.T.reshape(8, 2, 4)
    if part == "output":
        return array.T.reshape(2, 4, 8)
    return array.T if part == "kernel" and path != "embedding.kernel" else array


def is_sample(name: str) -> bool:
    """Return whether an array of the file is not a weight."""
    return name in {"tokens", "logits", "x", "y"}


def shard(folder: Path, arrays: Mapping[str, Any], places: Callable[[str], int]) -> Path:
    """Write arrays into several files, as others do, and return their index."""
    files: dict[str, dict[str, Any]] = {}
    for name, array in arrays.items():
        files.setdefault(f"model-{places(name)}.safetensors", {})[name] = array
    for file, part in files.items():
        safetensors.numpy.save_file(part, folder / file, {"format": "pt"})
    index = folder / "model.safetensors.index.json"
    weight_map = {name: file for file, part in files.items() for name in part}
    index.write_text(
        json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}, indent=2)
    )
    return index


@pytest.mark.parametrize("is_sharded", [False, True])
def test_a_transformer_of_pytorch(is_sharded: bool, tmp_path: Path) -> None:
    """Stacked blocks, one array for queries, keys and values, a tied head: its logits are the same."""
    arrays = safetensors.numpy.load_file(TRANSFORMER)
    path = shard(tmp_path, arrays, lambda name: len(name) % 3) if is_sharded else TRANSFORMER
    like = jax.eval_shape(transformer)
    model = mlax.load(path, like=like, rename=rename, transform=transform, ignore=is_sample)
    logits, _ = model(jnp.asarray(arrays["tokens"], jnp.int32))
    np.testing.assert_allclose(logits, arrays["logits"], rtol=1e-5, atol=1e-5)
    assert (model.head.kernel.data == model.embedding.kernel.data.T).all()
    assert mlax.load_metadata(path) == {"format": "pt"}


class Convolutions(Module):
    """The same model."""

    conv: nn.Conv
    norm: nn.BatchNorm
    up: nn.ConvTranspose

    def forward(self, x: Float[Array, "*shape"]) -> tuple[Float[Array, "*new"], Self]:
        return self.chain(x, self.conv, self.norm, self.up)


def test_convolutions_of_pytorch() -> None:
    """Kernels with channels first, running statistics, and a counter that mlax does not have."""
    arrays = safetensors.numpy.load_file(CONVOLUTIONS)
    x = arrays["x"].transpose(1, 2, 0)
    net = Convolutions(nn.Conv(4, 3), nn.BatchNorm(), nn.ConvTranspose(2, 2, stride=2))
    names = {"mean": "running_mean", "variance": "running_var", "bias": "bias"}

    def rename(path: str) -> str:
        layer, _, part = path.partition(".")
        return f"{layer}.{names.get(part, 'weight')}"

    def transform(path: str, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        to = {"conv.kernel": (-1, -2), "up.kernel": (-2, -1)}
        return np.moveaxis(array, (0, 1), to[path]) if path in to else array

    def ignore(name: str) -> bool:
        return name.endswith("num_batches_tracked") or is_sample(name)

    net = mlax.set_up(net, x, rng=jax.random.key(0))
    net = mlax.load(CONVOLUTIONS, like=net, rename=rename, transform=transform, ignore=ignore)
    y, _ = mlax.inference(net)(jnp.asarray(x))
    np.testing.assert_allclose(y, arrays["y"].transpose(1, 2, 0), rtol=1e-5, atol=1e-5)


def test_grouped_and_bilinear_kernels_of_pytorch() -> None:
    """PyTorch's formulas: each group of inputs adds to its own group of outputs; `x1 @ weight[o] @ x2`."""
    random = np.random.default_rng(0)
    x, weight = random.integers(-3, 4, (4, 6)), random.integers(-3, 4, (6, 2, 3))  # 2 groups
    expected = np.zeros((9, 4))
    for t, i, o, k in np.ndindex(4, 6, 2, 3):
        expected[2 * t + k, i // 3 * 2 + o] += x[t, i] * weight[i, o, k]
    parts = [np.moveaxis(part, (0, 1), (-2, -1)) for part in np.split(weight, 2)]
    kernel = Parameter(jnp.asarray(np.concatenate(parts, -1), jnp.float32))
    layer = nn.ConvTranspose(4, (3,), stride=2, groups=2, kernel=kernel, bias=None)
    np.testing.assert_array_equal(layer(jnp.asarray(x, jnp.float32))[0], expected)

    kernel = Parameter(jnp.asarray(np.moveaxis(weight, 0, -1), jnp.float32))
    pair = jnp.ones(2), jnp.arange(3.0)
    result = nn.Bilinear(6, kernel=kernel, bias=None)(*pair)[0]
    np.testing.assert_array_equal(result, [pair[0] @ each @ pair[1] for each in weight])


def test_transposed_kernels_of_equinox_and_flax() -> None:
    """They are reversed along space."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 6)), jnp.float32)
    of_flax = nnx.ConvTranspose(6, 4, (3,), 2, padding="VALID", rngs=nnx.Rngs(0))
    kernel = np.flip(of_flax.kernel[...], 0)
    layer = nn.ConvTranspose(4, (3,), stride=2, kernel=Parameter(jnp.asarray(kernel)), bias=None)
    np.testing.assert_allclose(layer(x)[0], of_flax(x[None])[0], rtol=1e-5, atol=1e-5)

    of_equinox: Any = eqx.nn.ConvTranspose1d(
        6, 4, 3, 2, groups=2, use_bias=False, key=jax.random.key(0)
    )
    kernel = np.flip(np.moveaxis(np.asarray(of_equinox.weight), (0, 1), (-1, -2)), 0)
    layer = layer.replace(groups=2, kernel=Parameter(jnp.asarray(kernel)))
    np.testing.assert_allclose(layer(x)[0], of_equinox(x.T).T, rtol=1e-5, atol=1e-5)


TREE = {
    "blocks": {"w": np.arange(6.0).reshape(3, 2), "b": np.array([1, 2, 3], np.int32)},
    "head": {"w": jnp.ones((2, 3), jnp.bfloat16), "key": jax.random.key(1)},
    "scalar": np.float32(3),
    "": 4,
}


@settings(max_examples=20)
@given(st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_files_and_names_do_not_matter(
    tmp_path_factory: pytest.TempPathFactory, places: list[int]
) -> None:
    """Whatever file an array is in, and whether its name is passed through functions that change nothing."""
    folder = tmp_path_factory.mktemp("files")
    flat = mlax.flatten(TREE)
    files = {
        f"{i}.safetensors": {n: flat[n] for n, j in zip(flat, places, strict=True) if i == j}
        for i in set(places)
    }
    for file, part in files.items():
        mlax.save(folder / file, part)
    index = folder / "index.json"
    index.write_text(
        json.dumps({"weight_map": {name: file for file, part in files.items() for name in part}})
    )
    assert identical(mlax.load(index, like=TREE), TREE)
    assert mlax.load(index).keys() == flat.keys()
    assert mlax.load_contents(index).arrays.keys() == flat.keys()
    same = mlax.load(index, TREE, rename=lambda path: path, transform=lambda path, array: array)
    assert identical(same, TREE)


def test_stacks_and_shared_arrays(tmp_path: Path) -> None:
    """A list of names is a stack, in its order; leaves that share an array do not share memory."""
    path = tmp_path / "x"
    keys = jax.random.split(jax.random.key(0), 3)
    mlax.save(
        path, {"b": {str(i): np.full(2, i) for i in range(3)}, "k": list(keys), "t": np.ones(4)}
    )
    like = {"b": np.zeros((3, 2), int), "k": keys, "one": np.zeros(4), "two": np.zeros(4)}
    names = {"b": ["b.2", "b.0", "b.1"], "k": ("k.0", "k.1", "k.2"), "one": "t", "two": "t"}
    loaded = mlax.load(path, like, rename=names.__getitem__)
    assert loaded["b"].tolist() == [[2, 2], [0, 0], [1, 1]]
    assert (jax.random.key_data(loaded["k"]) == jax.random.key_data(keys)).all()
    loaded["one"][0] = 5
    assert loaded["two"].tolist() == [1, 1, 1, 1]


def test_results_of_transform_are_copied(path: Path) -> None:
    """JAX keeps the memory of an array that begins where it likes, and functions may write to theirs."""
    buffer = np.zeros(512, np.uint8)
    mine: Any = buffer[-buffer.ctypes.data % 64 :][:24].view(np.float32).reshape(2, 3)
    weak = jnp.broadcast_to(jnp.asarray(1.0), (3, 2))
    assert weak.weak_type
    like = {"a": jax.ShapeDtypeStruct((2, 3), jnp.float32), "b": jnp.zeros((3, 2))}
    loaded = mlax.load(
        path,
        like,
        rename=lambda path: "h.0.w",
        transform=lambda path, array: mine if path == "a" else weak,
        ignore=lambda name: name == "h.1.w",
    )
    mine[:] = 5
    assert [float(a.sum()) for a in loaded.values()] == [0, 6]
    assert all(isinstance(a, jax.Array) and not a.weak_type for a in loaded.values())


FLAT = {"h.0.w": np.ones((2, 3), np.float32), "h.1.w": np.zeros((2, 3), np.float32)}
LIKE = {"blocks": {"w": jnp.zeros((2, 3, 2))}, "new": jnp.ones(5)}


def stacked(path: str) -> list[str] | None:
    """Return the names of FLAT for LIKE, which has a leaf of its own."""
    return [f"h.{i}.w" for i in range(2)] if path == "blocks.w" else None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file with FLAT."""
    safetensors.numpy.save_file(FLAT, tmp_path / "x")
    return tmp_path / "x"


def test_none_keeps_the_value(path: Path) -> None:
    """Which shapes alone do not have."""
    loaded = mlax.load(path, LIKE, rename=stacked, transform=lambda path, array: array.T)
    assert loaded["new"] is LIKE["new"]
    assert loaded["blocks"]["w"][0].tolist() == [[1, 1]] * 3
    with pytest.raises(
        mlax.LeafMismatchError, match=r"rename\('new'\) returned None, but `like` has no value"
    ):
        mlax.load(path, jax.eval_shape(lambda: LIKE), rename=stacked)


def refusal(path: Path, **options: Any) -> list[str]:
    """Return the lines of a message after the first."""
    with pytest.raises(mlax.LeafMismatchError) as caught:
        mlax.load(path, LIKE, **options)
    first, *lines = str(caught.value).split("\n  ")
    assert first == f"mlax.load: {path} and `like` differ (strict=False loads what fits):"
    return lines


def test_misfits_name_leaf_and_array(path: Path) -> None:
    """Both names; that a transpose fits; each stack once; and what was asked for by a wrong name."""
    assert refusal(path, rename=stacked) == [
        "h.0.w (blocks.w[0]): float32[2,3], but float32[3,2] in `like`; its transpose fits"
    ]
    wrong = refusal(path, rename=stacked, transform=lambda path, array: array.astype(np.float16).T)
    assert wrong == [
        "h.0.w (blocks.w[0]): transform returned float16[3,2], but float32[3,2] in `like`"
    ]

    def misspelt(path: str) -> Any:
        return [f"blocks.{i}.w" for i in range(2)] if path == "blocks.w" else "new.w"

    assert refusal(path, rename=misspelt, transform=lambda path, array: array.T) == [
        "blocks (blocks.w[0], ...): missing; is it h? (2 of 2 values inside fit)",
        "new.w (new): missing, `like` has float32[5]",
    ]
    assert refusal(path)[-1].startswith("If another program wrote it: rename= says")
    deep = {"x": entry(shape=(1, 2, 1))}
    path.write_bytes(file_of(deep, bytes(8)))
    with pytest.raises(mlax.LeafMismatchError, match="; it has the same axes in another order\n"):
        mlax.load(path, {"x": jnp.zeros((2, 1, 1))})


def test_what_no_leaf_has_is_refused_unless_ignored(path: Path) -> None:
    """An array that a leaf has is never ignored."""
    like = {"h": {"0": {"w": jnp.zeros((2, 3))}}}
    with pytest.raises(mlax.LeafMismatchError, match=r"h\.1\.w: float32\[2,3\], not in `like`"):
        mlax.load(path, like)
    assert mlax.load(path, like, ignore=lambda name: True)["h"]["0"]["w"].all()


def test_without_strict_only_what_fits_is_loaded(path: Path) -> None:
    """Early and late misfits are in one warning, those of `transform` in the order of `like`."""
    wide = jnp.full((3, 2), 8.0)
    like = {"a": jnp.full((2, 3), 7.0), "b": wide, "c": jnp.zeros(1), "d": jnp.zeros((2, 2, 3))}
    names = {"a": "h.1.w", "b": "h.0.w", "c": "gone", "d": ["lost", "h.0.w"]}
    options: Any = {"transform": lambda path, array: array, "strict": False}
    message = (
        r"(?s)gone \(c\): missing.*lost \(d\[0\]\): missing.*h\.0\.w \(b\): transform returned"
    )
    with pytest.warns(UserWarning, match=message) as caught:
        loaded = mlax.load(path, like, rename=names.__getitem__, **options)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert [float(x.max()) for x in loaded.values()] == [0, 8, 0, 0]

    like = {"a": wide, "b": wide}
    with pytest.warns(UserWarning, match=r"(?s)\(a\).*\(b\)"):
        mlax.load(path, like, rename=names.__getitem__, **options)
    stack = {"d": jax.ShapeDtypeStruct((2, 2, 3), jnp.float32)}
    with pytest.raises(
        mlax.LeafMismatchError, match=r"no values to keep:\n  lost \(d\[0\]\): miss"
    ):
        mlax.load(path, stack, rename=names.__getitem__, **options)


def test_transform_does_not_get_what_numpy_lacks(path: Path) -> None:
    path.write_bytes(file_of({"x": entry("F4", (2,), (0, 1))}, bytes(1)))
    with pytest.raises(mlax.LeafMismatchError, match=r"x: F4\[2\], but float32\[2\] in `like`"):
        mlax.load(path, {"x": jnp.zeros(2)}, transform=lambda path, array: array)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rename": lambda path: 3}, TypeError, "must return a name, a list of names or None"),
        ({"rename": lambda path: [3]}, TypeError, "must return a name, a list of names or None"),
        ({"rename": lambda path: ["x"]}, ValueError, "returned 1 name for a stack, but `like` has"),
        ({"rename": lambda path: {}[path]}, KeyError, r"in mlax.load: rename\('blocks.w'\)"),
        (
            {"rename": stacked, "transform": lambda path, array: None},
            TypeError,
            r"transform\('blocks.w', float32\[2,3\]\) must return an array, got None",
        ),
        (
            {"rename": stacked, "transform": lambda path, array: np.multiply(array, 2, out=array)},
            ValueError,
            r"read-only\nin mlax.load: transform\('blocks.w', float32\[2,3\]\)",
        ),
    ],
)
def test_mistakes_of_functions(options: Any, error: Any, message: str, path: Path) -> None:
    """What they return is checked; their own errors say for which leaf they were called."""
    with pytest.raises(error) as caught:
        mlax.load(path, LIKE, **options)
    notes = getattr(caught.value, "__notes__", [])
    assert re.search(message, "\n".join([str(caught.value), *notes]))


def test_without_like_there_are_no_leaves(path: Path) -> None:
    load: Any = mlax.load
    with pytest.raises(TypeError, match="Pass a `like`, or change the dict"):
        load(path, rename=lambda path: path)


def written(folder: Path, weight_map: Any, files: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write an index and its files, true or not."""
    for file, part in files.items():
        safetensors.numpy.save_file(dict(part), folder / file)
    index = folder / "index.json"
    text = weight_map if isinstance(weight_map, str) else json.dumps({"weight_map": weight_map})
    index.write_text(text)
    return index


ONE = np.ones(1, np.float32)


@pytest.mark.parametrize(
    ("weight_map", "files", "message"),
    [
        (
            '{"weight_map":',
            {},
            "index.json is damaged or not an index .*: its text is not valid JSON",
        ),
        ('{"weight_map": {"a": "x", "a": "y"}}', {}, "a key appears twice"),
        ('{"metadata": {}}', {}, "it has no weight_map of names and files"),
        ({}, {}, "it has no weight_map of names and files"),
        ({"a": {"file": "x"}}, {}, "it has no weight_map of names and files"),
        ({"a": "../x"}, {}, "its weight_map has '../x', which is not a file beside it"),
        ({"a": "/x"}, {}, "'/x', which is not a file beside it"),
        ({"a": ".."}, {}, "'..', which is not a file beside it"),
        ({"a": "x"}, {"x": {}}, r"\n  a: in none of them; the index says x"),
        ({"a": "x", "b": "y"}, {"x": {"b": ONE}, "y": {"a": ONE}}, "b: in x; the index says y"),
        ({"a": "x", "b": "y"}, {"x": {"a": ONE}, "y": {"a": ONE, "b": ONE}}, "a: in x and in y"),
    ],
)
def test_an_index_that_is_wrong(weight_map: Any, files: Any, message: str, tmp_path: Path) -> None:
    """Each for its own reason."""
    with pytest.raises(ValueError, match=message):
        mlax.load(written(tmp_path, weight_map, files))


def test_files_of_an_index(tmp_path: Path) -> None:
    """All that are missing are named, damage is that of a file, and arrays that the index leaves out are there."""
    index = written(tmp_path, {"a": "x", "b": "y", "c": "z"}, {"x": {"a": ONE}})
    with pytest.raises(FileNotFoundError, match=r"files that are not beside it: y, z\.\n  Copy"):
        mlax.load_contents(index)
    written(tmp_path, {"a": "x"}, {"x": {"a": ONE, "more": ONE}})
    assert mlax.load(index).keys() == {"a", "more"}
    mlax.save(tmp_path / "y", {"norm": nn.LayerNorm(scale=Parameter(jnp.ones(1)), bias=None)})
    index = written(tmp_path, {"a": "x", "norm.scale": "y"}, {"x": {"a": ONE}})
    other = nn.LayerNorm(eps=1e-6, scale=Parameter(jnp.ones(1)), bias=None)
    assert mlax.load(index, {"a": ONE, "norm": other})["norm"] is not other  # eps is unknown
    (tmp_path / "x").write_bytes(b"12345678")
    with pytest.raises(ValueError, match="/x is damaged or not a safetensors file"):
        mlax.load(index)
    with (tmp_path / "large").open("wb") as file:
        file.write(b'{"weight_map": {')
        file.truncate(10_000_001)
    with pytest.raises(ValueError, match="10,000,001 bytes, more than the limit of 10,000,000"):
        mlax.load(tmp_path / "large")


def test_a_folder_names_the_index_in_it(tmp_path: Path) -> None:
    shard(tmp_path, {"a": ONE}, lambda name: 0)
    with pytest.raises(
        OSError, match=r"is not a file\n  Pass a file in it, such as .*/model\.safetensors\.index"
    ):
        mlax.load(tmp_path)
