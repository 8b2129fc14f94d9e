"""What holds for every layer: transformations, copies, files, and what is said of mistakes."""

import dataclasses
import pickle
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mlax
from mlax import nn
from mlax.nn._effective import kernels
from mlax.nn._elsewhere import INSTEAD
from tests.mlax.nn.cases import CASES, KEY, Case, X, cast, is_float, same, with_gradients

pytestmark = pytest.mark.one_python
WRONG: Any = nn  # checkers know the arguments
every = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@every
def test_transformations(case: Case) -> None:
    """One program: exported, called, mapped, scanned, checkpointed. It agrees with an eager call."""
    model, given = case.model, case.given
    shapes = jax.eval_shape(case.call, model, given)
    exported = jax.export.export(jax.jit(case.call))(model, given)
    read = jax.export.deserialize(exported.serialize())

    @jax.jit
    def program(model: Any, given: Any) -> Any:
        twice = jax.tree.map(lambda a: jnp.stack([a, a]), given)
        checkpointed = with_gradients(jax.checkpoint(lambda m, x: case.call(m, x)[0]), model, given)
        _, scanned = jax.lax.scan(lambda m, x: case.call(m, x)[::-1], model, twice)
        mapped = jax.vmap(lambda x: case.call(model, x)[0])(twice)
        return read.call(model, given), checkpointed, scanned, mapped

    y, after = case.call(model, given)
    assert jax.tree.structure((y, after)) == jax.tree.structure(shapes)
    for a, b in zip(jax.tree.leaves((y, after)), jax.tree.leaves(shapes), strict=True):
        assert (a.shape, a.dtype, a.weak_type) == (b.shape, b.dtype, False)
    assert jax.tree.structure(after) == jax.tree.structure(model)
    by_read, checkpointed, scanned, mapped = program(model, given)
    same(by_read, (y, after))
    same(checkpointed[0], y)
    same(checkpointed[1:], case.results[1:], 1e-5)
    same(jax.tree.map(lambda a: a[0], scanned), y)
    same(mapped, jax.tree.map(lambda a: jnp.stack([a, a]), y))


@every
def test_set_up_in_the_first_call_and_before(case: Case) -> None:
    """Both make the same. Parameters are made in the dtype of the first input, and statistics in float32."""
    narrow = cast(case.given, jnp.bfloat16)

    def lazily(key: Any) -> Any:
        prepared = mlax.training if case.training else mlax.inference
        with jax.numpy_dtype_promotion("strict"):
            return prepared(case.layer, rng=key)(*narrow[0], **narrow[1])

    y, layer = jax.eval_shape(lazily, KEY)
    assert case.model.is_set_up
    assert jax.tree.structure(layer) == jax.tree.structure(case.model)
    shapes = [[a.shape for a in jax.tree.leaves(each)] for each in (layer, case.model)]
    assert shapes[0] == shapes[1]
    made = jnp.float32 if isinstance(case.layer, nn.Embedding) else jnp.bfloat16
    assert dtypes(layer.filter(mlax.is_parameter)) <= {np.dtype(made)}
    assert dtypes(layer.filter(mlax.is_variable)) <= {np.dtype(jnp.float32)}
    assert dtypes(y) == {np.dtype(jnp.bfloat16 if case.own_dtype else jnp.float32)}


def dtypes(tree: Any) -> set[Any]:
    return {leaf.dtype for leaf in jax.tree.leaves(tree)}


@every
def test_copies(case: Case, tmp_path: Path) -> None:
    model, name = case.model, type(case.layer).__name__
    assert type(model).__module__ == "mlax.nn"
    for text in (
        repr(case.layer),
        repr(model),
        str(mlax.summary(model, *case.inputs, **case.keywords)),
    ):
        assert name in text
        assert "object at 0x" not in text
    for each in (case.layer, model):
        assert mlax.tree_equal(pickle.loads(pickle.dumps(each)), each)
    mlax.save(tmp_path / "model.safetensors", model)
    like = jax.eval_shape(lambda key: case.set_up(case.given, key), KEY)
    assert mlax.tree_equal(mlax.load(tmp_path / "model.safetensors", like), model)


