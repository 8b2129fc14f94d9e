"""Rules for all losses: the dtype rule, float32 arithmetic, one example at a time, and settings within bounds."""

import inspect
import pickle
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mlax
from mlax import LeafMismatchError, losses
from mlax.experimental import losses as strict
from tests.mlax.losses.compiling import quick
from tests.test_import import loaded_after

pytestmark = pytest.mark.one_python

X = jnp.array([0.3, 0.5, 0.2])
T = jnp.array([0.1, 0.2, 0.7])
LABEL = jnp.array(1)
IMAGE = jnp.stack([X, T])

# Inputs of each loss: all of its required arguments.
INPUTS: dict[str, tuple[Any, ...]] = {
    "ctc": (IMAGE, jnp.array([1])),
    "ctc_with_forward_probabilities": (IMAGE, jnp.array([1])),
    "dice": (IMAGE, IMAGE),
    "gaussian_nll": (X, T, T),
    "generalized_dice": (IMAGE, IMAGE),
    "margin_ranking": (X, T, jnp.array([1, -1, 1])),
    "nt_xent": (IMAGE, jnp.array([0, 0])),
    "smooth_labels": (X, 0.1),
    "sparse_categorical_crossentropy": (X, LABEL),
    "triplet_margin": (X, T, -T),
    **dict.fromkeys(
        ["multiclass_hinge", "multiclass_perceptron", "multiclass_sparsemax", "nll"], (X, LABEL)
    ),
}
ALL = [
    *(getattr(losses, name) for name in sorted(vars(losses)) if not name.startswith("_")),
    *(getattr(strict, name) for name in strict.__all__),
]


