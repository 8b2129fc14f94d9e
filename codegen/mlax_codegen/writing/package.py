"""Which files several specs become: modules in a folder, experimental ones in a package of their own inside it."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from mlax_codegen.reading.mistakes import Mistake, SpecError
from mlax_codegen.reading.spec import Spec, read_spec
from mlax_codegen.resources import built_in_specs
from mlax_codegen.writing.render import render_module, render_package

__all__ = ["modules", "read_all", "whole_package"]

_EXPERIMENTAL = "experimental"

Outputs = dict[Path, str]
Folders = Mapping[Path, Collection[str]]


def modules(
    specs: Sequence[tuple[Spec, str]], folder: Path, *, apart: bool
) -> tuple[Outputs, Folders]:
    """Return the files of some specs, and the names that files beside them may be generated from.

    Args:
        specs: With the module of each.
        folder: Where they belong.
        apart: Whether experimental ones go to a folder of their own.
    """
    inner = folder / _EXPERIMENTAL if apart else folder
    outputs = {
        (inner if spec.experimental else folder) / f"{spec.name}.py": text for spec, text in specs
    }
    sources = {Path(spec.document.file).parent for spec, _ in specs}
    beside = {path.stem for source in sources for path in source.glob("*.toml")}
    beside |= {path.stem for path in built_in_specs()}
    return outputs, {folder: beside, inner: beside}


def whole_package(specs: Sequence[tuple[Spec, str]], folder: Path) -> tuple[Outputs, Folders]:
    """Return the files of a package of optimizers and of the experimental ones in it, each with its `__init__`."""
    outputs: Outputs = {}
    folders: dict[Path, Collection[str]] = {}
    for inner, experimental in ((folder, False), (folder / _EXPERIMENTAL, True)):
        chosen = [(spec, text) for spec, text in specs if spec.experimental is experimental]
        outputs |= modules(chosen, folder, apart=True)[0]
        outputs[inner / "__init__.py"] = render_package(
            (spec for spec, _ in chosen), experimental=experimental
        )
        folders[inner] = [spec.name for spec, _ in chosen]
    return outputs, folders


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
