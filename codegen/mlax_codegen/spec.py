"""What a spec says, read and checked: everything but the meaning of its equations."""

import keyword
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path as File
from typing import TypeVar

from mlax_codegen.document import Document, read_document
from mlax_codegen.expressions import Code, read_block, read_expression
from mlax_codegen.hyperparameters import Hyperparameter, read_hyperparameter
from mlax_codegen.language import RESERVED
from mlax_codegen.tables import Table, check_identifier

__all__ = ["Phase", "Requirement", "Slot", "Spec", "read_spec"]

T = TypeVar("T")

_INITS = ("zeros",)
_CLASSES = frozenset(
    [
        "Array",
        "Count",
        "Dtype",
        "Generic",
        "Literal",
        "NamedTuple",
        "Number",
        "Optimizer",
        "Scalar",
        "State",
        "Weights",
    ]
)
_TOP = [
    "name",
    "class",
    "title",
    "summary",
    "notes",
    "references",
    "hyperparameters",
    "symbols",
    "require",
    "slots",
    "step",
]


@dataclass(frozen=True)
class Slot:
    """An array that the optimizer keeps for each leaf of the weights.

    Attributes:
        init: What it begins as: "zeros".
        when: The static condition under which it is kept; always where None.
    """

    name: str
    init: str
    doc: str
    when: Code | None = None
    symbol: str | None = None


@dataclass(frozen=True)
class Requirement:
    """What must hold between hyperparameters."""

    test: Code
    message: str


@dataclass(frozen=True)
class Phase:
    """Equations: first those done once a step, then those done for each leaf."""

    scalars: Code | None
    leaf: Code


@dataclass(frozen=True)
class Spec:
    """One algorithm."""

    document: Document
    name: str
    class_name: str
    title: str
    summary: str
    notes: str
    references: tuple[str, ...]
    hyperparameters: tuple[Hyperparameter, ...]
    slots: tuple[Slot, ...]
    requirements: tuple[Requirement, ...]
    phases: tuple[Phase, ...]
    symbols: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def file(self) -> str:
        """Name of the spec's file, without folders."""
        return File(self.document.file).name


def read_spec(path: File) -> Spec:
    """Read a spec file; of the equations, only the grammar is checked here.

    Raises:
        SpecError: With every mistake that was found.
    """
    document = read_document(path)
    top = Table(document, ())
    top.check_keys(_TOP)
    name = top.text("name")
    if name is not None:
        _check_name(document, name)
    class_name = top.text("class", default="".join(w.capitalize() for w in (name or "").split("_")))
    if class_name and ("class",) in document.places:
        _check_class(document, class_name)
    title = top.text("title", default=class_name or "")
    summary = top.sentence("summary")
    notes = top.paragraphs("notes")
    references = top.texts("references")
    symbols = top.symbols("symbols")
    hyperparameters = _kept(
        read_hyperparameter(document, ("hyperparameters", key))
        for key in top.subtable("hyperparameters").names()
    )
    taken = {h.name for h in hyperparameters}
    slots = _kept(_read_slot(document, key, taken) for key in top.subtable("slots").names())
    requirements = _kept(_read_requirement(document, i) for i in range(top.count("require")))
    phases = _kept(_read_phase(document, i) for i in range(top.count("step", required=True)))
    if top.count("step") > 1:
        document.at_key(("step", 1), "more than one [[step]] is not part of the language yet")
    document.stop_on_mistakes()
    return Spec(
        document,
        name or "",
        class_name or "",
        title or "",
        summary or "",
        notes,
        references,
        hyperparameters,
        slots,
        requirements,
        phases,
        symbols,
    )


def _kept(found: Iterable[T | None]) -> tuple[T, ...]:
    return tuple(item for item in found if item is not None)


def _check_name(document: Document, name: str) -> None:
    file = File(document.file).name
    plain = re.fullmatch("[a-z][a-z0-9_]*", name) is not None
    if not plain or name.endswith("_") or keyword.iskeyword(name):
        message = f"{name!r} is no name for a module; those have a-z, 0-9 and _, like 'adamw'"
        document.at_value(("name",), message)
    elif f"{name}.toml" != file:
        stem = file.removesuffix(".toml")
        document.at_value(("name",), f"the file is called {file}, so the name is {stem!r}")


def _check_class(document: Document, name: str) -> None:
    path = ("class",)
    if not name.isascii() or not name.isidentifier() or not name[0].isupper() or "_" in name:
        document.at_value(path, f"{name!r} is not a class name, which reads like 'AdamW'")
    elif name in _CLASSES or name in {"None", "True", "False"}:
        document.at_value(path, f"{name!r} means something else in the generated module")


def _read_slot(document: Document, name: str, hyperparameters: set[str]) -> Slot | None:
    path = ("slots", name)
    check_identifier(document, path, name, what="slot", reserved=RESERVED)
    if name in hyperparameters:
        document.at_key(path, f"{name!r} is a hyperparameter already")
    table = Table(document, path)
    if not table.is_table:
        document.at_value(path, 'a slot reads like { init = "zeros", doc = "First moment." }')
        return None
    table.check_keys(["init", "when", "symbol", "doc"])
    init = table.text("init")
    when = table.text("when", default="")
    symbol = table.symbol("symbol")
    doc = table.sentence("doc")
    if init is None or doc is None:
        return None
    if init not in _INITS:
        known = " or ".join(map(repr, _INITS))
        document.at_value((*path, "init"), f"a slot begins as {known}")
    return Slot(
        name,
        init,
        doc,
        read_expression(document, (*path, "when"), when) if when else None,
        symbol,
    )


def _read_requirement(document: Document, index: int) -> Requirement | None:
    path = ("require", index)
    table = Table(document, path)
    table.check_keys(["test", "message"])
    test = table.text("test")
    message = table.text("message")
    if test is None or message is None:
        return None
    return Requirement(read_expression(document, (*path, "test"), test), message)


def _read_phase(document: Document, index: int) -> Phase | None:
    path = ("step", index)
    table = Table(document, path)
    table.check_keys(["scalars", "leaf"])
    scalars = table.text("scalars", default="")
    leaf = table.text("leaf")
    if leaf is None:
        return None
    return Phase(
        read_block(document, (*path, "scalars"), scalars) if scalars else None,
        read_block(document, (*path, "leaf"), leaf),
    )