def called(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a loss with its required arguments other than arrays."""
    if function is losses.fenchel_young:
        return partial(function, max_function=jax.nn.logsumexp)
    return function


def inputs(function: Any, dtype: Any = jnp.float32) -> list[Any]:
    given = INPUTS.get(function.__name__, (X, T))
    return [x.astype(dtype) if is_float(x) else x for x in given]


def is_float(x: Any) -> bool:
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jnp.floating)


def is_integer(x: Any) -> bool:
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jnp.integer)


def first_dimensions(function: Any) -> str:
    """Return the dimensions in the annotation of a loss's first argument."""
    hint: Any = next(iter(function.__annotations__.values()))
    return hint.dim_str


every = pytest.mark.parametrize("function", ALL, ids=lambda f: f"{f.__module__}.{f.__name__}")


@every
def test_half_precision_is_computed_in_float32(function: Any) -> None:
    """The result is that of float32, rounded once, no weak type comes out, and no NaN is lost."""
    loss = called(function)
    half = inputs(function, jnp.bfloat16)
    arrays = [x for x in half if isinstance(x, jax.Array)]
    rest = half[len(arrays) :]

    @quick
    def results(*half: Any) -> Any:
        wide = [x.astype(jnp.float32) if is_float(x) else x for x in half]
        return loss(*half, *rest), loss(*wide, *rest)

    for narrow, full in zip(*map(jax.tree.leaves, results(*arrays)), strict=True):
        assert (narrow.dtype, full.dtype) == (jnp.bfloat16, jnp.float32)
        assert not narrow.weak_type
        assert not full.weak_type
        np.testing.assert_array_equal(narrow, full.astype(jnp.bfloat16))
    for result in jax.tree.leaves(results(arrays[0] * jnp.nan, *arrays[1:])[0]):
        assert np.isnan(result).any()


def test_weak_types_end_here() -> None:
    """Even those of arrays made from Python numbers. Eager, compiled and mapped results are the same."""
    weak = jnp.asarray(0.5)
    assert weak.weak_type
    result = losses.huber(weak, weak + 3, delta=0.5)
    assert not result.weak_type
    assert result == jax.jit(losses.huber)(weak, weak + 3, delta=0.5) == 1.375
    assert jax.vmap(losses.huber)(weak[None], weak[None] + 3) == 2.5


@every
def test_other_dtypes_and_shapes_are_refused(function: Any) -> None:
    """Floating-point arguments must have the dtype of the first one. Errors name the argument."""
    loss, given = called(function), inputs(function)
    names = list(inspect.signature(function).parameters)
    where = f"{function.__module__.removeprefix('mlax.')}.{function.__name__}: "
    for i, x in enumerate(given):
        if not is_float(x):
            continue
        other = [*given[:i], x.astype(jnp.bfloat16), *given[i + 1 :]]
        if sum(map(is_float, given)) > 1:
            with pytest.raises(LeafMismatchError, match=r"no implicit promotion") as caught:
                loss(*other)
            assert str(caught.value).startswith(where)
            assert "bfloat16" in str(caught.value)
            longer = [*given[:i], jnp.concatenate([x, x]), *given[i + 1 :]]
            with pytest.raises(LeafMismatchError, match=r"float32\[\d(,3)?\], but"):
                loss(*longer)
        bad: Any
        for bad in (np.asarray(x), x > 0, x.astype(int), x + 0j, x.tolist(), None):
            if "Integer" in str(function.__annotations__[names[i]]) and is_integer(bad):
                continue
            with pytest.raises(TypeError, match=f"{names[i]} must be Float") as refused:
                loss(*given[:i], bad, *given[i + 1 :])
            assert str(refused.value).startswith(where)
        with pytest.raises(ValueError, match=f"{names[i]} is empty: float32"):
            loss(*given[:i], x[:0], *given[i + 1 :])


@pytest.mark.parametrize(
    "function",
    [f for f in ALL if not first_dimensions(f).startswith("*")],
    ids=lambda f: f.__name__,
)
def test_a_batch_is_refused_where_it_shows(function: Any) -> None:
    """If the annotation has a fixed number of axes."""
    batch = [jnp.stack([x, x]) if isinstance(x, jax.Array) else x for x in inputs(function)]
    with pytest.raises(
        TypeError, match=r"a loss takes one example; map it over a batch with jax.vmap"
    ):
        called(function)(*batch)


@pytest.mark.parametrize(
    ("target", "got"),
    [
        (jnp.array(1.0), "float32[]"),
        (jnp.array(1.0, jnp.bfloat16), "bfloat16[]"),
        (1, "1 (int) (make it a JAX array: jnp.asarray)"),
        (np.int32(1), "a NumPy scalar int32[] (make it a JAX array: jnp.asarray)"),
        (np.array(1), "a NumPy array int64[] (make it a JAX array: jnp.asarray)"),
        (jnp.array([0, 1, 0]), "int32[3]; a loss takes one example"),
    ],
)
@pytest.mark.parametrize("function", [losses.cross_entropy, losses.poly_cross_entropy])
def test_what_is_neither_label_nor_distribution(function: Any, target: Any, got: str) -> None:
    """Both are named, and what makes one of it."""
    expected = 'targets must be Float[Array, "classes"] | Integer[Array, ""], got '
    with pytest.raises(TypeError) as caught:
        function(X, target)
    assert f"losses.{function.__name__}: {expected}{got}" in str(caught.value)
    assert not isinstance(caught.value, LeafMismatchError)


@every
def test_losses_are_known_by_their_public_name(function: Any) -> None:
    """They pickle, and say where they come from."""
    assert function.__module__ in ("mlax.losses", "mlax.experimental.losses")
    assert pickle.loads(pickle.dumps(function)) is function


@every
def test_the_docstring_of_a_loss_is_complete(function: Any) -> None:
    """Every argument, the result and the exceptions are described, in this order."""
    doc = inspect.getdoc(function)
    assert doc
    sections = [line for line in doc.splitlines() if re.fullmatch(r"[A-Z][a-z]+:", line)]
    assert [name for name in sections if name != "References:"] == ["Args:", "Returns:", "Raises:"]
    arguments = doc.partition("\nArgs:\n")[2].partition("\n\n")[0]
    described = re.findall(r"^    (\w+): ", arguments, re.MULTILINE)
    assert described == list(inspect.signature(function).parameters)
    references = [i for i, name in enumerate(sections) if name == "References:"]
    assert references in ([], [3])


def test_what_all_losses_share_is_appended_to_their_docstrings() -> None:
    """The dtype of the result, and the exceptions that this loss can raise, with its settings."""
    assert losses.huber.__doc__
    assert losses.huber.__doc__.partition("Returns:")[2].partition("References:")[0] == (
        "\n    A number (shape ()) in the dtype of `predictions`.\n\nRaises:\n"
        "    LeafMismatchError: Arrays that should have the same dtype or shape do not.\n"
        "    TypeError: An argument does not match its annotation; it may be a batch.\n"
        "    ValueError: An array is empty, or `delta` is out of bounds.\n\n"
    )
    assert "LeafMismatchError" not in str(losses.nll.__doc__)
    assert "is out of bounds" not in str(losses.nll.__doc__)


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.uint8, jnp.int32, jnp.uint32])
@pytest.mark.parametrize(
    "function",
    [
        losses.cross_entropy,
        losses.poly_cross_entropy,
        losses.nll,
        losses.multiclass_hinge,
        losses.multiclass_perceptron,
        losses.multiclass_sparsemax,
        strict.sparse_categorical_crossentropy,
    ],
    ids=lambda f: f.__name__,
)
def test_integer_labels(function: Any, dtype: Any) -> None:
    """Any integers are labels. One out of range, or negative, makes the loss and the whole gradient NaN: it is not
    taken for one that teaches nothing.
    """
    labels = jnp.array([0, 2, 3, 255 if jnp.iinfo(dtype).min == 0 else -1], dtype)
    for result in quick(jax.vmap(jax.value_and_grad(function), (None, 0)))(X, labels):
        assert np.isfinite(result[:2]).all()
        assert np.isnan(result[2:]).all()


