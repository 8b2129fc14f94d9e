"""Every example in README.md and docs/ runs, and prints what the page says it prints.

A section (down to the next heading of level 1 or 2) is one test: its blocks run in order, share one namespace and one
empty folder. Comments, which readers of the page do not see, say what the fences cannot:

    <!-- file: my_sgd.toml -->   the next block is written to that file
    <!-- output -->              the next block is what the block before it printed, or the message it raised
    <!-- raises: TypeError -->   the next block raises that
    <!-- not run: a reason -->   the next block is left alone

Of a ```console block the lines `$ mlax-codegen ...` and `$ python ...` are run; others (make, git, pip) are not. One
that ends with `&` runs beside the next ones. A free port takes the place of 12397.

A page about several devices is one test, and runs in a process of its own, where it says how many there are.
"""

import contextlib
import doctest
import io
import os
import re
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.mlax.devices import free_port

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
ON_DEVICES = {ROOT / "docs" / "distributed.md"}

_FENCE = re.compile(r"(?P<indent> *)```(?P<language>[\w-]*)")
_DIRECTIVE = re.compile(r"<!--\s*(?P<name>file|output|raises|not run)(?::\s*(?P<value>.*?))?\s*-->")


@dataclass(frozen=True)
class Block:
    """One fenced block: where its first line of text stands, and the comment before it."""

    line: int
    language: str
    text: str
    directive: str = ""
    value: str = ""


@dataclass(frozen=True)
class Section:
    """The blocks under one heading."""

    page: Path
    title: str
    blocks: tuple[Block, ...]


def sections(page: Path, text: str) -> Iterator[Section]:
    """Yield the sections of a page that hold blocks.

    Raises:
        ValueError: A comment asks for something that is not known, or a fence is not closed.
    """
    title, blocks = "start", list[Block]()
    directive = value = ""
    opened: tuple[int, str, str] | None = None
    inside: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if opened is not None:
            start, indent, language = opened
            if line == f"{indent}```":
                body = "".join(f"{row.removeprefix(indent)}\n" for row in inside)
                blocks.append(Block(start + 1, language, body, directive, value))
                opened, inside, directive, value = None, [], "", ""
            else:
                inside.append(line)
        elif fence := _FENCE.match(line):
            opened = number, fence["indent"], fence["language"]
            if directive == "raises" and fence["language"] != "python":
                raise ValueError(f"{page.name}:{number}: <!-- raises --> is for python blocks")
        elif comment := _DIRECTIVE.match(line.strip()):
            directive, value = comment["name"], comment["value"] or ""
            if directive != "output" and not value:
                raise ValueError(f"{page.name}:{number}: <!-- {directive}: what? -->")
        elif line.startswith("<!--"):
            raise ValueError(f"{page.name}:{number}: unknown comment {line}")
        elif re.match(r"##? ", line):
            if blocks:
                yield Section(page, title, tuple(blocks))
            title, blocks = line.lstrip("# "), []
        elif line.strip() and directive:
            raise ValueError(f"{page.name}:{number}: text between <!-- {directive} --> and a block")
    if opened is not None:
        raise ValueError(f"{page.name}:{opened[0]}: this block is not closed")
    if blocks:
        yield Section(page, title, tuple(blocks))


def run(section: Section) -> None:
    """Run one section's blocks in the current folder.

    A block's code keeps the line numbers of the page, so tracebacks point into it.
    """
    # Classes look their annotations up in the module that they name: the namespace is a real one.
    # Warnings are errors in modules of `tests`.
    name = re.sub(r"\W+", "_", f"{section.page.stem}_{section.title}").lower()
    module = ModuleType(f"tests.{name}")
    sys.modules[module.__name__] = module
    try:
        printed = ""
        for block in section.blocks:
            match block.directive, block.language:
                case "not run", _:
                    continue
                case "file", _:
                    Path(block.value).parent.mkdir(parents=True, exist_ok=True)
                    Path(block.value).write_text(block.text)
                case "output", _:
                    check_output(section, block, printed)
                case _, "python":
                    printed = run_python(section, block, module)
                case _, "console":
                    printed = run_console(block)
                case _:
                    continue
    finally:
        del sys.modules[module.__name__]


def run_python(section: Section, block: Block, module: ModuleType) -> str:
    """Return what the block printed, or the message of the exception that it has to raise."""
    code = compile("\n" * (block.line - 1) + block.text, section.page, "exec", dont_inherit=True)
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output):
            exec(code, vars(module))
    except Exception as error:
        if block.directive != "raises" or type(error).__name__ != block.value.split(".")[-1]:
            raise
        return f"{type(error).__name__}: {error}"
    assert block.directive != "raises", f"{place(section, block)}: {block.value} was not raised"
    return output.getvalue()


def run_console(block: Block) -> str:
    """Return what the commands printed, both streams in one."""
    printed = ""
    beside: list[subprocess.Popen[str]] = []
    for line in block.text.replace(":12397", f":{free_port()}").splitlines():
        if not line.startswith("$ "):
            continue
        program, *arguments = shlex.split(line.removeprefix("$ ").removesuffix("&"), comments=True)
        if program == "mlax-codegen":
            command = [str(Path(sysconfig.get_path("scripts")) / program), *arguments]
        elif program == "python":
            command = [sys.executable, *arguments]
        else:
            continue
        started = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        beside.append(started)
        if line.endswith("&"):
            continue
        try:
            outputs = [process.communicate(timeout=60)[0] for process in beside]
        finally:
            for process in beside:
                process.kill()
        for process, output in zip(beside, outputs, strict=True):
            assert process.returncode == 0, f"{line}: exit code {process.returncode}\n{output}"
            printed += output
        beside.clear()
    return printed


