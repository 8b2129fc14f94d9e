"""Tries equations on leaves of few and many axes, without numbers: what would fail when they run is noted here.

Numbers known before anything runs are followed as ranges, arrays as shapes. Where a condition is not known both
branches are tried, each with what the condition says of the names in it. Where an option decides between two shapes,
all is tried again with each of its answers.
"""

import ast
from collections.abc import Mapping, Sequence

from mlax_codegen.checking.options import World, literal, names_of, option_of, options_in
from mlax_codegen.checking.options import holds as decided
from mlax_codegen.checking.trial.calls import Calls
from mlax_codegen.checking.trial.ranges import SIZE, Range, arithmetic, exactly, of_hyperparameter
from mlax_codegen.checking.trial.things import (
    ARRAY,
    AXIS,
    NUMBER,
    Arrays,
    Dims,
    Shaped,
    Shapes,
    Sizes,
    Thing,
    agree,
    broadcast,
    count,
    dims_of,
    form,
    joined,
    of_axis,
)
from mlax_codegen.language import GRADIENT, NDIM, RESULT, SHAPE, STEP_NUMBER, UPDATE, WEIGHT
from mlax_codegen.reading.declarations import Slot
from mlax_codegen.reading.equations import Code
from mlax_codegen.reading.spec import Spec

__all__ = ["try_out"]

_FEW_AXES = 4
_MOST_AXES = 64
_MOST_TRIALS = 128  # for each number of axes
_SIGNS: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.Pow: "**",
}
_OPPOSITE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
}
_MIRRORED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.Gt,
    ast.Gt: ast.Lt,
    ast.LtE: ast.GtE,
    ast.GtE: ast.LtE,
}

Known = dict[str, Thing]


def try_out(spec: Spec) -> None:
    """Note in the spec's document what cannot work, on a leaf with any number of axes."""
    for axes in _numbers_of_axes(spec):
        worlds, left = [World(())], _MOST_TRIALS
        while worlds and left:
            left -= 1
            trial = _Trial(spec, axes, worlds.pop())
            trial.run()
            if spec.document.mistakes:  # the same ones again, mostly
                return
            if trial.undecided:
                option, answers = min(trial.undecided.items())
                decided = trial.world.answers
                worlds += [World((*decided, (option, answer))) for answer in answers]


def _numbers_of_axes(spec: Spec) -> Sequence[int]:
    """Return few, and those around each integer of the spec that may be meant as a number of axes."""
    codes = [
        *(p.leaf for p in spec.phases),
        *spec.shapes.values(),
        *(f.leaf for f in spec.functions),
    ]
    codes += [code for slot in spec.slots for code in (slot.shape, slot.when) if code is not None]
    trees: list[ast.AST] = [s for code in codes for s in code.body]
    trees += [code.expression for code in codes if code.expression is not None]
    integers = {
        part.value
        for tree in trees
        for part in ast.walk(tree)
        if isinstance(part, ast.Constant) and type(part.value) is int
    }
    near = {n + i for n in integers if _FEW_AXES <= n < _MOST_AXES for i in (-1, 0, 1)}
    return sorted({*range(_FEW_AXES + 1), *near})


