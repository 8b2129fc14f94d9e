"""What `mlax-codegen generate` prints, returns and leaves behind."""

import subprocess
import sys
from pathlib import Path

import pytest

from mlax_codegen import cli
from mlax_codegen.cli import main
from tests.codegen.checking.bad_specs import GOOD

ADAM = Path(__file__).parents[2] / "codegen" / "specs" / "adam.toml"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "probe.toml").write_text(GOOD)
    return tmp_path


def other(name: str = "other", cls: str = "Other") -> str:
    text = GOOD.replace('name = "probe"', f'name = "{name}"\nclass = "{cls}"')
    Path(f"{name}.toml").write_text(text)
    return f"{name}.toml"


def test_generates_a_package_and_then_finds_nothing_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    written = [f"wrote mine/deep/{file}" for file in ("probe.py", "__init__.py", "py.typed")]
    assert main(["generate", "probe.toml", "--output", "mine/deep"]) == 0
    assert capsys.readouterr().out.splitlines() == written
    before = Path("mine/deep/probe.py").stat()
    assert main(["generate", "probe.toml", "--output", "mine/deep"]) == 0
    assert capsys.readouterr().out == ""
    after = Path("mine/deep/probe.py").stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    assert main(["generate", "probe.toml", "--output", "mine/deep", "--check"]) == 0


def test_a_package_has_the_classes_of_all_its_modules() -> None:
    """Also of those whose specs this run was not given."""
    main(["generate", other("zebra", "Zebra"), "--output", "mine"])
    main(["generate", "probe.toml", "--output", "mine"])
    init = Path("mine/__init__.py")
    assert '__all__ = ["Probe", "Zebra", "probe", "zebra"]' in init.read_text()
    main(["generate", other("again", "Probe"), "--output", "mine"])  # a spec has got another name
    assert '__all__ = ["Probe", "Zebra", "again", "zebra"]' in init.read_text()


def test_a_package_of_somebody_else_gets_the_module_alone() -> None:
    Path("mine").mkdir()
    Path("mine/__init__.py").write_text("")
    assert main(["generate", "probe.toml", "--output", "mine"]) == 0
    assert sorted(path.name for path in Path("mine").iterdir()) == ["__init__.py", "probe.py"]
    assert Path("mine/__init__.py").read_text() == ""


def test_a_folder_stands_for_the_specs_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    other()
    assert main(["generate", ".", "--output", "mine"]) == 0
    assert {path.stem for path in Path("mine").glob("[op]*.py")} == {"other", "probe"}
    assert main(["generate", "mine", "--output", "mine"]) == 2
    assert capsys.readouterr().err == "mine: this folder has no specs; they are called NAME.toml\n"