@every
def test_frozen(case: Case) -> None:
    frozen = mlax.freeze(case.model)
    assert not jax.tree.leaves(frozen.filter())
    shape = jax.eval_shape(lambda m, x: case.call(m, x)[0], frozen, case.given)
    assert shape == jax.eval_shape(lambda m, x: case.call(m, x)[0], case.model, case.given)
    assert type(mlax.unfreeze(frozen)) is type(case.model)


@every
def test_looking_inside(case: Case) -> None:
    if case.training or isinstance(case.layer, nn.Embedding):
        return
    assert mlax.first_non_finite(mlax.inference(case.model))(*case.inputs, **case.keywords) is None
    infinite = jax.tree.map(lambda a: a * np.float32(np.inf) if is_float(a) else a, case.inputs)
    found = mlax.first_non_finite(mlax.inference(case.model))(*infinite, **case.keywords)
    assert found is not None


@every
@settings(max_examples=2)
@given(factors=st.lists(st.sampled_from([2, 1, 3]), min_size=5, max_size=5))
def test_shapes(case: Case, factors: list[int]) -> None:
    """A layer takes any sizes, and its result has the shape of what it is compared with."""
    leaves, structure = jax.tree.flatten(case.given)
    sizes = {n for leaf in leaves for n in leaf.shape}.difference(case.fixed)
    new = {n: n * factor for n, factor in zip(sorted(sizes), factors, strict=False)}
    shapes = [tuple(new.get(n, n) for n in leaf.shape) for leaf in leaves]
    drawn = [
        jax.ShapeDtypeStruct(*each)
        for each in zip(shapes, [leaf.dtype for leaf in leaves], strict=True)
    ]

    def both(given: Any) -> Any:
        prepared = mlax.training if case.training else mlax.inference
        y, layer = prepared(case.layer, rng=KEY)(*given[0], **given[1])
        return y, case.expected(layer, given)

    y, expected = jax.eval_shape(both, structure.unflatten(drawn))
    assert jax.tree.map(jnp.shape, y) == jax.tree.map(jnp.shape, expected)


@every
def test_numbers_of_numpy_are_numbers_of_python(case: Case) -> None:
    """As a rate, one would promote narrow inputs; as a size, it would be refused."""
    numbers: dict[type, Any] = {float: np.float64, int: np.int64, bool: np.bool_}
    values = {each.name: getattr(case.layer, each.name) for each in dataclasses.fields(case.layer)}
    values = {name: numbers[type(v)](v) for name, v in values.items() if type(v) in numbers}
    assert mlax.tree_equal(case.layer.replace(**values), case.layer)


@every
def test_wrong_inputs(case: Case) -> None:
    for inputs, text in case.wrong:
        with pytest.raises((TypeError, ValueError)) as caught:
            case.call(case.model, (inputs, {}))
        readable(caught.value, text)
        if text.startswith("int"):  # nothing is made from a wrong input
            with pytest.raises((TypeError, ValueError)) as caught:
                case.set_up((inputs, {}))
            readable(caught.value, text)


@every
def test_lora_changes_all_matrices(case: Case) -> None:
    """By default all but the biases of attention, of which each head has one, and factors of its own."""
    matrices = kernels(case.model, lambda path: not re.search(r"bias|[ab]\.data", path))
    chosen = kernels(case.model, re.compile(nn.LoRA(nn.Linear(1), 1).where).fullmatch)
    assert chosen.keys() == matrices.keys()


