"""Specs with one mistake each: a change in a good one, and the complaint it must get."""

from typing import NamedTuple

GOOD = """\
name = "probe"
summary = "Probe: a spec with something of everything."
references = ["Doe 2020"]

[hyperparameters]
learning_rate = { default = 1e-3, bounds = "0 <= x", schedulable = true, symbol = '\\alpha', doc = "Step size." }
momentum = { default = 0.9, optional = true, bounds = "0 <= x < 1", schedulable = true, doc = "Decay of the velocity." }
b2 = { default = 0.999, bounds = "0 <= x < 1", doc = "Decay of the second moment." }
power = { default = 2, bounds = "1 <= x", doc = "Exponent." }
nesterov = { default = false, doc = "Look ahead." }
order = { default = "first", choices = ["first", "last"], doc = "When the maximum is taken." }

[[require]]
test = "not nesterov or momentum is not None"
message = "nesterov needs a momentum"

[slots]
v = { init = "zeros", doc = "Second moment." }
velocity = { init = "zeros", when = "momentum is not None", doc = "Velocity." }

[symbols]
root = 'r'

[[step]]
scalars = \'\'\'
c = 1 - b2**t
\'\'\'
leaf = \'\'\'
v = b2 * v + (1 - b2) * abs2(g)
root = sqrt(v / c) if order == "first" else sqrt(v) / c
direction = g / root**power
if momentum is not None:
    velocity = momentum * velocity + direction
    direction = direction + momentum * velocity if nesterov else velocity
update = -learning_rate * direction
\'\'\'
"""


class Bad(NamedTuple):
    """Replace `old` by `new` in the good spec: that gets `message`, about `marked`, at a place."""

    old: str
    new: str
    at: str
    message: str
    marked: str


TOP = (
    "name, class, title, summary, notes, references, experimental, complex, hyperparameters, labels, symbols, "
    "require, define, arguments, scalars, shapes, slots, step, functions"
)


QUOTES = "end it with the quotes that it begins with"
BRACKETS = "end the list with ], or the table with } on the same line"

UNREAD = "is never read: it is overwritten, or its block ends; use it or remove it"

