"""What the generator knows of a spec as a whole."""

from pathlib import Path

from mlax_codegen.reading.spec import read_spec
from mlax_codegen.writing.render import render_module
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
