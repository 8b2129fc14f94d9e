"""A spec, read and checked, except for the meaning of its equations."""

import keyword
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mlax_codegen.language import OF_PHASES, OF_SHAPES, RESERVED, TOTALS, UPDATE
from mlax_codegen.reading.declarations import (
    Argument,
    Declarations,
    Definition,
    NamedFunction,
    Scalar,
    Slot,
)
from mlax_codegen.reading.document import Document, read_document
from mlax_codegen.reading.equations import (
    BlockCode,
    ExpressionCode,
    ValueCode,
    read_block,
    read_expression,
)
from mlax_codegen.reading.hyperparameters import Hyperparameter, read_hyperparameter
from mlax_codegen.reading.keys import KEYS, TABLES, TOP
from mlax_codegen.reading.tables import Table, check_identifier
from mlax_codegen.reading.trees import assignments_in, calls_in, mentions

__all__ = [
    "Phase",
    "Requirement",
    "Spec",
    "class_from",
    "read_spec",
    "wrong_class_name",
    "wrong_module_name",
]

T = TypeVar("T")


@dataclass(frozen=True)
class Requirement:
    """A condition on hyperparameters, and the message if it does not hold."""

    test: ExpressionCode
    message: str


@dataclass(frozen=True)
class Phase:
    """Equations: first those computed once per step, then those computed for each leaf.

    Attributes:
        name: The name of the generated function, without its underscore.
        every: The number of steps between two at which it is computed; None if it is in each step.
        first: The first of these steps; None for step 1.
        unless: The condition under which it leaves a leaf as it was.
        skip: The condition, read after `scalars`, under which the whole step leaves all as it was.
        hands_on: What `leaf` assigns and the phases that follow know.
    """

    name: str
    scalars: BlockCode | None
    leaf: BlockCode
    every: ExpressionCode | None = None
    first: ExpressionCode | None = None
    unless: ValueCode | None = None
    skip: ValueCode | None = None
    hands_on: tuple[str, ...] = ()

    @property
    def is_partial(self) -> bool:
        """Whether some steps, or some leaves, are without it: what it assigns stays as it was."""
        return bool(self.every or self.unless)

    @property
    def blocks(self) -> list[BlockCode]:
        """Its equations, in the order in which they are computed."""
        return [code for code in (self.scalars, self.skip, self.unless, self.leaf) if code]


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
    experimental: bool
    complex: str | None
    hyperparameters: tuple[Hyperparameter, ...]
    symbols: dict[str, str]
    requirements: tuple[Requirement, ...]
    definitions: tuple[Definition, ...]
    arguments: tuple[Argument, ...]
    scalars: tuple[Scalar, ...]
    shapes: dict[str, ExpressionCode]
    slots: tuple[Slot, ...]
    phases: tuple[Phase, ...]
    functions: tuple[NamedFunction, ...]

    @property
    def blocks(self) -> list[BlockCode]:
        """The equations of a step, in the order in which they are computed."""
        return [code for phase in self.phases for code in phase.blocks]

    @property
    def state(self) -> list[Scalar | Slot]:
        """The scalars and slots of the state, in the order of the spec."""
        return [*self.scalars, *self.slots]

    @property
    def groups(self) -> list[list[Phase]]:
        """The phases, those together that no total separates: one function of a leaf computes them."""
        found: list[list[Phase]] = [[]]
        for phase in self.phases:
            found[-1].append(phase)
            if TOTALS & {*calls_in(phase.leaf.body)}:
                found.append([])
        return [group for group in found if group]

    @property
    def moving(self) -> Phase:
        """The phase that assigns `update`. Those after it are left out in some steps, or for some leaves."""
        always = [phase for phase in self.phases if phase.every is None]
        for number, phase in enumerate(self.phases):
            alone = all(later.is_partial for later in self.phases[number + 1 :])
            if alone and phase in always and UPDATE in dict(assignments_in(phase.leaf.body)):
                return phase
        return always[-1] if always else self.phases[-1]

    def first_named(self, name: str) -> tuple[Phase, int]:
        """Return the first phase whose leaf equations name a slot, and the number of the statement that does."""
        for phase in self.phases:
            for number, statement in enumerate(phase.leaf.body):
                if mentions(statement, name):
                    return phase, number
        return self.phases[0], 0  # only functions do

    @property
    def file(self) -> str:
        """The name of the spec's file, without folders."""
        return Path(self.document.file).name