CASES: dict[str, Bad] = {
    # the file and its TOML
    "broken TOML": Bad(
        'name = "probe"',
        "name = probe",
        "1:8",
        'not TOML: invalid value; text needs quotes: "probe"',
        "probe",
    ),
    "boolean in capitals": Bad(
        "nesterov = { default = false",
        "nesterov = { default = False",
        "10:24",
        "not TOML: invalid value; write false",
        "False",
    ),
    "None as a default": Bad(
        "default = 0.9,",
        "default = None,",
        "7:24",
        "not TOML: invalid value; TOML has no None; leave the key out",
        "None",
    ),
    "unclosed string": Bad(
        "root = 'r'",
        "root = 'r",
        "22:8",
        f"this string is never closed; {QUOTES}",
        "'",
    ),
    **{
        f"never closed: {old} as {new}": Bad(
            old, new, at, f"this {what} is never closed; {cure}", marked
        )
        for what, cure, old, new, at, marked in (
            ("string", QUOTES, 'everything."', "everything.", "2:11", '"'),
            ("string", QUOTES, "update = -learning_rate * direction\n'''", "", "28:8", "'''"),
            ("string", QUOTES, "b2**t\n'''", "b2**t", "25:11", "'''"),
            ("string", QUOTES, "b2**t\n'''", "b2**t\n''", "25:11", "'''"),
            (
                "string",
                QUOTES,
                '"zeros", doc = "Sec',
                '"zeros, doc = "Sec',
                "18:14",
                '"zeros, doc = "',
            ),
            ("string", QUOTES, 'test = "not', "test = 'not", "14:8", "'"),
            ("bracket", BRACKETS, '["Doe 2020"]', '["Doe 2020"', "3:14", "["),
            ("bracket", BRACKETS, '"last"], doc', '"last", doc', "11:40", "["),
            ("bracket", BRACKETS, '"Exponent." }', '"Exponent."', "9:9", "{"),
        )
    },
    "LaTeX in double quotes": Bad(
        "'\\alpha'",
        '"\\alpha"',
        "6:84",
        "not TOML: unescaped '\\' in a string; write LaTeX in single quotes, as in '\\alpha'",
        "\\",
    ),
    **{
        f"symbol {symbol}": Bad(
            "root = 'r'",
            f'root = "{symbol}"',
            "22:8",
            f"LaTeX refuses two {what}; put the first into braces, as in '{{x'}}^2'",
            f'"{symbol}"',
        )
        for symbol, what in (
            ("r'^2", "superscripts"),
            ("r^2'", "superscripts"),
            ("r^a_b^c", "superscripts"),
            ("r_a_b", "subscripts"),
            ("r_{a}^2_b", "subscripts"),
        )
    },
    "duplicate key": Bad(
        "root = 'r'",
        "root = 'r'\nroot = 's'",
        "23:1",
        "'root' is given twice",
        "root",
    ),
    "duplicate key in a table": Bad(
        '{ default = false, doc = "Look ahead." }',
        '{ default = false, default = true, doc = "Look ahead." }',
        "10:31",
        "'default' is given twice",
        "default",
    ),
    "duplicate table": Bad(
        "[symbols]",
        "[slots]",
        "21:1",
        "'slots' is given twice",
        "[slots]",
    ),
    "huge integer": Bad(
        "default = 2,",
        f"default = {'9' * 5000},",
        "9:21",
        "this number has too many digits",
        "9" * 5000,
    ),
    "deep nesting": Bad(
        '["Doe 2020"]',
        "[" * 2000 + "]" * 2000,
        "1:1",
        "brackets are nested too deeply; remove some",
        "n",
    ),
    "not the name of the file": Bad(
        'name = "probe"',
        'name = "prob"',
        "1:8",
        "the file is called probe.toml, so name must be 'probe'",
        '"prob"',
    ),
    # keys
    "unknown key": Bad(
        "references =",
        "refs = 1\nreferences =",
        "3:1",
        f"unknown key 'refs'; expected one of {TOP}",
        "refs",
    ),
    "misspelt key": Bad(
        "references =",
        "references = ['A']\nreference =",
        "4:1",
        "unknown key 'reference', did you mean 'references'?",
        "reference",
    ),
    "misspelt table": Bad(
        "[symbols]",
        "[symbol]",
        "21:1",
        "unknown key 'symbol', did you mean 'symbols'?",
        "[symbol]",
    ),
    "unknown key of a hyperparameter": Bad(
        'bounds = "1 <= x"',
        'bound = "1 <= x"',
        "9:24",
        "unknown key 'bound', did you mean 'bounds'?",
        "bound",
    ),
    "unknown key of a slot": Bad(
        'when = "momentum',
        'if = "momentum',
        "19:30",
        "unknown key 'if'; expected one of init, shape, each, when, keeps, nonnegative, wide, symbol, doc",
        "if",
    ),
    "unknown key of a step": Bad(
        "scalars = '''",
        "scalar = '''",
        "25:1",
        "unknown key 'scalar', did you mean 'scalars'?",
        "scalar",
    ),
    "missing summary": Bad(
        'summary = "Probe: a spec with something of everything."\n',
        "",
        "1:1",
        "'summary' is missing",
        "n",
    ),
    "missing doc": Bad(
        ', doc = "Exponent."',
        "",
        "9:1",
        "'doc' is missing",
        "power",
    ),
    "missing default": Bad(
        "default = 2, ",
        "",
        "9:1",
        "'default' is missing; it may be left out only with optional = true",
        "power",
    ),
    "missing init": Bad(
        '{ init = "zeros", doc',
        "{ doc",
        "18:1",
        "'init' is missing",
        "v",
    ),
    "missing message": Bad(
        'message = "nesterov needs a momentum"\n',
        "",
        "13:1",
        "'message' is missing",
        "[[require]]",
    ),
    "empty summary": Bad(
        '"Probe: a spec with something of everything."',
        '" "',
        "2:11",
        "summary must not be empty",
        '" "',
    ),
    "summary is not a sentence": Bad(
        "of everything.",
        "of everything",
        "2:11",
        "summary must be a sentence and end with a full stop",
        '"Probe: a spec with something of everything"',
    ),
    "two steps": Bad(
        "[[require]]",
        "[[step]]\nleaf = 'g = -g'\n[[require]]",
        "14:1",
        "only the last phase may have no `total(...)`; add one, or merge this phase with the next",
        "leaf",
    ),
    # types
    "wrong type of a doc": Bad(
        '"Exponent."',
        "3",
        "9:49",
        'doc must be a string, not an integer; write "3"',
        "3",
    ),
    "wrong type of references": Bad(
        '["Doe 2020"]',
        '"Doe 2020"',
        "3:14",
        "references must be a list of strings, not a string",
        '"Doe 2020"',
    ),
    "wrong type in references": Bad(
        '["Doe 2020"]',
        "[2020]",
        "3:15",
        "references must contain strings, not an integer",
        "2020",
    ),
    "wrong type of a switch": Bad(
        "optional = true",
        'optional = "yes"',
        "7:40",
        "optional must be true or false, not a string",
        '"yes"',
    ),
    "step is one table": Bad(
        "[[step]]",
        "[step]",
        "24:1",
        "step must be a list of tables: write [[step]]",
        "[step]",
    ),
    "slots are a list": Bad(
        "[slots]",
        "[[slots]]",
        "17:1",
        "slots must be a table, not a list",
        "[[slots]]",
    ),
    "hyperparameter is a number": Bad(
        '{ default = 2, bounds = "1 <= x", doc = "Exponent." }',
        "2",
        "9:9",
        'a hyperparameter must be a table, such as { default = 0.9, doc = "Decay." }',
        "2",
    ),
    "default is a date": Bad(
        "default = 2,",
        "default = 1979-05-27,",
        "9:21",
        "default must be a number, a list of numbers, a boolean or a string, not a date or time",
        "1979-05-27",
    ),
    "default is infinite": Bad(
        "default = 0.999",
        "default = inf",
        "8:18",
        "default must be finite",
        "inf",
    ),
    **{
        f"init is {value}": Bad(
            'v = { init = "zeros"', f"v = {{ init = {value}", "18:14", "init must be finite", value
        )
        for value in ("nan", "-inf", "inf", "1e999", "9" * 400)
    },
    "two names with one symbol": Bad(
        "root = 'r'",
        "root = 'v'",
        "22:1",
        "the formulas would show both 'v' and 'root' as v_t; give one of them another symbol",
        "root",
    ),
    "symbol of the gradient": Bad(
        "root = 'r'",
        "root = 'g'",
        "22:1",
        "the formulas would show both 'g' and 'root' as g_t; give one of them another symbol",
        "root",
    ),
    "symbol of the step": Bad(
        "symbol = '\\alpha'",
        "symbol = 't'",
        "6:1",
        "the formulas would show both 't' and 'learning_rate' as t; give one of them another "
        "symbol",
        "learning_rate",
    ),
    "default beyond a float": Bad(
        "default = 0.999",
        "default = 1e999",
        "8:18",
        "default must be finite",
        "1e999",
    ),
    "default beyond an integer": Bad(
        "default = 2,",
        "default = 3_000_000_000,",
        "9:21",
        "this does not fit into a 32-bit integer; write a float",
        "3_000_000_000",
    ),
    "line break in a doc": Bad(
        '"Exponent."',
        '"Expo\\nnent."',
        "9:49",
        "doc must be one line without invisible characters",
        '"Expo\\nnent."',
    ),
    "quotes in a doc": Bad(
        '"Exponent."',
        '\'Three """ quotes.\'',
        "9:49",
        "three quotes would end the docstring; remove them",
        '\'Three """ quotes.\'',
    ),
    "symbol with an open brace": Bad(
        "'\\alpha'",
        "'\\alpha_{x'",
        "6:83",
        "symbol must be LaTeX for use inside a formula, such as '\\beta_1'",
        "'\\alpha_{x'",
    ),
    "symbol with an index that is missing": Bad(
        "'\\alpha'",
        "'\\alpha_'",
        "6:83",
        "symbol must be LaTeX for use inside a formula, such as '\\beta_1'",
        "'\\alpha_'",
    ),
    "symbol with an unknown command": Bad(
        "root = 'r'",
        "root = '\\tidle{r}'",
        "22:8",
        "the formulas do not know \\tidle, did you mean 'tilde'?",
        "'\\tidle{r}'",
    ),
    "symbol with a time": Bad(
        "root = 'r'",
        "root = 'r_{t-1}'",
        "22:8",
        "the formulas add the time to 'root': r_{t-1, t}; remove it from the symbol",
        "'r_{t-1}'",
    ),
    "symbol of a choice": Bad(
        'choices = ["first", "last"]',
        'choices = ["first", "last"], symbol = "o"',
        "11:59",
        "no formula shows a choice, only what it changes; remove its symbol",
        "symbol",
    ),
    # hyperparameters
    "bounds of another name": Bad(
        '"1 <= x"',
        '"1 <= power"',
        "9:33",
        "write bounds as '0 <= x < 1', '0 < x' or 'x <= 5'",
        '"1 <= power"',
    ),
    "bounds that are code": Bad(
        '"1 <= x"',
        "\"__import__('os') <= x\"",
        "9:33",
        "write bounds as '0 <= x < 1', '0 < x' or 'x <= 5'",
        "\"__import__('os') <= x\"",
    ),
    "bounds that hold nothing": Bad(
        'default = 0.999, bounds = "0 <= x < 1"',
        'default = 0.999, bounds = "1 <= x < 0"',
        "8:34",
        "no number is within these bounds; the lower bound exceeds the upper",
        '"1 <= x < 0"',
    ),
    "bounds that are equal": Bad(
        'default = 0.999, bounds = "0 <= x < 1"',
        'default = 0.999, bounds = "1 <= x <= 1"',
        "8:34",
        "the lower bound must be less than the upper",
        '"1 <= x <= 1"',
    ),
    "default out of bounds": Bad(
        "default = 0.999",
        "default = 1.0",
        "8:18",
        "the default is outside its bounds: it must be < 1",
        "1.0",
    ),
    "bounds of a flag": Bad(
        "default = false,",
        'default = false, bounds = "0 <= x",',
        "10:31",
        "a boolean cannot have bounds",
        "bounds",
    ),
    "schedulable integer": Bad(
        "default = 2,",
        "default = 2, schedulable = true,",
        "9:24",
        "only a float can be schedulable; write 2.0",
        "schedulable",
    ),
    "optional flag": Bad(
        "default = false,",
        "default = false, optional = true,",
        "10:31",
        "a boolean cannot be optional",
        "optional",
    ),
    "string without choices": Bad(
        ', choices = ["first", "last"]',
        "",
        "11:21",
        "a default that is a string needs `choices`",
        '"first"',
    ),
    "default is not a choice": Bad(
        'default = "first"',
        'default = "frist"',
        "11:21",
        "the default must be one of the choices: first, last",
        '"frist"',
    ),
    "one choice": Bad(
        '["first", "last"]',
        '["first", "first"]',
        "11:40",
        "expected two or more different choices",
        '["first", "first"]',
    ),
    "choices of a number": Bad(
        "default = 2,",
        'default = 2, choices = ["a", "b"],',
        "9:24",
        "choices are for strings, but the default is an integer",
        "choices",
    ),
    "type and default": Bad(
        "default = 2,",
        'default = 2, type = "integer",',
        "9:24",
        "the default determines the type; remove this",
        "type",
    ),
    # names
    "keyword": Bad(
        "nesterov = {",
        "lambda = {",
        "10:1",
        "'lambda' is a Python keyword; give the hyperparameter another name",
        "lambda",
    ),
    "name of the generated module": Bad(
        "nesterov = {",
        "state = {",
        "10:1",
        "'state' is a name that the generated module uses; give the hyperparameter another name",
        "state",
    ),
    "name of the gradient": Bad(
        "nesterov = {",
        "g = {",
        "10:1",
        "'g' is a reserved name of the language; give the hyperparameter another name",
        "g",
    ),
    "name of a function": Bad(
        "nesterov = {",
        "sqrt = {",
        "10:1",
        "'sqrt' is a function of the language; give the hyperparameter another name",
        "sqrt",
    ),
    "name of a tuple's method": Bad(
        "\nv = {",
        "\nindex = {",
        "18:1",
        "'index' is a method of tuples, and the state is a tuple; give the slot another name",
        "index",
    ),
    "name in Greek": Bad(
        "nesterov = {",
        '"β" = {',
        "10:1",
        "'β' is not a valid name for a hyperparameter: use a-z, 0-9 and _, as in 'b1'",
        '"β"',
    ),
    "name in capitals": Bad(
        "nesterov = {",
        "B1 = {",
        "10:1",
        "'B1' is not a valid name for a hyperparameter: use a-z, 0-9 and _, as in 'b1'",
        "B1",
    ),
    "name with an underscore": Bad(
        "nesterov = {",
        "_b = {",
        "10:1",
        "'_b' begins or ends with an underscore; such names are reserved",
        "_b",
    ),
    "slot named as a hyperparameter": Bad(
        "\nv = { init",
        "\nb2 = { init",
        "18:1",
        "'b2' is already a hyperparameter; choose another name",
        "b2",
    ),
    "class in lower case": Bad(
        "references =",
        'class = "probe"\nreferences =',
        "3:9",
        "'probe' is not a valid class name: write it like 'AdamW'",
        '"probe"',
    ),
    "class of another meaning": Bad(
        "references =",
        'class = "State"\nreferences =',
        "3:9",
        "'State' is a name that the generated module uses; give the class another name",
        '"State"',
    ),
    "name is not an identifier": Bad(
        'name = "probe"',
        'name = "../probe"',
        "1:8",
        "'../probe' is not a valid module name: use a-z, 0-9 and _, as in 'adamw'",
        '"../probe"',
    ),
    # expressions
    "syntax": Bad(
        "c = 1 - b2**t",
        "c = 1 - - ",
        "26:11",
        "this is not a valid equation (invalid syntax)",
        "",
    ),
    "unknown name": Bad(
        "b2 * v +",
        "b3 * v +",
        "29:5",
        "unknown name 'b3'; declare it under [hyperparameters], [slots] or [scalars], "
        "or assign it first",
        "b3",
    ),
    "misspelt name": Bad(
        "velocity = momentum * velocity",
        "velocity = momentun * velocity",
        "33:16",
        "unknown name 'momentun', did you mean 'momentum'?",
        "momentun",
    ),
    "unknown function": Bad(
        "sqrt(v / c)",
        "sqr(v / c)",
        "30:8",
        "unknown function 'sqr', did you mean 'sqrt'?",
        "sqr",
    ),
    "function that runs code": Bad(
        "abs2(g)",
        "exec(g)",
        "29:25",
        "unknown function 'exec'; docs/specs.md lists the functions, and [define.exec] declares one of your own",
        "exec",
    ),
    "attribute": Bad(
        "abs2(g)",
        "g.real",
        "29:25",
        "attributes are not part of the language; write `real(g)`",
        "g.real",
    ),
    "attribute trick": Bad(
        "abs2(g)",
        "().__class__.__base__",
        "29:25",
        "attributes are not part of the language",
        "().__class__.__base__",
    ),
    "call of an attribute": Bad(
        "abs2(g)",
        "g.__class__(g)",
        "29:25",
        "only functions of the language can be called",
        "g.__class__",
    ),
    "import": Bad(
        "c = 1 - b2**t",
        "import os",
        "26:1",
        "a spec cannot import anything",
        "import os",
    ),
    "import as a call": Bad(
        "abs2(g)",
        '__import__("os")',
        "29:25",
        "unknown function '__import__'; docs/specs.md lists the functions",
        "__import__",
    ),
    "index": Bad(
        "abs2(g)",
        "g[0]",
        "29:25",
        "an array cannot be indexed; use `sum(g)`, `mean(g, axis)` or similar",
        "g",
    ),
    "lambda": Bad(
        "abs2(g)",
        "(lambda: g)",
        "29:26",
        "functions cannot be defined in a spec",
        "lambda: g",
    ),
    "comprehension": Bad(
        "abs2(g)",
        "[x for x in g]",
        "29:37",
        "a comprehension must iterate over a list, not an array",
        "g",
    ),
    "loop": Bad(
        "c = 1 - b2**t",
        "while 1:\n    c = t",
        "26:1",
        "loops are not part of the language; write a comprehension, or the sum of one",
        "while 1:",
    ),
    "definition": Bad(
        "c = 1 - b2**t",
        "def f(): pass",
        "26:1",
        "functions cannot be defined in a spec",
        "def f(): pass",
    ),
    "walrus": Bad(
        "abs2(g)",
        "(y := g)",
        "29:26",
        "write the assignment on a line of its own",
        "y := g",
    ),
    "f-string": Bad(
        "abs2(g)",
        'f"{g}"',
        "29:25",
        "f-strings are not part of the language",
        'f"{g}"',
    ),
    "statement without effect": Bad(
        "c = 1 - b2**t",
        "1 - b2**t",
        "26:1",
        "an equation must be an assignment: name = expression",
        "1 - b2**t",
    ),
    "augmented assignment": Bad(
        "v = b2 * v +",
        "v += b2 * v +",
        "29:1",
        "`+=` is not part of the language; write `v = v + ...`",
        "v += b2 * v + (1 - b2) * abs2(g)",
    ),
    "augmented assignment with an unknown operator": Bad(
        "v = b2 * v +",
        "v <<= b2 * v +",
        "29:1",
        "`<<` is not part of the language",
        "v <<= b2 * v + (1 - b2) * abs2(g)",
    ),
    "two targets": Bad(
        "c = 1 - b2**t",
        "c = d = 1 - b2**t",
        "26:1",
        "assign to a single name",
        "c",
    ),
    "operator": Bad(
        "abs2(g)",
        "g & 2",
        "29:27",
        "`&` is not part of the language; write `and`",
        "&",
    ),
    "complex number": Bad(
        "abs2(g)",
        "2j * g",
        "29:25",
        "numbers must be integers or floats",
        "2j",
    ),
    "chained comparison": Bad(
        "abs2(g)",
        "where(0 < g < 1, g, 0.0)",
        "29:31",
        "compare only two values at a time; combine two comparisons with `and`",
        "0 < g < 1",
    ),
    "keyword argument": Bad(
        "abs2(g)",
        "abs2(x=g)",
        "29:25",
        "x of abs2 cannot be passed by name; write `abs2(g)`",
        "abs2(x=g)",
    ),
    "keyword arguments by stars": Bad(
        "abs2(g)",
        "abs2(**g)",
        "29:25",
        "pass the arguments one by one, without **",
        "abs2(**g)",
    ),
    "arguments": Bad(
        "abs2(g)",
        "abs2(g, g)",
        "29:25",
        "abs2 takes 1 argument, not 2",
        "abs2(g, g)",
    ),
    "huge exponent": Bad(
        "root**power",
        "root**1000000",
        "31:23",
        "an exponent must not exceed 64",
        "1000000",
    ),
    "tower of exponents": Bad(
        "root**power",
        "root**9**9**9",
        "31:23",
        "assign a power in an exponent to a name first",
        "9**9**9",
    ),
    "number beyond a float": Bad(
        "1 - b2**t",
        "1e999 - b2**t",
        "26:5",
        "this is larger than any float",
        "1e999",
    ),
    "number beyond an integer": Bad(
        "1 - b2**t",
        "99999999999 - b2**t",
        "26:5",
        "this does not fit into a 32-bit integer; write a float",
        "99999999999",
    ),
    "number of many digits": Bad(
        "1 - b2**t",
        "9" * 5000 + " - b2**t",
        "26:1",
        "this number has too many digits",
        "c",
    ),
    "recursion bomb of parentheses": Bad(
        "1 - b2**t",
        "(" * 300 + "t" + ")" * 300,
        "26:205",
        "nested too deeply; assign parts of this to names",
        "(",
    ),
    "recursion bomb of signs": Bad(
        "1 - b2**t",
        "-" * 3000 + "t",
        "26:5",
        "too many `-` in a row; write at most one",
        "-" * 3000,
    ),
    "recursion bomb of sums": Bad(
        "1 - b2**t",
        "+".join("t" * 3000),
        "25:11",
        "too many operators or brackets in one block; split it into phases",
        "'''",
    ),
    "not ASCII": Bad(
        "1 - b2**t",
        "1 − b2**t",
        "26:7",
        "'−' is not ASCII; such characters may only be in comments",
        "−",
    ),
    "letter that looks like another": Bad(
        "c = 1 - b2**t",
        "с = 1 - b2**t",
        "26:1",
        "'с' is not ASCII; such characters may only be in comments",
        "с",
    ),
    "empty equations": Bad(
        "c = 1 - b2**t",
        "# nothing",
        "25:11",
        "there are no equations here",
        "'''",
    ),
    # meaning
    "slot never assigned": Bad(
        "[symbols]",
        's = { init = "zeros", doc = "S." }\n[symbols]',
        "21:1",
        "no equation assigns 's'; assign it, or remove it from [slots]",
        "s",
    ),
    "slot never read": Bad(
        "update = -",
        "s = g\nupdate = -",
        "35:1",
        "'s' is assigned but never read; use it in an equation or remove it",
        "s = g",
    ),
    **{
        f"value that nothing uses: {what}": Bad(old, new, at, message, marked)
        for what, old, new, at, message, marked in (
            (
                "of a slot that is overwritten",
                "root = sqrt",
                "v = abs2(g)\nroot = sqrt",
                "29:1",
                f"this value of 'v' {UNREAD}",
                "v = b2 * v + (1 - b2) * abs2(g)",
            ),
            (
                "of a local name that is overwritten",
                "direction = g /",
                "direction = w\ndirection = g /",
                "31:1",
                f"this value of 'direction' {UNREAD}",
                "direction = w",
            ),
            (
                "that both branches overwrite",
                "update = -",
                "a = g\nif nesterov:\n    a = w\nelse:\n    a = 2 * w\nupdate = a - ",
                "35:1",
                f"this value of 'a' {UNREAD}",
                "a = g",
            ),
            (
                "of the update, which is overwritten",
                "update = -",
                "update = w\nupdate = -",
                "35:1",
                f"this value of 'update' {UNREAD}",
                "update = w",
            ),
            (
                "computed once a step",
                "c = 1 -",
                "c = t\nc = 1 -",
                "26:1",
                f"this value of 'c' {UNREAD}",
                "c = t",
            ),
            (
                "at the end",
                "update = -learning_rate * direction",
                "update = -learning_rate * direction\ndirection = g",
                "36:1",
                f"this value of 'direction' {UNREAD}",
                "direction = g",
            ),
            (
                "but another that nothing uses",
                "update = -",
                "a = g\nb = 2 * a\nupdate = -",
                "36:1",
                "'b' is assigned but never read; use it in an equation or remove it",
                "b = 2 * a",
            ),
        )
    },
    "slot begins as nothing known": Bad(
        '{ init = "zeros", doc = "Second',
        '{ init = "zero", doc = "Second',
        "18:14",
        "unknown init 'zero', did you mean 'zeros'?",
        '"zero"',
    ),
    "unknown name in what a slot keeps": Bad(
        'v = { init = "zeros"',
        'v = { init = "zeros", keeps = "b3"',
        "18:32",
        "unknown name 'b3'; declare it under [hyperparameters]",
        "b3",
    ),
    "what a slot keeps is not a number": Bad(
        'v = { init = "zeros"',
        'v = { init = "zeros", keeps = "nesterov"',
        "18:32",
        "this must be a number, not a boolean; write, for example, `1.0 if nesterov else 0.0`",
        "nesterov",
    ),
    "a slot keeps what follows a schedule": Bad(
        'v = { init = "zeros"',
        'v = { init = "zeros", keeps = "learning_rate"',
        "18:32",
        "'learning_rate' is schedulable: its value is not known here, only whether it is None",
        "learning_rate",
    ),
    "a slot keeps a function": Bad(
        'v = { init = "zeros"',
        'v = { init = "zeros", keeps = "sqrt(b2)"',
        "18:32",
        "functions cannot be called here",
        "sqrt(b2)",
    ),
    "a slot keeps the root of a negative number": Bad(
        'v = { init = "zeros"',
        'v = { init = "zeros", keeps = "(b2 - 1)**0.5"',
        "18:32",
        "this is a root of a negative number; change its sign or use abs",
        "(b2 - 1)**0.5",
    ),
    "update not assigned": Bad(
        "update = -learning_rate * direction",
        "direction = -learning_rate * direction",
        "28:1",
        "`update` is not assigned",
        "leaf",
    ),
    "update not assigned on a path": Bad(
        "update = -",
        "if nesterov:\n    update = -",
        "28:1",
        "`update` is not assigned in every branch",
        "leaf",
    ),
    "read before assigned": Bad(
        "direction = g / root**power",
        "direction = g / root**power + direction",
        "31:31",
        "'direction' is read before it is assigned; to keep it from step to step, declare it in [slots]",
        "direction",
    ),
    "read before assigned, later": Bad(
        "v = b2 * v +",
        "v = root + b2 * v +",
        "29:5",
        "'root' is read before it is assigned; to keep it from step to step, declare it in [slots]",
        "root",
    ),
    "assigned on one path": Bad(
        "direction = g / root**power\n",
        "if nesterov:\n    direction = g / root**power\n",
        "34:38",
        "'direction' may have no value here: not every branch above assigns it",
        "direction",
    ),
    "unused hyperparameter": Bad(
        "root**power",
        "root**2",
        "9:1",
        "no equation reads 'power'; use it or remove it",
        "power",
    ),
    "unused name": Bad(
        "update = -",
        "more = g\nupdate = -",
        "35:1",
        "'more' is assigned but never read; use it in an equation or remove it",
        "more = g",
    ),
    "unused scalar": Bad(
        "c = 1 - b2**t",
        "c = 1 - b2**t\nd = t",
        "27:1",
        "'d' is assigned but never read; use it in an equation or remove it",
        "d = t",
    ),
    "symbol of nothing": Bad(
        "root = 'r'",
        "rot = 'r'",
        "22:1",
        "no equation assigns 'rot', did you mean 'root'?",
        "rot",
    ),
    "slot where it is not kept": Bad(
        "update = -learning_rate * direction",
        "update = -learning_rate * direction + velocity",
        "35:39",
        "'velocity' is kept only if `momentum is not None`; test that first",
        "velocity",
    ),
    "assigned where it is not kept": Bad(
        "update = -",
        "velocity = velocity\nupdate = -",
        "35:12",
        "'velocity' is kept only if `momentum is not None`; test that first",
        "velocity",
    ),
    "None where a number is needed": Bad(
        "update = -learning_rate * direction",
        "update = -learning_rate * direction * momentum",
        "35:39",
        "'momentum' may be None here; test `momentum is not None` first",
        "momentum",
    ),
    "hyperparameter assigned": Bad(
        "c = 1 - b2**t",
        "b2 = t\nc = 1 - b2**t",
        "26:1",
        "'b2' is a hyperparameter; equations cannot change it",
        "b2",
    ),
    "scalar assigned in a leaf": Bad(
        "update = -",
        "c = g\nupdate = -",
        "35:1",
        "'c' is computed in `scalars`; `leaf` cannot change it",
        "c",
    ),
    "weights assigned": Bad(
        "update = -",
        "w = g\nupdate = -",
        "35:1",
        "'w' cannot be assigned; `update` is added to `w`: assign `update = -...`",
        "w",
    ),
    "slot in scalars": Bad(
        "c = 1 - b2**t",
        "c = v - b2**t",
        "26:5",
        "'v' has a value for each leaf, but `scalars` are computed once per step; move "
        "this equation to `leaf`",
        "v",
    ),
    "slot assigned in scalars": Bad(
        "c = 1 - b2**t",
        "c = 1 - b2**t\nv = c",
        "27:1",
        "'v' is a slot; assign it in `leaf`",
        "v",
    ),
    "update in scalars": Bad(
        "c = 1 - b2**t",
        "c = 1 - b2**t\nupdate = c",
        "27:1",
        "assign `update` in `leaf`",
        "update",
    ),
    "if on an array": Bad(
        "if momentum is not None:",
        "if v > 0:",
        "32:4",
        "the value of 'v' is only known when the step runs; use `where(v > 0, a, b)`",
        "v > 0",
    ),
    "if on a schedulable number": Bad(
        "if momentum is not None:",
        "if momentum > 0:",
        "32:4",
        "'momentum' is schedulable, so its value is only known when the step runs; use "
        "`where(momentum > 0, a, b)`",
        "momentum > 0",
    ),
    "if on a number of the step": Bad(
        "if momentum is not None:",
        "if c:",
        "32:4",
        "the value of 'c' is only known when the step runs; use `where(c > 0, a, b)`",
        "c",
    ),
    "if on a number": Bad(
        "if momentum is not None:",
        "if b2:",
        "32:4",
        "this is a number, not a condition; compare it, as in `x > 0`",
        "b2",
    ),
    "if on a choice": Bad(
        'order == "first"',
        "order",
        "30:23",
        "this is a choice, not a condition; compare it with one of its values",
        "order",
    ),
    # conditions of arrays, axes, counts
    "condition in a slot": Bad(
        "v = b2 * v + (1 - b2) * abs2(g)",
        "v = g > v",
        "29:1",
        "'v' must be a number, not a condition; write `where(g > v, a, b)`",
        "v",
    ),
    "number among conditions": Bad(
        "abs2(g)",
        "where(g > 0 and v, g, 0.0)",
        "29:41",
        "this is an array, not a condition; compare it, as in `x > 0`",
        "v",
    ),
    "if on conditions of arrays": Bad(
        "if momentum is not None:",
        "if momentum is not None and not v > 0:",
        "32:4",
        "the value of 'v' is only known when the step runs; use `where(momentum is not None and (not v > 0), a, b)`",
        "momentum is not None and not v > 0",
    ),
    "named condition that is a number in another branch": Bad(
        "direction = g / root**power",
        "if nesterov:\n    late = abs(g) > 0\nelse:\n    late = g\ndirection = where(late, g / root**power, 0.0)",
        "34:5",
        "'late' must be a condition, not an array; give one of them another name",
        "late",
    ),
    "sum of a boolean": Bad(
        "abs2(g)",
        "sum(nesterov)",
        "29:29",
        "this must be a number, a condition or a list of arrays, not a boolean; write, for example, "
        "`1.0 if nesterov else 0.0`",
        "nesterov",
    ),
    "norm of a condition": Bad(
        "abs2(g)",
        "norm(g > 0)",
        "29:30",
        "this must be a number, not a condition; write `where(g > 0, a, b)`",
        "g > 0",
    ),
    "option that may be None among conditions of arrays": Bad(
        "abs2(g)",
        "where(momentum is not None and momentum * g > 0.1, g, 0.0)",
        "29:56",
        "'momentum' may be None here; of arrays, all parts are computed: "
        "write `a if momentum is not None else b`",
        "momentum",
    ),
    "axis and all but one": Bad(
        "abs2(g)",
        "abs2(g) * mean(g, 0, but=0)",
        "29:35",
        "mean takes only one of axis, over and but",
        "mean(g, 0, but=0)",
    ),
    "all axes but one that is missing": Bad(
        "abs2(g)",
        "abs2(g) * (mean(g, but=1) if ndim > 0 else 1)",
        "29:36",
        "axis 1 does not exist: the array has 1 axis, for leaves with 1 axis; test `ndim > 1` first",
        "mean(g, but=1)",
    ),
    "matrix as a vector of its rows": Bad(
        "direction = g / root",
        "direction = g / (reshape(as_vector(g), shape) + as_vector(g) if ndim == 2 else 1) / root",
        "31:18",
        "shapes (n0, n1) and (n0 * n1) cannot be broadcast together, for leaves with 2 axes; "
        "n0 is the length of axis 0; reduce or reshape one of them, for example with `along`",
        "reshape(as_vector(g), shape) + as_vector(g)",
    ),
    "axis of two numbers": Bad(
        "abs2(g)",
        "max(power, 3, axis=0) * g",
        "29:25",
        "max of two numbers has no axis",
        "max(power, 3, axis=0)",
    ),
    "second number by its name": Bad(
        "abs2(g)",
        "max(power, other=3) * g",
        "29:25",
        "other of max cannot be passed by name; write `max(power, 3)`",
        "max(power, other=3)",
    ),
    "axis of min as the third argument": Bad(
        "abs2(g)",
        "min(g, 1, 0)",
        "29:29",
        "the value of 'g' is only known when the step runs; of two arrays, write `minimum(a, b)`; "
        "along an axis, `min(x, axis=0)`",
        "g",
    ),
    "axis of min without its name": Bad(
        "abs2(g)",
        "min(g, 0)",
        "29:29",
        "the value of 'g' is only known when the step runs; of two arrays, write `minimum(a, b)`; "
        "along an axis, `min(x, axis=0)`",
        "g",
    ),
    "reduced along nothing": Bad(
        'v = { init = "zeros",',
        'v = { init = "zeros", shape = "reduced(shape)",',
        "18:32",
        "reduced takes `over` and the axis that is summed over, or `but` and the axis that stays",
        "reduced(shape)",
    ),
    "slot of a reduced shape": Bad(
        'v = { init = "zeros",',
        'v = { init = "zeros", shape = "reduced(shape, but=0) if ndim > 0 else ()",',
        "29:5",
        "'v' must have shape (n0, 1), but this has the shape of the leaf, for leaves with 2 axes; "
        "n0 is the length of axis 0",
        "b2 * v + (1 - b2) * abs2(g)",
    ),
    "count in scalars": Bad(
        "1 - b2**t",
        "1 - b2**t / count",
        "26:17",
        "'count' has a value for each leaf, but `scalars` are computed once per step; "
        "move this equation to `leaf`",
        "count",
    ),
    "count that may be 0": Bad(
        "abs2(g)",
        "g * (1 / count)",
        "29:30",
        "this divisor may be 0; exclude that with bounds, `if` or max(1, ...)",
        "1 / count",
    ),
    "total_count in a shape": Bad(
        'v = { init = "zeros",',
        'v = { init = "zeros", shape = "(total_count,)",',
        "18:33",
        "'total_count' cannot be used here; only hyperparameters, shape, ndim and names defined above in "
        "[shapes] can",
        "total_count",
    ),
    "remainder of a division by 0": Bad("abs2(g)", "g * t % 0", "29:33", "this divisor is 0", "0"),
    "remainder of a division by what may be 0": Bad(
        "abs2(g)",
        "power // (power - 1) * g",
        "29:14",
        "this divisor may be 0; exclude that with bounds, `if` or max(1, ...)",
        "(1 - b2) * power // (power - 1)",
    ),
    "log1p of a number that may be too small": Bad(
        "abs2(g)",
        "log1p(b2 - 1) * g",
        "29:25",
        "the argument of log1p may be -1 or less; exclude that with bounds or max",
        "log1p(b2 - 1)",
    ),
    "condition as a number": Bad(
        "abs2(g)",
        "(g > 0) * g",
        "29:26",
        "this must be a number, not a condition; write `where(g > 0, a, b)`",
        "g > 0",
    ),
    "flag as a number": Bad(
        "abs2(g)",
        "nesterov * g",
        "29:25",
        "this must be a number, not a boolean; write, for example, `1.0 if nesterov else 0.0`",
        "nesterov",
    ),
    "where on a flag": Bad(
        "abs2(g)",
        "where(nesterov, g, 0.0)",
        "29:31",
        "test of where must be a condition on arrays, not a boolean; write `a if nesterov else b`",
        "nesterov",
    ),
    "unknown choice": Bad(
        'order == "first"',
        'order == "frist"',
        "30:32",
        "'frist' is not one of the choices of 'order', did you mean 'first'?",
        '"frist"',
    ),
    "choices in order": Bad(
        'order == "first"',
        'order < "first"',
        "30:23",
        "compare a choice with == or !=",
        'order < "first"',
    ),
    "string as a number": Bad(
        "abs2(g)",
        '"g" * 2',
        "29:25",
        "a string can only be compared with a choice",
        '"g"',
    ),
    "equal to None": Bad(
        "if momentum is not None:",
        "if momentum != None:",
        "32:4",
        "to compare with None, write `is None` or `is not None`",
        "momentum != None",
    ),
    "gradient that is never None": Bad(
        "velocity if nesterov else velocity",
        "velocity if g is None else velocity",
        "34:52",
        "only an optional hyperparameter can be None",
        "g",
    ),
    "never None": Bad(
        "if momentum is not None:",
        "if b2 is not None:",
        "32:4",
        "only an optional hyperparameter can be None",
        "b2",
    ),
    "is True": Bad(
        "if nesterov else",
        "if nesterov is True else",
        "34:64",
        "use `is` only to compare with None",
        "True",
    ),
    "array in a requirement": Bad(
        '"not nesterov or',
        '"not nesterov or g > 0 or',
        "14:25",
        "'g' cannot be used here; only hyperparameters can",
        "g",
    ),
    "schedulable in a requirement": Bad(
        '"not nesterov or',
        '"not nesterov or learning_rate > 0 or',
        "14:25",
        "'learning_rate' is schedulable: its value is not known here, only whether it is None",
        "learning_rate",
    ),
    "call in a requirement": Bad(
        '"not nesterov or',
        '"not nesterov or sqrt(b2) > 0 or',
        "14:25",
        "functions cannot be called here",
        "sqrt(b2)",
    ),
    "sum in scalars": Bad(
        "c = 1 - b2**t",
        "c = sum(g)",
        "26:5",
        "sum needs a whole leaf, but `scalars` are computed once per step; move this "
        "equation to `leaf`",
        "sum(g)",
    ),
    "condition of a number computed from an unknown name": Bad(
        "c = 1 - b2**t",
        "a = 2 * zeta\nc = where((a if nesterov else 1) + 1 > 0, 1 - b2**t, a)",
        "26:9",
        "unknown name 'zeta'; declare it under [hyperparameters] or [scalars], or assign it first",
        "zeta",
    ),
    "only phases at some steps": Bad(
        "[[step]]\nscalars = '''\nc = 1 - b2**t\n'''\nleaf = '''\n",
        "[[step]]\nevery = \"power\"\nleaf = '''\nc = 1 - b2**t\n",
        "25:1",
        "a step needs a phase without `every`, which assigns `update`",
        "every",
    ),
    "condition with a mistake": Bad(
        'when = "momentum is not None"',
        'when = "momentun is not None"',
        "19:38",
        "unknown name 'momentun', did you mean 'momentum'?",
        "momentun",
    ),
    "requirement that assigns": Bad(
        '"not nesterov or momentum is not None"',
        '"nesterov = 1"',
        "14:9",
        "expected one expression, not a statement",
        "nesterov = 1",
    ),
    # shapes
    "update that is one number": Bad(
        "update = -learning_rate * direction",
        "update = -learning_rate * sum(direction)",
        "35:10",
        "'update' must have the shape of the leaf, but this is a single number, for leaves with "
        "1 axis",
        "-learning_rate * sum(direction)",
    ),
    "update that is one number with an option": Bad(
        "if nesterov else velocity",
        "if not nesterov else norm(velocity)",
        "35:10",
        "'update' must have the shape of the leaf, but this is a single number, for leaves with "
        "1 axis, when momentum is not None and nesterov",
        "-learning_rate * direction",
    ),
    "update that is a scalar": Bad(
        "update = -learning_rate * direction",
        "update = -learning_rate * maximum(1, rms(direction) * c)",
        "35:10",
        "'update' must have the shape of the leaf, but this is a single number, for leaves with "
        "1 axis",
        "-learning_rate * maximum(1, rms(direction) * c)",
    ),
    "slot that is one number": Bad(
        "(1 - b2) * abs2(g)",
        "(1 - b2) * abs2(g)\nv = mean(v)",
        "30:5",
        "'v' must have the shape of the leaf, but this is a single number, for leaves with 1 "
        'axis; give the slot shape = "()"',
        "mean(v)",
    ),
    "names of the mapping": Bad(
        "b2 = {",
        "inputs = {",
        "8:1",
        "'inputs' is a name that the generated module uses; give the hyperparameter another name",
        "inputs",
    ),
    "chain of powers in scalars": Bad(
        "c = 1 - b2**t",
        "a0 = 64\na1 = a0**64\na2 = a1**64\na3 = a2**64\nc = a3 - b2**t",
        "27:6",
        "this may overflow a 32-bit integer; compute with a float, as in 1.0 * a, or give tighter bounds",
        "a0**64",
    ),
    "chain of powers of floats": Bad(
        "c = 1 - b2**t",
        "a0 = 64.0\na1 = a0**64\na2 = a1**64\na3 = a2**64\nc = a3 - b2**t",
        "28:6",
        "this power may overflow a float; give tighter bounds",
        "a1**64",
    ),
    "chain of products": Bad(
        "v = b2 * v",
        "a = 99999\na = a * a\na = a * a\nv = a + b2 * v",
        "30:5",
        "this may overflow a 32-bit integer; compute with a float, as in 1.0 * a, or give tighter bounds",
        "a * a",
    ),
    "power of an integer hyperparameter": Bad(
        "direction = g / root**power",
        "many = power**2\ndirection = g / root**many",
        "31:8",
        "this may overflow a 32-bit integer; compute with a float, as in 1.0 * a, or give tighter bounds",
        "power**2",
    ),
    "squares of squares": Bad(
        "direction = g / root**power",
        "direction = g / root**power * abs2(99999)",
        "31:31",
        "this may overflow a 32-bit integer; compute with a float, as in 1.0 * a, or give tighter bounds",
        "abs2(99999)",
    ),
    "product of shapes": Bad(
        "direction = g / root**power",
        "direction = g / root**power / max(1, shape[0] * shape[1] if ndim == 2 else 1)",
        "31:38",
        "this may overflow a 32-bit integer; compute with a float, as in 1.0 * a, or give tighter bounds",
        "shape[0] * shape[1]",
    ),
    "divided by 0": Bad(
        "direction = g / root",
        "direction = g / 0.0 / root",
        "31:17",
        "this divisor is 0",
        "0.0",
    ),
    "divided by a difference that is 0": Bad(
        "direction = g / root",
        "direction = (1 / (power - power)) * g / root",
        "31:19",
        "this divisor is 0",
        "power - power",
    ),
    "divided by the number of axes": Bad(
        "direction = g / root",
        "direction = (1 / ndim) * g / root",
        "31:18",
        "this divisor is 0, for leaves with no axes; exclude that with `if` or max(1, ...)",
        "ndim",
    ),
    "root of a negative number": Bad(
        "direction = g / root",
        "direction = (-8)**0.5 * g / root",
        "31:13",
        "this is a root of a negative number; change its sign or use abs",
        "(-8)**0.5",
    ),
    "root of a negative number in a condition": Bad(
        "if momentum is not None:",
        "if momentum is not None and (0 - 8)**0.5 > b2:",
        "32:29",
        "this is a root of a negative number; change its sign or use abs",
        "(0 - 8)**0.5",
    ),
    "star before a condition": Bad(
        'when = "momentum is not None"',
        'when = "*momentum"',
        "19:38",
        "write * only in a list: [*q[1:], g]",
        "*momentum",
    ),
    "star before a value": Bad(
        "direction = g / root**power",
        "direction = *g",
        "31:13",
        "write * only in a list: [*q[1:], g]",
        "*g",
    ),
    "root of a negative number by name": Bad(
        "direction = g / root",
        "direction = sqrt(-1.0) * g / root",
        "31:13",
        "this is a root of a negative number; change its sign or use abs",
        "sqrt(-1.0)",
    ),
    "root by name of what may be negative": Bad(
        "direction = g / root",
        "direction = sqrt(b2 - 0.5) * g / root",
        "31:13",
        "this is a root of a number that may be negative; exclude that with bounds, abs or max",
        "sqrt(b2 - 0.5)",
    ),
    "logarithm of what may be 0": Bad(
        "direction = g / root",
        "direction = log(b2) * g / root",
        "31:13",
        "the argument of log may be 0 or negative; exclude that with bounds or max",
        "log(b2)",
    ),
    "logarithm of a negative number": Bad(
        "direction = g / root",
        "direction = log(b2 - 1) * g / root",
        "31:13",
        "the argument of log is 0 or negative; log needs a positive number",
        "log(b2 - 1)",
    ),
    "sign of an integer": Bad(
        "direction = g / root",
        "direction = sign(power) * g / root",
        "31:13",
        "the argument of `sign` is an integer; write `1.0 * power`",
        "sign(power)",
    ),
    "mean of a number": Bad(
        "direction = g / root",
        "direction = mean(b2) * g / root",
        "31:18",
        "mean takes an array, but this is a number; use the number itself",
        "b2",
    ),
    "bounds the wrong way round": Bad(
        "direction = g / root",
        "direction = clip(g, 1, 0) / root",
        "31:13",
        "the lower bound of clip is above the upper one; give the lower bound first",
        "clip(g, 1, 0)",
    ),
    "bounds that may be the wrong way round": Bad(
        "direction = g / root",
        "direction = clip(g, 1 / power, power - 1) / root",
        "31:13",
        "the lower bound of clip may be above the upper one; exclude that with bounds or with a [[require]] that "
        "`1 / power <= power - 1`",
        "clip(g, 1 / power, power - 1)",
    ),
    "divisor of an array that may be 0": Bad(
        "direction = g / root",
        "direction = g * (1 - b2) / b2**power / root",
        "31:13",
        "this divisor may be 0; exclude that with bounds, `if` or max(1, ...)",
        "g * (1 - b2) / b2**power",
    ),
    "divisor that is computed and 0": Bad(
        "direction = g / root",
        "direction = g / (1 - 1) / root",
        "31:18",
        "this divisor is 0",
        "1 - 1",
    ),
    "requirement that a default breaks": Bad(
        "not nesterov or momentum is not None",
        "power > 2 and order == 'first'",
        "14:9",
        "the defaults do not meet this requirement: power = 2, order = 'first'; change "
        "the defaults or the requirement",
        "power > 2 and order == 'first'",
    ),
    "requirement that no None breaks": Bad(
        "not nesterov or momentum is not None",
        "not nesterov and momentum is None",
        "14:9",
        "the defaults do not meet this requirement: nesterov = False, momentum = 0.9; "
        "change the defaults or the requirement",
        "not nesterov and momentum is None",
    ),
    "divisor that is 0 for scalars": Bad(
        "direction = g / root",
        "direction = g / ndim / root",
        "31:17",
        "this divisor is 0, for leaves with no axes; exclude that with `if` or max(1, ...)",
        "ndim",
    ),
    "True in arithmetic": Bad(
        "direction = g / root",
        "direction = g * True / root",
        "31:17",
        "True cannot be used in equations; use a boolean hyperparameter, `nesterov` or `not "
        "nesterov`",
        "True",
    ),
    "string without an end": Bad(
        'order == "first" else',
        'order == "first else',
        "30:32",
        "this is not a valid equation (unterminated string literal)",
        '"',
    ),
    **{
        f"{word}, a word of Python": Bad(
            old,
            old.replace(name, word, 1),
            at,
            f"{word!r} is a Python keyword; choose another name",
            word[:1],
        )
        for word, old, name, at in (
            ("lambda", "update = -learning_rate", "learning_rate", "35:11"),
            ("in", "update = -learning_rate", "learning_rate", "35:11"),
            ("is", "direction = g", "direction", "31:1"),
            ("as", "direction = g", "direction", "31:1"),
            ("for", "sqrt(v / c)", "v", "30:13"),
            ("yield", "g / root**power", "root", "31:17"),
        )
    },
    **{
        f"{slip} for another sign": Bad(
            old,
            new,
            at,
            f"`{slip}` is not part of the language; {cure}",
            slip[:1],
        )
        for slip, old, new, at, cure in (
            (
                "&&",
                "momentum is not None:",
                "momentum is not None && nesterov:",
                "32:25",
                "write `and`",
            ),
            ("!", "if nesterov else", "if !nesterov else", "34:52", "write `not`"),
            (":=", "c = 1", "c := 1", "26:3", "write the assignment on a line of its own, with ="),
            ("=>", "if momentum is not None:", "if b2 => 0.5:", "32:7", "write `>=`"),
            ("?", "root**power", "(nesterov ? root : 2)", "31:27", "write `a if condition else b`"),
        )
    },
    **{
        f"product as {new}": Bad(
            "b2 * v +",
            new,
            at,
            "an operator is missing here; write products as `a * b`",
            new.split()[-2][:1],
        )
        for new, at in (("b2 v +", "29:8"), ("2 v +", "29:7"))
    },
    **{
        f"bracket that {what}": Bad(
            "sqrt(v / c)", new, at, f"this is not a valid equation ({message})", marked
        )
        for what, new, at, message, marked in (
            ("is never closed", "sqrt((v / c)", "30:12", "'(' was never closed", "("),
            ("is never opened", "sqrt(v / c))", "30:19", "unmatched ')'", ")"),
        )
    },
    "phase of a name of the module": Bad(
        "[[step]]\n",
        '[[step]]\nname = "step"\n',
        "25:8",
        "the module has a function 'step' of its own; give the phase another name",
        '"step"',
    ),
    "if without a body": Bad(
        "    velocity = momentum * velocity + direction",
        "velocity = momentum * velocity + direction",
        "33:1",
        "this is not a valid equation (expected an indented block after 'if' statement)",
        "v",
    ),
    **{
        f"{name} as a hyperparameter": Bad(
            "nesterov = {",
            f"{name} = {{",
            "10:1",
            f"{name!r} is {what}; give the hyperparameter another name",
            name,
        )
        for name, what in {
            "number": "a name that the generated module uses",
            "index": "a method of tuples, and the state is a tuple",
            "count": "a reserved name of the language",
            "key": "a function that `init` calls",
        }.items()
    },
    "shape that an option decides": Bad(
        "* direction\n'''",
        "* (direction if nesterov else norm(g) if ndim > 1 else g)\n'''",
        "35:10",
        "'update' must have the shape of the leaf, but this is a single number, for leaves with "
        "2 axes, when not nesterov",
        "-learning_rate * (direction if nesterov else norm(g) if ndim > 1 else g)",
    ),
    "shape that a choice decides": Bad(
        "direction = g / root",
        "direction = (norm(g) if order == 'last' else g) / (root if ndim > 2 else 1)",
        "35:10",
        "'update' must have the shape of the leaf, but this is a single number, for leaves with "
        '1 axis, when not nesterov and momentum is None and order == "last"',
        "-learning_rate * direction",
    ),
    "shape that None decides": Bad(
        "direction = g / root**power",
        "direction = g / root**power if momentum is not None else norm(g) if ndim > 1 else g",
        "35:10",
        "'update' must have the shape of the leaf, but this is a single number, for leaves with "
        "2 axes, when momentum is None",
        "-learning_rate * direction",
    ),
    "negative power of what may be 0": Bad(
        "direction = g / root",
        "direction = b2**-1 * g / root",
        "31:13",
        "this is a negative power of a number that may be 0; exclude that with bounds or max(1, "
        "...)",
        "b2**-1",
    ),
    "axis that no leaf has": Bad(
        "direction = g / root",
        "direction = g / mean(g, 7) / root",
        "31:17",
        "axis 7 does not exist: the array has no axes, for leaves with no axes; test `ndim > 7` "
        "first",
        "mean(g, 7)",
    ),
    "axis beyond those asked for": Bad(
        "direction = g / root",
        "direction = g / (mean(mean(g, 1)) if ndim >= 1 else 1) / root",
        "31:23",
        "axis 1 does not exist: the array has 1 axis, for leaves with 1 axis; test `ndim > 1` "
        "first",
        "mean(g, 1)",
    ),
    "axis that is not an integer": Bad(
        "direction = g / root",
        "direction = g / (mean(mean(g, 0.5)) if ndim else 1) / root".replace(
            "if ndim ", "if ndim > 0 "
        ),
        "31:23",
        "an axis must be an integer",
        "mean(g, 0.5)",
    ),
    "axis that scalars computed": Bad(
        "direction = g / root",
        "direction = g / mean(g, c) / root",
        "31:25",
        "the value of 'c' is only known when the step runs; axis of mean can depend "
        "only on shapes and hyperparameters that are not schedulable",
        "c",
    ),
    "length of an axis that no leaf has": Bad(
        "direction = g / root",
        "direction = shape[0] * g / root",
        "31:13",
        "`shape[0]` does not exist for leaves with no axes; write `shape[0] if ndim > 0 else 1`",
        "shape[0]",
    ),
    "shapes that do not go together": Bad(
        "direction = g / root",
        "direction = g / (gram(g, 0) if ndim == 2 else 1) / root",
        "31:13",
        "shapes (n0, n1) and (n0, n0) cannot be broadcast together, for leaves with 2 axes; "
        "n0 is the length of axis 0; reduce or reshape one of them, for example with "
        "`along`",
        "g / (gram(g, 0) if ndim == 2 else 1)",
    ),
    "update without one of its axes": Bad(
        "update = -learning_rate * direction",
        "update = -mean(learning_rate * direction, 0) if ndim > 0 else direction",
        "35:10",
        "'update' must have the shape of the leaf, but this is a single number, for leaves with 1 axis",
        "-mean(learning_rate * direction, 0) if ndim > 0 else direction",
    ),
    "norm of a number": Bad(
        "direction = g / root",
        "direction = g / norm(2.0) / root",
        "31:22",
        "norm takes an array, but this is a number; use abs(x)",
        "2.0",
    ),
    "two shapes at one time": Bad(
        "direction = g / root**power",
        "direction = every(power, g / root**power, norm(g))",
        "31:13",
        "new and old of every must have the same shape, but these have (n0) and (), for "
        "leaves with 1 axis; n0 is the length of axis 0",
        "every(power, g / root**power, norm(g))",
    ),
    "interval that may be 0": Bad(
        "direction = g / root**power",
        "direction = every(power - 1, g / root**power, g)",
        "31:19",
        'k of every must be an integer of at least 1; for a hyperparameter, write bounds = "1 <= '
        'x"',
        "power - 1",
    ),
    "interval that is not an integer": Bad(
        "direction = g / root**power",
        "direction = every(1.5 * power, g / root**power, g)",
        "31:19",
        'k of every must be an integer of at least 1; for a hyperparameter, write bounds = "1 <= '
        'x"',
        "1.5 * power",
    ),
    "vector as a matrix": Bad(
        "direction = g / root",
        "direction = orthogonalize(g) / root",
        "31:13",
        "orthogonalize needs 2 axes, but this has no axes, for leaves with no axes; test `ndim "
        ">= 2` first",
        "orthogonalize(g)",
    ),
    "writing that runs backwards": Bad(
        "Step size.",
        "Step \u202esize.",
        "6:105",
        "invisible character U+202E (right-to-left override); delete it",
        "\u202e",
    ),
    "writing that runs backwards, escaped": Bad(
        '"Exponent."',
        '"Expo\\u202enent."',
        "9:49",
        "doc must be one line without invisible characters",
        '"Expo\\u202enent."',
    ),
    "nested expressions": Bad(
        "direction = g / root",
        f"direction = {'(' * 45}g{' + 1)' * 45} / root",
        "31:53",
        "nested too deeply; assign parts of this to names",
        f"(((((g{' + 1)' * 5} + 1",
    ),
    "integers where floats are computed with": Bad(
        "direction = g / root",
        "direction = g * sum(where(g > 0, 1, 2)) / root",
        "31:21",
        "both values of `where` are integers; write one as a float, such as 1.0",
        "where(g > 0, 1, 2)",
    ),
    "root of what may be negative": Bad(
        "direction = g / root",
        "direction = (b2 - 0.5)**0.5 * g / root",
        "31:13",
        "this is a root of a number that may be negative; exclude that with bounds, abs or max",
        "(b2 - 0.5)**0.5",
    ),
    "axis beyond many asked for": Bad(
        "direction = g / root",
        "direction = g / (mean(mean(g, 7)) if ndim > 5 else 1) / root",
        "31:23",
        "axis 7 does not exist: the array has 6 axes, for leaves with 6 axes; test `ndim > 7` "
        "first",
        "mean(g, 7)",
    ),
}
