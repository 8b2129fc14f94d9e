"""The declarations of a spec: slots, scalars of the state, arguments of a step, static values, functions."""

import ast
import re
import sys
from dataclasses import dataclass, field, replace

from mlax_codegen.language import FUNCTIONS, OF_SHAPES, RESERVED, TOTALS
from mlax_codegen.reading.document import Document
from mlax_codegen.reading.equations import (
    BlockCode,
    ExpressionCode,
    ValueCode,
    hole,
    read_block,
    read_expression,
    read_value,
)
from mlax_codegen.reading.hyperparameters import Hyperparameter
from mlax_codegen.reading.keys import KEYS
from mlax_codegen.reading.mistakes import suggestion
from mlax_codegen.reading.positions import KeyPath
from mlax_codegen.reading.tables import Table, check_identifier, kind_of, number_text
from mlax_codegen.reading.trees import assignments_in, parts_of

__all__ = ["Argument", "Declarations", "Definition", "Init", "NamedFunction", "Scalar", "Slot"]

_SLOT_INITS = ("zeros", "copy", "gradient", "identity")
_KEY_INIT = re.compile(r"key\((\w+)\)", re.ASCII)
_PLAIN = re.compile(r"[-+]?[\w.]*([eE][-+]?\d+)?", re.ASCII)  # a name, or a number in quotes


@dataclass(frozen=True)
class Init:
    """An initial value.

    Attributes:
        word: A word of the language; "" for a number.
        number: A number, as the spec writes it.
        code: Arithmetic of hyperparameters: the number, or the deviation of noise.
        source: Where random numbers come from: the seed of a key, or the key of noise.
    """

    word: str = ""
    number: str = ""
    code: ExpressionCode | None = None
    source: str = ""


@dataclass(frozen=True)
class Slot:
    """An array, or one array for each axis, that the optimizer keeps for each leaf of the weights.

    Attributes:
        when: The static condition under which the slot is kept; None if it is always kept.
        shape: The shape, or list of shapes, of the entry for a leaf; None if it has the shape of the leaf.
        each: How many arrays like the leaf there are for each leaf: "n", "len(betas)"; "" for one.
        keeps: The part of itself that a step keeps, if the equations do not show it.
        nonnegative: Whether the spec states that no number in it is ever negative.
        wide: Why it must not be held in eight bits, if the spec says so.
    """

    name: str
    init: Init
    doc: str
    when: ExpressionCode | None = None
    shape: ExpressionCode | None = None
    symbol: str | None = None
    keeps: ExpressionCode | None = None
    each: str = ""
    nonnegative: bool = False
    wide: str | None = None


@dataclass(frozen=True)
class Scalar:
    """A number in the state, or a random key."""

    name: str
    init: Init
    doc: str
    symbol: str | None = None

    @property
    def is_key(self) -> bool:
        """Whether it is a random key."""
        return self.init.word == "key"


@dataclass(frozen=True)
class Argument:
    """What a step takes by keyword: a number, or an array for each leaf.

    Attributes:
        is_tree: Whether it is a tree like the weights.
        when: The static condition under which it is needed; None if it always is.
    """

    name: str
    doc: str
    symbol: str | None = None
    is_tree: bool = False
    when: ExpressionCode | None = None


@dataclass(frozen=True)
class Definition:
    """An equation that others call by a name."""

    name: str
    doc: str
    parameters: tuple[str, ...]
    code: ValueCode
    symbol: str | None = None


@dataclass(frozen=True)
class NamedFunction:
    """Another function of the state and the weights.

    Attributes:
        changes: Slots that it changes in the state that it returns; without any, its equations assign `result`.
        is_number: Whether the result is one number, a total over all leaves.
    """

    name: str
    doc: str
    leaf: BlockCode
    changes: tuple[str, ...] = ()
    is_number: bool = False

    @property
    def returns(self) -> str:
        """The type of what it returns."""
        return "State[Weights]" if self.changes else "Scalar" if self.is_number else "Weights"