def read_spec(path: Path) -> Spec:
    """Read a spec file. Its mistakes are recorded in its document; `analyse` raises them, with those of its equations.

    Raises:
        SpecError: It cannot be read, or has no step.
    """
    document = read_document(path)
    top = Table(document, ())
    top.check_keys(TOP, TABLES)
    name = top.text("name")
    class_name = top.text("class", default=class_from(name or ""))
    if name is not None and class_name is not None:
        _check_names(document, name, class_name)
    title = top.text("title", default=class_name or "")
    summary = top.sentence("summary")
    notes = top.paragraphs("notes")
    references = top.texts("references")
    experimental = top.truth("experimental")
    refused = top.text("complex", default="")
    symbols = top.symbols("symbols")
    hyperparameters = _kept(
        read_hyperparameter(document, (table, key))
        for table in ("hyperparameters", "labels")
        for key in top.subtable(table).names()
    )
    for key in {*top.subtable("labels").names()} & {*top.subtable("hyperparameters").names()}:
        message = f"{key!r} is already a hyperparameter; choose another name"
        document.at_key(("labels", key), message)
    declared = Declarations(document, {h.name: h for h in hyperparameters})
    shapes = top.subtable("shapes")
    spec = Spec(
        document,
        name or "",
        class_name or "",
        title or "",
        summary or "",
        notes,
        references,
        experimental,
        refused or None,
        hyperparameters,
        symbols,
        _kept(_read_requirement(document, i) for i in range(top.count("require"))),
        _kept(map(declared.definition, top.subtable("define").names())),
        _kept(map(declared.argument, top.subtable("arguments").names())),
        _kept(map(declared.scalar, top.subtable("scalars").names())),
        dict(_kept(declared.shape(shapes, key) for key in shapes.names())),
        _kept(map(declared.slot, top.subtable("slots").names())),
        _read_phases(declared, top.count("step", required=True)),
        _kept(map(declared.function, top.subtable("functions").names())),
    )
    if len(spec.phases) < max(1, top.count("step")):
        document.stop_on_mistakes()
    return spec


def _kept(found: Iterable[T | None]) -> tuple[T, ...]:
    return tuple(item for item in found if item is not None)


def wrong_module_name(name: str) -> str | None:
    """Return why a name is not valid for a module, or None if it is."""
    plain = re.fullmatch("[a-z][a-z0-9_]*", name) is not None
    if not plain or name.endswith("_") or keyword.iskeyword(name):
        return f"{name!r} is not a valid module name: use a-z, 0-9 and _, as in 'adamw'"
    return None


def wrong_class_name(name: str) -> str | None:
    """Return why a name is not valid for a class, or None if it is."""
    if re.fullmatch("[A-Z][A-Za-z0-9]*", name) is None:
        return f"{name!r} is not a valid class name: write it like 'AdamW'"
    if name in RESERVED:
        return f"{name!r} is {RESERVED[name]}; give the class another name"
    return None


def class_from(name: str) -> str:
    """Return the default class name for a module: `RmsProp` for `rms_prop`."""
    return "".join(word.capitalize() for word in name.split("_"))


