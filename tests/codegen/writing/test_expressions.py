"""The printer lays code out exactly as `ruff format` does, which is asked about random statements."""

import ast
import random
import subprocess
import sys
from pathlib import Path

from mlax_codegen.reading.document import read_document
from mlax_codegen.resources import built_in_specs
from mlax_codegen.writing.expressions import expression_text, parsed
from mlax_codegen.writing.layout import laid_out

DOCUMENT = read_document(built_in_specs()[0])

NAMES = [
    "g",
    "w",
    "t",
    "m",
    "v",
    "h.b1",
    "h.b2",
    "momentum",
    "velocity",
    "direction",
    "learning_rate",
]
NAMES += ["h.weight_decay", "second_moment_largest"]
TESTS = ["momentum is None", "h.nesterov", "h.bias_correction", "weight_decay is not None"]
STATEMENTS = [
    "x = {}",
    "return {}",
    "update = {}",
    "state = State(step=no_steps(), m={}, velocity_slot={})",
    "updates, m = map_leaves(_leaf, h, (gradients, weights), (state.m, state.v), learning_rate={})",
    "if {}:",
]


class Expressions:
    """Random expressions of the language, in parentheses where Python needs them and sometimes where not."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def expression(self, depth: int) -> str:
        kind = self.random.random()
        if depth == 0 or kind < 0.2:
            return self.random.choice([*NAMES, "1", "1.0", "1e-3"])
        if kind < 0.55:
            operator = self.random.choice("+-**//")
            return f"{self.operand(depth)} {operator} {self.operand(depth)}"
        if kind < 0.6:
            return f"{self.random.choice(NAMES)} ** {self.operand(depth, always=True)}"
        if kind < 0.8:
            name = self.random.choice(["jnp.sqrt", "jnp.maximum", "abs2", "jnp.where"])
            count = self.random.randint(1, 3)
            return f"{name}({', '.join(self.expression(depth - 1) for _ in range(count))})"
        if kind < 0.83:
            return f"[{self.expression(depth - 1)} for i in range({self.expression(0)})]"
        if kind < 0.84:
            return f"lazily(2, step, lambda: {self.expression(depth - 1)}, {self.expression(0)})"
        if kind < 0.855:
            return f"{self.random.choice(['g.shape', 'mu', 'axes'])}[{self.random.choice(['i', '-1', '0'])}]"
        if kind < 0.87:
            return f"-{self.operand(depth, always=True)}"
        if kind < 0.94:
            return f"{self.operand(depth)} if {self.test(depth - 1)} else {self.operand(depth)}"
        operator = self.random.choice([">", "==", "<="])
        return f"{self.operand(depth, always=True)} {operator} {self.operand(depth, always=True)}"

    def operand(self, depth: int, *, always: bool = False) -> str:
        text = self.expression(depth - 1)
        node = ast.parse(text, mode="eval").body
        needed = isinstance(node, ast.IfExp | ast.Compare | ast.UnaryOp)
        simple = isinstance(
            node, ast.Name | ast.Call | ast.Constant | ast.Attribute | ast.ListComp | ast.Subscript
        )
        if needed or (not simple and (always or self.random.random() < 0.5)):
            return f"({text})"
        return text

    def test(self, depth: int) -> str:
        kind = self.random.random()
        if depth <= 0 or kind < 0.4:
            return self.random.choice(TESTS)
        if kind < 0.6:
            return "not h.nesterov"
        parts = [self.test(depth - 1) for _ in range(self.random.randint(2, 3))]
        grouped = [f"({part})" if " or " in part or " and " in part else part for part in parts]
        return self.random.choice([" and ", " or "]).join(grouped)

    def statement(self) -> str:
        form = self.random.choice(STATEMENTS)
        if form == "if {}:":
            return form.format(self.test(4))
        return form.format(self.expression(self.random.randint(2, 5)), self.expression(2))


def formatted(folder: Path, bodies: list[str], width: int) -> list[str]:
    """Return what ruff makes of the bodies of functions, at some line length."""
    for number, body in enumerate(bodies):
        (folder / f"{number}.py").write_text(f"def f():\n{body}\n")
    command = ["format", "--isolated", "--no-cache", "--quiet", f"--line-length={width}"]
    subprocess.run([sys.executable, "-m", "ruff", *command, str(folder)], check=True)
    return [
        (folder / f"{number}.py").read_text().removeprefix("def f():\n").removesuffix("\n")
        for number in range(len(bodies))
    ]


def test_breaks_lines_where_ruff_does(tmp_path: Path) -> None:
    make = Expressions(seed=0)
    statements = [f"    {make.statement()}" for _ in range(400)]
    bodies = [f"{s}\n        pass" if s.endswith(":") else s for s in statements]
    flat = formatted(tmp_path, bodies, width=320)
    wrapped = formatted(tmp_path, flat, width=100)
    compared = 0
    for before, expected in zip(flat, wrapped, strict=True):
        first, *rest = before.split("\n")
        too_long = any(len(line) > 100 for line in expected.split("\n"))
        if before == expected or too_long or (rest and not first.endswith(":")):
            continue
        assert "\n".join([laid_out(first), *rest]) == expected
        compared += 1
    assert compared > 80


def test_prints_flat_expressions_as_ruff_does(tmp_path: Path) -> None:
    make = Expressions(seed=1)
    codes = [make.expression(3) for _ in range(300)]
    printed = [f"    x = {expression_text(parsed(code, DOCUMENT), {})}" for code in codes]
    assert printed == formatted(tmp_path, printed, width=320)


def test_replaces_names() -> None:
    code = "-b1 * sqrt((m + 1) / c)"
    names = {"b1": "h.b1", "sqrt": "jnp.sqrt"}
    assert expression_text(parsed(code, DOCUMENT), names) == "-h.b1 * jnp.sqrt((m + 1) / c)"


def test_what_is_printed_means_the_same() -> None:
    make = Expressions(seed=2)
    for _ in range(300):
        code = make.expression(4)
        printed = expression_text(parsed(code, DOCUMENT), {})
        assert ast.dump(ast.parse(printed)) == ast.dump(ast.parse(code))


def test_a_range_beside_a_list_is_enumerated() -> None:
    code = parsed("[f(x, i) for i, x in zip(range(n), q)] + [x for x, y in zip(p, q)]", DOCUMENT)
    enumerated, zipped = expression_text(code, {}).split(" + ")
    assert enumerated == "[f(x, i) for i, x in enumerate(q)]"
    assert zipped == "[x for x, y in zip(p, q, strict=True)]"


def test_code_over_several_lines_becomes_one() -> None:
    code = "(\n    m / c\n    + (\n        v * g\n    )\n)"
    assert expression_text(parsed(code, DOCUMENT), {}) == "m / c + (v * g)"