@dataclass
class Declarations:
    """Reads the tables that declare names, and checks that no name is declared twice."""

    document: Document
    hyperparameters: dict[str, Hyperparameter]
    taken: dict[str, str] = field(default_factory=dict[str, str])
    keys: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        """Reserve the names of the hyperparameters."""
        self.taken |= dict.fromkeys(self.hyperparameters, "a hyperparameter")

    def declare(self, path: KeyPath, what: str) -> str:
        """Return the last name of a path; record a mistake if it cannot be declared."""
        name = str(path[-1])
        check_identifier(self.document, path, name, what=what, reserved=RESERVED)
        if name in self.taken:
            self.document.at_key(
                path, f"{name!r} is already {self.taken[name]}; choose another name"
            )
        article = "an" if what == "argument" else "a"
        self.taken.setdefault(name, f"{article} {what}")
        return name

    def table(self, path: KeyPath, kind: str, example: str) -> Table | None:
        """Return the table at a path, with its keys checked; None if it is not a table."""
        table = Table(self.document, path)
        if not table.is_table:
            table.misplaced(example)
            return None
        table.check_keys(KEYS[kind])
        return table

    def expression(self, table: Table, key: str) -> ExpressionCode | None:
        """Read an expression; optional."""
        text = table.text(key, default="")
        return read_expression(self.document, (*table.path, key), text) if text else None

    def condition(self, table: Table, key: str) -> ValueCode | None:
        """Read a condition that is computed in a step; optional."""
        text = table.text(key, default="")
        return read_value(self.document, (*table.path, key), text) if text else None

    def each(self, table: Table) -> ExpressionCode | None:
        """Read the number of arrays of a slot as a list of shapes: one for each number of a list, or so many."""
        text = table.text("each", default="")
        if not text:
            return None
        path = (*table.path, "each")
        code = read_expression(self.document, path, text)
        found = self.hyperparameters.get(text.strip())
        if found is not None and found.kind not in {"list", "integer"}:
            message = f"each must be a list of numbers or an integer; {found.name!r} is neither"
            self.document.at_value(path, message)
        if self.document.has_mistakes(path):
            return replace(code, expression=hole(code.expression))
        is_list = self.number_of(table) != text.strip()
        before, after = ("[shape for _ in ", "]") if is_list else ("[shape for _ in range(", ")]")
        whole = f"{before}{text}{after}"
        expression = ast.parse(whole, mode="eval").body
        added = (len(before), len(after))
        return replace(code, text=whole, expression=expression, added=added)

    def number_of(self, table: Table) -> str:
        """Return how many arrays a slot has for each leaf, by its key `each`; "" without that."""
        text = str(table.data.get("each", "")).strip()
        found = self.hyperparameters.get(text)
        return f"len({text})" if found is not None and found.kind == "list" else text

    def slot(self, name: str) -> Slot | None:
        """Read a slot."""
        path = ("slots", name)
        self.declare(path, "slot")
        example = 'a slot must be a table, such as { init = "zeros", doc = "First moment." }'
        table = self.table(path, "slots", example)
        if table is None:
            return None
        when = self.expression(table, "when")
        shape = self.expression(table, "shape") or self.each(table)
        keeps = self.expression(table, "keeps")
        symbol = table.symbol("symbol")
        doc = table.sentence("doc")
        init = self.init(table, _SLOT_INITS)
        if init is None or doc is None:
            return None
        if init.word == "identity" and not shape:
            message = 'identity matrices need a shape, such as "[(n, n) for n in shape]"'
            self.document.at_value((*path, "init"), message)
        if "each" in table.data and "shape" in table.data:
            cure = 'write only shape, as in "[reduced(shape, but=0) for b in betas]"'
            self.document.at_key((*path, "each"), f"`each` is for arrays like the leaf; {cure}")
        elif init.word in {"copy", "gradient"} and "each" in table.data:
            message = 'the arrays of a list cannot start so; write init = "zeros"'
            self.document.at_value((*path, "init"), message)
        elif init.word in {"copy", "gradient"} and shape:
            what = "a copy" if init.word == "copy" else "the gradient"
            self.document.at_key(
                (*path, "shape"), f"{what} has the shape of the weights; remove this"
            )
        return Slot(
            name,
            init,
            doc,
            when,
            shape,
            symbol,
            keeps,
            each=self.number_of(table) if shape else "",
            nonnegative=table.truth("nonnegative"),
            wide=table.text("wide", default="") or None,
        )

    def scalar(self, name: str) -> Scalar | None:
        """Read a scalar of the state."""
        path = ("scalars", name)
        self.declare(path, "scalar")
        example = 'a scalar must be a table, such as { init = 0.0, doc = "Largest step so far." }'
        table = self.table(path, "scalars", example)
        if table is None:
            return None
        symbol = table.symbol("symbol")
        doc = table.sentence("doc")
        init = self.init(table, ("key",))
        if init is None or doc is None:
            return None
        self.keys += [name] if init.word == "key" else []
        return Scalar(name, init, doc, symbol)

    def init(self, table: Table, words: tuple[str, ...]) -> Init | None:
        """Read the initial value of a slot or scalar."""
        if "init" not in table.data:
            table.missing("init")
            return None
        value = table.data["init"]
        path = (*table.path, "init")
        if isinstance(value, int | float) and not isinstance(value, bool):
            if not abs(value) <= sys.float_info.max:  # NaN too
                self.document.at_value(path, "init must be finite")
                return None
            return Init(number=number_text(self.document.literal(path), float(value)))
        if not isinstance(value, str):
            message = f"init must be a number or a string, not {kind_of(value)}"
            self.document.at_value(path, message)
            return None
        if value in words and words != ("key",):
            return Init(word=value)
        if words == ("key",) and (found := _KEY_INIT.fullmatch(value)):
            return self.key(path, found)
        if _PLAIN.fullmatch(value):
            return self.named(path, value, ("key(seed)",) if words == ("key",) else words)
        return self.computed(read_expression(self.document, path, value))

    def computed(self, code: ExpressionCode) -> Init | None:
        """Read an initial value that is computed from hyperparameters, or noise."""
        if self.document.has_mistakes(code.path):
            return None
        match code.expression:
            case ast.Call(func=ast.Name(id="normal"), args=[key, deviation]):
                if not isinstance(key, ast.Name) or key.id not in self.keys:
                    cure = 'declare one in [scalars], with init = "key(seed)"'
                    hint = suggestion(key.id, self.keys) if isinstance(key, ast.Name) else ""
                    code.note(
                        key, f"normal(key, deviation) needs a random key{hint or f'; {cure}'}"
                    )
                    return None
                return Init("normal", code=replace(code, expression=deviation), source=key.id)
            case expression:
                parts = [part for part in parts_of(expression) if part is not expression]
                for part in parts:
                    if isinstance(part, ast.Call) and ast.unparse(part.func) == "normal":
                        cure = "multiply the deviation: `normal(key, 2 * deviation)`"
                        code.note(part, f"noise must stand alone; {cure}")
                        return None
                return Init(code=code)

    def key(self, path: KeyPath, found: re.Match[str]) -> Init | None:
        """Read the initial value of a random key."""
        seed = self.hyperparameters.get(found[1])
        if seed is None or seed.kind != "integer" or seed.optional:
            message = f"key(...) needs an integer hyperparameter that is not optional; {found[1]!r} is not one"
            self.document.at_value(path, message)
            return None
        return Init("key", source=found[1])

    def named(self, path: KeyPath, value: str, words: tuple[str, ...]) -> Init | None:
        """Read an initial value that is the name of a hyperparameter."""
        found = self.hyperparameters.get(value)
        if found is None:
            known = [*words, *self.hyperparameters]
            hint = (
                suggestion(value, known)
                or f"; expected {', '.join(words)}, a number, or arithmetic of float hyperparameters"
            )
            try:
                float(value)
                hint = "; write numbers without quotes"
            except ValueError:
                pass
            self.document.at_value(path, f"unknown init {value!r}{hint}")
            return None
        if found.kind != "float" or found.optional or found.schedulable:
            message = (
                "init can name only a float hyperparameter that is neither optional nor "
                f"schedulable; {value!r} is not one"
            )
            self.document.at_value(path, message)
            return None
        return Init(code=read_expression(self.document, path, value))

    def argument(self, name: str) -> Argument | None:
        """Read an argument of a step."""
        path = ("arguments", name)
        self.declare(path, "argument")
        example = 'an argument must be a table, such as { doc = "The loss at the weights." }'
        table = self.table(path, "arguments", example)
        if table is None:
            return None
        like = table.text("like", default="")
        if like and like != "weights":
            message = f"like must be 'weights', not {like!r}; leave it out for a single number"
            self.document.at_value((*path, "like"), message)
        when = self.expression(table, "when")
        symbol = table.symbol("symbol")
        doc = table.sentence("doc")
        return None if doc is None else Argument(name, doc, symbol, bool(like), when)

    def definition(self, name: str) -> Definition | None:
        """Read an equation that others call."""
        path = ("define", name)
        self.declare(path, "definition")
        example = "a definition must be a table, such as [define.cosine]"
        table = self.table(path, "define", example)
        if table is None:
            return None
        mistakes = len(self.document.mistakes)
        symbol = table.symbol("symbol")
        doc = table.sentence("doc")
        parameters = table.texts("parameters")
        for index, each in enumerate(parameters):
            place = (*path, "parameters", index)
            check_identifier(self.document, place, each, what="parameter", reserved=RESERVED)
            if each in (*parameters[:index], *self.hyperparameters):
                what = "a hyperparameter" if each in self.hyperparameters else "a parameter"
                self.document.at_value(place, f"{each!r} is already {what}; choose another name")
        text = table.text("equation")
        if doc is None or text is None:
            self.document.definitions[name] = None
            return None
        code = read_value(self.document, (*path, "equation"), text)
        self.check_definition(code, parameters)
        is_right = len(self.document.mistakes) == mistakes
        self.document.definitions[name] = parameters if is_right else None
        return Definition(name, doc, parameters, code, symbol)

    def check_definition(self, code: ValueCode, parameters: tuple[str, ...]) -> None:
        """Check what a definition reads, and that it reads all of its parameters."""
        mistakes = len(self.document.mistakes)
        parts = [part for part in parts_of(code.expression) if isinstance(part, ast.Name)]
        called = {part.func for part in parts_of(code.expression) if isinstance(part, ast.Call)}
        loops = {part.id for part in parts if isinstance(part.ctx, ast.Store)}
        for part in parts:
            h = self.hyperparameters.get(part.id)
            if part in called:
                if part.id in TOTALS or (part.id in FUNCTIONS and FUNCTIONS[part.id].count):
                    message = f"{part.id} depends on more than its arguments; call it outside of the definition"
                    code.note(part, message)
            elif part.id not in {*parameters, *loops} and (h is None or h.schedulable):
                known = [*parameters, *self.hyperparameters]
                cure = suggestion(part.id, known) or "; make it a parameter"
                what = "its parameters and hyperparameters that are not schedulable"
                code.note(part, f"a definition can read only {what}, not {part.id!r}{cure}")
        if self.document.mistakes[mistakes:]:
            return
        for index, each in enumerate(parameters):
            if each not in {part.id for part in parts}:
                place = (*code.path[:-1], "parameters", index)
                self.document.at_value(place, f"the equation does not read {each!r}; remove this")

    def shape(self, table: Table, name: str) -> tuple[str, ExpressionCode] | None:
        """Read a static value, computed from shapes."""
        path = ("shapes", name)
        self.declare(path, "name of [shapes]")
        text = table.text(name)
        return None if text is None else (name, read_expression(self.document, path, text))

    def function(self, name: str) -> NamedFunction | None:
        """Read a function."""
        path = ("functions", name)
        self.declare(path, "function")
        if name.endswith(OF_SHAPES):
            message = f"{name!r} ends in _shape or _of; such names are reserved"
            self.document.at_key(path, message)
        example = "a function must be a table, such as [functions.evaluation_weights]"
        table = self.table(path, "functions", example)
        if table is None:
            return None
        doc = table.sentence("doc")
        leaf = table.text("leaf", block=True)
        if doc is None or leaf is None:
            return None
        changes = table.texts("changes") if "changes" in table.data else ()
        for index, slot in enumerate(changes):
            if self.taken.get(slot) != "a slot":
                slots = [name for name, what in self.taken.items() if what == "a slot"]
                message = f"{slot!r} is not a slot{suggestion(slot, slots) or '; a function can change only slots'}"
                self.document.at_value((*path, "changes", index), message)
        returns = table.text("returns", default="")
        if returns and (returns != "number" or changes):
            message = (
                "a function that changes the state returns it; remove this"
                if changes
                else f"returns must be 'number', not {returns!r}; leave it out for a tree like the weights"
            )
            self.document.at_value((*path, "returns"), message)
        code = read_block(self.document, (*path, "leaf"), leaf)
        if self.document.has_mistakes((*path, "changes")):
            assigned = dict(assignments_in(code.body))
            changes = tuple(name for name in assigned if self.taken.get(name) == "a slot")
        return NamedFunction(name, doc, code, changes, bool(returns))