def _check_names(document: Document, name: str, class_name: str) -> None:
    file = Path(document.file).name
    wrong = wrong_module_name(name)
    if wrong is None and f"{name}.toml" != file:
        wrong = f"the file is called {file}, so name must be {file.removesuffix('.toml')!r}"
    if wrong is not None:
        document.at_value(("name",), wrong)
    given = ("class",) in document.places
    wrong = wrong_class_name(class_name) if given or wrong is None else None
    if wrong is not None:
        document.at_value(("class",) if given else ("name",), wrong)


def _read_requirement(document: Document, index: int) -> Requirement | None:
    path = ("require", index)
    table = Table(document, path)
    table.check_keys(KEYS["require"])
    test = table.text("test")
    message = table.text("message")
    if test is None or message is None:
        return None
    return Requirement(read_expression(document, (*path, "test"), test), message)


def _read_phases(declared: Declarations, count: int) -> tuple[Phase, ...]:
    names = {""}
    found = _kept(_read_phase(declared, i, count, names) for i in range(count))
    if found and all(phase.every for phase in found):
        message = "a step needs a phase without `every`, which assigns `update`"
        declared.document.at_key(("step", 0, "every"), message)
    for phase in [phase for phase in found if phase.skip][1:]:
        assert phase.skip is not None
        message = "a step is skipped under one condition; combine both there with `or`"
        declared.document.at_key(phase.skip.path, message)
    return found


def _read_phase(declared: Declarations, index: int, count: int, names: set[str]) -> Phase | None:
    document = declared.document
    path = ("step", index)
    table = Table(document, path)
    table.check_keys(KEYS["step"])
    following = (Table(document, ("step", i)).data for i in range(index + 1, count))
    last = all("every" in data for data in following)
    default = "at_times" if "every" in table.data else "leaf" if last else "leaf_sums"
    if default in names or (count > 2 and default == "leaf_sums"):
        default = f"{default}_{index + 1}"
    name = table.text("name", default=default)
    if "name" in table.data and name is not None:
        check_identifier(document, (*path, "name"), name, what="phase", reserved={})
        used = declared.taken.get(name)
        if used is not None:
            message = f"{name!r} is already {used}; give the phase another name"
            document.at_value((*path, "name"), message)
        elif name in OF_PHASES:
            message = f"the module has a function {name!r} of its own; give the phase another name"
            document.at_value((*path, "name"), message)
        elif name in {"leaf", "leaf_sums", "at_times"}:
            message = "phases without a name are called so; leave it out, or choose another one"
            document.at_value((*path, "name"), message)
        elif name.endswith(OF_SHAPES):
            document.at_value(
                (*path, "name"), f"{name!r} ends in _shape or _of; such names are reserved"
            )
    every, first = (declared.expression(table, key) for key in ("every", "first"))
    if first is not None and every is None:
        document.at_key((*path, "first"), "`first` needs `every`; add it, or remove this")
        every = first
    if every is not None and "scalars" in table.data:
        message = "`scalars` are computed in each step; move them to a phase without `every`"
        document.at_key((*path, "scalars"), message)
    if every is not None and "skip" in table.data:
        message = "a step is skipped by a phase that is computed in each; move this to one"
        document.at_key((*path, "skip"), message)
    unless = declared.condition(table, "unless")
    skip = None if every else declared.condition(table, "skip")
    scalars = table.text("scalars", default="", block=True)
    leaf = table.text("leaf", block=True)
    if leaf is None or name is None:
        return None
    new = f"new_{name}"  # the function for what a leaf may be without
    if unless is not None and (new in declared.taken or new in names):
        message = f"the module needs the name {new!r}, which is already used; give this phase another name"
        document.at_key((*path, "unless"), message)
    names |= {name, new} if unless else {name}
    declared.taken |= dict.fromkeys(names - {""} - {*declared.taken}, "a phase")
    return Phase(
        name,
        read_block(document, (*path, "scalars"), scalars) if scalars else None,
        read_block(document, (*path, "leaf"), leaf),
        every,
        first,
        unless,
        skip,
        table.texts("hands_on") if "hands_on" in table.data else (),
    )
