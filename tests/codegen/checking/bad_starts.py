"""Mistakes in how slots start: a change in specs/starts.toml, and the complaint it must get."""

from pathlib import Path

from tests.codegen.checking.bad_specs import Bad

STARTS = (
    (Path(__file__).parents[1] / "specs" / "starts.toml").read_text().replace('"starts"', '"probe"')
)

CASES: dict[str, Bad] = {
    "start of another shape": Bad(
        'm = { init = "gradient",',
        'm = { init = "gradient", shape = "()",',
        "21:26",
        "the gradient has the shape of the weights; remove this",
        "shape",
    ),
    "start that is misspelt": Bad(
        'm = { init = "gradient"',
        'm = { init = "gradients"',
        "21:14",
        "unknown init 'gradients', did you mean 'gradient'?",
        '"gradients"',
    ),
    "start that is never read": Bad(
        "v = b1 * v",
        "first = g\nv = b1 * v",
        "23:18",
        "'first' is assigned before it is read, so it never starts; write init = \"zeros\"",
        '"gradient"',
    ),
    "start from what one branch changes": Bad(
        "    slow = b2 * slow",
        "    g = g - w\n    slow = b2 * slow",
        "44:5",
        "'slow' starts as `g`, which only one branch has changed; change `g` in an `if` of its own, before this",
        "slow = b2 * slow + (1 - b2) * g",
    ),
    "start computed from the gradient": Bad(
        '"1 - b1**2"',
        '"1 - g"',
        "24:19",
        "'g' cannot be used here; only hyperparameters can",
        "g",
    ),
    "noise of no key": Bad(
        '"normal(key, 1)"',
        '"normal(seed, 1)"',
        "26:25",
        'normal(key, deviation) needs a random key; declare one in [scalars], with init = "key(seed)"',
        "seed",
    ),
    "noise of a key that is misspelt": Bad(
        '"normal(key, 1)"',
        '"normal(keyy, 1)"',
        "26:25",
        "normal(key, deviation) needs a random key, did you mean 'key'?",
        "keyy",
    ),
    "noise without a deviation": Bad(
        '"normal(key, 1)"',
        '"normal(key)"',
        "26:18",
        "normal takes 2 arguments, not 1",
        "normal(key)",
    ),
    "noise in arithmetic": Bad(
        '"normal(key, 1)"',
        '"1 + normal(key, 1)"',
        "26:22",
        "noise must stand alone; multiply the deviation: `normal(key, 2 * deviation)`",
        "normal(key, 1)",
    ),
    "noise whose deviation may be undefined": Bad(
        "sigma / (1 + sigma)",
        "1 / sigma",
        "25:31",
        "this divisor may be 0; exclude that with bounds, `if` or max(1, ...)",
        "1 / sigma",
    ),
    "deviation that follows a schedule": Bad(
        "sigma / (1 + sigma)",
        "sigma * learning_rate",
        "25:39",
        "'learning_rate' is schedulable: its value is not known here, only whether it is None",
        "learning_rate",
    ),
    "arithmetic with a number that may be None": Bad(
        '"1 - b1**2"',
        '"1 - b2"',
        "24:19",
        "'b2' may be None here; test `b2 is not None` first",
        "b2",
    ),
    "scalar that begins as a number that may be None": Bad(
        '"1 - b1", symbol',
        '"1 - b2", symbol',
        "18:23",
        "'b2' may be None here; test `b2 is not None` first",
        "b2",
    ),
    "scalar that begins undefined": Bad(
        '"1 - b1", symbol',
        '"1 / b1", symbol',
        "18:19",
        "this divisor may be 0; exclude that with bounds, `if` or max(1, ...)",
        "1 / b1",
    ),
    "arithmetic with an unknown name": Bad(
        '"1 - b1**2"',
        '"1 - beta"',
        "24:19",
        "unknown name 'beta'; declare it under [hyperparameters]",
        "beta",
    ),
    "start that is a condition": Bad(
        '"1 - b1**2"',
        '"b1 > 0.5"',
        "24:15",
        "this must be a number, not a boolean; write, for example, `1.0 if b1 > 0.5 else 0.0`",
        "b1 > 0.5",
    ),
    "start that cannot be read": Bad(
        '"1 - b1**2"',
        '"1 - b1^2"',
        "24:21",
        "`^` is not part of the language; write `**`",
        "^",
    ),
}