def test_parts_of_a_series() -> None:
    series = nn.Series(nn.Linear(3), nn.F(jax.nn.relu), nn.Linear(2))
    assert mlax.tree_equal(series[1:], nn.Series(*series.layers[1:]))
    assert series[-1] is series.layers[2]
    assert [len(series[:0]), len([*series])] == [0, 3]


@pytest.mark.parametrize(
    ("mistake", "text"),
    [
        (lambda: nn.LayerNorm(64), "LayerNorm.eps must be .*, got 64.\n.*that of the first input"),
        (lambda: nn.RMSNorm(64), "RMSNorm.eps"),
        (lambda: nn.GroupNorm(2, 64), "GroupNorm.eps"),
        (lambda: nn.InstanceNorm(64), "InstanceNorm.eps"),
        (lambda: nn.BatchNorm(64), "BatchNorm.momentum must be .*\n.*that of the first input"),
        (
            lambda: WRONG.Linear(3, 4),
            r"Linear takes out_features by position, got 3, 4.\n.*that of the first input, so write Linear\(4\)",
        ),
        (
            lambda: WRONG.Conv(3, 16, kernel_size=2),
            r"Conv takes .*, got 3, 16, kernel_size=2.\n.* write Conv\(16, kernel_size=2\)",
        ),
        (lambda: WRONG.Linear(in_features=3, out_features=4), ".* 'in_features'.\n.*: leave it"),
        (
            WRONG.Linear,
            "Linear: out_features is missing.\n.* are out_features, kernel, bias",
        ),
        (lambda: WRONG.Repeat(remat=True), "Repeat: block and depth are missing"),
        (lambda: WRONG.MLP(in_size=3), ".*'in_size'.\n  The arguments are [*]features, activation"),
        (
            lambda: WRONG.Embedding(10, 4, 0),
            "Embedding .* 10, 4, 0.\n  These are given by name: kernel",
        ),
        (lambda: WRONG.Dropout(p=0.5), "Dropout: there is no argument 'p'.\n  Here it is rate"),
        (lambda: WRONG.Conv(features=8, kernel_size=3), ".*'features'.\n  Here it is out_channels"),
        (lambda: WRONG.Linear(4, use_bias=False), ".*'use_bias'.\n  Write bias=None"),
        (lambda: WRONG.Dropout(0.5, inference=True), ".*'inference'.\n.*mlax.inference\\(model"),
        (lambda: WRONG.Dropout(0.5, 1), "Dropout takes rate by position, got 0.5, 1.\n  Leave the"),
        (lambda: nn.Series(nn.Linear(3), jax.nn.relu), r"Series .* relu.\n.*nn.F\(relu\)"),
        (lambda: nn.Parallel(jax.nn.relu), r"Parallel .* relu.\n.*nn.F\(relu\)"),
        (lambda: WRONG.Series([nn.Linear(3)]), r"Series .* a list of .*\n.*nn.Series\(\*modules\)"),
        (lambda: WRONG.Parallel(iter(())), r"Parallel .*\n  Unpack it: nn.Parallel\(\*modules\)"),
        (lambda: WRONG.MLP((3, 4)), r"MLP .* a tuple of them.\n.*nn.MLP\(\*features\)"),
        (lambda: WRONG.Repeat.stack([X]), r"Repeat.stack .* list of .*\n.*stack\(\*blocks\)"),
        (lambda: nn.Recurrent(nn.Linear(3)), "Recurrent.cell must be Cell, got"),
        (lambda: nn.Linear(3, bias=False), "Linear.bias must be .* got False .*\n  Pass None"),
        (
            lambda: nn.Linear(3, kernel=nn.init.orthogonal()),
            r"Linear.kernel .*\n.*Parameter\(init=",
        ),
        (
            lambda: mlax.training(nn.Bilinear(3), rng=KEY)(X, X.astype(jnp.bfloat16)),
            "Bilinear: the second input is bfloat",
        ),
        (lambda: nn.LoRA(nn.Linear(3), 2, where="(("), "LoRA.where is not a regular expression"),
        (lambda: nn.WeightNorm(nn.Linear(3), where="(("), "WeightNorm.where is not a regular"),
        (lambda: nn.SpectralNorm(nn.Linear(3), where="(("), "SpectralNorm.where is not a regular"),
        (lambda: nn.Compute(nn.Linear(3), "bf16"), "Compute.dtype must be .*, got 'bf16'"),
        (lambda: nn.Batched(nn.Dropout(0.0))(1.0), "Batched takes arrays .*, got none"),
        (
            lambda: nn.Shared(nn.PReLU(mlax.Parameter(1.0)), lambda m: m.slope.data, lambda m: 1),
            r"Shared.where must lead to a node, .* got float32\[\]",
        ),
        (
            lambda: mlax.set_up(
                nn.TransformerBlock(nn.MultiHeadAttention(2), nn.MLP(5)), X, rng=KEY
            ),
            r"TransformerBlock: the input is float32\[4,6\], but feed_forward returned float32\[4,5\]",
        ),
        (lambda: nn.PReLU(mlax.Parameter(jnp.ones(3)))(X), r"PReLU: the slope is float32\[3\], "),
        (lambda: nn.rotary(X, jnp.arange(2)), r"rotary: there are 4 positions, got int32\[2\]"),
        (lambda: nn.rotary(jnp.ones((2, 4), int)), "rotary rotates floating-point numbers"),
    ],
)
def test_mistakes_of_other_libraries_users(mistake: Any, text: str) -> None:
    """What `LayerNorm(64)` means elsewhere is an error here, as are values that only fail later."""
    with pytest.raises((TypeError, ValueError), match=f"^{text}") as caught:
        mistake()
    assert len(str(caught.value).splitlines()) <= 2


