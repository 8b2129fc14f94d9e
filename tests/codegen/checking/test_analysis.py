"""What the generator knows of a spec as a whole."""

from pathlib import Path

import pytest

from mlax_codegen.checking.analysis import analyse
from mlax_codegen.reading.mistakes import SpecError
from mlax_codegen.reading.spec import read_spec
from mlax_codegen.writing.render import render_module
from tests.codegen.checking.bad_specs import GOOD
from tests.codegen.checking.changed import analysis


def test_what_the_leaf_is_given(tmp_path: Path) -> None:
    [leaf] = analysis(tmp_path).phases
    assert leaf.scalars == ("learning_rate", "momentum", "c")
    [leaf] = analysis(tmp_path, "abs2(g)", "abs2(g) / t").phases
    assert leaf.scalars == ("learning_rate", "momentum", "t", "c")


def test_a_state_without_slots_like_the_weights_says_its_type(tmp_path: Path) -> None:
    """A type checker would find the type of the weights nowhere else."""
    text = (
        'name = "probe"\nsummary = "Probe: one number."\nreferences = ["Doe 2020"]\n'
        '[slots]\nn = { init = "zeros", shape = "()", doc = "Size." }\n'
        '[[step]]\nleaf = """\nn = 0.999 * n + norm(g)\nupdate = -g / (n + 1e-8)\n"""\n'
    )
    for extra, annotated in (("", True), (' m = { init = "copy", doc = "M." }\n', False)):
        spec = text.replace("[[step]]", f"{extra}[[step]]").replace(
            "/ (n", "/ (m + n" if extra else "/ (n"
        )
        (tmp_path / "probe.toml").write_text(spec)
        module = render_module(read_spec(tmp_path / "probe.toml"))
        assert "    warn_if_narrow(state, " in module
        assert ("state: State[Weights] = State(" in module) is annotated


@pytest.mark.parametrize("test", ["power // 2 == 1", "power % 2 == 0", "len(betas) == 2"])
def test_defaults_meet_what_is_required_of_them(test: str, tmp_path: Path) -> None:
    betas = 'betas = { default = [0.9, 0.99], bounds = "0 <= x < 1", doc = "B." }\npower'
    requirement = f"[[require]]\ntest = '{test}'\nmessage = 'No.'\n\n[slots]"
    text = GOOD.replace("power", betas, 1).replace("[slots]", requirement)
    text = text.replace("update = -", "direction = direction * betas[0]\nupdate = -")
    (tmp_path / "probe.toml").write_text(text)
    analyse(read_spec(tmp_path / "probe.toml"))
    (tmp_path / "probe.toml").write_text(text.replace(" == ", " != "))
    with pytest.raises(SpecError, match="the defaults do not meet this requirement"):
        analyse(read_spec(tmp_path / "probe.toml"))
