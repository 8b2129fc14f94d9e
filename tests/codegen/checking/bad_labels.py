"""Mistakes with labels: a change in specs/labels.toml, and the complaint it must get."""

from pathlib import Path

from tests.codegen.checking.bad_specs import Bad

LABELS = (
    (Path(__file__).parents[1] / "specs" / "labels.toml").read_text().replace('"labels"', '"probe"')
)

CASES: dict[str, Bad] = {
    "label that is a number": Bad(
        'default = true, doc = "Whether there',
        'default = 0.5, doc = "Whether there',
        "11:24",
        "a label must be true, false or one of `choices`, not a float",
        "0.5",
    ),
    "label without a default": Bad(
        'default = true, doc = "Whether there',
        'doc = "Whether there',
        "11:1",
        "'default' is missing",
        "momentum",
    ),
    "label with a symbol": Bad(
        'default = true, doc = "Whether there',
        'default = true, symbol = "x", doc = "Whether there',
        "11:30",
        "unknown key 'symbol'; expected one of default, choices, doc",
        "symbol",
    ),
    "label that is not a choice": Bad(
        'default = "leaf"',
        'default = "tree"',
        "10:22",
        "the default must be one of the choices: leaf, row",
        '"tree"',
    ),
    "label that is misspelt": Bad(
        'blocks == "row"',
        'blocks == "rows"',
        "38:39",
        "'rows' is not one of the choices of 'blocks', did you mean 'row'?",
        '"rows"',
    ),
    "label that nothing reads": Bad(
        'doc = "Whether there',
        'doc = "Unused." }\nother = { default = true, doc = "Whether there',
        "12:1",
        "no equation reads 'other'; use it or remove it",
        "other",
    ),
    "label and hyperparameter": Bad(
        "momentum = { default = true",
        "decay = { default = true",
        "11:1",
        "'decay' is already a hyperparameter; choose another name",
        "decay",
    ),
    "label in scalars": Bad(
        "c = 1 - decay**t",
        "c = 1 - decay**t if momentum else 1.0",
        "22:21",
        "'momentum' is a label, and leaves may have different ones; read it in `leaf`, or in `when` or "
        "`shape` of a slot",
        "momentum",
    ),
    "choice of a label in scalars": Bad(
        "c = 1 - decay**t",
        'c = 1 - decay**t if blocks == "row" else 1.0',
        "22:21",
        "'blocks' is a label, and leaves may have different ones; read it in `leaf`, or in `when` or "
        "`shape` of a slot",
        "blocks",
    ),
    "label in a requirement": Bad(
        "[labels]",
        '[[require]]\ntest = "momentum or decay > 0"\nmessage = "a mean"\n\n[labels]',
        "10:9",
        "'momentum' is a label, and leaves may have different ones; read it in `leaf`, or in `when` or "
        "`shape` of a slot",
        "momentum",
    ),
    "label in arithmetic": Bad(
        "m = decay * m + g",
        "m = decay * m + momentum * g",
        "28:21",
        "this must be a number, not a boolean; write, for example, `1.0 if momentum else 0.0`",
        "momentum",
    ),
    "slot without its label": Bad(
        "    d = g\n",
        "    d = m\n",
        "31:9",
        "'m' is kept only if `momentum` is true; test that first",
        "m",
    ),
    "shape of another label": Bad(
        "square = mean(abs2(g), but=0) if by_row else mean(abs2(g))",
        "square = abs2(g)",
        "26:5",
        "'v' must be a single number, but this has the shape of the leaf, for leaves with 1 axis, when "
        'blocks == "leaf"; reduce it with sum, mean or norm',
        "decay * v + (1 - decay) * square",
    ),
}
