"""The equations as LaTeX: as a paper would write them, and never unbalanced."""

import ast
import re
from pathlib import Path

import pytest

from mlax_codegen.formulas.expressions import Expressions
from mlax_codegen.formulas.options import formulas, function_formulas
from mlax_codegen.formulas.parts import made, raised
from mlax_codegen.formulas.symbols import default_symbol, with_index
from mlax_codegen.formulas.text import latex_lines
from mlax_codegen.language import FUNCTIONS, Function, Type
from mlax_codegen.reading.spec import Spec, read_spec
from mlax_codegen.resources import built_in_specs
from tests.codegen.formulas.probes import spec_with


def equations(spec: Spec) -> list[str]:
    return latex_lines(formulas(spec))


@pytest.mark.parametrize(
    ("code", "latex"),
    [
        ("g = -g\nv = g", "g_t &\\leftarrow -g_t\nv_t &= g_t"),
        ("v = -v", "v_t &= -v_{t-1}"),
        ("v = b2 * v + (1 - b2) * g", "v_t &= b_2 v_{t-1} + (1 - b_2) g_t"),
        ("v = v - (g - w)", "v_t &= v_{t-1} - (g_t - w_{t-1})"),
        ("v = v - (g + w)", "v_t &= v_{t-1} - (g_t + w_{t-1})"),
        ("v = v + -g", "v_t &= v_{t-1} + (-g_t)"),
        ("v = v * -g", "v_t &= v_{t-1} (-g_t)"),
        ("v = -(v * g)", "v_t &= -v_{t-1} g_t"),
        ("v = -v * g + w", "v_t &= -v_{t-1} g_t + w_{t-1}"),
        ("v = g - -v * g", "v_t &= g_t - (-v_{t-1} g_t)"),
        ("v = g * 2", r"v_t &= g_t \cdot 2"),
        ("v = g / w", r"v_t &= \frac{g_t}{w_{t-1}}"),
        ("v = -g / w", r"v_t &= -\frac{g_t}{w_{t-1}}"),
        ("v = b2 * g / w", r"v_t &= b_2 \frac{g_t}{w_{t-1}}"),
        ("v = (g + w) / (g / w)", r"v_t &= \frac{g_t + w_{t-1}}{g_t / w_{t-1}}"),
        ("v = g / w / (v * g)", r"v_t &= \frac{g_t / w_{t-1}}{v_{t-1} g_t}"),
        ("v = sqrt(g / (w * v))", r"v_t &= \sqrt{g_t / (w_{t-1} v_{t-1})}"),
        ("v = (g + w) ** 2", "v_t &= (g_t + w_{t-1})^2"),
        ("v = (-g) ** 2", "v_t &= (-g_t)^2"),
        ("v = -g ** 2", "v_t &= -g_t^2"),
        ("v = g ** -0.25", "v_t &= g_t^{-0.25}"),
        ("v = (g ** 2) ** 2", "v_t &= (g_t^2)^2"),
        ("v = g ** 0.5", r"v_t &= \sqrt{g_t}"),
        ("v = g ** (1 / power)", r"v_t &= g_t^{1 / \mathit{power}}"),
        ("v = abs2(g) * 1e-8", r"v_t &= \lvert g_t \rvert^2 \cdot 10^{-8}"),
        ("v = maximum(v, 2.5e-30)", r"v_t &= \max(v_{t-1}, 2.5 \cdot 10^{-30})"),
        (
            "v = where(g > 0, g, 0.0)",
            r"v_t &= \begin{cases} g_t & \text{if } g_t > 0 \\ 0 & \text{otherwise} \end{cases}",
        ),
        (
            "v = where(g > 0, g, where(w > 0, w, v))",
            r"v_t &= \begin{cases} g_t & \text{if } g_t > 0 \\ w_{t-1} & \text{if } w_{t-1} > 0 \\ "
            r"v_{t-1} & \text{otherwise} \end{cases}",
        ),
        (
            "v = g if ndim == 2 else where(g > 0, w, v)",
            r"v_t &= \begin{cases} g_t & \text{if } \operatorname{ndim} = 2 \\ w_{t-1} & \text{if } g_t > 0 \\ "
            r"v_{t-1} & \text{otherwise} \end{cases}",
        ),
        (
            "v = where(g > 0, w, g if ndim == 2 else v)",
            r"v_t &= \begin{cases} w_{t-1} & \text{if } g_t > 0 \\ g_t & \text{if } \operatorname{ndim} = 2 \\ "
            r"v_{t-1} & \text{otherwise} \end{cases}",
        ),
        (
            "v = trust_ratio(w, g, b2, eps=1e-8) * g",
            r"v_t &= b_2 \frac{\lVert w_{t-1} \rVert}{\lVert g_t \rVert + 10^{-8}} g_t",
        ),
        (
            "v = maximum(trust_ratio(w, g), 1) * g",
            r"v_t &= \max(\lVert w_{t-1} \rVert / \lVert g_t \rVert, 1) g_t",
        ),
        ("v = sum(conj(w) * g) * g * b2", r"v_t &= (\sum \overline{w_{t-1}} g_t) g_t b_2"),
        ("v = (g + w) * (g - w) * v", "v_t &= (g_t + w_{t-1}) (g_t - w_{t-1}) v_{t-1}"),
        ("v = b2 * sum(g) * g", r"v_t &= b_2 (\sum g_t) g_t"),
        ("v = -sum(g) * g", r"v_t &= -(\sum g_t) g_t"),
        ("v = maximum(sum(g) / b2, 0)", r"v_t &= \max((\sum g_t) / b_2, 0)"),
        ("v = g * max(norm(g) * g)", r"v_t &= g_t \max \lVert g_t \rVert g_t"),
        ("v = max(norm(g) * g) * g", r"v_t &= (\max \lVert g_t \rVert g_t) g_t"),
        ("v = sqrt(g / w * v)", r"v_t &= \sqrt{(g_t / w_{t-1}) v_{t-1}}"),
        (
            "v = sqrt(trust_ratio(w, g) * g)",
            r"v_t &= \sqrt{(\lVert w_{t-1} \rVert / \lVert g_t \rVert) g_t}",
        ),
        ("v = sqrt(g - w / v)", r"v_t &= \sqrt{g_t - w_{t-1} / v_{t-1}}"),
        ("v = reshape(g + w, shape) * v", "v_t &= (g_t + w_{t-1}) v_{t-1}"),
        (
            "v = where(g > 0, g, 0.0) / b2 * v",
            r"v_t &= ((\begin{cases} g_t & \text{if } g_t > 0 \\ 0 & \text{otherwise} \end{cases}) / b_2) v_{t-1}",
        ),
        (
            "v = outer_mean(g, w, (0, 1), min_mean=b2)",
            r"v_t &= \frac{g_t \otimes w_{t-1}}{\max(\operatorname{mean}(g_t), b_2)}",
        ),
        ("update = -learning_rate * g", r"w_t &= w_{t-1} - \alpha g_t"),
        ("update = g - w", "w_t &= w_{t-1} + g_t - w_{t-1}"),
        (
            "if ndim == 1:\n    v = g",
            "\\text{if } \\operatorname{ndim} = 1:\n\\quad v_t &= g_t",
        ),
        (
            'if order == "first":\n    v = g\nelse:\n    v = w',
            'v_t &= g_t\n\\text{if order is "last":}\nv_t &= w_{t-1}',
        ),
        (
            "if nesterov:\n    v = g",
            "\\text{if nesterov is True:}\nv_t &= g_t",
        ),
    ],
)
def test_one_equation(code: str, latex: str, tmp_path: Path) -> None:
    assert "\n".join(equations(spec_with(code, tmp_path))) == latex


