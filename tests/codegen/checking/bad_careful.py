"""Mistakes in what is left out: a change in specs/careful.toml, and the complaint it must get."""

from pathlib import Path

from tests.codegen.checking.bad_specs import Bad

CAREFUL = (
    (Path(__file__).parents[1] / "specs" / "careful.toml")
    .read_text()
    .replace('"careful"', '"probe"')
)
_UNLESS = '"t <= waits or not moderate(norm(m))"'

CASES: dict[str, Bad] = {
    "condition that is a number": Bad(
        _UNLESS,
        '"norm(m)"',
        "58:11",
        "this is an array, not a condition; compare it, as in `x > 0`",
        "norm(m)",
    ),
    "condition that options decide": Bad(
        _UNLESS,
        '"waits > 2"',
        "58:11",
        "options alone decide this; test them with `if`",
        "waits > 2",
    ),
    "condition of elements": Bad(
        _UNLESS,
        '"t <= waits or not moderate(g)"',
        "58:11",
        "unless is one condition for a leaf, but this has the shape of the leaf, for leaves with 1 axis; "
        "reduce it: `isfinite(norm(g))`, `mean(g > 0) > 0.5`",
        "t <= waits or not moderate(g)",
    ),
    "condition of a name that there is not": Bad(
        "t <= waits",
        "t <= waites",
        "58:16",
        "unknown name 'waites', did you mean 'waits'?",
        "waites",
    ),
    "condition of a slot where there may be none": Bad(
        "moderate(norm(m))",
        "moderate(norm(far))",
        "58:43",
        "'far' is kept only if `limit is not None`; test that first",
        "far",
    ),
    "condition of an option that may be None": Bad(
        "1e9)",
        "limit)",
        "49:103",
        "'limit' may be None here; of arrays, all parts are computed: write `a if limit is not None else b`",
        "limit",
    ),
    "step that is skipped because of a leaf": Bad(
        '"not isfinite(length)',
        '"not isfinite(g)',
        "49:22",
        "'g' has a value for each leaf, but `scalars` are computed once per step; move this equation to `leaf`",
        "g",
    ),
    "step that is skipped for ever": Bad(
        'skip = "not isfinite(length) or (length > limit * before and t > 1 if limit is not None else length > 1e9)"',
        'skip = "t <= waits or before > 1"',
        "49:9",
        "a step that is skipped leaves all as it was, `t` too, so all others would be skipped; "
        "let this depend on the gradients, or leave out a phase with `unless`",
        "t <= waits or before > 1",
    ),
    "step that is skipped at some steps": Bad(
        'first = "interval"',
        'first = "interval"\nskip = "not isfinite(length)"',
        "71:1",
        "a step is skipped by a phase that is computed in each; move this to one",
        "skip",
    ),
    "step that is skipped under two conditions": Bad(
        'name = "moved"\n',
        'name = "moved"\nskip = "length > 1e9"\n',
        "58:1",
        "a step is skipped under one condition; combine both there with `or`",
        "skip",
    ),
    "total of some leaves": Bad(
        "count_of = count_of + 1",
        "count_of = count_of + 1\nlength = total_norm(far)",
        "65:1",
        "a total is of all leaves, in each step; move it to a phase without `unless`",
        "length",
    ),
    "start of a slot in what may be left out": Bad(
        'far = { init = "zeros",',
        'far = { init = "gradient",',
        "58:1",
        "'far' starts as `g` in step 1, but this phase may leave it out there; "
        "read it in a phase without `unless` first",
        "unless",
    ),
    "name of the function inside": Bad(
        "leaf = '''\ng = g",
        "name = \"new_moved\"\nleaf = '''\ng = g",
        "59:1",
        "the module needs the name 'new_moved', which is already used; give this phase another name",
        "unless",
    ),
    "handed on twice": Bad(
        "direction = m + 0.001 * shift",
        "scaled = 2 * m\ndirection = m + scaled + 0.001 * shift",
        "60:1",
        "'scaled' is handed on by a phase before; give this another name",
        "scaled",
    ),
    "handed on without an assignment": Bad(
        'hands_on = ["shift"]',
        'hands_on = ["shift", "sifht"]',
        "54:22",
        "no equation of this phase assigns 'sifht', did you mean 'shift'?",
        '"sifht"',
    ),
    "handed on from one branch": Bad(
        "shift = m - scaled",
        "if waits > 1:\n    shift = m - scaled",
        "55:13",
        "'shift' is not assigned in every branch",
        '"shift"',
    ),
    "handed on without a need": Bad(
        'hands_on = ["shift"]',
        'hands_on = ["shift", "m"]',
        "54:22",
        "later phases know 'm' without that; remove this",
        '"m"',
    ),
    "handed on to nobody": Bad(
        "m + 0.001 * shift",
        "m + scaled",
        "54:13",
        "no later phase reads 'shift'; remove this",
        '"shift"',
    ),
    "handed on from some leaves": Bad(
        "update = -learning_rate * direction / (1 + usual)\n'''",
        "update = -learning_rate * direction / (1 + usual)\n'''\nhands_on = [\"direction\"]",
        "67:13",
        "'direction' is not computed for all leaves in each step; make it a slot",
        '"direction"',
    ),
    "local that is not handed on": Bad(
        'hands_on = ["g", "scaled"]',
        'hands_on = ["g"]',
        "52:13",
        "'scaled' exists only in the phase that assigns it; "
        'add hands_on = ["scaled"] there, or make it a slot or a total',
        "scaled",
    ),
    "gradient that is changed for others, or not": Bad(
        "shift = m - scaled",
        "g = 2 * g\nshift = g - scaled",
        "52:1",
        "a later phase reads `g`, and it is not said whether as changed here; "
        'add hands_on = ["g"], or give this another name',
        "g = 2 * g",
    ),
    "definition of an unknown name": Bad(
        "(1 - b1) * new",
        "(1 - b1) * knew",
        "18:35",
        "a definition can read only its parameters and hyperparameters that are not schedulable, not 'knew', "
        "did you mean 'new'?",
        "knew",
    ),
    "definition of the weights": Bad(
        "(1 - b1) * new",
        "(1 - b1) * new * w",
        "18:41",
        "a definition can read only its parameters and hyperparameters that are not schedulable, not 'w'; "
        "make it a parameter",
        "w",
    ),
    "definition that needs the step": Bad(
        "(1 - b1) * new",
        "(1 - b1) * every(2, new, old)",
        "18:35",
        "every depends on more than its arguments; call it outside of the definition",
        "every",
    ),
    "definition with a parameter too many": Bad(
        '["x"]', '["x", "y"]', "23:20", "the equation does not read 'y'; remove this", '"y"'
    ),
    "definition with two parameters of a name": Bad(
        '["old", "new"]',
        '["old", "new", "old"]',
        "17:29",
        "'old' is already a parameter; choose another name",
        '"old"',
    ),
    "definition that nothing calls": Bad(
        "t <= waits or not moderate(norm(m))",
        "t <= waits or norm(m) > 1e6",
        "22:1",
        "no equation calls 'moderate'; use it or remove it",
        "[define.moderate]",
    ),
    "mistake in a definition": Bad(
        "isfinite(x) and",
        "x + 1 and",
        "24:13",
        "this is an array, not a condition; compare it, as in `x > 0` (in `moderate(norm(m))`)",
        "x + 1",
    ),
    "shapes in a definition": Bad(
        "isfinite(x) and not x > 1e6",
        "isfinite(mean(x, 7))",
        "24:22",
        "axis 7 does not exist: the array has no axes, for leaves with no axes; test `ndim > 7` first "
        "(in `moderate(norm(m))`)",
        "mean(x, 7)",
    ),
    "call of a definition without an argument": Bad(
        "mean_of(m, g)",
        "mean_of(m)",
        "51:5",
        "write mean_of(old, new), as it is defined",
        "mean_of(m)",
    ),
    "call of a definition that is misspelt": Bad(
        "mean_of(m, g)",
        "mean_off(m, g)",
        "51:5",
        "unknown function 'mean_off', did you mean 'mean_of'?",
        "mean_off",
    ),
    "call of a definition in a shape": Bad(
        'shape = "()"',
        'shape = "(mean_of(1, 2),)"',
        "34:40",
        "'mean_of' is a definition, which only equations can call",
        "mean_of(1, 2)",
    ),
}
