"""Mistakes with products, slices and factors: a change in specs/matrices.toml, and the complaint it must get."""

from pathlib import Path

from tests.codegen.checking.bad_specs import Bad

MATRICES = (
    (Path(__file__).parents[1] / "specs" / "matrices.toml")
    .read_text()
    .replace('"matrices"', '"probe"')
)

CASES: dict[str, Bad] = {
    "factors in the wrong order": Bad(
        "low = g @ basis",
        "low = basis @ g",
        "39:11",
        "the inner sizes of (n1, min(n1, rank)) @ (n0, n1) differ: min(n1, rank) and n0, for "
        "leaves with 2 axes; n1 is the length of axis 1",
        "basis @ g",
    ),
    "factor that is not transposed": Bad(
        "m @ transpose(basis)",
        "m @ basis",
        "45:13",
        "the inner sizes of (n0, min(n1, rank)) @ (n1, min(n1, rank)) differ: min(n1, rank) "
        "and n1, for leaves with 2 axes; n0 is the length of axis 0",
        "m @ basis",
    ),
    "another factor transposed": Bad(
        "low = g @ basis",
        "low = transpose(g) @ basis",
        "39:11",
        "the inner sizes of (n1, n0) @ (n1, min(n1, rank)) differ: n0 and n1, for leaves with "
        "2 axes; n1 is the length of axis 1",
        "transpose(g) @ basis",
    ),
    "product with one number for each leaf": Bad(
        "g @ q)",
        "g @ mean(q))",
        "41:24",
        "`a @ b` needs matrices or vectors, but one has no axes, for leaves with 2 axes; "
        "multiply numbers with `*`",
        "g @ mean(q)",
    ),
    "product with a number": Bad(
        "orthonormal(g @ q)",
        "orthonormal(2.0 @ q)",
        "41:24",
        "matmul takes an array, but this is a number; multiply numbers with `*`",
        "2.0",
    ),
    "product with a condition": Bad(
        "orthonormal(g @ q)",
        "orthonormal((g > 0) @ q)",
        "41:25",
        "this must be a number, not a condition; write `where(g > 0, a, b)`",
        "g > 0",
    ),
    "product of all leaves": Bad(
        "d = m + q",
        "d = g @ g + q + m",
        "49:9",
        "`a @ b` needs matrices or vectors, but one has no axes, for leaves with no axes; "
        "multiply numbers with `*`",
        "g @ g",
    ),
    "product in a shape": Bad(
        '"(shape[1], min(rank, shape[1]))"',
        '"(shape @ shape)"',
        "24:57",
        "matmul takes arrays; this must be computed from hyperparameters and shapes",
        "shape @ shape",
    ),
    "product in place": Bad(
        "left = orthonormal(g @ q)",
        "left @= g",
        "41:5",
        "`@=` is not part of the language; write `left = left @ ...`",
        "left @= g",
    ),
    "power before a product": Bad(
        "-learning_rate * d",
        "-learning_rate * (d @ d**2)",
        "50:28",
        "`a @ b` needs matrices or vectors, but one has no axes, for leaves with no axes; "
        "multiply numbers with `*`",
        "d @ d**2",
    ),
    "factor of a vector": Bad(
        "orthonormal(g @ q)",
        "orthonormal(sum(g, 0))",
        "41:12",
        "orthonormal needs a matrix, but this has 1 axis, for leaves with 2 axes",
        "orthonormal(sum(g, 0))",
    ),
    "vectors of another axis": Bad(
        "singular_vectors(g, rank)",
        "singular_vectors(transpose(g), rank)",
        "33:13",
        "'basis' must have shape (n1, min(n1, rank)), but this has shape (n0, min(n0, rank)), "
        "for leaves with 2 axes; n1 is the length of axis 1",
        "singular_vectors(transpose(g), rank)",
    ),
    "rank that is no integer": Bad(
        "singular_vectors(g, rank)",
        "singular_vectors(g, rank / 2)",
        "33:33",
        "rank of singular_vectors must be an integer of at least 1; for a hyperparameter, "
        'write bounds = "1 <= x"',
        "rank / 2",
    ),
    "rank that may be 0": Bad(
        "singular_vectors(g, rank)",
        "singular_vectors(g, width)",
        "33:33",
        "rank of singular_vectors must be an integer of at least 1; for a hyperparameter, "
        'write bounds = "1 <= x"',
        "width",
    ),
    "rank that follows a schedule": Bad(
        "singular_vectors(g, rank)",
        "singular_vectors(g, learning_rate)",
        "33:33",
        "'learning_rate' is schedulable, so its value is only known when the step runs; rank "
        "of singular_vectors can depend only on shapes and hyperparameters that are not "
        "schedulable",
        "learning_rate",
    ),
    "slot with more columns than a matrix": Bad(
        '"(shape[1], r) if',
        '"(shape[1], min(rank, shape[0], shape[1])) if',
        "4:12",
        "no equation reads 'r'; use it or remove it",
        "r",
    ),
    "slices that do not meet": Bad(
        "g[:, :width]",
        "g[:, :rank]",
        "44:17",
        "the inner sizes of (n0, min(n1, rank)) @ (min(n1, width), min(1, n0, n1, rank)) "
        "differ: min(n1, rank) and min(n1, width), for leaves with 2 axes; n0 is the length "
        "of axis 0",
        "g[:, :rank] @ q[:width, :1]",
    ),
    "slice and an index": Bad(
        "g[:, :width]",
        "g[:, 0]",
        "44:17",
        "cut each axis with a slice: `x[:, :1]` in place of `x[:, 0]`",
        "g[:, 0]",
    ),
    "slice with a step": Bad(
        "g[:, :width]",
        "g[:, ::2]",
        "44:22",
        "a slice cannot have a step",
        "::2",
    ),
    "slice from the end": Bad(
        "g[:, :width]",
        "g[:, :-1]",
        "44:23",
        "a bound of a slice must be an integer of at least 0; for a hyperparameter, write "
        'bounds = "0 <= x"',
        "-1",
    ),
    "slice up to no integer": Bad(
        "g[:, :width]",
        "g[:, :b1]",
        "44:23",
        "a bound of a slice must be an integer of at least 0",
        "b1",
    ),
    "slice up to an array": Bad(
        "g[:, :width]",
        "g[:, :learning_rate]",
        "44:23",
        "'learning_rate' is schedulable, so its value is only known when the step runs; a "
        "bound of a slice can depend only on shapes and hyperparameters that are not "
        "schedulable",
        "learning_rate",
    ),
    "slice of more axes than there are": Bad(
        "g[:, :width]",
        "g[:, :, :width]",
        "44:17",
        "this needs 3 axes, but the array has 2 axes, for leaves with 2 axes; test `ndim >= "
        "3` first",
        "g[:, :, :width]",
    ),
    "slice of some leaves": Bad(
        "d = m + q",
        "d = m[:1] + q",
        "49:9",
        "this needs 1 axis, but the array has no axes, for leaves with no axes; test `ndim >= "
        "1` first",
        "m[:1]",
    ),
    "slice of a number": Bad(
        "g[:, :width]",
        "b1[:, :width]",
        "44:17",
        "a slice cuts an array, not a number",
        "b1",
    ),
    "slice of a shape": Bad(
        "g[:, :width]",
        "shape[:width]",
        "44:17",
        "this must be a number, not a tuple of integers",
        "shape[:width]",
    ),
    "slice of a sum": Bad(
        "g[:, :width]",
        "(g + m)[:, :width]",
        "44:17",
        "assign this to a name before you index it",
        "(g + m)[:, :width]",
    ),
    "order of complex products": Bad(
        "q = transpose(square) @ left",
        "q = maximum(transpose(square) @ left, 0)",
        "43:9",
        "complex numbers have no order, so maximum is not defined for them; apply it to "
        '`abs(x)` or `real(x)`, or refuse complex weights: complex = "..." with the reason',
        "maximum(transpose(square) @ left, 0)",
    ),
}
