"""The types of expressions: numbers, conditions, shapes and so on, and when each is known."""

import ast
from collections.abc import Mapping, Sequence

from mlax_codegen.checking.names import UNKNOWN, Block, Names, Stage, StagedType
from mlax_codegen.language import FUNCTIONS, TOTALS, Function, Parameter, Type, is_of_numbers
from mlax_codegen.reading.equations import Code
from mlax_codegen.reading.habits import for_name, synonym
from mlax_codegen.reading.hyperparameters import Hyperparameter
from mlax_codegen.reading.mistakes import closest, either_of, suggestion
from mlax_codegen.reading.trees import in_short, is_list, loops_of, names_in, parts_of, values_in

__all__ = ["TypeChecker", "cure_of"]

_FLAG = StagedType(Stage.STATIC, Type.FLAG)
_SIZES = StagedType(Stage.STATIC, Type.SIZES)
_HINTS = {
    Type.CONDITION: "; write `where({}, a, b)`",
    Type.FLAG: "; write, for example, `1.0 if {} else 0.0`",
    Type.ARRAYS: "; take one item, `x[i]`, or write a comprehension: `[f(x) for x in {}]`",
    Type.NUMBERS: "; take one item, `x[i]`, or write a comprehension: `[f(x) for x in {}]`",
    Type.KEY: "; write `normal(key, g)`",
}
_NO_CONDITION = {
    Type.NUMBER: "a number, not a condition; compare it, as in `x > 0`",
    Type.NUMBERS: "a list, which is never empty; write `len({}) > 1` or similar",
    Type.CHOICE: "a choice, not a condition; compare it with one of its values",
}
_STATIC = "can depend only on shapes and hyperparameters that are not schedulable"
_DECLARE = {
    Block.STATIC: "declare it under [hyperparameters]",
    Block.SHAPES: "declare it under [hyperparameters] or [shapes]",
    Block.SCALARS: "declare it under [hyperparameters] or [scalars], or assign it first",
    Block.LEAF: "declare it under [hyperparameters], [slots] or [scalars], or assign it first",
    Block.FUNCTION: "declare it under [hyperparameters], [slots] or [scalars], or assign it first",
}
_NUMBERS = {Type.NUMBER, Type.COUNTED, Type.SUMMED}
_ALLOWED: Mapping[Type, frozenset[Type]] = {
    Type.COUNTED: frozenset([Type.NUMBER, Type.CONDITION]),
    Type.SUMMED: frozenset([Type.NUMBER, Type.CONDITION, Type.ARRAYS, Type.NUMBERS, Type.SIZES]),
    Type.LIST: frozenset([Type.SIZES, Type.SHAPES, Type.NUMBERS, Type.ARRAYS]),
}
_LISTS = {
    (Type.NUMBER, True): _SIZES,
    (Type.SIZES, True): StagedType(Stage.STATIC, Type.SHAPES),
    (Type.NUMBER, False): StagedType(Stage.LEAF, Type.ARRAYS),
}


def cure_of(kind: StagedType, node: ast.expr) -> str:
    """Return what to write for a value that is not a number."""
    return _HINTS.get(kind.type, "").replace("{}", in_short(node, "condition"))


def _one_of(word: str, known: Sequence[str]) -> str:
    """Return what to write for an unknown word."""
    return suggestion(word, known) or f"; use {either_of(map(repr, known))}"


def _number(kinds: Sequence[StagedType]) -> StagedType:
    """Return the type of what is computed from numbers: unknown if nothing says when it is known."""
    stage = max(kind.stage for kind in kinds)
    unsure = stage is Stage.STATIC and UNKNOWN in kinds
    return UNKNOWN if unsure else StagedType(stage, Type.NUMBER)