def test_time_moves_on_when_a_slot_is_assigned(tmp_path: Path) -> None:
    spec = spec_with("more = v\nv = g + more\nmore = v\nv = v + more", tmp_path)
    assert equations(spec) == [
        r"\mathit{more}_t &= v_{t-1}",
        r"v_t &= g_t + \mathit{more}_t",
        r"\mathit{more}_t &\leftarrow v_t",
        r"v_t &\leftarrow v_t + \mathit{more}_t",
    ]


def test_branches_say_their_conditions(tmp_path: Path) -> None:
    code = "if ndim == 1:\n    v = g\nelif ndim == 2 and b2 > 0.5:\n    v = w\nelse:\n    v = -v"
    assert equations(spec_with(code, tmp_path)) == [
        r"\text{if } \operatorname{ndim} = 1:",
        r"\quad v_t &= g_t",
        r"\text{otherwise:}",
        r"\quad \text{if } \operatorname{ndim} = 2 \text{ and } b_2 > 0.5:",
        r"\quad \quad v_t &= w_{t-1}",
        r"\quad \text{otherwise:}",
        r"\quad \quad v_t &= -v_{t-1}",
    ]


def test_a_branch_knows_nothing_of_the_other(tmp_path: Path) -> None:
    code = "if ndim == 2:\n    v = -v\nelse:\n    v = v + g\nv = -v"
    lines = equations(spec_with(code, tmp_path))
    assert [line.removeprefix(r"\quad ") for line in lines if "&" in line] == [
        "v_t &= -v_{t-1}",
        "v_t &= v_{t-1} + g_t",
        r"v_t &\leftarrow -v_t",
    ]


