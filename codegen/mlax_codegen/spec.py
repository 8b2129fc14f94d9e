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

__all__ = [
    "Phase",
    "Requirement",
    "Slot",
    "Spec",
    "class_from",
    "read_spec",
    "wrong_class_name",
    "wrong_module_name",
]

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
    class_name = top.text("class", default=class_from(name or ""))
    if name is not None and class_name is not None:
        _check_names(document, name, class_name)
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


def wrong_module_name(name: str) -> str | None:
    """Return why a module cannot have a name, or None."""
    plain = re.fullmatch("[a-z][a-z0-9_]*", name) is not None
    if not plain or name.endswith("_") or keyword.iskeyword(name):
        return f"{name!r} is no name for a module; those have a-z, 0-9 and _, like 'adamw'"
    return None


def wrong_class_name(name: str) -> str | None:
    """Return why a class cannot have a name, or None."""
    if re.fullmatch("[A-Z][A-Za-z0-9]*", name) is None:
        return f"{name!r} is no name for a class; those read like 'AdamW'"
    if name in _CLASSES or keyword.iskeyword(name):
        return f"a class {name!r} would be mistaken for another in the generated module"
    return None


def class_from(name: str) -> str:
    """Return the class that goes with a module where the spec names none: `RmsProp` for `rms_prop`."""
    return "".join(word.capitalize() for word in name.split("_"))


def _check_names(document: Document, name: str, class_name: str) -> None:
    file = File(document.file).name
    wrong = wrong_module_name(name)
    if wrong is None and f"{name}.toml" != file:
        wrong = f"the file is called {file}, so the name is {file.removesuffix('.toml')!r}"
    if wrong is not None:
        document.at_value(("name",), wrong)
    given = ("class",) in document.places
    wrong = wrong_class_name(class_name) if given or wrong is None else None
    if wrong is not None:
        document.at_value(("class",) if given else ("name",), wrong)


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
