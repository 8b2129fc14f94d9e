"""Functions of matrices, compared with Optax, MLX and NumPy in float64."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import mlx.core as mx
import mlx.optimizers
import numpy as np
import pytest
from jaxtyping import Array
from optax.contrib import _muon as optax_muon

from mlax.leafwise import (
    as_matrix,
    eigenbasis,
    gram,
    inverse_root,
    matmul,
    matrices,
    orthogonalize,
    orthonormal,
    refreshed_basis,
    rotate,
    rotate_back,
    singular_vectors,
    transpose,
)

pytestmark = pytest.mark.one_python

SHAPES = [(3, 3), (2, 5), (6, 2), (1, 4), (4, 1)]
MAGNITUDES = [0.0, 1e-30, 1e-3, 1.0, 1e15]
MUON = (3.4445, -4.7750, 2.0315)


@pytest.fixture(autouse=True)
def strict() -> Any:
    """Leaf arithmetic is traced like this."""
    with jax.numpy_dtype_promotion("strict"):
        yield


def values(shape: tuple[int, ...], seed: int = 0, scale: float = 1.0) -> Array:
    return jnp.asarray(scale * np.random.default_rng(seed).normal(size=shape), jnp.float32)


def iterated(x: Any, coefficients: Any) -> Any:
    """Return what Newton-Schulz makes of a normalised matrix: its singular values under the polynomial."""
    u, s, vt = np.linalg.svd(np.asarray(x, np.float64), full_matrices=False)
    s = s / np.sqrt((s**2).sum())
    for a, b, c in coefficients:
        s = a * s + b * s**3 + c * s**5
    return (u * s) @ vt


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e15])
def test_orthogonalize_by_its_singular_values(shape: tuple[int, int], scale: float) -> None:
    x = values(shape, scale=scale)
    for steps in (1, 5):
        result = orthogonalize(x, steps, "muon", 0.0)
        np.testing.assert_allclose(result, iterated(x, [MUON] * steps), atol=1e-5)
        assert (result.shape, result.dtype) == (x.shape, x.dtype)
    singular = np.linalg.svd(np.asarray(orthogonalize(x)), compute_uv=False)
    assert singular.max() < 1.3
    converged = orthogonalize(x, 30, (1.5, -0.5, 0.0))
    small, large = sorted(shape)
    wide = converged if shape == (small, large) else converged.T
    np.testing.assert_allclose(wide @ wide.T, np.eye(small), atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scaling", ["frobenius", "spectral", "aol", "schatten"])
@pytest.mark.parametrize("name", ["muon", "dion"])
def test_orthogonalize_is_that_of_optax(shape: Any, scaling: Any, name: str) -> None:
    x = values(shape, 1)
    preset = "standard" if name == "muon" else name
    coefficients: Any = optax_muon._NS_COEFFS_PRESET_DICT[preset]
    with jax.numpy_dtype_promotion("standard"):
        expected = optax_muon.orthogonalize_via_newton_schulz(
            x, jnp.asarray(coefficients), 5, scaling, 1e-8
        )
    np.testing.assert_allclose(orthogonalize(x, 5, name, 1e-8, scaling), expected, atol=2e-5)


@pytest.mark.parametrize("shape", [*SHAPES, (3, 2, 2)])
def test_orthogonalize_is_that_of_mlx(shape: tuple[int, ...]) -> None:
    x = values(shape, 2)
    peer: Any = mlx.optimizers.Muon(0.1)
    matrix = as_matrix(x)
    assert matrix.shape == (shape[0], np.prod(shape[1:]))
    expected = peer._zeropower_via_newtonschulz5(mx.array(np.asarray(matrix)), 5)
    np.testing.assert_allclose(orthogonalize(matrix, 5, MUON, 1e-7), np.array(expected), atol=2e-5)


def test_orthogonalize_takes_many_matrices_at_once() -> None:
    x = values((2, 3, 4, 5))
    result = orthogonalize(x)
    for i, j in itertools.product(range(2), range(3)):
        np.testing.assert_allclose(result[i, j], orthogonalize(x[i, j]), atol=1e-6)
    assert orthogonalize(jnp.zeros((0, 3, 2))).shape == (0, 3, 2)
    assert orthogonalize(jnp.zeros((3, 0))).shape == (3, 0)


@pytest.mark.parametrize("scaling", ["frobenius", "spectral", "aol", "schatten"])
@pytest.mark.parametrize("scale", MAGNITUDES)
def test_orthogonalize_any_magnitude(scaling: str, scale: float) -> None:
    result = orthogonalize(values((3, 4), scale=scale), 5, "muon", 1e-8, scaling)
    assert jnp.isfinite(result).all()
    assert abs(result).max() < 1.5
    if scale == 0:
        np.testing.assert_array_equal(result, np.zeros((3, 4)))


def test_orthogonalize_of_half_precision_is_computed_in_float32() -> None:
    x = values((3, 4)).astype(jnp.bfloat16)
    result = orthogonalize(x)
    assert result.dtype == jnp.bfloat16
    np.testing.assert_array_equal(result, orthogonalize(x.astype(jnp.float32)).astype(jnp.bfloat16))


def test_orthogonalize_complex() -> None:
    z = values((3, 4)).astype(jnp.complex64) + 1j * values((3, 4), 1).astype(jnp.complex64)
    unitary = orthogonalize(z, 30, (1.5, -0.5, 0.0))
    np.testing.assert_allclose(unitary @ unitary.conj().T, np.eye(3), atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((jnp.ones(3),), r"expected two axes or more, got shape \(3,\)"),
        ((jnp.ones((2, 2)), 5, "moon"), "'moon' are none of 'muon', 'dion'"),
        ((jnp.ones((2, 2)), 5, (1.0, 2.0)), "expected three coefficients a step"),
        ((jnp.ones((2, 2)), 5, "muon", 0.0, "none"), "unknown scaling 'none'"),
    ],
)
def test_orthogonalize_refuses(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        orthogonalize(*arguments)


@pytest.mark.parametrize("shape", [(4,), (2, 3), (2, 1, 3), (0, 2), (2, 3, 2, 2)])
def test_gram(shape: tuple[int, ...]) -> None:
    g = values(shape)
    for axis, length in enumerate(shape):
        flat = np.moveaxis(np.asarray(g, np.float64), axis, 0).reshape(length, -1 if length else 0)
        result = gram(g, axis)
        assert result.shape == (length, length)
        np.testing.assert_allclose(result, flat @ flat.T, rtol=1e-5, atol=1e-5)
        longest = 2
        assert gram(g, axis, longest).shape == matrices(shape, longest)[axis]


def spectrum(eigenvalues: Any, seed: int = 0) -> tuple[Any, Any]:
    """Return a symmetric matrix of given eigenvalues, and its eigenvectors."""
    n = len(eigenvalues)
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))
    return (q * np.asarray(eigenvalues, float)) @ q.T, q


@pytest.mark.parametrize("p", [1, 2, 4])
@pytest.mark.parametrize("eigenvalues", [[1.0], [1, 2, 3, 4], [5, 5, 5], [0, 0, 1], [1e-3, 1]])
def test_inverse_root(p: int, eigenvalues: list[float]) -> None:
    matrix, q = spectrum(eigenvalues)
    expected = (q * (np.asarray(eigenvalues) + 0.1) ** (-1 / p)) @ q.T
    result = inverse_root(jnp.asarray(matrix, jnp.float32), p, 0.1)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)
    with jax.enable_x64(True):
        np.testing.assert_allclose(inverse_root(jnp.asarray(matrix), p, 0.1), expected, atol=1e-12)


@pytest.mark.optimized  # the singular vectors are exact to 1 %, with LLVM's rounding
@pytest.mark.parametrize("scale", MAGNITUDES)
def test_shampoo_of_any_magnitude(scale: float) -> None:
    g = values((3, 4), scale=scale)
    roots = [inverse_root(gram(g, i), 4, 1e-6) for i in range(2)]
    direction = rotate(g, roots)
    assert jnp.isfinite(direction).all()
    assert abs(direction).max() < 2
    if scale == 1e15:  # what is left are the singular vectors
        np.testing.assert_allclose(direction @ direction.T, np.eye(3), atol=1e-2)
    for shape in [(0, 0), ()]:
        assert inverse_root(jnp.zeros(shape), 4, 1e-6).shape == shape


def test_eigenbasis() -> None:
    matrix, _ = spectrum([1.0, 7, 3])
    basis = eigenbasis(jnp.asarray(matrix, jnp.float32))
    diagonal = basis.T @ jnp.asarray(matrix, jnp.float32) @ basis
    np.testing.assert_allclose(diagonal, np.diag([7.0, 3, 1]), atol=1e-5)


def test_refreshed_basis_converges_and_keeps_its_signs() -> None:
    matrix = jnp.asarray(spectrum([1.0, 20, 5])[0], jnp.float32)
    first = refreshed_basis(matrix, jnp.zeros((3, 3)), jnp.int32(0))
    np.testing.assert_array_equal(first, eigenbasis(matrix))
    np.testing.assert_allclose(refreshed_basis(matrix, first, jnp.int32(1)), first, atol=1e-5)
    turned, _ = jnp.linalg.qr(first + 0.1 * values((3, 3)))
    basis = turned * jnp.sign(jnp.diagonal(turned.T @ first))
    for step in range(1, 30):
        basis = refreshed_basis(matrix, basis, jnp.int32(step))
    np.testing.assert_allclose(basis, first, atol=1e-4)
    one = np.linalg.qr(np.asarray(matrix, np.float64) @ np.asarray(turned, np.float64))[0]
    result = refreshed_basis(matrix, turned, jnp.int32(5))
    np.testing.assert_allclose(abs(result), abs(one), atol=1e-5)


@pytest.mark.parametrize("scale", MAGNITUDES)
def test_bases_of_any_magnitude_are_orthogonal(scale: float) -> None:
    g = values((4, 2), scale=scale)  # its larger gram matrix has no full rank
    matrix = gram(g, 0)
    basis = jnp.zeros((4, 4))
    for step in range(3):
        basis = refreshed_basis(matrix, basis, jnp.int32(step))
        np.testing.assert_allclose(basis.T @ basis, np.eye(4), atol=1e-5)
    for shape in [(0, 0), ()]:
        none = jnp.zeros(shape)
        assert refreshed_basis(none, none, jnp.int32(0)).shape == eigenbasis(none).shape == shape


@pytest.mark.parametrize("shape", [(6, 2), (16, 5), (16, 20)])
def test_bases_of_singular_matrices_are_the_same_for_other_rounding_errors(
    shape: tuple[int, int],
) -> None:
    """As long as the matrix has no full rank, and when it grows."""
    found = list[list[Array]]()
    for noise in (0.0, 3e-7):
        g = jnp.concatenate([values(shape), values(shape, 1)], 1)
        g = g * (1 + noise * values(g.shape, 2))
        matrices = [gram(g[:, :columns], 0) for columns in (1, shape[1], 2 * shape[1])]
        bases = [jnp.zeros((shape[0], shape[0]))]
        for step, matrix in enumerate(matrices):
            bases.append(refreshed_basis(matrix, bases[-1], jnp.int32(step)))
            np.testing.assert_allclose(bases[-1].T @ bases[-1], np.eye(shape[0]), atol=1e-5)
        found.append(bases[1:])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (3, 1, 2), (2, 0)])
def test_rotations(shape: tuple[int, ...]) -> None:
    x = values(shape)
    bases = [jnp.asarray(spectrum(np.ones(n), n)[1], jnp.float32) for n in shape]
    letters = "abcd"[: len(shape)]
    into = ",".join([letters, *(old + old.upper() for old in letters)]) + "->" + letters.upper()
    expected = np.einsum(into, x, *bases) if shape else np.asarray(x)
    np.testing.assert_allclose(rotate(x, bases), expected, atol=1e-5)
    np.testing.assert_allclose(rotate_back(rotate(x, bases), bases), x, atol=1e-5)
    assert rotate(x, bases).shape == shape


@pytest.mark.parametrize("empty", [jnp.zeros(()), jnp.zeros((0, 0))], ids=["scalar", "empty"])
def test_axes_without_a_matrix_stay_as_they_are(empty: Array) -> None:
    x = values((2, 3))
    basis = jnp.asarray(spectrum(np.ones(2))[1], jnp.float32)
    assert gram(x, 1, longest=2).shape == ()
    np.testing.assert_allclose(rotate(x, (basis, empty)), basis.T @ x, atol=1e-6)
    np.testing.assert_allclose(rotate_back(x, (basis, empty)), basis @ x, atol=1e-6)
    np.testing.assert_array_equal(rotate(x, (empty, empty)), x)
    with pytest.raises(ValueError, match="expected a matrix for each of 2 axes, got 1"):
        rotate(x, (basis,))


@pytest.mark.parametrize("rank", [0, 2, 4])
def test_the_derivative_of_an_inverse_root(rank: int) -> None:
    """That of a matrix with equal eigenvalues too, where the derivatives of eigenvectors are not defined."""
    rng = np.random.default_rng(rank)
    slices = rng.normal(size=(4, rank))
    change, factors = rng.normal(size=(2, 4, 4))
    with jax.enable_x64(True):
        matrix, direction = jnp.asarray(slices @ slices.T), jnp.asarray(change @ change.T)

        def along(s: Any, eps: Any = 0.1) -> Any:
            return jnp.sum(factors * inverse_root(matrix + s * direction, 4, eps))

        h = 1e-5
        expected = (-3 * along(0.0) + 4 * along(h) - along(2 * h)) / (2 * h)
        np.testing.assert_allclose(jax.grad(along)(0.0), expected, rtol=1e-5)
        expected = (along(0.0, 0.1 + h) - along(0.0, 0.1 - h)) / (2 * h)
        np.testing.assert_allclose(jax.grad(along, 1)(0.0, 0.1), expected, rtol=1e-5)


def test_a_largest_singular_value_has_a_derivative() -> None:
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)), jnp.float32)
    for scaled in (x, 0 * x):
        gradient = jax.grad(lambda x: orthogonalize(x, 0, scaling="spectral", eps=1.0).sum())(
            scaled
        )
        assert jnp.isfinite(gradient).all()
    h, expected = 1e-3, []
    for i in range(2):
        for sign in (1, -1):
            moved = x.at[0, i].add(sign * h)
            expected.append(orthogonalize(moved, 0, scaling="spectral", eps=1.0).sum())
    gradient = jax.grad(lambda x: orthogonalize(x, 0, scaling="spectral", eps=1.0).sum())(x)
    found = [(a - b) / (2 * h) for a, b in zip(expected[::2], expected[1::2], strict=True)]
    np.testing.assert_allclose(gradient[0, :2], found, rtol=1e-2)


def complex_values(shape: tuple[int, ...]) -> Array:
    return values(shape).astype(jnp.complex64) + 1j * values(shape, 1).astype(jnp.complex64)


def test_a_product_and_a_transpose() -> None:
    a, b = complex_values((2, 3)), complex_values((3, 4))
    np.testing.assert_allclose(matmul(a, b), np.asarray(a) @ np.asarray(b), rtol=1e-5)
    np.testing.assert_allclose(matmul(a, b[:, 0]), np.asarray(a) @ np.asarray(b[:, 0]), rtol=1e-5)
    np.testing.assert_array_equal(transpose(a), np.asarray(a).T)


@pytest.mark.parametrize("rank", [1, 2, 9])
@pytest.mark.parametrize("shape", [*SHAPES, (0, 3), (3, 0)])
def test_singular_vectors(shape: tuple[int, int], rank: int) -> None:
    """Those beyond the rows of a matrix complete the basis."""
    rows, columns = shape
    for x in (values(shape), values(shape, scale=1e15), complex_values(shape), jnp.zeros(shape)):
        found = np.asarray(singular_vectors(x, rank))
        assert (found.shape, found.dtype) == ((columns, min(rank, columns)), x.dtype)
        np.testing.assert_allclose(found.T.conj() @ found, np.eye(found.shape[1]), atol=1e-5)
        if not found.size:
            continue
        largest = found[abs(found).argmax(0), range(found.shape[1])]
        np.testing.assert_allclose(largest, abs(largest), atol=1e-6)
        if x.any():
            expected = np.linalg.svd(np.asarray(x, np.complex128))[2].T.conj()[:, :rank][:, :rows]
            along = abs(np.sum(found[:, :rows].conj() * expected, axis=0))
            np.testing.assert_allclose(along, 1, atol=1e-5)


@pytest.mark.parametrize("shape", [*SHAPES, (0, 3), (3, 0)])
def test_orthonormal(shape: tuple[int, int]) -> None:
    for x in (values(shape), values(shape, scale=1e-30), complex_values(shape), jnp.zeros(shape)):
        found = np.asarray(orthonormal(x))
        assert (found.shape, found.dtype) == ((shape[0], min(shape)), x.dtype)
        np.testing.assert_allclose(found.T.conj() @ found, np.eye(min(shape)), atol=1e-5)
        if x.any():  # the diagonal of R
            lengths = np.diag(found.T.conj() @ np.asarray(x, np.complex128))
            np.testing.assert_allclose(lengths, abs(lengths), rtol=1e-5)
            assert lengths.all()


@pytest.mark.parametrize("shape", [(4, 3), (3, 3), (2, 4)])
@pytest.mark.parametrize("part", [1, 1j])
def test_the_derivative_of_orthonormal_columns(shape: tuple[int, int], part: complex) -> None:
    rng = np.random.default_rng(0)
    x, change, factors = (rng.normal(size=shape) + part * rng.normal(size=shape) for _ in range(3))
    with jax.enable_x64(True):

        def along(s: Any) -> Any:
            return jnp.sum(jnp.real(factors[:, : min(shape)] * orthonormal(x + s * change)))

        expected = (along(1e-6) - along(-1e-6)) / 2e-6
        np.testing.assert_allclose(jax.jvp(along, (0.0,), (1.0,))[1], expected, rtol=1e-6)


def test_derivatives_where_columns_depend_on_others() -> None:
    """The last column is twice the first one; what others become does not depend on it."""
    x = values((4, 2))
    more = jnp.concatenate([x, 2 * x[:, :1]], axis=1)
    gradient = jax.grad(lambda x: jnp.sum(orthonormal(x)[:, :2] ** 3))
    np.testing.assert_allclose(gradient(more)[:, :2], gradient(x), atol=1e-5)
    noise = 1e-7 * values((4, 3), 1)
    for function in (
        orthonormal,
        lambda x: singular_vectors(x, 3),
    ):  # what they complete is no noise
        np.testing.assert_allclose(function(more + noise), function(more), atol=1e-5)
    for function in (orthonormal, lambda x: singular_vectors(x, 2)):
        for matrix in (more, jnp.zeros((4, 3)), values((2, 5))):
            found = jax.grad(lambda x, f=function: jnp.sum(f(x) ** 3))(matrix)
            assert jnp.isfinite(found).all()