def test_an_update_that_is_read_has_a_name(tmp_path: Path) -> None:
    assert equations(spec_with("update = g\nupdate = -update", tmp_path)) == [
        "u_t &= g_t",
        r"u_t &\leftarrow -u_t",
        "w_t &= w_{t-1} + u_t",
    ]


@pytest.mark.parametrize(
    ("symbol", "of_step", "squared"),
    [
        ("n'", "n'_t", "(n'_t)^2"),
        ("n_{a}'", "n_{a, t}'", "(n_{a, t}')^2"),
        (r"n_\text{max}", r"n_{\text{max}, t}", r"n_{\text{max}, t}^2"),
        ("n^{(1)}", "n^{(1)}_t", "(n^{(1)}_t)^2"),
        (r"\bar{w_0}", r"\bar{w_0}_t", r"\bar{w_0}_t^2"),
    ],
)
def test_a_symbol_gets_one_superscript(symbol: str, of_step: str, squared: str) -> None:
    """LaTeX refuses two of them, and a prime is one."""
    assert with_index(symbol, "t") == of_step
    assert raised(made(of_step), made("2")).latex == squared


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("m", "m"),
        ("mu", r"\mu"),
        ("b1", "b_1"),
        ("beta2", r"\beta_2"),
        ("v_max", r"v_{\text{max}}"),
        ("x_1", "x_1"),
        ("velocity", r"\mathit{velocity}"),
        ("second_moment", r"\mathit{second\_moment}"),
        ("c1_next", r"c_{1, \text{next}}"),
        ("b2_t", "b_{2, t}"),
    ],
)
def test_symbols_of_names(name: str, symbol: str) -> None:
    assert default_symbol(name) == symbol


@pytest.mark.one_python
@pytest.mark.parametrize("path", built_in_specs(), ids=lambda path: path.stem)
def test_built_in_equations_are_balanced(path: Path) -> None:
    for line in equations(read_spec(path)):
        assert line.count(r"\begin") == line.count(r"\end")
        if line.endswith((":", ":}")):
            continue
        assert line.replace(r"\\", "").count("&") - line.count(r"\\") == 1 + line.count(r"\begin")


def test_adam_reads_like_its_paper() -> None:
    [adam] = [path for path in built_in_specs() if path.stem == "adam"]
    assert equations(read_spec(adam))[2:5] == [
        r"m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t",
        r"v_t &= \beta_2 v_{t-1} + (1 - \beta_2) \lvert g_t \rvert^2",
        r"w_t &= w_{t-1} - \alpha \frac{m_t / c_1}{\sqrt{v_t / c_2 + \epsilon_{\text{root}}} + \epsilon}",
    ]


SPECS = Path(__file__).parents[1] / "specs"