def check_output(section: Section, block: Block, printed: str) -> None:
    """Compare as doctest does: `...` stands for anything, white space counts as one blank."""
    # A console block shows its commands too; a page wraps no lines, so the rest is output.
    wanted = "".join(f"{row}\n" for row in block.text.splitlines() if not row.startswith("$ "))
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.OutputChecker().check_output(wanted, printed, flags), (
        f"{place(section, block)}: the page says\n{wanted}\nbut what came is\n{printed}"
    )


def place(section: Section, block: Block) -> str:
    """Return where a block stands."""
    return f"{section.page.name}:{block.line}"


SECTIONS = [
    section
    for page in PAGES
    if page not in ON_DEVICES
    for section in sections(page, page.read_text())
]


def of_one_python(section: Section) -> Any:
    """Return a section as a test case; README.md runs on every Python, the pages of docs/ on one."""
    marks = () if section.page.parent == ROOT else pytest.mark.one_python
    return pytest.param(section, id=f"{section.page.stem}: {section.title}", marks=marks)


@pytest.mark.parametrize("section", [of_one_python(section) for section in SECTIONS])
def test_examples_run(section: Section, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a section do what the page says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # what a block generates here, the next one imports
    for name in [name for name in sys.modules if name.startswith("my_optimizers")]:
        monkeypatch.delitem(sys.modules, name)  # it was generated elsewhere
    run(section)


@pytest.mark.one_python
@pytest.mark.parametrize("page", ON_DEVICES, ids=lambda page: page.stem)
def test_examples_run_on_devices(page: Path, tmp_path: Path) -> None:
    """The blocks of a page do what it says, in a new process, where JAX can be told how many devices to simulate."""
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", _ONE_PROGRAM, str(page)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


_ONE_PROGRAM = """
import sys
from pathlib import Path
from tests.test_readme import Section, run, sections

page = Path(sys.argv[1])
blocks = [block for section in sections(page, page.read_text()) for block in section.blocks]
run(Section(page, "the page", tuple(blocks)))
"""


def test_readme_has_examples() -> None:
    """Without any, the test above would be empty and pass."""
    readme = [section for section in SECTIONS if section.page.name == "README.md"]
    assert any(block.language == "python" for section in readme for block in section.blocks)


PAGE = """# Title

```python
x = 1
```

## First

```python
print(y := 2)
```
<!-- output -->
```text
2
```

### Still the first
<!-- raises: ZeroDivisionError -->
```python
def fail():
    return y / 0

fail()
```
<!-- output -->
```
ZeroDivisionError: ...
```

- indented
  <!-- file: folder/name.txt -->
  ```toml
  name = "name"
  ```

<!-- not run: it would fail -->
```python
1 / 0
```

```console
$ make nothing
$ python -c "print(open('folder/name.txt').read())"
```
<!-- output -->
```console
name = "name"
```
"""


def sections_of(text: str) -> list[Section]:
    """Return the sections of a page that was never written."""
    return list(sections(Path("page.md"), text))


def test_page_is_read_and_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sections end at headings of level 1 and 2; every kind of block does its work."""
    monkeypatch.chdir(tmp_path)
    first, second = sections_of(PAGE)
    assert (first.title, second.title) == ("Title", "First")
    assert [block.line for block in second.blocks][:2] == [10, 14]
    run(first)
    run(second)
    assert (tmp_path / "folder/name.txt").read_text() == 'name = "name"\n'


def test_traceback_names_the_page_and_its_line(tmp_path: Path) -> None:
    """An example that fails is found where it stands."""
    page = tmp_path / "page.md"
    page.write_text("# T\n\ntext\n\n```python\nok = 1\n1 / 0\n```\n")
    with pytest.raises(ZeroDivisionError) as caught:
        run(*sections(page, page.read_text()))
    assert str(caught.traceback[-1].path) == str(page)
    assert caught.traceback[-1].lineno + 1 == 7


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("```python\nprint(1)\n```\n<!-- output -->\n```\n2\n```\n", "the page says"),
        ("<!-- raises: ValueError -->\n```python\nx = 1\n```\n", "was not raised"),
        ('```console\n$ python -c "raise SystemExit(3)"\n```\n', "exit code 3"),
    ],
)
def test_what_a_page_says_is_checked(block: str, message: str) -> None:
    """Wrong output, an error that does not come, a command that fails: each fails the test."""
    with pytest.raises(AssertionError, match=message):
        run(*sections_of(block))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- flie: x -->\n", "page.md:1: unknown comment"),
        ("\n```python\nx = 1\n", "page.md:2: this block is not closed"),
        ("<!-- output -->\ntext\n", "page.md:2: text between"),
        ("<!-- raises: ValueError -->\n```console\n", "page.md:2: <!-- raises --> is for python"),
        ("<!-- not run -->\n", "page.md:1: <!-- not run: what"),
    ],
)
def test_pages_that_cannot_be_read_are_refused(text: str, message: str) -> None:
    """A misspelt comment would otherwise leave its block untested, silently."""
    with pytest.raises(ValueError, match=message):
        sections_of(text)


def test_readme_names_all_optimizers() -> None:
    """The lists are complete and sorted."""
    from mlax import optim
    from mlax.experimental import optim as experimental

    text = (ROOT / "README.md").read_text()
    for package in (optim, experimental):
        modules = [
            name for name in package.__all__ if isinstance(getattr(package, name), ModuleType)
        ]
        (listed,) = re.findall(rf"`{package.__name__}` has[^`]*`([^`]*)`", text)
        assert listed.split() == sorted(modules)