def test_check_lists_and_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """It says nothing of files that come from other specs: those need not be gone."""
    main(["generate", "probe.toml", other(), other("third", "Third"), "--output", "mine"])
    stale = Path("mine/probe.py")
    stale.write_text(stale.read_text() + "\n")
    Path("mine/other.py").unlink()
    Path("mine/own.py").write_text("# somebody's own\n")
    before = {path: path.read_text() for path in Path("mine").iterdir()}
    capsys.readouterr()
    assert main(["generate", "probe.toml", "other.toml", "--output", "mine", "--check"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "missing: mine/other.py",
        "stale: mine/probe.py",
    ]
    assert {path: path.read_text() for path in Path("mine").iterdir()} == before


@pytest.mark.parametrize("damage", ["probe.py", "__init__.py", "py.typed"])
def test_check_fails_on_each_alone(damage: str) -> None:
    main(["generate", "probe.toml", "--output", "mine"])
    Path("mine", damage).unlink()
    assert main(["generate", "probe.toml", "--output", "mine", "--check"]) == 1


def test_one_bad_spec_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.toml").write_text(GOOD.replace('"probe"', '"bad"').replace("b2 * v", "b3 * v"))
    Path("worse.toml").write_text("?")
    given = ["probe.toml", "bad.toml", "worse.toml"]
    assert main(["generate", *given, "--output", "mine"]) == 2
    assert not Path("mine").exists()
    error = capsys.readouterr().err
    assert "bad.toml:29:5: unknown name 'b3'" in error
    assert "worse.toml:1:1: not TOML" in error


def test_two_specs_of_one_class(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["probe.toml", other("other", "Probe")]
    assert main(["generate", *given, "--output", "mine"]) == 2
    assert (
        "other.toml:2:9: probe.toml already has the class 'Probe'; choose another name"
        in capsys.readouterr().err
    )


def test_a_spec_given_twice_is_read_once() -> None:
    assert main(["generate", "probe.toml", "probe.toml", "--output", "mine"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate"], "outside a checkout of mlax, generate needs specs and --output DIR"),
        (
            ["generate", "--check"],
            "outside a checkout of mlax, generate needs specs and --output DIR",
        ),
        (
            ["generate", "--output", "mine"],
            "outside a checkout of mlax, generate needs specs and --output DIR",
        ),
        (["generate", "probe.toml"], "outside a checkout of mlax, --output DIR is required"),
        (["generate", str(ADAM)], "outside a checkout of mlax, --output DIR is required"),
    ],
)
def test_outside_a_checkout(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wherever the package stands: here it does stand in one."""
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["probe.toml"]


def test_inside_a_checkout_only_its_own_specs_are_written_to_its_package(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ADAM.parent)
    monkeypatch.setattr(cli, "write", lambda outputs, changes: [*outputs])
    assert main(["generate", str(folder / "probe.toml")]) == 2
    message = (
        f"{folder / 'probe.toml'}: this spec is not in codegen/specs, so --output DIR is required\n"
    )
    assert capsys.readouterr() == ("", message)
    assert main(["generate", "adam.toml"]) == 0
    written = ADAM.parents[2] / "generated" / "mlax_optimizers" / "adam.py"
    assert capsys.readouterr().out.endswith(f"wrote {written}\n")


@pytest.mark.parametrize("arguments", [[], ["generat"], ["generate", "--outpt", "x"]])
def test_a_bad_call_exits_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_documentation_may_hold_any_letters() -> None:
    text = GOOD.replace("Look ahead.", "Schau voraus: 先を見る, Ω ≥ 0 🚀.")
    Path("probe.toml").write_text(text, encoding="utf-8")
    assert main(["generate", "probe.toml", "--output", "mine"]) == 0
    assert "先を見る, Ω ≥ 0 🚀" in Path("mine/probe.py").read_text(encoding="utf-8")


def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, check=False, env={"LC_ALL": "C"}
    )


def test_runs_as_a_module_in_any_locale() -> None:
    Path("probe.toml").write_text(GOOD.replace("Look ahead.", "Ω."), encoding="utf-8")
    done = run("-m", "mlax_codegen", "generate", "probe.toml", "--output", "mine")
    assert (done.returncode, done.stdout) == (
        0,
        b"wrote mine/probe.py\nwrote mine/__init__.py\nwrote mine/py.typed\n",
    ), done.stderr
    Path("probe.toml").write_text(GOOD.replace("b2 * v", "β * v"), encoding="utf-8")
    done = run("-m", "mlax_codegen", "generate", "probe.toml", "--output", "mine")
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


def test_imports_neither_jax_nor_mlax() -> None:
    program = "import sys, mlax_codegen.cli; print({'jax', 'numpy', 'mlax'} & {*sys.modules})"
    assert run("-c", program).stdout == b"set()\n"


def test_experimental_specs_of_a_package_stand_apart(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(other())
    path.write_text(path.read_text().replace("references", "experimental = true\nreferences", 1))
    monkeypatch.setattr(
        cli, "built_in_specs", lambda: [folder / "other.toml", folder / "probe.toml"]
    )
    monkeypatch.setattr(cli, "checkout", lambda: folder)
    assert main(["generate", "--output", "mine"]) == 0
    assert sorted(str(path.relative_to("mine")) for path in Path("mine").rglob("*.py")) == [
        "__init__.py",
        "experimental/__init__.py",
        "experimental/other.py",
        "probe.py",
    ]
    assert '__all__ = ["Other", "other"]' in Path("mine/experimental/__init__.py").read_text()
    path.write_text(path.read_text().replace("experimental = true\n", "", 1))
    capsys.readouterr()
    assert main(["generate", "--output", "mine", "--check"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "orphaned: mine/experimental/other.py (its spec is gone; delete it if it is no longer wanted)",
        "missing: mine/other.py",
        "stale: mine/__init__.py",
        "stale: mine/experimental/__init__.py",
    ]


def test_a_given_experimental_spec_is_written_to_the_given_output() -> None:
    text = GOOD.replace("references", "experimental = true\nreferences", 1)
    Path("probe.toml").write_text(text)
    assert main(["generate", "probe.toml", "--output", "mine"]) == 0
    assert Path("mine/probe.py").exists()