def test_rare_constructs() -> None:
    lines = equations(read_spec(SPECS / "rich.toml"))
    assert lines[:2] == [
        r"\text{axes} &= \text{two\_largest\_axes(shape, 2)}",
        r"\text{matrix} &\Leftrightarrow \operatorname{ndim} = 2",
    ]
    assert r"\mathit{way}_t &= \sum (g_t \mathit{gone}_t \text{ over all leaves})" in lines
    [left] = [line for line in lines if line.startswith(r"\mathit{left}")]
    assert left.endswith(r"\operatorname{gram}_{i}(g_t) \quad \text{for each axis } i")
    [root] = [line for line in lines if line.startswith(r"\mathit{root}")]
    assert root.endswith(r"\quad \text{for each axis } i \quad \text{every } k \text{ steps}")
    assert r"\mathit{best}_t &= \min(\mathit{best}_{t-1}, f_t)" in lines


def test_the_smallest_along_the_axes_is_in_parentheses() -> None:
    [sm3] = [path for path in built_in_specs() if path.stem == "sm3"]
    smallest = r"\nu_t &= \min((\mu_{t-1}^{(i)})_i) + \lvert g_t \rvert^2"
    assert equations(read_spec(sm3))[0] == smallest


def test_a_function_speaks_of_the_state_after_the_step() -> None:
    spec = read_spec(SPECS / "schedule_free_adamw.toml")
    expected = [r"\bar{w}_t &= \frac{w_t - (1 - \beta_1) z_t}{\beta_1}"]
    assert latex_lines(function_formulas(spec, spec.functions[0])) == expected


@pytest.mark.one_python
def test_cases_never_stand_in_a_fraction() -> None:
    for path in built_in_specs():
        for line in equations(read_spec(path)):
            assert not re.search(r"\\frac\{[^{}]*\\begin", line), path


WRITTEN = re.compile(
    r"\\(?:text|mathit|mathrm|operatorname|begin|end)\{(?:[^{}\\]|\\_)*\}|\\[A-Za-z]+"
)


@pytest.mark.parametrize("path", [*built_in_specs(), *sorted(SPECS.glob("*.toml"))], ids=str)
def test_all_are_balanced_and_words_are_text(path: Path) -> None:
    """A word outside of text would be a product of letters, and one in an index part of that."""
    spec = read_spec(path)
    lines = equations(spec)
    for function in spec.functions:
        lines += latex_lines(function_formulas(spec, function))
    for line in lines:
        assert line.count("{") == line.count("}")
        assert line.count("(") == line.count(")") or line.startswith(r"\text{if ")
        assert not re.search("[A-Za-z]{2}", WRITTEN.sub(" ", line)), line


@pytest.mark.parametrize(
    ("value", "test"),
    [
        ("where(g > b2 * v and v > 0, g, w)", r"g_t > b_2 v_{t-1} \text{ and } v_{t-1} > 0"),
        (
            "where(g > v**2 and isfinite(v), g, w)",
            r"g_t > v_{t-1}^2 \text{ and } v_{t-1} \text{ is finite}",
        ),
        ("norm(v, but=0) * g", r"\lVert v_{t-1} \text{ over all axes but } 0 \rVert"),
    ],
)
def test_words_after_an_index(value: str, test: str, tmp_path: Path) -> None:
    assert any(test in line for line in equations(spec_with(f"v = {value}", tmp_path)))


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=list(FUNCTIONS))
def test_every_function_has_a_formula(function: Function, tmp_path: Path) -> None:
    given = {Type.KEY: "key", Type.CONDITION: "g > w", Type.SIZES: "shape", Type.CHOICE: "'last'"}
    arguments = [given.get(p.type, "12" if p.static else "g") for p in function.parameters]
    call = ast.parse(f"{function.name}({', '.join(arguments[: function.fewest_arguments])})")
    [statement] = call.body
    assert isinstance(statement, ast.Expr)
    formula = Expressions(spec_with("v = g", tmp_path)).bare(statement.value)
    assert len(formula.latex) > 1
    pairs = zip(function.parameters, arguments, strict=True)
    # Of `like`, only the shape counts.
    shown = [argument for p, argument in pairs if p.name != "like"]
    assert "g_t" in formula.latex or "g" not in shown
