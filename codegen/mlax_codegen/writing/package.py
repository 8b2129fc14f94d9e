"""Which files several specs become: a package, with one module each."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from mlax_codegen.reading.mistakes import Mistake, SpecError
from mlax_codegen.reading.spec import Spec, read_spec
from mlax_codegen.writing.files import TYPED, OutputError, generated_in, is_generated
from mlax_codegen.writing.render import render_module, render_package

__all__ = ["in_folders", "modules", "own_modules", "read_all", "whole_package"]

_EXPERIMENTAL = "experimental"

Outputs = dict[Path, str]
Folders = Mapping[Path, Collection[str]]


def modules(specs: Sequence[tuple[Spec, str]], folder: Path) -> Outputs:
    """Return the files of a package with the modules of some specs, beside those that it has.

    Args:
        specs: With the module of each.
        folder: The package.
    """
    outputs = {folder / f"{spec.name}.py": text for spec, text in specs}
    init = folder / "__init__.py"
    if init.exists() and not is_generated(init):  # somebody's own package
        return outputs
    given = {spec.name: spec.class_name for spec, _ in specs}
    others = {path.stem: name for path, name in generated_in(folder).items()}
    classes = {name: cls for name, cls in others.items() if cls not in given.values()} | given
    return {**outputs, init: render_package(classes), folder / TYPED: ""}


def own_modules(specs: Sequence[tuple[Spec, str]], folder: Path) -> Outputs:
    """Return the files of some of mlax's own specs, the experimental ones in a package of their own."""
    return {
        (folder / _EXPERIMENTAL if spec.experimental else folder) / f"{spec.name}.py": text
        for spec, text in specs
    }


def whole_package(specs: Sequence[tuple[Spec, str]], folder: Path) -> tuple[Outputs, Folders]:
    """Return the files of all of mlax's own optimizers, and the specs that each of its folders is generated from."""
    outputs = own_modules(specs, folder)
    folders: dict[Path, Collection[str]] = {}
    for inner, experimental in ((folder, False), (folder / _EXPERIMENTAL, True)):
        chosen = [spec for spec, _ in specs if spec.experimental is experimental]
        outputs[inner / "__init__.py"] = render_package(
            {spec.name: spec.class_name for spec in chosen}, experimental=experimental
        )
        folders[inner] = [spec.name for spec in chosen]
    return outputs, folders


def in_folders(paths: Sequence[Path]) -> list[Path]:
    """Return some specs, with those in a folder in its place.

    Raises:
        OutputError: A folder has no specs.
    """
    found: list[Path] = []
    for path in paths:
        inside = sorted(path.glob("*.toml")) if path.is_dir() else [path]
        if not inside:
            raise OutputError(f"{path}: this folder has no specs; they are called NAME.toml")
        found += inside
    return found


def read_all(paths: Sequence[Path]) -> list[tuple[Spec, str]]:
    """Read and render all specs, so that a mistake in one leaves all files as they are.

    Raises:
        SpecError: With the mistakes of all of them.
    """
    mistakes: list[Mistake] = []
    specs: list[tuple[Spec, str]] = []
    names: dict[str, Path] = {}
    classes: dict[str, Path] = {}
    for path in dict.fromkeys(paths):
        try:
            spec = read_spec(path)
            specs.append((spec, render_module(spec)))
        except SpecError as error:
            mistakes.extend(error.mistakes)
            continue
        for what, key, taken, name in (
            ("name", ("name",), names, spec.name),
            ("class", ("class",), classes, spec.class_name),
        ):
            if name in taken:
                spec.document.at_value(
                    key, f"{taken[name]} already has the {what} {name!r}; choose another name"
                )
            taken.setdefault(name, path)
        mistakes.extend(spec.document.mistakes)
    if mistakes:
        raise SpecError(mistakes)
    return specs