class TypeChecker:
    """Finds the types of expressions in one block, and records each part that does not fit.

    Attributes:
        names: The names of the spec.
        code: The equations that are checked.
        block: The kind of block that they are.
        read: Names that an expression of any block reads.
        visible: What the block can read.
        assigned: Names that the block has assigned in every branch that leads here.
        variables: Variables of the comprehensions around.
        blamed: Names that are already reported.
    """

    def __init__(self, names: Names, code: Code, block: Block, read: set[str]) -> None:
        self.names = names
        self.code = code
        self.block = block
        self.read = read
        self.visible: Mapping[str, StagedType] = names.visible(block)
        self.assigned: dict[str, StagedType] = {}
        self.variables: dict[str, StagedType] = {}
        self.blamed: set[str] = set()

    def unassigned(self, name: str) -> str | None:
        """Return why a name that this block assigns has no value here; None if it never does."""
        del name
        return None

    def wrong(self, node: ast.expr, message: str) -> StagedType:
        """Record a mistake; return the type that raises no further ones."""
        self.code.note(node, message)
        return UNKNOWN

    def test(self, node: ast.expr, cure: str = "") -> StagedType:
        """Check a condition that must be static; `cure` says what to do if not, by default `where`."""
        return self.static(node, self.type_of(node), cure)

    def static(self, node: ast.expr, kind: StagedType, cure: str = "") -> StagedType:
        """Check the type of a condition that must be static."""
        if kind.type is Type.UNKNOWN:
            return UNKNOWN
        if kind.stage is not Stage.STATIC:
            condition = in_short(node, "condition" if kind.type is Type.CONDITION else "x")
            if kind.type is not Type.CONDITION:
                condition = f"{condition} > 0" if kind.type is Type.NUMBER else "condition"
            return self.wrong(
                node, f"{self.late(node)}; {cure or f'use `where({condition}, a, b)`'}"
            )
        if kind.type in _NO_CONDITION:
            message = _NO_CONDITION[kind.type].replace("{}", in_short(node, "x"))
            return self.wrong(node, f"this is {message}")
        return _FLAG

    def logic(self, node: ast.expr, parts: Sequence[ast.expr]) -> StagedType:
        """Return the type of `and`, `or` or `not`: of conditions of arrays if one of its parts is that."""
        kinds = [self.type_of(part) for part in parts]
        if not any(kind.type is Type.CONDITION for kind in kinds):
            kinds = [self.static(part, kind) for part, kind in zip(parts, kinds, strict=True)]
            return UNKNOWN if UNKNOWN in kinds else kinds[0]
        self.code.remember("of_arrays", node)
        for part, kind in zip(parts, kinds, strict=True):
            self.condition(part, kind)
        return StagedType(max(kind.stage for kind in kinds), Type.CONDITION)

    def condition(self, node: ast.expr, kind: StagedType) -> None:
        """Check a condition, which need not be static."""
        if kind.type not in {Type.CONDITION, Type.FLAG, Type.UNKNOWN}:
            message = f"this is {kind.words}, not a condition; compare it, as in `x > 0`"
            self.code.note(node, message)

    def late(self, node: ast.expr) -> str:
        """Say which part of an expression is not static."""
        for name in values_in(node):
            hyperparameter = self.names.hyperparameters.get(name)
            if hyperparameter is not None and hyperparameter.schedulable:
                return f"{name!r} is schedulable, so its value is only known when the step runs"
            found = self.variables.get(name) or self.assigned.get(name) or self.visible.get(name)
            if found is not None and found.stage is not Stage.STATIC:
                return f"the value of {name!r} is only known when the step runs"
        return "this value is only known when the step runs"

    def static_number(self, node: ast.expr, what: str) -> bool:
        """Check a number that must be static; `what` is its name in messages."""
        kind = self.expect(node, Type.NUMBER, "this must be a number")
        if kind.stage is not Stage.STATIC and kind.type is not Type.UNKNOWN:
            self.code.note(node, f"{self.late(node)}; {what} {_STATIC}")
        return kind.stage is Stage.STATIC

    def number(self, *operands: ast.expr) -> StagedType:
        """Check operands of arithmetic, and return the type of the result."""
        return _number(
            [self.expect(each, Type.NUMBER, "this must be a number") for each in operands]
        )

    def expect(self, node: ast.expr, wanted: Type, what: str) -> StagedType:
        """Check the type of an expression; `what` begins the message if it is another, which is unknown then."""
        kind = self.type_of(node)
        if kind.type not in {*_ALLOWED.get(wanted, {wanted}), Type.UNKNOWN}:
            hint = cure_of(kind, node) if wanted in _NUMBERS else ""
            if wanted is Type.CONDITION and kind.type is Type.FLAG:
                hint = f"; write `a if {in_short(node, 'condition')} else b`"
            self.code.note(node, f"{what}, not {kind.words}{hint}")
            return StagedType(kind.stage, Type.UNKNOWN)
        return kind

    def type_of(self, node: ast.expr) -> StagedType:
        """Return the type of an expression, and record what is wrong in it."""
        match node:
            case ast.Name(id=name):
                return self.name(node, name)
            case ast.Constant(value=value):
                return self.constant(node, value)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return self.logic(node, [operand])
            case ast.UnaryOp(operand=operand):
                return self.number(operand)
            case ast.BinOp(left=left, right=right):
                return self.number(left, right)
            case ast.BoolOp(values=values):
                return self.logic(node, values)
            case ast.IfExp(test=test, body=body, orelse=otherwise):
                self.test(test)
                return self.either(body, otherwise)
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return self.comparison(node, left, op, right)
            case ast.Call(func=ast.Name(id=name)):
                return self.call(node, name)
            case ast.Call(args=parts):  # a hole
                for part in parts:
                    self.type_of(part)
                return UNKNOWN
            case ast.Subscript(value=value, slice=index):
                return self.item(value, index)
            case ast.Tuple(elts=items):
                return self.sizes(node, items)
            case ast.List(elts=items):
                return self.items(items)
            case ast.ListComp(elt=element, generators=[generator]):
                return self.comprehension(element, generator)
            case _:
                return UNKNOWN

    def either(self, body: ast.expr, otherwise: ast.expr) -> StagedType:
        """Return the type of a choice between two values, which must have the same type."""
        first = self.type_of(body)
        if first.type in {*_ALLOWED[Type.LIST], Type.CONDITION}:
            second = self.type_of(otherwise)
            if second.type not in {first.type, Type.UNKNOWN}:
                message = f"the second value is {second.words}, but the first is {first.words}"
                self.code.note(otherwise, f"{message}; both must have the same type")
            return StagedType(max(first.stage, second.stage), first.type)
        if first.type not in {Type.NUMBER, Type.UNKNOWN}:
            message = f"this must be a number, not {first.words}{cure_of(first, body)}"
            first = self.wrong(body, message)
        return _number([first, self.number(otherwise)])

    def name(self, node: ast.Name, name: str) -> StagedType:
        """Return the type of a name, and remember that it is read."""
        self.read.add(name)
        found = self.variables.get(name) or self.assigned.get(name) or self.visible.get(name)
        if found is None and name not in {*self.blamed, *self.names.broken}:
            self.blamed.add(name)
            why = self.unassigned(name) or self.names.invisible(name, self.block)
            message = why or self.unknown(name)
            self.code.document.unknown.add(name)
            lost = self.code.document.lost and "did you mean" not in message
            self.code.note(node, message, consequence=lost)
        elif found and found.stage is Stage.SCALAR and self.block in {Block.STATIC, Block.SHAPES}:
            what = "its value is not known here, only whether it is None"
            return self.wrong(node, f"{name!r} is schedulable: {what}")
        return found or UNKNOWN

    def unknown(self, name: str) -> str:
        """Complain about an unknown name; the one that was probably meant counts as read."""
        known = {*self.visible, *self.assigned, *self.variables}
        meant = synonym(name, known) or closest(name, known)
        if cure := for_name(name):
            return f"unknown name {name!r}{cure}"
        self.code.document.meant.add(meant or name)
        hint = f", did you mean {meant!r}?" if meant else f"; {_DECLARE[self.block]}"
        return f"unknown name {name!r}{hint}"

    def constant(self, node: ast.expr, value: object) -> StagedType:
        if value is None:
            return self.wrong(node, "None can only be used in `is None` or `is not None`")
        if isinstance(value, bool):
            flags = [h.name for h in self.names.hyperparameters.values() if h.kind == "flag"]
            cure = "declare a hyperparameter with default = false"
            for flag in flags[:1]:
                cure = f"use a boolean hyperparameter, `{flag}` or `not {flag}`"
            return self.wrong(node, f"{value} cannot be used in equations; {cure}")
        if isinstance(value, str):
            return self.wrong(node, "a string can only be compared with a choice")
        return StagedType(Stage.STATIC, Type.NUMBER)

    def comparison(
        self, node: ast.expr, left: ast.expr, op: ast.cmpop, right: ast.expr
    ) -> StagedType:
        if isinstance(op, ast.Is | ast.IsNot):
            name = left.id if isinstance(left, ast.Name) else ""
            found = self.names.hyperparameters.get(name)
            if found is not None and (found.optional or name in self.names.broken):
                self.read.add(name)
            elif found or not name or self.type_of(left) is not UNKNOWN:
                self.code.note(left, "only an optional hyperparameter can be None")
            return _FLAG
        choice = self.names.hyperparameters.get(left.id) if isinstance(left, ast.Name) else None
        if choice is not None and choice.kind == "choice":
            if (kind := self.type_of(left)) is UNKNOWN:
                return kind
            self.chosen(node, choice, op, right)
            return _FLAG
        if isinstance(left, ast.Name) and left.id in self.names.spec.document.broken:
            return self.type_of(left)
        kind = self.number(left, right)
        if kind is UNKNOWN:
            return UNKNOWN
        return _FLAG if kind.stage is Stage.STATIC else StagedType(kind.stage, Type.CONDITION)

    def chosen(
        self, node: ast.expr, choice: Hyperparameter, op: ast.cmpop, right: ast.expr
    ) -> None:
        """Check a comparison of a choice with one of its values."""
        value = right.value if isinstance(right, ast.Constant) else None
        if not isinstance(op, ast.Eq | ast.NotEq):
            self.code.note(node, "compare a choice with == or !=")
        elif not isinstance(value, str):
            self.code.note(right, f"compare {choice.name!r} with one of its choices, a string")
        elif value not in choice.choices:
            hint = _one_of(value, choice.choices)
            self.code.note(right, f"{value!r} is not one of the choices of {choice.name!r}{hint}")

    def call(self, node: ast.Call, name: str) -> StagedType:
        function = FUNCTIONS.get(name)
        if self.block is Block.STATIC and name != "len":
            return self.wrong(node, "functions cannot be called here")
        if function is None:
            return self.wrong(node, f"{name!r} is a definition, which only equations can call")
        of_two = is_of_numbers(node)
        static = function.static or of_two
        if self.block is Block.SHAPES and not static:
            message = f"{name} takes arrays; this must be computed from hyperparameters and shapes"
            return self.wrong(node, message)
        if self.block is Block.SCALARS and not ("elementwise" in function.facts or static):
            message = f"{name} needs a whole leaf, but `scalars` are computed once per step"
            self.code.note(node, f"{message}; move this equation to `leaf`")
            self.blamed |= {*names_in([node])} & {*self.names.visible(Block.LEAF)}
        if name in TOTALS:
            self.expect(node.args[0], Type.COUNTED, "this must be a number")
            return self.wrong(node, f"assign a total to a name of its own: name = {name}(...)")
        if name == "every":
            return self.every(node, function)
        stages = [Stage.STATIC if static else Stage.SCALAR]
        stages += [
            self.argument(function, p, a, static=p.static or of_two)
            for p, a in function.given(node)
        ]
        if name == "sum":
            known = {**self.visible, **self.assigned}
            lists = {each for each, kind in known.items() if kind.type in _ALLOWED[Type.LIST]}
            if is_list(node.args[0], lists):
                self.code.remember("of_lists", node)
                if len(stages) > 2:
                    self.wrong(node, "the sum of a list is element by element, and has no axis")
        return StagedType(max(stages), function.result)

    def argument(
        self, function: Function, parameter: Parameter, node: ast.expr, *, static: bool
    ) -> Stage:
        """Check one argument of a call."""
        if parameter.type is Type.CHOICE:
            return self.word(function, parameter, node)
        what = f"{parameter.name} of {function.name} must be {parameter.type}"
        if parameter.type is Type.CONDITION:
            what = f"{what} on arrays"
        elif parameter.type in _NUMBERS:
            what = f"this must be {parameter.type}"
        stage, kind = self.expect(node, parameter.type, what)
        if parameter.type is Type.LIST:
            return Stage.STATIC  # as its length is
        late = stage is not Stage.STATIC and kind is not Type.UNKNOWN
        if static and late and not is_of_numbers(node):
            cure = f"{parameter.name} of {function.name} {_STATIC}"
            if function.name in {"max", "min"}:
                of_two, of_axis = f"{function.name}imum(a, b)", f"{function.name}(x, axis=0)"
                cure = f"of two arrays, write `{of_two}`; along an axis, `{of_axis}`"
            self.code.note(node, f"{self.late(node)}; {cure}")
        return stage

    def word(self, function: Function, parameter: Parameter, node: ast.expr) -> Stage:
        """Check a choice that is passed to a function: a string, or a hyperparameter."""
        what = f"{parameter.name} of {function.name}"
        known = function.words[parameter.name]
        given: Sequence[str] = ()
        match node:
            case ast.Constant(value=str() as word):
                given = [word]
            case ast.Constant():
                self.code.note(node, f"{what} must be a choice or a string")
            case _:
                self.expect(node, Type.CHOICE, f"{what} must be {Type.CHOICE}")
                found = self.names.hyperparameters.get(ast.unparse(node))
                given = found.choices if found is not None else ()
        for word in given:
            if word not in known:
                self.code.note(node, f"{what} cannot be {word!r}{_one_of(word, known)}")
        return Stage.STATIC

    def every(self, node: ast.Call, function: Function) -> StagedType:
        """Check a call of `every`, whose values are two numbers or two lists."""
        if self.variables:
            return self.wrong(node, "write `every` around the comprehension, not inside it")
        interval, new, old = node.args
        stage = self.argument(function, function.parameters[0], interval, static=True)
        known = {*self.names.hyperparameters, *FUNCTIONS}
        others = [name for name in names_in([interval]) if name not in known]
        if others and stage is Stage.STATIC:
            message = f"k of every is the same for all leaves, but {others[0]!r} may not be"
            self.code.note(interval, f"{message}; write it with hyperparameters and numbers only")
        kind = self.either(new, old)
        return StagedType(max(stage, kind.stage, Stage.SCALAR), kind.type)

    def item(self, value: ast.expr, index: ast.expr) -> StagedType:
        """Return the type of `x[i]`, or of a part, `x[1:]` or `x[:, :n]`."""
        if isinstance(index, ast.Slice | ast.Tuple):
            return self.cut(value, index)
        if isinstance(index, ast.Constant) and not isinstance(index.value, int):
            return self.wrong(index, "an index must be one integer")
        if not self.static_number(index, "an index"):
            return UNKNOWN
        kind = self.type_of(value)
        if kind.type in {Type.SIZES, Type.NUMBERS, Type.ARRAYS}:
            return StagedType(kind.stage, Type.NUMBER)
        if kind.type is Type.UNKNOWN:
            return UNKNOWN
        cure = "only shapes, axes and lists have items"
        if kind.type is Type.NUMBER and kind.stage is Stage.LEAF:
            array = in_short(value, "x")
            cure = f"use `sum({array})`, `mean({array}, axis)` or similar"
        return self.wrong(value, f"{kind.words} cannot be indexed; {cure}")

    def cut(self, value: ast.expr, index: ast.Slice | ast.Tuple) -> StagedType:
        """Return the type of a part of a list, or of an array that slices cut."""
        bounds = [part for part in parts_of(index) if isinstance(part, ast.Slice)]
        for bound in (each for part in bounds for each in (part.lower, part.upper) if each):
            self.static_number(bound, "a bound of a slice")
        kind = self.type_of(value)
        if kind.type in _ALLOWED[Type.LIST] and isinstance(index, ast.Slice):
            self.code.remember("of_lists", index)
            return kind
        if kind.type is not Type.UNKNOWN and kind != StagedType(Stage.LEAF, Type.NUMBER):
            return self.wrong(value, f"a slice cuts an array, not {kind.words}")
        return kind

    def sizes(self, node: ast.expr, items: list[ast.expr]) -> StagedType:
        """Return the type of a tuple: a shape."""
        if self.block is not Block.SHAPES:
            return self.wrong(
                node, "tuples are shapes; they can only be used in [shapes] and `shape`"
            )
        for item in items:
            self.number(item)
        return _SIZES

    def items(self, items: Sequence[ast.expr]) -> StagedType:
        """Return the type of a list that is written out, whose items may be numbers and parts of other lists."""
        kinds: list[StagedType] = []
        for item in items:
            if isinstance(item, ast.Starred):
                kinds.append(self.expect(item.value, Type.LIST, f"this must be {Type.LIST}"))
            else:
                kinds.append(self.listed(item, self.type_of(item)))
        if any(kind.type is Type.UNKNOWN for kind in kinds):
            return UNKNOWN
        first = max(kinds, key=lambda kind: kind.type is Type.ARRAYS)
        for item, kind in zip(items, kinds, strict=True):
            if kind.type is not first.type and not (kind == _SIZES and first.type is Type.ARRAYS):
                message = f"the items of a list must be alike, but this is of {kind.words}"
                self.code.note(item, f"{message}, and others are of {first.words}")
        return StagedType(max(kind.stage for kind in kinds), first.type)

    def listed(self, node: ast.expr, kind: StagedType) -> StagedType:
        """Return the type of a list with items of a type."""
        if kind.type is Type.UNKNOWN:
            return UNKNOWN
        found = _LISTS.get((kind.type, kind.stage is Stage.STATIC))
        if found is None:
            return self.wrong(node, f"a list must hold numbers or shapes, not {kind.words}")
        return found

    def comprehension(self, element: ast.expr, generator: ast.comprehension) -> StagedType:
        """Return the type of a list with a value for each axis, or for each item of other lists."""
        found: dict[str, StagedType] = {}
        for variable, source in loops_of(generator):
            kind = StagedType(Stage.STATIC, Type.SIZES)
            if isinstance(source, ast.Call):
                self.static_number(source.args[0], "a range")
            else:
                kind = self.type_of(source)
            if kind.type is Type.UNKNOWN:
                self.read.update(names_in([element, generator]))
                return UNKNOWN
            if kind.type not in {Type.SIZES, Type.NUMBERS, Type.ARRAYS}:
                message = f"a comprehension must iterate over a list, not {kind.words}"
                return self.wrong(source, message)
            wrong = None if variable == "_" else self.names.wrong_local(variable)
            if variable in {*self.visible, *self.assigned, *self.variables, *found}:
                wrong = f"{variable!r} is already used here; choose another name"
            if wrong is not None:
                return self.wrong(generator.target, wrong)
            found[variable] = StagedType(kind.stage, Type.NUMBER)
        self.variables |= found
        for condition in generator.ifs:
            self.test(condition, f"a condition in a comprehension {_STATIC}")
        kind = self.type_of(element)
        for variable in found:
            del self.variables[variable]
        return self.listed(element, kind)