def test_names_of_other_libraries() -> None:
    for name, text in (("Conv2d", "Conv"), ("ReLU", "F(jax.nn.relu)"), ("MaxPool1D", "MaxPool")):
        message = f"module 'mlax.nn' has no attribute '{name}'.\n  Write nn.{text}"
        with pytest.raises(AttributeError, match=f"^{re.escape(message)}"):
            getattr(nn, name)
    with pytest.raises(AttributeError, match=r"has no attribute 'Convv'$"):
        _ = WRONG.Convv
    named = re.findall(r"(jax\.nn|jnp|nn|mlax)\.(\w+)", " ".join(INSTEAD.values()))
    modules = {"jax.nn": jax.nn, "jnp": jnp, "nn": nn, "mlax": mlax}
    assert len(named) > 40
    assert [each for each in named if not hasattr(modules[each[0]], each[1])] == []
    assert not [name for name in INSTEAD if hasattr(nn, name)]


def readable(error: BaseException, *texts: str) -> None:
    """Check that an error names a layer, and says what it was given in few lines."""
    message = str(error)
    first = message.partition("\n")[0]
    assert any(
        hasattr(nn, word) for word in first.replace(":", " ").replace(".", " ").split()[:1]
    ), message
    assert len(message.splitlines()) <= 12, message
    for text in texts:
        assert text in message, message


@every
def test_mismatched_dtypes(case: Case) -> None:
    """No input may have another dtype than the weights."""
    leaves, structure = jax.tree.flatten(case.given)
    for i, leaf in enumerate(leaves):
        if not is_float(leaf) or not jax.tree.leaves(case.model.filter(mlax.is_parameter)):
            continue
        if isinstance(case.layer, nn.Compute):  # casts
            continue
        given = jax.tree.unflatten(
            structure, [jnp.asarray(a, jnp.bfloat16) if i == j else a for j, a in enumerate(leaves)]
        )
        with pytest.raises(TypeError) as caught:
            case.call(case.model, given)
        readable(
            caught.value,
            "bfloat16",
            "float32",
            "nn.Compute(model, jnp.bfloat16)",
            "astype(jnp.float32)",
        )
