"""`mlax-codegen new` writes a spec that works as it stands."""

from pathlib import Path

import jax.numpy as jnp
import pytest

from mlax_codegen.cli import main
from mlax_codegen.language import FUNCTIONS
from mlax_codegen.reading.schema import schema_text


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_spec_generates_and_steps(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["new", "started_here"]) == 0
    assert main(["generate", "started_here.toml", "--output", "mine_to_start"]) == 0
    monkeypatch.syspath_prepend(folder)
    from mine_to_start import started_here  # type: ignore[import-not-found]

    optimizer = started_here.StartedHere(learning_rate=0.5)
    weights = {"w": 2.0 * jnp.ones(3)}
    moved, _ = optimizer.apply_gradients(weights, optimizer.init(weights), weights)
    assert moved["w"].tolist() == pytest.approx([1.0, 1.0, 1.0], rel=1e-6)


def test_the_spec_lists_every_function() -> None:
    main(["new", "started"])
    text = Path("started.toml").read_text().replace("\n#", "")
    assert ", ".join(sorted(FUNCTIONS)) in text


def test_the_schema_is_put_beside_it() -> None:
    main(["new", "started"])
    assert Path("started.toml").read_text().startswith("#:schema ./spec.schema.json\n")
    assert Path("spec.schema.json").read_text() == schema_text()
    Path("spec.schema.json").write_text("own")
    main(["new", "second"])
    assert Path("spec.schema.json").read_text() == "own"


def test_nothing_is_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.toml").write_text("precious")
    assert main(["new", "mine"]) == 2
    assert capsys.readouterr().err == "mine.toml: this file exists already; it was not changed\n"
    assert Path("mine.toml").read_text() == "precious"


@pytest.mark.parametrize("name", ["Adam", "../adam", "class", "a b", "", "ä", "adam.toml"])
def test_the_name_becomes_a_module(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", name]) == 2
    assert f"{name!r} is not a valid module name" in capsys.readouterr().err
    assert not list(Path().iterdir())


def test_the_name_becomes_a_class(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "state"]) == 2
    assert "'State' is a name that the generated module uses" in capsys.readouterr().err


def test_a_name_that_mlax_has_is_pointed_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "adam"]) == 0
    assert "note: mlax also has an optimizer called 'adam'" in capsys.readouterr().out
    assert main(["new", "adam_of_mine"]) == 0
    assert "of its own" not in capsys.readouterr().out