class _Trial:
    """One walk over all equations, for leaves with one number of axes.

    Attributes:
        world: The options that are decided.
        undecided: Options that are not, between whose answers a shape was lost; with these answers.
    """

    def __init__(self, spec: Spec, axes: int, world: World) -> None:
        self.spec = spec
        self.axes = axes
        self.world = world
        self.answers: Mapping[str, str] = dict(world.answers)
        self.choices = {h.name: h.choices for h in spec.hyperparameters if h.kind == "choice"}
        self.options = {h.name for h in spec.hyperparameters}
        self.undecided: dict[str, tuple[str, ...]] = {}
        self.blamed: set[ast.AST] = set()
        self.slots: Mapping[str, Slot] = {slot.name: slot for slot in spec.slots}
        self.known: Known = {}
        self.leaf: Dims = ()
        self.code: Code = spec.phases[0].leaf

    def run(self) -> None:
        spec = self.spec
        shape = Sizes.of(SIZE._replace(name=f"n{i}") for i in range(self.axes))
        self.leaf = dims_of(shape)
        fixed: Known = {
            h.name: NUMBER if h.schedulable else of_hyperparameter(h)
            for h in spec.hyperparameters
            if h.kind in {"float", "integer"}
        }
        self.known = dict(fixed)
        for requirement in spec.requirements:
            if requirement.test.expression is not None:
                self.code = requirement.test
                met = self.under(requirement.test.expression, holds=True)
                if met is None:  # with these options the optimizer cannot be made
                    return
                self.known = met
        fixed = dict(self.known)
        self.known |= {SHAPE: shape, NDIM: exactly(self.axes)}
        for name, code in spec.shapes.items():
            self.known[name] = self.value_of(code)
        of_shape = dict(self.known)
        kept = {slot.name: self.kept(slot, of_shape) for slot in spec.slots}
        whole = Shaped(self.leaf)
        numbers: Known = dict.fromkeys([*(a.name for a in spec.arguments), STEP_NUMBER], NUMBER)
        numbers |= {scalar.name: NUMBER for scalar in spec.scalars if not scalar.is_key}
        once = {**fixed, **numbers}
        for phase in spec.phases:
            if phase.scalars is not None:
                self.known = once
                self.statements(phase.scalars)
                once = self.known
            # What is computed once a step reaches the leaves as arrays.
            arrays = {name: NUMBER for name in once if name not in fixed}
            self.known = {**of_shape, **arrays, **kept, GRADIENT: whole, WEIGHT: whole}
            self.statements(phase.leaf)
            totals = {name for name in self.known if name not in {*of_shape, *kept, *arrays}}
            once |= dict.fromkeys(totals, NUMBER)
        for function in spec.functions:
            self.known = {**of_shape, **numbers, **kept, WEIGHT: whole}
            self.statements(function.leaf)

    def kept(self, slot: Slot, of_shape: Known) -> Thing:
        """Return what is known of a slot, where it is kept."""
        self.known = dict(of_shape)
        if slot.when is not None and slot.when.expression is not None:
            self.code = slot.when
            self.value(slot.when.expression)
            where = self.under(slot.when.expression, holds=True)
            if where is None:
                return None
            self.known = where
        if slot.shape is None or slot.shape.expression is None:
            return Shaped(self.leaf)
        before = len(self.blamed)
        shape = self.value_of(slot.shape)
        if len(self.blamed) > before or not isinstance(shape, Sizes | Shapes):
            return None
        dims = dims_of(shape) if isinstance(shape, Sizes) else shape.item
        if slot.init.word == "identity" and dims is not None and len(dims) != 2:
            message = 'identity matrices have two axes, like "[(n, n) for n in shape]"'
            self.wrong(slot.shape.expression, message)
            return None
        return Shaped(dims) if isinstance(shape, Sizes) else Arrays(shape.lengths, dims)

    def value_of(self, code: Code) -> Thing:
        self.code = code
        return None if code.expression is None else self.value(code.expression)

    def wrong(self, node: ast.AST, message: str) -> None:
        """Note a mistake, once for each place."""
        if node not in self.blamed and isinstance(node, ast.expr):
            self.blamed.add(node)
            self.code.note(node, message)

    @property
    def where(self) -> str:
        """For which leaves and options it is tried, in words."""
        options = " and ".join(literal(*answer) for answer in self.world.answers)
        axes = f"for leaves with {count(self.axes, 'axis', 'axes')}"
        return f"{axes}, when {options}" if options else axes

    # Statements

    def statements(self, code: Code) -> None:
        self.code = code
        self.block(code.body)

    def block(self, body: Sequence[ast.stmt]) -> None:
        for statement in body:
            match statement:
                case ast.If(test=test, body=then, orelse=otherwise):
                    self.value(test)
                    after: list[Known] = []
                    for holds, branch in ((True, then), (False, otherwise)):
                        before = self.known
                        known = self.under(test, holds=holds)
                        if known is not None:
                            self.known = dict(known)
                            self.block(branch)
                            # What the condition said ends with the branch; what was assigned does not.
                            assigned = {
                                n
                                for n, t in self.known.items()
                                if n not in known or t is not known[n]
                            }
                            after.append({**before, **{n: self.known[n] for n in assigned}})
                        self.known = before
                    self.known = self.either(after, test)
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self.assign(name, value)
                case _:
                    pass

    def either(self, states: Sequence[Known], test: ast.expr | None = None) -> Known:
        if len(states) < 2:
            return states[0] if states else self.known
        first, second = states
        both = [name for name in first if name in second]
        return {name: self.one_of(first[name], second[name], test) for name in both}

    def one_of(self, first: Thing, second: Thing, test: ast.expr | None) -> Thing:
        """Return what is known of one of two values; note the options that decide, where a shape is lost."""
        if test is not None and form(first) != form(second):
            found = options_in(self.with_definitions(test), self.choices)
            self.undecided |= {
                option: answers
                for option, answers in found
                if option not in self.answers and names_of(option) <= self.options
            }
        return joined(first, second)

    def with_definitions(self, test: ast.expr) -> list[ast.expr]:
        """Return a test, and what [shapes] says of the names in it."""
        tests = [test]
        for part in ast.walk(test):
            code = self.spec.shapes.get(part.id) if isinstance(part, ast.Name) else None
            if code is not None and code.expression is not None:
                tests += self.with_definitions(code.expression)
        return tests

    def assign(self, name: str, value: ast.expr) -> None:
        found = self.value(value)
        if name in {UPDATE, RESULT}:
            self.fits(value, name, Shaped(self.leaf), found)
        elif name in self.slots:
            self.fits(value, name, self.known.get(name), found)
            return
        self.known[name] = found

    def fits(self, node: ast.expr, name: str, wanted: Thing, found: Thing) -> None:
        """Check that a value has the shape of what it is assigned to."""
        match wanted, found:
            case Arrays(), Arrays() if not found.lengths <= wanted.lengths:
                few, others = (f"{_some(thing.lengths)} arrays" for thing in (wanted, found))
                self.wrong(node, f"{name!r} has {few} {self.where}, and this has {others}")
            case Arrays(), Arrays():
                item = of_axis(wanted.item, 0) if self.axes == 1 else wanted.item
                if not agree(item, found.item):
                    shapes = (
                        f"the shapes {_axes(item)} {self.where}, and this has {_axes(found.item)}"
                    )
                    self.wrong(node, f"{name!r} has {shapes}")
            case Shaped(dims), (Shaped() | Range()):
                other = found.dims if isinstance(found, Shaped) else ()
                if not agree(dims, other):
                    must = f"{name!r} must {self.shape_words(dims, 'be', 'have')}"
                    but = f"but this {self.shape_words(other, 'is', 'has')}, {self.where}"
                    self.wrong(node, f"{must}, {but}{self.cure(name, dims, other)}")
            case _:
                pass

    def shape_words(self, dims: Dims, be: str, have: str) -> str:
        """Return a shape in words, after a form of `be` or `have`."""
        if dims == ():
            return f"{be} a single number"
        return f"{have} {'the shape of the leaf' if dims == self.leaf else f'shape {_axes(dims)}'}"

    def cure(self, name: str, wanted: Dims, found: Dims) -> str:
        """Return what to do about a single number where an array belongs, or the other way round."""
        if wanted == ():
            return "; reduce it with sum, mean or norm"
        slot = self.slots.get(name)
        return '; give the slot shape = "()"' if slot and slot.shape is None and found == () else ""

    # Conditions

    def under(self, test: ast.expr, *, holds: bool) -> Known | None:
        """Return what is known where a condition holds, or does not; None where that cannot be."""
        before = self.known
        try:
            return self.known if self.assume(test, holds=holds) else None
        finally:
            self.known = before

    def assume(self, test: ast.expr, *, holds: bool) -> bool:
        """Add to what is known that a condition holds, or does not; return whether that can be."""
        known = option_of(test, self.choices) in self.answers
        if known and decided(test, self.world) is not holds:
            return False
        match test:
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return self.assume(operand, holds=not holds)
            case ast.BoolOp(op=op, values=values):
                if isinstance(op, ast.And) is holds:
                    return all(self.assume(value, holds=holds) for value in values)
                return self.assume_one(values, holds=holds)
            case ast.Name(id=name):
                return self.assume_name(name, holds=holds)
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _OPPOSITE:
                sign = type(op) if holds else _OPPOSITE[type(op)]
                return self.assume_order(left, sign, right) and self.assume_order(
                    right, _MIRRORED.get(sign, sign), left
                )
            case _:
                return True

    def assume_one(self, values: Sequence[ast.expr], *, holds: bool) -> bool:
        """Assume that one of several parts of a condition decides it; the others before it do not."""
        before = self.known
        found: list[Known] = []
        for value in values:
            states = self.under(value, holds=holds)
            if states is not None:
                found.append(states)
            rest = self.under(value, holds=not holds)
            if rest is None:
                break
            self.known = rest
        self.known = before
        if not found:
            return False
        merged = found[0]
        for other in found[1:]:
            merged = self.either([merged, other])
        self.known = merged
        return True

    def assume_name(self, name: str, *, holds: bool) -> bool:
        thing = self.known.get(name)
        if isinstance(thing, bool):
            return thing is holds
        if isinstance(thing, Sizes):
            lengths = frozenset(n for n in thing.lengths if bool(n) is holds)
            self.known = {**self.known, name: Sizes(thing.items, lengths, thing.any)}
            if not lengths:
                return False
        definition = self.spec.shapes.get(name)
        if definition is None or definition.expression is None or isinstance(thing, Sizes):
            return True
        code, self.code = self.code, definition
        possible = self.assume(definition.expression, holds=holds)
        self.code = code
        return possible

    def assume_order(self, left: ast.expr, sign: type[ast.cmpop], right: ast.expr) -> bool:
        """Narrow the left of a comparison to where it holds."""
        limit, thing = self.value(right), self.value(left)
        if not isinstance(limit, Range) or not isinstance(thing, Range):
            return True
        step = 1 if thing.whole and limit.whole else 0
        match sign:
            case ast.Lt:
                narrow = thing.within(thing.low, limit.high - step)
            case ast.LtE:
                narrow = thing.within(thing.low, limit.high)
            case ast.Gt:
                narrow = thing.within(limit.low + step, thing.high)
            case ast.GtE:
                narrow = thing.within(limit.low, thing.high)
            case ast.Eq:
                narrow = thing.within(limit.low, limit.high)
            case _:
                narrow = None if thing.is_one and thing == limit else thing
        if narrow is None:
            return False
        match left:
            case ast.Name(id=name):
                self.known = {**self.known, name: narrow}
            case ast.Call(func=ast.Name(id="len"), args=[ast.Name(id=name)]):
                sizes = self.known.get(name)
                if isinstance(sizes, Sizes):
                    lengths = frozenset(n for n in sizes.lengths if narrow.low <= n <= narrow.high)
                    self.known = {**self.known, name: Sizes(sizes.items, lengths, sizes.any)}
                    return bool(lengths)
            case _:
                pass
        return True

    # Expressions

    def value(self, node: ast.expr) -> Thing:
        """Return what is known of an expression, noting what cannot work in it."""
        match node:
            case ast.Name(id=name):
                return self.known.get(name)
            case ast.Constant(value=bool() | str() | None):
                return None
            case ast.Constant(value=int() | float() as number):
                return exactly(number)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                found = self.value(operand)
                return not found if isinstance(found, bool) else None
            case ast.UnaryOp(operand=operand):
                found = self.value(operand)
                return (
                    Range(-found.high, -found.low, found.whole)
                    if isinstance(found, Range)
                    else found
                )
            case ast.BinOp(left=left, op=op, right=right):
                return self.operation(node, left, _SIGNS[type(op)], right)
            case ast.BoolOp(op=op, values=values):
                return self.several(values, deciding=isinstance(op, ast.Or))
            case ast.IfExp(test=test, body=body, orelse=otherwise):
                self.value(test)
                return self.branches(test, body, otherwise)
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return self.comparison(node, left, op, right)
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=keywords):
                given = [self.value(argument) for argument in arguments]
                named = {k.arg or "": self.value(k.value) for k in keywords}
                return Calls(self, node, given, named).result(name)
            case ast.Subscript(value=value, slice=index):
                return self.item(node, self.value(value), self.value(index))
            case ast.Tuple(elts=items):
                return Sizes.of([self.size(item) for item in items])
            case ast.ListComp(elt=element, generators=[generator]):
                return self.comprehension(element, generator)
            case _:
                return None

    def operation(self, node: ast.expr, left: ast.expr, sign: str, right: ast.expr) -> Thing:
        a, b = self.value(left), self.value(right)
        literal = isinstance(right, ast.Constant)
        zero = isinstance(b, Range) and b.low == 0 == b.high
        if sign == "/" and zero and (literal or not isinstance(a, Range)):
            named = any(isinstance(part, ast.Name) for part in ast.walk(right))
            self.wrong(right, f"this divisor is 0{f', {self.where}' if named else ''}")
            return None
        if isinstance(a, Range) and isinstance(b, Range):
            found, wrong = arithmetic(sign, a, b)
            if wrong is None:
                return found
            self.wrong(node, wrong)
            return None
        return self.elementwise(node, [a, b])

    def elementwise(self, node: ast.expr, things: Sequence[Thing]) -> Thing:
        """Return the shape of what several values make, element by element."""
        dims: Dims = ()
        for thing in things:
            other: Dims = (
                thing.dims
                if isinstance(thing, Shaped)
                else ()
                if isinstance(thing, Range)
                else None
            )
            both, together = broadcast(dims, other)
            if not together:
                self.wrong(
                    node,
                    f"shapes {_axes(dims)} and {_axes(other)} do not go together, {self.where}",
                )
                return ARRAY
            dims = both
        return Shaped(dims)

    def comparison(self, node: ast.expr, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Thing:
        a, b = self.value(left), self.value(right)
        if isinstance(op, ast.Is | ast.IsNot):
            return (
                decided(node, self.world) if option_of(node, self.choices) in self.answers else None
            )
        if isinstance(a, Shaped) or isinstance(b, Shaped):
            return self.elementwise(node, [a, b])
        can = self.under(node, holds=True) is not None
        can_not = self.under(node, holds=False) is not None
        return None if can and can_not else can

    def several(self, values: Sequence[ast.expr], *, deciding: bool) -> Thing:
        """Return what `and` or `or` gives; each part is tried where those before it did not decide."""
        before, found = self.known, []
        for value in values:
            found.append(_truth(self.value(value)))
            if found[-1] is deciding:
                break
            rest = self.under(value, holds=not deciding)
            if rest is None:
                found[-1] = deciding
                break
            self.known = rest
        self.known = before
        if deciding in found and found[-1] is deciding:
            return deciding
        return None if None in found else not deciding

    def branches(self, test: ast.expr, body: ast.expr, otherwise: ast.expr) -> Thing:
        found: list[Thing] = []
        before = self.known
        for holds, branch in ((True, body), (False, otherwise)):
            known = self.under(test, holds=holds)
            if known is not None:
                self.known = known
                found.append(self.value(branch))
            self.known = before
        if len(found) == 2:
            return self.one_of(found[0], found[1], test)
        return found[0] if found else None

    def item(self, node: ast.expr, thing: Thing, index: Thing) -> Thing:
        if not isinstance(thing, Sizes | Arrays) or not isinstance(index, Range):
            return None
        if not index.whole:
            self.wrong(node, "an index is a whole number")
            return None
        least = min(thing.lengths)
        if index.high >= least or index.low < -least:
            few = count(least, "item", "items")
            message = (
                f"there is no such item: there may be {few} here, {self.where}; ask with `if` first"
            )
            self.wrong(node, message)
            return None
        if isinstance(thing, Arrays):
            item = of_axis(thing.item, int(index.low)) if index.is_one else thing.item
            return Shaped(item)
        if thing.items is not None and index.is_one and len(thing.lengths) == 1:
            return thing.items[int(index.low)]
        return thing.any

    def size(self, node: ast.expr) -> Range:
        """Return what is known of an integer in a tuple: the length of an axis, or an axis."""
        found = self.value(node)
        if not isinstance(found, Range):
            return SIZE
        if found.low < 0 or not found.whole:
            hint = '; a hyperparameter has bounds = "0 <= x"' if found.whole else ""
            self.wrong(node, f"a tuple holds whole numbers of at least 0{hint}")
            return SIZE
        return found

    def comprehension(self, element: ast.expr, generator: ast.comprehension) -> Thing:
        lengths, variable = self.loop(generator.iter)
        if variable is None or not isinstance(generator.target, ast.Name):
            return None
        if max(lengths) == 0:
            if isinstance(element, ast.Tuple | ast.ListComp):
                return Shapes(lengths, None)
            return (
                Arrays(lengths, None)
                if GRADIENT in self.known or WEIGHT in self.known
                else Sizes.of([])
            )
        before = self.known
        self.known = {**before, generator.target.id: variable}
        possible = True
        for condition in generator.ifs:
            self.value(condition)
            known = self.under(condition, holds=True)
            possible = possible and known is not None
            self.known = known if known is not None else self.known
            lengths = frozenset(range(max(lengths) + 1))
        found = self.value(element) if possible else None
        self.known = before
        match found:
            case Range():
                return Sizes(None, lengths, found)
            case Shaped():
                return Arrays(lengths, found.dims)
            case Sizes():
                return Shapes(lengths, dims_of(found))
            case _:
                return None

    def loop(self, over: ast.expr) -> tuple[frozenset[int], Range | None]:
        """Return how often a comprehension goes, and what its variable is."""
        if isinstance(over, ast.Call):
            end = self.value(over.args[0])
            if not isinstance(end, Range):
                return frozenset(), None
            if not end.whole or end.high > _MOST_AXES:
                self.wrong(
                    over.args[0],
                    f"a range goes over axes: to a whole number of at most {_MOST_AXES}",
                )
                return frozenset(), None
            ends = frozenset(range(max(0, int(end.low)), max(0, int(end.high)) + 1))
            return ends, Range(0, max(0, end.high - 1), whole=True)
        sizes = self.value(over)
        if not isinstance(sizes, Sizes):
            return frozenset(), None
        one = max(sizes.lengths) == 1 and sizes.items is not None
        of_shape = isinstance(over, ast.Name) and over.id == SHAPE
        name = sizes.any.name if one else AXIS if of_shape else None
        return sizes.lengths, sizes.any._replace(name=name)


def _truth(thing: Thing) -> bool | None:
    if isinstance(thing, Sizes):
        return None if 0 in thing.lengths and len(thing.lengths) > 1 else 0 not in thing.lengths
    return thing if isinstance(thing, bool) else None


def _some(lengths: frozenset[int]) -> str:
    return " or ".join(map(str, sorted(lengths)))


def _axes(dims: Dims) -> str:
    return f"({', '.join(dim or '?' for dim in dims or ())})"
