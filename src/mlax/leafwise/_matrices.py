"""Leaves as matrices, and a matrix for each axis of a leaf.

On a mesh of devices, a matrix is gathered on each device before it is multiplied or decomposed, and results are whole
on each device, too. Otherwise XLA would distribute the products on Auto axes, and gather the factors of each: 15 times
for `orthogonalize`.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from mlax._jax.dtypes import compute_dtype, epsilon
from mlax._jax.placement import gathered
from mlax._jax.tracing import cond
from mlax.leafwise._elements import divide
from mlax.leafwise._norms import norm, scale_of

__all__ = [
    "as_matrix",
    "eigenbasis",
    "gram",
    "inverse_root",
    "matmul",
    "orthogonalize",
    "orthonormal",
    "refreshed_basis",
    "rotate",
    "rotate_back",
    "singular_vectors",
    "transpose",
]

Coefficients: TypeAlias = tuple[float, float, float]
"""The coefficients of x, x³ and x⁵ in a step of Newton-Schulz iteration."""

NAMED_COEFFICIENTS: dict[str, tuple[Coefficients, ...]] = {
    # Jordan 2024, https://kellerjordan.github.io/posts/muon/
    "muon": ((3.4445, -4.7750, 2.0315),),
    # Ahn et al. 2025, https://arxiv.org/abs/2504.05295: one for each of five steps
    "dion": (
        (4.0848, -6.8946, 2.9270),
        (3.9505, -6.3029, 2.6377),
        (3.7418, -5.5913, 2.3037),
        (2.8769, -3.1427, 1.2046),
        (2.8366, -3.0525, 1.2012),
    ),
}


def orthogonalize(
    x: Array,
    steps: int = 5,
    coefficients: str | Coefficients | tuple[Coefficients, ...] = "muon",
    eps: float = 1e-8,
    scaling: str = "frobenius",
) -> Array:
    """Return a matrix with the same singular vectors and singular values near 1, by Newton-Schulz iteration.

    ```text
    X₀ = X / (‖X‖ + eps)
    A = Xₖ Xₖᴴ
    Xₖ₊₁ = a Xₖ + (b A + c A²) Xₖ
    ```

    Muon: Jordan 2024, https://kellerjordan.github.io/posts/muon/. Its coefficients quickly bring
    singular values near 1, then keep them between about 0.7 and 1.2. Zero stays zero. Matrix
    products have the precision that JAX is set to (`jax.default_matmul_precision`). On accelerators
    that is less than float32's, which is enough here.

    Args:
        x: Two axes or more. The last two are those of a matrix, the others number the matrices.
        steps: Number of iterations. Ignored if `coefficients` has one triple for each iteration.
        coefficients: (a, b, c) for all steps; a tuple of such triples, one for each step; or a
            name: "muon", or "dion" for five steps.
        eps: Added to the norm. With "aol" and "schatten", a lower bound for the number to divide by
            instead.
        scaling: How to bring the singular values to at most 1 first: "frobenius", "spectral" (by
            the largest singular value; costs a decomposition), "aol" (rows by the sums of the
            magnitudes of `A`) or "schatten" (by the root of the Frobenius norm of `A`).

    Returns:
        An array like `x`.

    Raises:
        ValueError: There are fewer than two axes, or the coefficients or scaling are unknown.
    """
    if x.ndim < 2:
        raise ValueError(f"orthogonalize: expected two axes or more, got shape {x.shape}")
    if scaling not in ("frobenius", "spectral", "aol", "schatten"):
        raise ValueError(f"orthogonalize: unknown scaling {scaling!r}")
    schedule = _schedule(coefficients, steps)
    if x.size == 0:
        return x
    function: Callable[[Array], Array] = functools.partial(
        _newton_schulz, schedule=schedule, eps=eps, scaling=scaling
    )
    for _ in range(x.ndim - 2):
        function = jax.vmap(function)
    wide = gathered(x, x.ndim - 2).astype(compute_dtype(x.dtype))
    return gathered(function(wide).astype(x.dtype), x.ndim - 2)


def as_matrix(x: Array) -> Array:
    """Return an array with all axes but the first merged into one, (n, m), as MLX treats convolution kernels."""
    return gathered(x).reshape(x.shape[0], math.prod(x.shape[1:]))


def _schedule(coefficients: Any, steps: int) -> tuple[Coefficients, ...]:
    """Return the coefficients of each step."""
    if isinstance(coefficients, str):
        if coefficients not in NAMED_COEFFICIENTS:
            names = ", ".join(map(repr, NAMED_COEFFICIENTS))
            raise ValueError(f"orthogonalize: coefficients {coefficients!r} are none of {names}")
        named = NAMED_COEFFICIENTS[coefficients]
        return named * steps if len(named) == 1 else named
    rows: tuple[Coefficients, ...]
    rows = coefficients if isinstance(coefficients[0], tuple) else (coefficients,) * steps
    if any(len(row) != 3 for row in rows):
        raise ValueError(f"orthogonalize: expected three coefficients a step, got {coefficients}")
    return rows


def _newton_schulz(x: Array, schedule: tuple[Coefficients, ...], eps: float, scaling: str) -> Array:
    if x.shape[0] > x.shape[1]:  # the products are smaller on the other side
        return _newton_schulz(x.T, schedule, eps, scaling).T
    bound: Array | float = eps
    if scaling in ("aol", "schatten"):  # products of numbers above 1e9 might overflow
        scale = jnp.maximum(scale_of(x), 1e9) / 1e9
        x, bound = x / scale.astype(x.dtype), eps / scale**2
    if scaling == "frobenius":
        x = divide(x, norm(x) + eps)
    elif scaling == "spectral":
        x = x / (_largest_singular_value(x) + eps)
    elif scaling == "aol":
        sums = jnp.sum(jnp.abs(x @ x.T.conj()), axis=1)
        x = x * lax.rsqrt(jnp.maximum(sums, bound))[:, None]
    else:
        x = x * lax.rsqrt(jnp.maximum(norm(x @ x.T.conj()), bound))
    for a, b, c in schedule:
        square = x @ x.T.conj()
        x = a * x + (b * square + c * square @ square) @ x
    return x


@jax.custom_jvp
def _largest_singular_value(x: Array) -> Array:
    """Return the spectral norm of a matrix. The gradient at zero is zero."""
    return cast("Array", jnp.linalg.norm(x, ord=2))


@_largest_singular_value.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    left, values, right = cast("Any", jnp.linalg.svd)(*primals, full_matrices=False)
    change = jnp.real(left[:, 0].conj() @ tangents[0] @ right[0].conj())
    return values[0], jnp.where(values[0] > 0, change, 0.0)


def matmul(a: Array, b: Array) -> Array:
    """Return the product of two matrices, (n, k) and (k, m), or of a matrix and a vector, as `jnp.matmul` does.

    Accelerators compute it with all bits of the dtype.
    """
    return gathered(_product(gathered(a), gathered(b)))


def transpose(matrix: Array) -> Array:
    """Return the transpose of a matrix, (m, n) for (n, m). Complex numbers are not conjugated."""
    return gathered(matrix).T


def singular_vectors(matrix: Array, rank: int) -> Array:
    """Return the right singular vectors of the largest singular values as columns: (m, min(rank, m)) for (n, m).

    In each column the largest number, or the first of them, is positive. If fewer singular values
    than `rank` are positive, the other columns complete a basis in one and the same way, as in
    `eigenbasis`. Derivatives treat the result as a constant: where singular values are equal, as in
    a matrix of zeros, it has none. GaLore projects gradients with it: Zhao et al. 2024, https://arxiv.org/abs/2403.03507

    Args:
        matrix: (n, m), both may be 0.
        rank: Number of vectors, at least 1.
    """
    columns = matrix.shape[1]
    rank = min(rank, columns)
    if matrix.size == 0:
        return jnp.eye(columns, rank, dtype=matrix.dtype)
    matrix = lax.stop_gradient(gathered(matrix))
    svd: Any = jnp.linalg.svd
    _, values, found = svd(_scaled(matrix), full_matrices=False)
    vectors, free = found[:rank].T.conj(), _not_zero(values)[:rank]
    missing = (0, rank - free.size)
    vectors, free = jnp.pad(vectors, ((0, 0), missing)), jnp.pad(free, missing)
    vectors = cond(jnp.all(free), lambda: vectors, lambda: _completed(vectors, free))
    places = jnp.argmax(jnp.abs(vectors), axis=0, keepdims=True)
    largest = jnp.take_along_axis(vectors, places, axis=0)
    return gathered(vectors * jnp.sign(largest).conj())


def orthonormal(matrix: Array) -> Array:
    """Return orthonormal columns that span those of a matrix, by a QR decomposition: (n, min(n, m)) for (n, m).

    The diagonal of R is positive, which makes the result unique if the columns are independent. A
    column that depends on those before it is replaced as in `eigenbasis`, and derivatives treat it
    as a constant. Dion iterates with it: Ahn et al. 2025, https://arxiv.org/abs/2504.05295

    Args:
        matrix: (n, m), both may be 0.
    """
    rows, columns = matrix.shape
    matrix = gathered(matrix)[:, : min(rows, columns)]
    if matrix.size == 0:
        return matrix
    return gathered(_basis(_scaled(matrix)))


def _scaled(x: Array) -> Array:
    return x / scale_of(x).astype(x.dtype)


def _qr(x: Array) -> tuple[Array, Array]:
    """Return Q and R, where the diagonal of R is real and not negative."""
    q, r = cast("tuple[Array, Array]", jnp.linalg.qr(x))
    diagonal = cast("Array", jnp.diagonal(r))
    signs = jnp.where(diagonal == 0, 1.0, jnp.sign(diagonal))
    return q * signs, r * signs.conj()[:, None]


def _independent(x: Array) -> tuple[Array, Array, Array]:
    """Return Q, R, and which columns do not depend on those before them; Q has others in place of the rest."""
    q, r = _qr(x)
    free = _not_zero(jnp.abs(cast("Array", jnp.diagonal(r))))
    q, r = cond(jnp.all(free), lambda: (q, r), lambda: _qr(jnp.where(free, x, 0.0)))
    return q, r, free


def _q(x: Array) -> Array:
    return _independent(x)[0]


def _derivative_of_q(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """Leave out columns that depend on others. The change of Q is Q (S - Qᴴ C) + C, where C is that of X R⁻¹.

    S has the lower triangle of Qᴴ C, and is skew-Hermitian.
    """
    q, r, free = _independent(primals[0])
    r = jnp.where(free[:, None] & free, r, jnp.diag(jnp.where(free, 0.0, 1.0).astype(r.dtype)))
    change = jnp.where(free, tangents[0], 0.0)
    change = lax.linalg.triangular_solve(r, change, left_side=False)
    inner = _product(q.T.conj(), change)
    lower = jnp.tril(inner, -1)
    own = cast("Array", jnp.diagonal(inner))
    skew = lower - lower.T.conj() + jnp.diag((own - own.conj()) / 2)
    return q, _product(q, skew - inner) + change


_basis: Any = jax.custom_jvp(_q)
_basis.defjvp(_derivative_of_q)


def gram(g: Array, axis: int, longest: int | None = None) -> Array:
    """Return the inner products of all slices across an axis: for a matrix G Gᵀ for axis 0 and Gᵀ G for axis 1.

    These are the statistics of Shampoo (Gupta et al. 2018, https://arxiv.org/abs/1802.09568) and
    SOAP (Vyas et al. 2024, https://arxiv.org/abs/2409.11321).

    Args:
        g: Any shape.
        axis: One of its axes, of length n.
        longest: Length of the longest axis that has a matrix, as in `matrices`.

    Returns:
        A symmetric matrix, (n, n); a scalar, (), if the axis is too long.
    """
    length = g.shape[axis]
    if longest is not None and length > longest:
        return jnp.zeros((), g.dtype)
    slices = jnp.moveaxis(gathered(g), axis, 0).reshape(length, g.size // max(length, 1))
    return gathered(_product(slices, slices.T.conj()))


def inverse_root(matrix: Array, p: int, eps: float | Array) -> Array:
    """Return (M + eps·I) to the power of −1/p for a positive semidefinite matrix M, from its eigenvalues.

    Eigenvalues that rounding made negative count as 0. The derivative is finite even if eigenvalues
    are equal; the second derivative is not. For Shampoo, `p` is twice the number of axes: Gupta et al. 2018,
    https://arxiv.org/abs/1802.09568

    Args:
        matrix: Symmetric, (n, n), n may be 0; a scalar is returned as it is.
        p: Which root.
        eps: Added to the eigenvalues, positive. So the result is finite even for a matrix of zeros.
    """
    if _is_empty(matrix):
        return matrix
    return gathered(_differentiable(gathered(matrix), eps, -1 / p))


def _root(matrix: Array, eps: Any, power: float) -> Array:
    values, vectors = _eigh(matrix)
    roots = (jnp.maximum(values, 0.0) + eps) ** power
    return _product(vectors * roots, vectors.T.conj())


def _derivative_of_root(power: float, primals: Any, tangents: Any) -> tuple[Array, Array]:
    """Multiply the change, in the basis of M, by (f(x) - f(y)) / (x - y) for each two eigenvalues; by f' if x = y."""
    matrix, eps = primals
    values, vectors = _eigh(matrix)
    inverse = vectors.T.conj()
    values = jnp.maximum(values, 0.0) + eps
    roots = values**power
    x, y = values[:, None], values[None, :]
    near = jnp.abs(x - y) <= math.sqrt(epsilon(values.dtype)) * jnp.maximum(x, y)
    quotients = (roots[:, None] - roots[None, :]) / jnp.where(near, 1.0, x - y)
    slopes = jnp.where(near, power * ((x + y) / 2) ** (power - 1), quotients)
    change = (tangents[0] + tangents[0].T.conj()) / 2
    change = change + tangents[1] * jnp.eye(matrix.shape[0], dtype=matrix.dtype)
    change = slopes * _product(_product(inverse, change), vectors)
    return _product(vectors * roots, inverse), _product(_product(vectors, change), inverse)


_differentiable: Any = jax.custom_jvp(_root, nondiff_argnums=(2,))
_differentiable.defjvp(_derivative_of_root)


def _product(a: Array, b: Array) -> Array:
    result: Array = jnp.matmul(a, b, precision=lax.Precision.HIGHEST)
    return result


def eigenbasis(matrix: Array) -> Array:
    """Return the eigenvectors of a symmetric matrix as columns, by decreasing eigenvalue: (n, n), n may be 0.

    For eigenvalues that are 0, up to rounding, any vectors would do that are orthogonal to the others, and
    the decomposition leaves the choice to rounding errors. Here, they complete the others to a basis in one
    and the same way. Derivatives treat the result as a constant: where eigenvalues are equal, as in a
    matrix of zeros, it has none.
    """
    if _is_empty(matrix):
        return matrix
    values, vectors = _eigh(lax.stop_gradient(gathered(matrix)))
    return gathered(_completed(vectors[:, ::-1], _not_zero(jnp.abs(values[::-1]))))


def _not_zero(sizes: Array) -> Array:
    """Return which of some sizes, not negative, are more than rounding errors of the largest: in float32, 1.2e-5 of it.

    Measured up to length 512: errors of 3 times the machine epsilon in eigenvalues, and of 30 times in R.
    """
    return sizes > 100 * epsilon(sizes.dtype) * jnp.max(sizes)


def _completed(columns: Array, free: Array) -> Array:
    """Return orthonormal columns: some of a matrix, made orthogonal, and others in place of the rest.

    A QR decomposition reflects space once for each column; for a column of zeros, not at all. Its place takes the
    image of a unit vector under the reflections for the other columns: a function of these alone.
    """
    return _qr(jnp.where(free, columns, 0.0))[0]


def _is_empty(matrix: Array) -> bool:
    """Whether an axis has no matrix, but a scalar, or one without elements."""
    return matrix.ndim == 0 or matrix.size == 0


def refreshed_basis(matrix: Array, basis: Array, step: Array) -> Array:
    """Return an eigenbasis in the first step; later, the last basis moved closer to that of the changed matrix.

    It is moved by one step of orthogonal iteration, a QR decomposition of `matrix @ basis`, which
    costs a fraction of an eigendecomposition: SOAP, Vyas et al. 2024,
    https://arxiv.org/abs/2409.11321, algorithm 4. Columns keep their signs. If the matrix is singular,
    as many columns are completed as by `eigenbasis`. Derivatives treat the basis as a constant.

    Args:
        matrix: Symmetric, (n, n), n may be 0; a scalar is returned as it is.
        basis: The last result, (n, n). Ignored in the first step.
        step: Number of steps done, int32, shape ().
    """
    if _is_empty(matrix):
        return matrix
    matrix, basis = lax.stop_gradient((gathered(matrix), gathered(basis)))

    def refresh() -> Array:
        return _q(_product(_scaled(matrix), basis))

    return gathered(cond(step == 0, lambda: eigenbasis(matrix), refresh))


def _eigh(matrix: Array) -> tuple[Array, Array]:
    """Return eigenvalues, ascending, and eigenvectors of a symmetric matrix of any magnitude."""
    scale = scale_of(matrix)
    values, vectors = cast("tuple[Array, Array]", jnp.linalg.eigh(matrix / scale))
    return values * scale, vectors


def rotate(x: Array, bases: Sequence[Array]) -> Array:
    """Return an array in other bases, one for each axis. For a matrix: Q₀ᵀ X Q₁.

    Args:
        x: Any shape.
        bases: For each axis a matrix with the basis as its columns, (n, n); a scalar leaves an
            axis as it is.
    """
    return _apply(x, [basis.conj() for basis in bases])


def rotate_back(x: Array, bases: Sequence[Array]) -> Array:
    """Return an array multiplied by a matrix along each axis. For a matrix: Q₀ X Q₁ᵀ.

    If the matrices are orthogonal, this is the inverse of `rotate`. If they are symmetric, like the
    roots in Shampoo, it is the same as `rotate`.

    Args:
        x: Any shape.
        bases: A matrix for each axis, (n, n); a scalar leaves an axis as it is.
    """
    return _apply(x, [basis.T for basis in bases])


def _apply(x: Array, bases: Sequence[Array]) -> Array:
    """Contract each axis of an array with the first axis of its matrix."""
    if len(bases) != x.ndim:
        raise ValueError(f"expected a matrix for each of {x.ndim} axes, got {len(bases)}")
    if all(map(_is_empty, bases)):
        return x
    x = gathered(x)
    for axis, basis in enumerate(map(gathered, bases)):
        if not _is_empty(basis):
            product = jnp.tensordot(x, basis, axes=(axis, 0), precision=lax.Precision.HIGHEST)
            x = jnp.moveaxis(product, -1, axis)
    return gathered(x)
