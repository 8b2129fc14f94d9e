"""`mlax-codegen show`: signature, state, equations and references, as text."""

import re
from pathlib import Path

import pytest

from mlax_codegen.cli import main
from mlax_codegen.formulas.plain import plain_text
from mlax_codegen.resources import built_in_specs

SPECS = Path(__file__).parent / "specs"


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["show", *arguments]) == 0
    return capsys.readouterr().out


def test_adam(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "adam")
    assert "    2 numbers for each weight: m, v\n" in text
    assert "    mₜ = β₁ mₜ₋₁ + (1 - β₁) gₜ\n" in text
    assert "adam.step(gradients, state, weights=None)\n" in text
    assert "\nAll floats may be arrays, which a step reads at run time.\n" in text
    assert "    Kingma & Ba 2015, https://arxiv.org/abs/1412.6980\n" in text


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("adam", ["m, v"]),
        ("adafactor", ["v, m", "not row, column: not of the shape of the weights"]),
        ("dog", ["no slot, so it is refused", "not w0: a copy of the weights"]),
    ],
)
def test_slots_in_eight_bits(
    name: str, said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(capsys, name).partition('\nIn eight bits, with slot_dtype="int8":\n')[2]
    assert text.partition("\n\n")[0].split("\n") == [f"    {line}" for line in said]


def test_nothing_is_said_of_slots_where_there_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert "\nState:\n    none\n\nEquations:\n" in shown(capsys, "sign_sgd")


def test_floats_that_decide_what_a_step_computes(capsys: pytest.CaptureFixture[str]) -> None:
    assert "\nAll floats but eps may be arrays, which a step" in shown(capsys, "muon")


def test_names_the_source_of_the_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "lamb")
    assert "\n\nThe defaults are Optax's; MLX and PyTorch have no LAMB." in text


def test_state_of_all_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, str(SPECS / "rich.toml"))
    state = text.partition("State:\n")[2].partition("\n\n")[0]
    assert [line.strip() for line in state.split("\n")] == [
        "2 numbers for each weight: m, w0",
        "an array of shape `() if longest is None else (longest,)` for each leaf: long",
        "an array of shape `without(shape, axes[1])` for each leaf if axes: row",
        "one number for each leaf: n",
        "a tuple of arrays of shapes `[(k, k) for k in shape]` for each leaf: left",
        "a tuple of arrays of shapes `[(k, k) for k in shape]` for each leaf: root",
        "1 number for each weight if noisy: extra",
        "3 scalars: d, best, key",
    ]
    assert "rich.step(gradients, state, weights, *, value)\n" in text
    assert "rich.start(state, weights)\n" in text


@pytest.mark.one_python
@pytest.mark.parametrize("path", [*built_in_specs(), *sorted(SPECS.glob("*.toml"))], ids=str)
def test_no_latex_is_left(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, str(path))
    assert not {"\\", "{", "}", "$"} & set(text)
    latex = shown(capsys, str(path), "--latex")
    assert "\\" in latex
    assert not names_of_macros(text, latex)


def names_of_macros(text: str, latex: str) -> set[str]:
    """Return the words of a text that LaTeX has in the names of its macros only."""
    meant = re.sub(r"\\[A-Za-z]+", " ", latex)
    read = {
        "max",
        "min",
        "exp",
        "log",
        "tanh",
        "if",
        "else",
        "otherwise",
        "before",
    }
    return set(re.findall("[A-Za-z]+", text)) - set(re.findall("[A-Za-z]+", meant)) - read


def test_a_name_of_a_macro_would_be_seen() -> None:
    assert names_of_macros("hatβ₂ = Deltaₜ w", r"\hat{\beta}_2 = \Delta_t w") == {"hat", "Delta"}


@pytest.mark.parametrize(
    ("latex", "text"),
    [
        (r"w_t &= w_{t-1} - \alpha g_t", "wₜ = wₜ₋₁ - α gₜ"),
        (r"x^{-0.25}", "x^(-0.25)"),
        (r"\epsilon_{\text{root}}", "ε_root"),
        (r"\beta_{1, t-1}", "β₁ₜ₋₁"),
        (r"\lVert w \rVert \le 1", "‖w‖ ≤ 1"),
        (r"\mathit{weight\_sum}", "weight_sum"),
        (r"\hat{\beta}_2 \hat{V}_t \overline{D_t}", "β̂₂ V̂ₜ D̅ₜ"),
        (r"\tilde{m} \vec{x} \bar w \dot{\theta}", "m̃ x⃗ w̄ θ̇"),
        (r"\overline{a + b}", "(a + b)̅"),
        (r"\Delta_t \Pi \Omega \Lambda \lambda \varsigma", "Δₜ Π Ω Λ λ ς"),
        (r"\varepsilon \ell \mathrm{step} \mathbb{E}", "ε ℓ step E"),
        (r"\max(a, b)\,\unknown", "max(a, b) \\unknown"),
    ],
)
def test_plain_text(latex: str, text: str) -> None:
    assert plain_text(latex) == text


def test_an_unknown_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "adm"]) == 2
    assert "no optimizer of mlax is called 'adm', did you mean 'adam'?" in capsys.readouterr().err


def test_a_bad_spec(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("?")
    assert main(["show", str(tmp_path / "bad.toml")]) == 2


def test_without_a_name_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [path.stem for path in built_in_specs()]
    [adam] = [line for line in lines if line.startswith("adam ")]
    assert adam.split(maxsplit=1)[1].startswith("Adam: the mean gradient")


def test_an_unknown_name_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "adamm"]) == 2
    assert capsys.readouterr().err == (
        "mlax-codegen: no optimizer of mlax is called 'adamm', did you mean 'adam'?\n"
        "`mlax-codegen show` lists them; give a spec of your own as a file, NAME.toml\n"
    )
    assert main(["show", "nosuch"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
