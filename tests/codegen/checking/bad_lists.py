"""Mistakes with lists: a change in specs/lists.toml, and the complaint it must get."""

from pathlib import Path

from tests.codegen.checking.bad_specs import Bad

LISTS = (
    (Path(__file__).parents[1] / "specs" / "lists.toml").read_text().replace('"lists"', '"probe"')
)


CASES: dict[str, Bad] = {
    "default without numbers": Bad(
        "[1, 0.5]",
        "[]",
        "9:21",
        "a list must hold one or more numbers",
        "[]",
    ),
    "default with a word": Bad(
        "[1, 0.5]",
        '[1, "a"]',
        "9:25",
        "a list must hold numbers, not a string",
        '"a"',
    ),
    "default out of bounds": Bad(
        "[0.0, 0.9, 0.99]",
        "[0.0, 1.0, 0.99]",
        "8:27",
        "the default is outside its bounds: it must be < 1",
        "1.0",
    ),
    "list that is schedulable": Bad(
        "symbol = '\\beta'",
        "schedulable = true",
        "8:62",
        "only a float can be schedulable",
        "schedulable",
    ),
    "list that is optional": Bad(
        "symbol = '\\beta'",
        "optional = true",
        "8:62",
        "a list cannot be optional",
        "optional",
    ),
    "list as a condition": Bad(
        "if len(rates) < 9:",
        "if rates:",
        "29:4",
        "this is a list, which is never empty; write `len(rates) > 1` or similar",
        "rates",
    ),
    "list in arithmetic": Bad(
        "sum(parts) / len(betas)",
        "sum(parts) / betas",
        "28:18",
        "this must be a number, not a list of numbers; take one item, `x[i]`, or write a comprehension: "
        "`[f(x) for x in betas]`",
        "betas",
    ),
    "list without a length": Bad(
        "sum(parts) / len(betas)",
        "sum(parts) / len(learning_rate)",
        "28:22",
        "x of len must be a list, not a number",
        "learning_rate",
    ),
    "each of no list": Bad(
        'each = "k"',
        'each = "learning_rate"',
        "19:30",
        "each must be a list of numbers or an integer; 'learning_rate' is neither",
        '"learning_rate"',
    ),
    "each that is misspelt": Bad(
        'each = "k"',
        'each = "kk"',
        "19:31",
        "unknown name 'kk'; declare it under [hyperparameters] or [shapes]",
        "kk",
    ),
    "each of a broken expression": Bad(
        'each = "k"',
        'each = "k +"',
        "19:34",
        "this is not a valid equation (invalid syntax)",
        '"',
    ),
    "each of perhaps none": Bad(
        'bounds = "1 <= x", doc = "Length',
        'bounds = "0 <= x", doc = "Length',
        "19:31",
        'a list of arrays must have items; for a hyperparameter, write bounds = "1 <= x"',
        "k",
    ),
    "each with a shape": Bad(
        'each = "k"',
        'each = "k", shape = "()"',
        "19:23",
        '`each` is for arrays like the leaf; write only shape, as in "[reduced(shape, but=0) for b in '
        'betas]"',
        "each",
    ),
    "each from the weights": Bad(
        "init = 1.0, each",
        'init = "copy", each',
        "18:14",
        'the arrays of a list cannot start so; write init = "zeros"',
        '"copy"',
    ),
    "shape of a list of numbers": Bad(
        'shape = "[() for b in betas]"',
        'shape = "betas"',
        "20:36",
        "a shape must be a tuple of integers or a list of shapes, not a list of numbers",
        "betas",
    ),
    "shape of floats": Bad(
        'shape = "[() for b in betas]"',
        'shape = "[(b, 2) for b in betas]"',
        "20:38",
        "an item of a tuple must be an integer of at least 0",
        "b",
    ),
    "one list for another": Bad(
        "m = [b * x + g for b, x in zip(betas, m)]",
        "m = [r * g for r in rates]",
        "24:5",
        "'m' must hold len(betas) arrays, but this has len(rates)",
        "[r * g for r in rates]",
    ),
    "one array for a list": Bad(
        "m = [b * x + g for b, x in zip(betas, m)]",
        "m = g",
        "24:1",
        "'m' must be a list of arrays, not an array",
        "m",
    ),
    "arrays of another shape": Bad(
        "m = [b * x + g for b, x in zip(betas, m)]",
        "m = [b * norm(x) for b, x in zip(betas, m)]",
        "24:5",
        "the arrays of 'm' must have shape (n0), but these have (), for leaves with 1 axis; n0 is the "
        "length of axis 0",
        "[b * norm(x) for b, x in zip(betas, m)]",
    ),
    "zip of lists of other lengths": Bad(
        "m = [b * x + g for b, x in zip(betas, m)]",
        "m = [b * x + g for b, x in zip(rates, m)]",
        "24:28",
        "zip needs lists of one length, but these have len(rates) and len(betas) items",
        "zip(rates, m)",
    ),
    "zip of one variable": Bad(
        "m = [b * x + g for b, x in zip(betas, m)]",
        "m = [b * g for b in zip(betas, m)]",
        "24:16",
        "write one variable, or one for each list of zip: [b * x for b, x in zip(c, m)]",
        "b",
    ),
    "zip of an array": Bad(
        "m = [b * x + g for b, x in zip(betas, m)]",
        "m = [b * x for b, x in zip(betas, g)]",
        "24:35",
        "a comprehension must iterate over a list, not an array",
        "g",
    ),
    "zip of an expression": Bad(
        "m = [b * x + g for b, x in zip(betas, m)]",
        "m = [b * x for b, x in zip(betas, m + m)]",
        "24:35",
        "a comprehension must iterate over range(ndim), over a list, or over zip of these",
        "m + m",
    ),
    "zip by itself": Bad(
        "m = [b * x + g for b, x in zip(betas, m)]",
        "m = zip(betas, m)",
        "24:5",
        "use zip only in a comprehension: [b * x for b, x in zip(betas, m)]",
        "zip(betas, m)",
    ),
    "variable twice": Bad(
        "m = [b * x + g for b, x in zip(betas, m)]",
        "m = [x * x + g for x, x in zip(betas, m)]",
        "24:20",
        "'x' is already used here; choose another name",
        "x, x",
    ),
    "queue that grows": Bad(
        "q = [*q[1:], g]",
        "q = [*q, g]",
        "30:9",
        "'q' must hold k arrays, but this has k + 1",
        "[*q, g]",
    ),
    "queue that shrinks": Bad(
        "q = [*q[1:], g]",
        "q = q[1:]",
        "30:9",
        "'q' must hold k arrays, but this has k - 1",
        "q[1:]",
    ),
    "queue of a number": Bad(
        "q = [*q[1:], g]",
        "q = [*q[1:], norm(g)]",
        "30:18",
        "the arrays of a list must be alike, but this has shape (), and others (n0), for leaves with 1 "
        "axis; n0 is the length of axis 0",
        "norm(g)",
    ),
    "queue of an array": Bad(
        "q = [*q[1:], g]",
        "q = [*g, g]",
        "30:11",
        "this must be a list, not an array",
        "g",
    ),
    "list of nothing": Bad(
        "q = [*q[1:], g]",
        "q = []",
        "30:9",
        "a list must have items",
        "[]",
    ),
    "star outside of a list": Bad(
        "least(q)",
        "least(*q)",
        "31:28",
        "pass the arguments one by one, without *",
        "least(*q)",
    ),
    "items of two kinds": Bad(
        "q = [*q[1:], g]",
        "q = [*q[1:], g > 0]",
        "30:18",
        "a list must hold numbers or shapes, not a condition",
        "g > 0",
    ),
    "item that may not be": Bad(
        "q[0]",
        "q[1]",
        "31:13",
        "`q[1]` may not exist: 'q' has k items; test `len(q) > 1` first",
        "q[1]",
    ),
    "item after the last": Bad(
        "q[0]",
        "sum([q[i + 1] for i in range(k)])",
        "31:18",
        "`q[i + 1]` may not exist: 'q' has k items; test the index with `if` first",
        "q[i + 1]",
    ),
    "slice with a step": Bad(
        "q[0]",
        "sum(q[::2])",
        "31:19",
        "a slice cannot have a step",
        "::2",
    ),
    "slice at run time": Bad(
        "q[0]",
        "sum(q[t:])",
        "31:19",
        "the value of 't' is only known when the step runs; a bound of a slice can depend only on shapes and "
        "hyperparameters that are not schedulable",
        "t",
    ),
    "slice that may be empty": Bad(
        "q[0]",
        "least(q[1:])",
        "31:13",
        "least needs at least one array, but there may be none; test that with `if` first",
        "least(q[1:])",
    ),
    "sum of a list along an axis": Bad(
        "sum(parts)",
        "sum(parts, axis=0)",
        "28:5",
        "the sum of a list is element by element, and has no axis",
        "sum(parts, axis=0)",
    ),
    "vector of another axis": Bad(
        "d = sum(parts)",
        "rows = [sum(g, but=i) for i in range(ndim)]\nd = sum([along(as_vector(rows[0]), i, ndim) * g for i "
        "in range(ndim)] if ndim > 0 else m) + sum(parts)",
        "29:10",
        "shapes (1, n0) and (n0, n1) cannot be broadcast together, for leaves with 2 axes; n0 is the length "
        "of axis 0; reduce or reshape one of them, for example with `along`",
        "along(as_vector(rows[0]), i, ndim) * g",
    ),
}
