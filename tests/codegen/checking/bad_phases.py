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
    "argument under a condition on the shape": Bad(
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
        "33:23",
        "'before' is given only if `exact` is true; test that first",
        "before",
    ),
    "number read where there may be none": Bad(
        "gap = maximum(loss, 1.0) if exact else 1.0",
        "gap = maximum(loss, 1.0)",
        "27:15",
        "'loss' is given only if `kind == 'last' or exact`; test that first",
        "loss",
    ),
    "tree in scalars by itself": Bad(
        "maximum(loss, 1.0) if exact",
        "maximum(hessian, 1.0) if exact",
        "27:15",
        "'hessian' has a value for each leaf, but `scalars` are computed once per step; move this equation to `leaf`",
        "hessian",
    ),
    "tree is assigned": Bad(
        "    d = g + b2 * d\n",
        "    d = g + b2 * d\n    hessian = d\n",
        "34:5",
        "'hessian' is an argument; equations cannot change it",
        "hessian",
    ),
    "tree of another shape": Bad(
        "    d = g + b2 * d\n",
        "    d = mean(hessian)\n",
        "33:9",
        "'d' must have the shape of the leaf, but this is a single number, for leaves with 1 axis; "
        'give the slot shape = "()"',
        "mean(hessian)",
    ),
    "tree in a shape": Bad(
        "curvature = { init = 1.0,",
        'curvature = { init = 1.0, shape = "without(hessian, 0)",',
        "23:44",
        "'hessian' cannot be used here; only hyperparameters, shape, ndim and names defined above in [shapes] can",
        "hessian",
    ),
    "argument that is never read": Bad(
        "b2 * (d - before)",
        "b2 * d",
        "14:1",
        "no equation reads 'before'; use it or remove it",
        "before",
    ),
    "first without every": Bad(
        'every = "interval"\nfirst = "interval"',
        'first = "interval"',
        "50:1",
        "`first` needs `every`; add it, or remove this",
        "first",
    ),
    "every that may be 0": Bad(
        'every = "interval"\nleaf',
        'every = "interval - 1"\nleaf',
        "38:10",
        'every must be an integer of at least 1; for a hyperparameter, write bounds = "1 <= x"',
        "interval - 1",
    ),
    "every that is a float": Bad(
        'every = "interval"\nleaf',
        'every = "b2"\nleaf',
        "38:10",
        'every must be an integer of at least 1; for a hyperparameter, write bounds = "1 <= x"',
        "b2",
    ),
    "every that follows a schedule": Bad(
        'every = "interval"\nleaf',
        'every = "learning_rate"\nleaf',
        "38:10",
        "'learning_rate' is schedulable: its value is not known here, only whether it is None",
        "learning_rate",
    ),
    "every that depends on the leaf": Bad(
        'every = "interval"\nleaf',
        'every = "ndim"\nleaf',
        "38:10",
        "'ndim' cannot be used here; only hyperparameters can",
        "ndim",
    ),
    "first that is another step": Bad(
        'first = "interval"', 'first = "2"', "51:10", "first must be 1, or the same as every", "2"
    ),
    "scalars at some steps": Bad(
        'first = "interval"',
        'first = "interval"\nscalars = "c = b2"',
        "52:1",
        "`scalars` are computed in each step; move them to a phase without `every`",
        "scalars",
    ),
    "total at some steps": Bad(
        "d = 0.0 * d",
        "length = total_norm(d)",
        "55:1",
        "a total is of all leaves, in each step; move it to a phase without `every`",
        "length",
    ),
    "gradient changed at some steps": Bad(
        "d = 0.0 * d",
        "g = 0.0 * g",
        "55:1",
        "g cannot be changed at some steps only; give this another name",
        "g",
    ),
    "local of another phase": Bad(
        "update = last - w",
        "update = last - direction",
        "54:17",
        "'direction' exists only in the phase that assigns it; "
        'add hands_on = ["direction"] there, or make it a slot or a total',
        "direction",
    ),
    "scalars amid phases": Bad(
        "[[step]]\nleaf = '''\ndirection",
        "[[step]]\nscalars = \"c = 1 - b2**t\"\nleaf = '''\ndirection",
        "44:1",
        "no total stands between these `scalars` and the phase before; move them there",
        "scalars",
    ),
    "update of another shape at some steps": Bad(
        "update = last - w",
        "update = mean(last - w)",
        "54:10",
        "'update' must have the shape of the leaf, but this is a single number, for leaves with 1 axis",
        "mean(last - w)",
    ),
    "slot of another shape at some steps": Bad(
        "d = 0.0 * d",
        "d = norm(d)",
        "55:5",
        "'d' must have the shape of the leaf, but this is a single number, for leaves with 1 axis; "
        'give the slot shape = "()"',
        "norm(d)",
    ),
    "no phase of each step": Bad(
        "[[step]]\nleaf = '''\ndirection",
        "[[step]]\nevery = \"2\"\nleaf = '''\ndirection",
        "29:1",
        "`update` is not assigned",
        "leaf",
    ),
    "change of no slot": Bad(
        'changes = ["curvature"]',
        'changes = ["curvatur"]',
        "60:12",
        "'curvatur' is not a slot, did you mean 'curvature'?",
        '"curvatur"',
    ),
    "change that is not made": Bad(
        'changes = ["curvature"]',
        'changes = ["curvature", "d"]',
        "60:25",
        "no equation of 'refresh' assigns 'd'",
        '"d"',
    ),
    "change that is not declared": Bad(
        "result = total_norm(w - last)",
        "last = w\nresult = total_norm(w - last)",
        "69:1",
        "'last' is a slot; a function can change it with changes = [\"last\"]",
        "last",
    ),
    "changes as a string": Bad(
        'changes = ["curvature"]',
        'changes = "curvature"',
        "60:11",
        "changes must be a list of strings, not a string",
        '"curvature"',
    ),
    "changes and a number": Bad(
        'changes = ["curvature"]',
        'changes = ["curvature"]\nreturns = "number"',
        "61:11",
        "a function that changes the state returns it; remove this",
        '"number"',
    ),
    "changes and a result": Bad(
        "(1 - b2) * hessian\n'''\n\n[functions.distance]",
        "(1 - b2) * hessian\nresult = w\n'''\n\n[functions.distance]",
        "63:1",
        "this function returns the state, not a result",
        "result",
    ),
    "returns of another kind": Bad(
        'returns = "number"',
        'returns = "array"',
        "67:11",
        "returns must be 'number', not 'array'; leave it out for a tree like the weights",
        '"array"',
    ),
    "number without a total": Bad(
        "result = total_norm(w - last)",
        "result = w - last",
        "69:1",
        "a number is a total over all leaves; write `result = total(...)` or similar",
        "result = w - last",
    ),
    "total that is not the result": Bad(
        "result = total_norm(w - last)",
        "way = total_norm(w - last)\nresult = total_norm(w)",
        "69:1",
        'only `result` of a function with returns = "number" can be a total',
        "way",
    ),
    "gradient in a function": Bad(
        "result = total_norm(w - last)",
        "result = total_norm(g - last)",
        "69:21",
        "'g' cannot be used here; a function can read w, t, slots, hyperparameters, [scalars] and [arguments]",
        "g",
    ),
    "argument that a function may not have": Bad(
        "result = d / (1 - b2**t) * loss if exact else d",
        "result = d / (1 - b2**t) * loss",
        "75:28",
        "'loss' is given only if `kind == 'last' or exact`; test that first",
        "loss",
    ),
}
