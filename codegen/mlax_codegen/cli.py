"""The command line: `mlax-codegen generate`, `new`, `show` and `schema`."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from mlax_codegen.reading.mistakes import SpecError, suggestion
from mlax_codegen.reading.schema import schema_text
from mlax_codegen.reading.spec import class_from, read_spec, wrong_class_name, wrong_module_name
from mlax_codegen.resources import built_in_specs, checkout
from mlax_codegen.show import shown
from mlax_codegen.writing.files import OutputError, plan, write
from mlax_codegen.writing.package import in_folders, modules, own_modules, read_all, whole_package
from mlax_codegen.writing.render import render_new

__all__ = ["main", "program"]

SCHEMA = "spec.schema.json"
DONE, OUT_OF_DATE, BAD, READER_GONE = 0, 1, 2, 141


def program() -> int:
    """Run `main` as the program `mlax-codegen`: without a traceback if the output's reader goes away, or on Ctrl-C.

    If the reader goes away, as in `mlax-codegen show | head -1`, the exit status is 141, the status that a shell
    reports for a program ended by SIGPIPE. Ctrl-C ends the process by SIGINT, so that a shell script that runs it
    stops too.
    """
    try:
        try:
            return main()
        finally:  # also after the SystemExit of --help
            for stream in _streams():
                stream.flush()
    except BrokenPipeError:
        _discard_unread_output()
        return READER_GONE
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)
        raise  # not reached, unless SIGINT is blocked


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return 0 if it is done, 1 if --check found something, 2 for a bad spec or a bad call."""
    arguments = _parser().parse_args(argv)
    try:
        if arguments.command == "new":
            return _new(arguments.name)
        if arguments.command == "show":
            return _show(arguments.spec, latex=arguments.latex)
        if arguments.command == "schema":
            print(schema_text(), end="")
            return DONE
        return _generate(arguments.specs, arguments.output, check=arguments.check)
    except (SpecError, OutputError) as error:
        print(error, file=sys.stderr)
        return BAD


def _streams() -> list[TextIO]:
    """Return the standard streams to write to. Python sets a stream to None if it was closed at the start."""
    streams: list[TextIO | None] = [sys.stdout, sys.stderr]
    return [stream for stream in streams if stream is not None]


def _discard_unread_output() -> None:
    """Redirect each stream without a reader to the null device, because Python flushes all streams at exit."""
    for stream in _streams():
        try:
            stream.flush()
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mlax-codegen", description="Generate typed JAX optimizers from specs."
    )
    commands = parser.add_subparsers(required=True, dest="command", metavar="COMMAND")
    generate = commands.add_parser(
        "generate",
        help="turn specs into Python modules",
        description="Turn each spec into a Python module with its name, in a package. In a checkout of mlax, SPEC may "
        "be left out: then mlax's own optimizers are generated.",
    )
    generate.add_argument(
        "specs", nargs="*", type=Path, metavar="SPEC", help="a TOML file, or a folder with some"
    )
    generate.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="the package folder to write to; it is created if it does not exist",
    )
    generate.add_argument(
        "--check",
        action="store_true",
        help="write nothing; list stale, missing and orphaned files, and exit with status 1 if there are any",
    )
    new = commands.add_parser(
        "new",
        help="write a spec to start from",
        description="Write NAME.toml to the current folder: a complete spec with comments, to start from.",
    )
    new.add_argument("name", metavar="NAME", help="name of the module to generate, such as adamw")
    show = commands.add_parser(
        "show",
        help="print an optimizer: signature, state, equations, references",
        description="Print an optimizer's signature, its state and how much memory it takes, its equations, and "
        "references. Without an argument, list mlax's own optimizers.",
    )
    show.add_argument(
        "spec",
        nargs="?",
        metavar="SPEC|NAME",
        help="a TOML file, or the name of one of mlax's own optimizers",
    )
    show.add_argument("--latex", action="store_true", help="print the equations as LaTeX")
    commands.add_parser(
        "schema",
        help="print the JSON schema of specs, for editors",
        description="Print the JSON schema of specs. Editors that support `#:schema` use it to complete and check "
        "specs.",
    )
    return parser


def _new(name: str) -> int:
    wrong = wrong_module_name(name) or wrong_class_name(class_from(name))
    if wrong is not None:
        raise OutputError(f"mlax-codegen: {wrong}")
    path, beside = Path(f"{name}.toml"), Path(SCHEMA)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(render_new(name))
    except FileExistsError:
        raise OutputError(f"{path}: this file exists already; it was not changed") from None
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from None
    print(f"wrote {path}")
    if name in {spec.stem for spec in built_in_specs()}:
        print(f"note: mlax also has an optimizer called {name!r}")
    if not beside.exists():
        beside.write_text(schema_text(), encoding="utf-8")
        print(f"wrote {beside}, with which editors complete and check specs")
    return DONE


def _show(given: str | None, *, latex: bool) -> int:
    own = {spec.stem: spec for spec in built_in_specs()}
    if given is None:
        for name, spec in own.items():
            print(f"{name:28}{read_spec(spec).summary}")
        return DONE
    path = Path(given)
    if path.suffix != ".toml":
        if given not in own:
            hint = suggestion(given, own)
            raise OutputError(
                f"mlax-codegen: no optimizer of mlax is called {given!r}{hint}\n"
                "`mlax-codegen show` lists them; give a spec of your own as a file, NAME.toml"
            )
        path = own[given]
    print(shown(read_spec(path), latex=latex))
    return DONE


def _own_package(root: Path | None, given: Sequence[Path]) -> Path:
    """Return the folder of mlax's own optimizers. Only mlax's own specs may be written there."""
    if root is None:
        raise OutputError("mlax-codegen: outside a checkout of mlax, --output DIR is required")
    for path in given:
        if path.resolve().parent != root / "codegen" / "specs":
            raise OutputError(
                f"{path}: this spec is not in codegen/specs, so --output DIR is required"
            )
    return root / "generated" / "mlax_optimizers"


def _generate(given: Sequence[Path], output: Path | None, *, check: bool) -> int:
    root = checkout()
    if not given and root is None:
        raise OutputError(
            "mlax-codegen: outside a checkout of mlax, generate needs specs and --output DIR"
        )
    package = output or _own_package(root, given)
    specs = read_all(in_folders(given) or built_in_specs())
    folders = None
    if not given:
        outputs, folders = whole_package(specs, package)
    elif output is None:
        outputs = own_modules(specs, package)
    else:
        outputs = modules(specs, package)
    changes = plan(outputs, folders)
    for path in changes.orphaned:
        print(f"orphaned: {path} (its spec is gone; delete it if it is no longer wanted)")
    if check:
        for word, found in (("missing", changes.missing), ("stale", changes.stale)):
            for path in found:
                print(f"{word}: {path}")
        count = len(changes.missing) + len(changes.stale) + len(changes.orphaned)
        return OUT_OF_DATE if count else DONE
    for path in write(outputs, changes):
        print(f"wrote {path}")
    return DONE
