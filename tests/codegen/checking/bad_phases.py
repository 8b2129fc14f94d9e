"""Mistakes in arguments and phases: a change in specs/phases.toml, and the complaint it must get."""

from pathlib import Path

from tests.codegen.checking.bad_specs import Bad

PHASES = (
    (Path(__file__).parents[1] / "specs" / "phases.toml").read_text().replace('"phases"', '"probe"')
)

CASES: dict[str, Bad] = {
    "argument like something else": Bad(
        'hessian = { like = "weights"',
        'hessian = { like = "gradients"',
        "13:20",
        "like must be 'weights', not 'gradients'; leave it out for a single number",
        '"gradients"',
    ),
    "argument under what is no option": Bad(
        'when = "exact", symbol',
        'when = "ndim > 1", symbol',
        "14:38",
        "'ndim' cannot be used here; only hyperparameters can",
        "ndim",
    ),
    "argument under an unknown option": Bad(
        'when = "exact", symbol',
        'when = "exakt", symbol',
        "14:38",
        "unknown name 'exakt', did you mean 'exact'?",
        "exakt",
    ),
    "argument read where there may be none": Bad(
        "    d = g + b2 * d\n",
        "    d = g + b2 * (d - before)\n",
        "29:23",
        "'before' is given only if `exact` is true; test that first",
        "before",
    ),
    "number read where there may be none": Bad(
        "gap = maximum(loss, 1.0) if exact else 1.0",
        "gap = maximum(loss, 1.0)",
        "23:15",
        "'loss' is given only if `kind == 'last' or exact`; test that first",
        "loss",
    ),
    "tree in scalars by itself": Bad(
        "maximum(loss, 1.0) if exact",
        "maximum(hessian, 1.0) if exact",
        "23:15",
        "'hessian' has a value for each leaf, but `scalars` are computed once per step; move this equation to `leaf`",
        "hessian",
    ),
    "tree is assigned": Bad(
        "    d = g + b2 * d\n",
        "    d = g + b2 * d\n    hessian = d\n",
        "30:5",
        "'hessian' is an argument; equations cannot change it",
        "hessian",
    ),
    "tree of another shape": Bad(
        "    d = g + b2 * d\n",
        "    d = mean(hessian)\n",
        "29:9",
        "'d' must have the shape of the leaf, but this is a single number, for leaves with 1 axis; "
        'give the slot shape = "()"',
        "mean(hessian)",
    ),
    "tree in a shape": Bad(
        "curvature = { init = 1.0,",
        'curvature = { init = 1.0, shape = "without(hessian, 0)",',
        "19:44",
        "'hessian' cannot be used here; only hyperparameters, shape, ndim and names defined above in [shapes] can",
        "hessian",
    ),
    "argument that is never read": Bad(
        "(1 - b2) * hessian",
        "(1 - b2) * g",
        "13:1",
        "no equation reads 'hessian'; use it or remove it",
        "hessian",
    ),
}