@pytest.mark.parametrize(
    "function",
    [losses.cross_entropy, losses.poly_cross_entropy, losses.nll],
    ids=lambda f: f.__name__,
)
def test_labels_that_are_ignored(function: Any) -> None:
    """Loss and gradient are 0, also where the logits are NaN; of other labels they are as without it."""
    labels, x = jnp.array([1, -100, 2, 7], jnp.int16), jnp.stack([X, X * jnp.nan, X, X])
    ignoring = quick(jax.vmap(jax.value_and_grad(partial(function, ignore_index=-100))))
    value, gradient = ignoring(x, labels)
    expected = quick(jax.vmap(jax.value_and_grad(function)))(x, labels)
    for found, wanted in zip((value, gradient), expected, strict=True):
        np.testing.assert_array_equal(found[1], 0)
        others = jnp.array([0, 2, 3])
        np.testing.assert_array_equal(found[others], wanted[others])
    if function is not losses.nll:
        with pytest.raises(
            TypeError, match=r"ignore_index is for integer labels, got targets float32\[3\]"
        ):
            function(X, X, ignore_index=0)
    with pytest.raises(TypeError, match=r"ignore_index must be int \| None, got True"):
        function(X, jnp.int32(1), ignore_index=True)


def test_many_classes_and_a_small_label_dtype() -> None:
    """More classes than int8 can count."""
    x = jnp.arange(300.0)
    for function in (losses.cross_entropy, losses.multiclass_hinge, losses.multiclass_sparsemax):
        compiled = quick(function)
        assert compiled(x, jnp.array(7, jnp.int8)) == compiled(x, jnp.array(7))


@pytest.mark.parametrize(
    ("name", "setting", "bad", "bound"),
    [
        ("huber", "delta", -1, "> 0, got -1"),
        ("huber", "delta", jnp.array(-1.0), "> 0, got -1.0"),
        ("smooth_l1", "beta", 0.0, "> 0"),
        ("gaussian_nll", "epsilon", 0.0, "> 0"),
        ("cross_entropy", "label_smoothing", 1.0, ">= 0 and < 1"),
        ("poly_cross_entropy", "epsilon", float("nan"), "a finite number"),
        ("sigmoid_focal", "gamma", -0.5, ">= 0"),
        ("sigmoid_focal", "alpha", 1.5, ">= 0 and <= 1"),
        ("cosine_similarity", "epsilon", -1.0, ">= 0"),
        ("cosine_distance", "epsilon", -1.0, ">= 0"),
        ("triplet_margin", "p", 0.5, ">= 1"),
        ("triplet_margin", "margin", float("inf"), "a finite number"),
        ("triplet_margin", "epsilon", 0.0, "> 0"),
        ("margin_ranking", "margin", float("nan"), "a finite number"),
        ("nt_xent", "temperature", 0.0, "> 0"),
        ("dice", "smooth", -1.0, ">= 0"),
        ("dice", "alpha", -1.0, ">= 0"),
        ("dice", "beta", -1.0, ">= 0"),
        ("generalized_dice", "smooth", -1.0, ">= 0"),
        ("binary_dice", "smooth", -1.0, ">= 0"),
        ("ctc", "log_epsilon", 0.0, "< 0"),
        ("ctc", "blank", 3, ">= 0 and < 3, got 3"),
    ],
)
def test_settings_out_of_bounds(name: str, setting: str, bad: Any, bound: str) -> None:
    """They are refused. The message has the bound and the value."""
    function = getattr(losses, name)
    with pytest.raises(ValueError, match=f"losses.{name}: {setting} must be {bound}"):
        function(*inputs(function), **{setting: bad})


