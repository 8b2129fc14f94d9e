"""Convolutions and pools of any sizes, against PyTorch's formulas, TensorFlow's "SAME", and Equinox."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import mlax
from mlax import nn
from tests.mlax.nn import peers
from tests.mlax.nn.cases import KEY, array, same

pytestmark = pytest.mark.one_python
small = st.integers(1, 3)


@st.composite
def windows(draw: Any) -> dict[str, Any]:
    """Return sizes of one to three axes, each option as one number or as a tuple."""
    axes = draw(st.integers(1, 3))

    def option(numbers: Any) -> Any:
        return draw(st.one_of(numbers, st.tuples(*[numbers] * axes)))

    pair = st.one_of(st.integers(0, 2), st.tuples(st.integers(0, 2), st.integers(0, 2)))
    return {
        "space": draw(st.tuples(*[st.integers(1, 7 if axes < 3 else 4)] * axes)),
        "kernel_size": option(small) if axes < 3 else draw(st.tuples(small, small, small)),
        "stride": option(small),
        "dilation": option(small),
        "padding": draw(
            st.one_of(
                st.sampled_from(["SAME", "VALID"]), st.integers(0, 2), st.tuples(*[pair] * axes)
            )
        ),
    }


def each(given: Any, axes: int) -> Any:
    return given if isinstance(given, tuple) else (given,) * axes


def extent(kernel: int, dilation: int) -> int:
    return dilation * (kernel - 1) + 1


def expected_space(o: Any) -> tuple[int, ...]:
    """Return the size of the result: PyTorch's formula, and TensorFlow's for "SAME"."""
    axes = len(o["space"])
    kernel, stride, dilation = (
        each(o[name], axes) for name in ("kernel_size", "stride", "dilation")
    )
    if o["padding"] == "SAME":
        return tuple(math.ceil(n / s) for n, s in zip(o["space"], stride, strict=True))
    pads = each(0 if o["padding"] == "VALID" else o["padding"], axes)
    totals = [sum(p) if isinstance(p, tuple) else 2 * p for p in pads]
    return tuple(
        (n + p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(o["space"], totals, dilation, kernel, stride, strict=True)
    )


def fits(o: Any) -> bool:
    return all(n >= 1 for n in expected_space(o))


def amounts(o: Any) -> Any:
    """Return what is added before and after each axis."""
    if o["padding"] == "VALID":
        return [(0, 0)] * len(o["space"])
    if o["padding"] != "SAME":
        return [p if isinstance(p, tuple) else (p, p) for p in each(o["padding"], len(o["space"]))]
    sizes = [each(o[name], len(o["space"])) for name in ("kernel_size", "stride", "dilation")]
    totals = [
        max((math.ceil(n / s) - 1) * s + extent(k, d) - n, 0)
        for n, k, s, d in zip(o["space"], *sizes, strict=True)
    ]
    return [(total // 2, total - total // 2) for total in totals]


def all_windows_have_elements(o: Any) -> bool:
    """Look at each element of each window."""
    sizes = [each(o[name], len(o["space"])) for name in ("kernel_size", "stride", "dilation")]
    return all(
        any(0 <= start * s - before + i * d < n for i in range(k))
        for n, k, s, d, m, (before, _) in zip(
            o["space"], *sizes, expected_space(o), amounts(o), strict=True
        )
        for start in range(m)
    )


@settings(max_examples=100)
@given(windows(), st.sampled_from([1, 2]))
def test_shapes_of_convolutions_and_pools(o: Any, groups: int) -> None:
    space, options = o["space"], {k: v for k, v in o.items() if k != "space"}
    size, rest = options.pop("kernel_size"), options
    assume(fits(o))
    x = jax.ShapeDtypeStruct((*space, 4), jnp.float32)

    def call(layer: Any, x: Any) -> Any:
        return mlax.training(layer, rng=KEY)(x)[0]

    conv = nn.Conv(6, size, groups=groups, **rest)
    assert jax.eval_shape(call, conv, x).shape == (*expected_space(o), 6)
    undilated = {k: v for k, v in rest.items() if k != "dilation"}
    for pool, plain in (
        (nn.MaxPool(size, **rest), o),
        (nn.AvgPool(size, **undilated), o | {"dilation": 1}),
    ):
        if all_windows_have_elements(plain):
            assert jax.eval_shape(call, pool, x).shape == (*expected_space(plain), 4)
        else:
            with pytest.raises(
                ValueError, match=r"Pool: a window of size . lies wholly in the pad"
            ):
                jax.eval_shape(call, pool, x)


@settings(max_examples=100)
@given(windows(), st.sampled_from([1, 2]), st.integers(0, 2))
def test_shapes_of_transposed_convolutions(o: Any, groups: int, more: int) -> None:
    space = o.pop("space")
    axes = len(space)
    kernel, stride, dilation = (
        each(o[name], axes) for name in ("kernel_size", "stride", "dilation")
    )
    more = min(more, *(max(steps) - 1 for steps in zip(stride, dilation, strict=True)))
    if o["padding"] == "SAME":
        expected = tuple(n * s + more for n, s in zip(space, stride, strict=True))
    else:
        pads = each(0 if o["padding"] == "VALID" else o["padding"], axes)
        totals = [sum(p) if isinstance(p, tuple) else 2 * p for p in pads]
        expected = tuple(
            (n - 1) * s - p + d * (k - 1) + more + 1
            for n, s, p, d, k in zip(space, stride, totals, dilation, kernel, strict=True)
        )
    assume(all(n >= 1 for n in expected))
    layer = nn.ConvTranspose(6, groups=groups, output_padding=more, **o)
    x = jax.ShapeDtypeStruct((*space, 4), jnp.float32)
    shape = jax.eval_shape(lambda m, x: mlax.training(m, rng=KEY)(x)[0], layer, x).shape
    assert shape == (*expected, 6)


def test_dilated_pools_have_gradients() -> None:
    """A window of every second element, moved by two, is a plain one over every second element."""
    x = jax.random.permutation(KEY, jnp.arange(144.0)).reshape(9, 8, 2)
    weights = array(6, 5, 2)
    dilated, plain = nn.MaxPool(2, 2, dilation=2, padding=2), nn.MaxPool(2, 1, padding=1)

    def both(x: Any) -> Any:
        parts = dilated(x)[0], plain(x[::2, ::2])[0]
        return [(jnp.sum(part * weights), part) for part in parts]

    (_, one), (_, other) = both(x)
    np.testing.assert_array_equal(one, other)
    gradients = [jax.grad(lambda x, i=i: both(x)[i][0])(x) for i in range(2)]
    np.testing.assert_array_equal(*gradients)


@settings(max_examples=6)
@given(windows(), st.sampled_from([1, 2]))
def test_values_of_convolutions(o: Any, groups: int) -> None:
    """Against Equinox, and with "SAME"; its transpose is its gradient."""
    assume(fits(o))
    space = o.pop("space")
    x = array(*space, 4)
    conv = mlax.set_up(nn.Conv(6, groups=groups, bias=None, **o), x, rng=KEY)
    y, _ = conv(x)
    np.testing.assert_allclose(y, peers.conv(conv, x), 1e-5, 1e-5)


@settings(max_examples=6)
@given(windows(), st.sampled_from([1, 2]))
def test_transposed_convolutions_are_gradients(o: Any, groups: int) -> None:
    """The inner product of y with conv(x) is that of transposed(y) with x."""
    if (
        o["padding"] == "SAME"
    ):  # of all sizes that have this result, that of the transpose is the greatest
        steps = each(o["stride"], len(o["space"]))
        o["space"] = tuple(-(-n // step) * step for n, step in zip(o["space"], steps, strict=True))
    assume(fits(o))
    space = o.pop("space")
    small_space = expected_space(o | {"space": space})
    x = array(*space, 4)
    conv = mlax.set_up(nn.Conv(6, groups=groups, bias=None, **o), x, rng=KEY)
    y = array(*small_space, 6, seed=1)
    back = nn.ConvTranspose(4, groups=groups, bias=None, **o)
    back = mlax.set_up(back, y, rng=KEY)
    *window, inner, out = conv.kernel.data.shape
    grouped = conv.kernel.data.reshape(*window, inner, groups, out // groups)
    kernel = jnp.swapaxes(grouped, -1, -3).reshape(*window, out // groups, 4)
    back = back.replace(kernel=back.kernel.with_data(kernel))
    result, _ = back(y)
    # Several sizes of inputs have results of one size: compare where both have positions.
    _, pullback = jax.vjp(lambda x: conv(x)[0], x)
    (gradient,) = pullback(y)
    common = tuple(slice(min(a, b)) for a, b in zip(result.shape, x.shape, strict=True))
    np.testing.assert_allclose(result[common], gradient[common], 1e-5, 1e-5)


def test_a_batch_of_images_is_no_volume() -> None:
    """Three axes of space are asked for: a tuple of three sizes."""
    x = array(3, 4, 5, 2)
    for layer, name in (
        (nn.Conv(3, 2), "kernel_size"),
        (nn.ConvTranspose(3, 2), "kernel_size"),
        (nn.MaxPool(2), "kernel_size"),
        (nn.AvgPool(2), "kernel_size"),
        (nn.AdaptiveAvgPool(2), "output_size"),
        (nn.AdaptiveMaxPool(2), "output_size"),
    ):
        with pytest.raises(ValueError, match=rf"nn\.Batched.*{name}=\(2, 2, 2\)"):
            mlax.training(layer, rng=KEY)(x)
        images, _ = mlax.training(nn.Batched(layer), rng=KEY)(x)
        volume, _ = mlax.training(layer.replace(**{name: (2, 2, 2)}), rng=KEY)(x)
        assert images.ndim == volume.ndim == 4


def test_one_to_three_axes_of_space() -> None:
    for layer in (nn.Conv(3, 1), nn.ConvTranspose(3, 1)):
        for x in (jnp.ones(3), jnp.ones((2,) * 5)):
            with pytest.raises(
                ValueError, match=r"takes one example with one to three axes of space"
            ):
                mlax.set_up(layer, x, rng=KEY)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_padding_modes(mode: Any) -> None:
    x = array(5, 2)
    layer = mlax.set_up(nn.Conv(1, 3, padding=((1, 2),), padding_mode=mode, bias=None), x, rng=KEY)
    kinds = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    wide = np.pad(x, [(1, 2), (0, 0)], mode=kinds[mode])
    plain = layer.replace(padding=0, padding_mode="zeros")
    same(layer(x)[0], plain(jnp.asarray(wide))[0])


def test_padding_is_never_the_greatest_and_counts_as_told() -> None:
    x = -1 - jnp.abs(array(4, 4, 1))
    assert (nn.MaxPool(3, 1, padding=1)(x)[0] < 0).all()
    ones = jnp.ones((4, 4, 1))
    assert float(nn.AvgPool(2, padding=1)(ones)[0][0, 0, 0]) == 0.25
    assert (nn.AvgPool(2, padding=1, count_include_pad=False)(ones)[0] == 1).all()
    assert (nn.AvgPool(2, padding="SAME")(jnp.ones((3, 1)))[0] == jnp.array([[1.0], [0.5]])).all()


def test_max_pools_of_integers() -> None:
    with pytest.raises(TypeError, match=r"MaxPool\.forward: x(?s:.*)int32"):
        nn.MaxPool(2)(jnp.arange(8).reshape(4, 2))


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (lambda: nn.Conv(3, 0), "kernel_size"),
        (lambda: nn.Conv(3, (0,)), "kernel_size"),
        (lambda: nn.Conv(3, 3, stride=0), "stride"),
        (lambda: nn.Conv(3, 3, padding=-1), "padding"),
        (lambda: nn.Conv(3, 3, padding="same"), "padding"),
        (lambda: nn.Conv(3, 3, groups=2), "groups=2"),
        (lambda: nn.Conv(3, 3, padding_mode="mirror"), "padding_mode"),
        (lambda: nn.Conv(3, 3, padding=((1, 1, 1),)), "padding"),
        (lambda: nn.ConvTranspose(4, 3, output_padding=-1), "output_padding"),
        (lambda: nn.ConvTranspose(4, 3, stride=2, dilation=2, output_padding=2), "output_padding"),
        (lambda: nn.MaxPool(0), "kernel_size"),
        (lambda: nn.MaxPool(2, stride=(1, 1)), "stride"),
        (lambda: nn.AvgPool(2.5), "kernel_size"),
        (lambda: nn.AdaptiveAvgPool(0), "output_size"),
        (lambda: nn.Conv(3, 9), "window of 9"),
        (lambda: nn.Conv(3, 4, dilation=2), "window of 7"),
        (lambda: nn.MaxPool(9), "window of 9"),
    ],
)
def test_wrong_options(layer: Any, text: str) -> None:
    """Each is said at the latest when the layer sees its first input, by the layer itself."""
    with pytest.raises((TypeError, ValueError), match=text) as caught:
        mlax.training(layer(), rng=KEY)(array(6, 4))
    assert any(str(caught.value).startswith(name) for name in dir(nn)), caught.value