def test_smoothing_out_of_bounds() -> None:
    """It is a positional argument."""
    with pytest.raises(
        ValueError, match=r"losses.smooth_labels: smoothing must be >= 0 and <= 1, got 2"
    ):
        losses.smooth_labels(X, 2)


def test_one_class() -> None:
    """Softmax over one class says nothing, and without the background none is left."""
    one = jnp.ones((4, 1))
    with pytest.raises(
        ValueError, match=r"losses.dice: softmax of one class is always 1; use binary_dice"
    ):
        losses.dice(one, one)
    with pytest.raises(ValueError, match=r"losses.dice: ignore_background leaves no class"):
        losses.dice(one, one, with_logits=False, ignore_background=True)


def test_settings_may_be_learned() -> None:
    """An array of shape () has a gradient; one of another dtype is refused."""

    @quick
    def slope(t: Any) -> Any:
        return jax.grad(
            lambda t: (
                losses.nt_xent(IMAGE, jnp.array([0, 0]), temperature=t)
                + losses.huber(5 * X, T, delta=t)
            )
        )(t)

    assert np.isfinite(slope(jnp.array(0.5)))
    with pytest.raises(
        LeafMismatchError, match=r"delta: bfloat16\[\], but predictions: float32\[3\]"
    ):
        losses.huber(X, T, delta=jnp.array(1, jnp.bfloat16))


def test_smoothing_is_that_of_smooth_labels() -> None:
    """Given as a number, as an array, with labels, with `where`."""
    mask = jnp.array([True, True, False])
    one_hot = jnp.array([0.0, 1.0, 0.0])
    for where in (None, mask):
        smoothed = losses.smooth_labels(one_hot, 0.1, where=where)
        expected = quick(losses.cross_entropy)(X, smoothed, where=where)
        for targets in (one_hot, LABEL):
            for smoothing in (0.1, jnp.array(0.1)):
                loss = partial(losses.cross_entropy, label_smoothing=smoothing)
                result = quick(loss)(X, targets, where=where)
                np.testing.assert_allclose(result, expected, rtol=3e-7)


def test_dice_of_probabilities() -> None:
    """With `with_logits=False`, also of one class, which is how a loss of each class is had."""
    p = jax.nn.softmax(IMAGE)
    t = jnp.eye(3)[:2]
    one_class = quick(jax.vmap(partial(losses.dice, with_logits=False), -1))
    each = one_class(p[..., None, :], t[..., None, :])
    np.testing.assert_allclose(each.mean(), quick(losses.dice)(IMAGE, t), rtol=1e-6)
    binary = quick(partial(losses.binary_dice, with_logits=False))
    np.testing.assert_allclose(
        binary(jax.nn.sigmoid(X), jnp.ones(3)),
        quick(losses.binary_dice)(X, jnp.ones(3)),
        rtol=1e-6,
    )


def test_without_checks() -> None:
    """They compute the same, and still promote nothing between integers and floats."""
    expected = losses.squared_error(X, T)
    with mlax.runtime_checks(False):
        assert losses.squared_error(X, T) == expected
        with pytest.raises(ValueError, match="promotion"):
            losses.squared_error(X, jnp.array([1, 2, 3]))


def test_missing_arguments_are_pythons_own_error() -> None:
    """It names the function."""
    with pytest.raises(TypeError, match=r"squared_error\(\) missing 1 required"):
        losses.squared_error(X)  # type: ignore[call-arg]


def test_losses_are_loaded_on_first_use() -> None:
    """`import mlax` does not load them, and they load nothing else."""
    assert not any("losses" in name for name in loaded_after("import mlax"))
    loaded = loaded_after("import mlax; mlax.losses.huber; mlax.experimental.losses.poisson")
    assert {"mlax.losses", "mlax.experimental.losses"} <= loaded
    assert not {"optax", "mlx", "mlax.optim"} & loaded
