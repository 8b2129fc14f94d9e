"""Checks equations as they stand: names, types, what is static, and that all is assigned before it is read."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import NamedTuple

from mlax_codegen.errors import suggestion
from mlax_codegen.expressions import Code
from mlax_codegen.hyperparameters import Hyperparameter
from mlax_codegen.language import FUNCTIONS, GRADIENT, RESERVED, STEP_NUMBER, UPDATE, WEIGHT
from mlax_codegen.spec import Spec

__all__ = ["Block", "Flow", "Kind", "Stage"]


class Stage(IntEnum):
    """When a value is known."""

    STATIC = 0  # when a trace is made
    SCALAR = 1  # once a step
    LEAF = 2  # for each leaf


class Type(StrEnum):
    """What a value is, in the words of a message."""

    NUMBER = "a number"
    FLAG = "a switch"
    CONDITION = "a condition"
    CHOICE = "a choice"
    UNKNOWN = "unknown"  # a mistake was noted already


class Kind(NamedTuple):
    """When a value is known, and what it is."""

    stage: Stage
    type: Type


class Block(StrEnum):
    """Where equations stand."""

    STATIC = "static"
    SCALARS = "scalars"
    LEAF = "leaf"


_TYPES = {"float": Type.NUMBER, "integer": Type.NUMBER, "flag": Type.FLAG, "choice": Type.CHOICE}
_UNKNOWN = Kind(Stage.STATIC, Type.UNKNOWN)


@dataclass
class Flow:
    """Walks one block after another; `scalars` and `locals` are the names that they assign.

    Attributes:
        read: Names that some expression reads.
        written: Slots that some equation assigns.
    """

    spec: Spec
    read: set[str] = field(default_factory=set[str])
    written: set[str] = field(default_factory=set[str])
    scalars: dict[str, Kind] = field(default_factory=dict[str, Kind])
    locals: dict[str, ast.stmt] = field(default_factory=dict[str, ast.stmt])

    def __post_init__(self) -> None:
        """Index what the spec declares."""
        self.hyperparameters: Mapping[str, Hyperparameter] = {
            h.name: h for h in self.spec.hyperparameters
        }
        self.slots: set[str] = {slot.name for slot in self.spec.slots}

    def static(self, code: Code) -> None:
        """Check a condition of hyperparameters alone."""
        if code.expression is not None:
            _Walk(self, code, Block.STATIC).test(code.expression, "it")

    def block(self, code: Code, where: Block) -> None:
        """Check equations, and that each name that they assign is read somewhere."""
        walk = _Walk(self, code, where)
        walk.assigned = dict(self.scalars)
        walk.statements(code.body)
        if where is Block.SCALARS:
            self.scalars = walk.assigned
            for name in walk.ever - set(walk.assigned):
                code.note(walk.first[name], f"{name!r} is not assigned on every path")
            return
        self.locals = dict(walk.first)
        if UPDATE not in walk.assigned:
            partly = " on every path" if UPDATE in walk.ever else ""
            code.document.at_key(code.path, f"`update` is not assigned{partly}")
        for name, statement in walk.first.items():
            if name not in self.read and name not in {UPDATE, *self.slots}:
                code.note(statement, f"{name!r} is assigned and never read")


class _Walk:
    """One pass over one block, in the order in which it is computed."""

    def __init__(self, flow: Flow, code: Code, where: Block) -> None:
        self.flow = flow
        self.code = code
        self.where = where
        self.assigned: dict[str, Kind] = {}  # on every path to here
        self.ever: set[str] = set()  # on some path
        self.first: dict[str, ast.stmt] = {}
        self.blamed: set[str] = set()  # names that a mistake was noted of
        self.later = {
            part.id
            for statement in code.body
            for part in ast.walk(statement)
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
        }

    def statements(self, body: list[ast.stmt]) -> None:
        for statement in body:
            if isinstance(statement, ast.If):
                self.branch(statement)
            elif isinstance(statement, ast.Assign):
                kind = self.kind(statement.value)
                target = statement.targets[0]
                if isinstance(target, ast.Name):
                    self.assign(statement, target, kind)

    def branch(self, statement: ast.If) -> None:
        self.test(statement.test, "the condition of an `if`")
        before = dict(self.assigned)
        self.statements(statement.body)
        after, self.assigned = self.assigned, before
        self.statements(statement.orelse)
        merged: dict[str, Kind] = {}
        for name, kind in self.assigned.items():
            if name in after:
                merged[name] = Kind(max(kind.stage, after[name].stage), kind.type)
        self.assigned = merged

    def assign(self, statement: ast.stmt, target: ast.Name, kind: Kind) -> None:
        name = target.id
        wrong = self.cannot_assign(name)
        if wrong is None and kind.type in {Type.FLAG, Type.CHOICE}:
            wrong = "equations compute numbers; ask for a switch or choice where it is needed"
        if wrong is not None:
            self.code.note(target, wrong)
            self.blamed.add(name)
            return
        if name in self.flow.slots:
            self.flow.written.add(name)
        self.assigned[name] = kind
        self.ever.add(name)
        self.first.setdefault(name, statement)

    def cannot_assign(self, name: str) -> str | None:
        if name in self.flow.hyperparameters:
            return f"{name!r} is a hyperparameter and keeps its value"
        if self.where is Block.SCALARS:
            if name in self.flow.slots:
                return f"{name!r} is a slot; assign it in `leaf`"
            if name in {UPDATE, GRADIENT}:
                return f"assign `{name}` in `leaf`"
        elif name in {UPDATE, GRADIENT}:
            return None
        elif name in self.flow.scalars:
            return f"{name!r} is computed in `scalars` and keeps its value"
        if name in FUNCTIONS:
            return f"{name!r} is a function"
        if name in RESERVED:
            return f"{name!r} is reserved; choose another name"
        if name != name.lower() or name.startswith("_"):
            return f"{name!r} is no name; names read like 'c1' or 'direction'"
        return None

    def test(self, node: ast.expr, what: str) -> Kind:
        """Check a condition that must be static."""
        kind = self.kind(node)
        if kind.type is Type.UNKNOWN:
            return _UNKNOWN
        if kind.stage is not Stage.STATIC:
            message = f"{what} must be static; of arrays, write where(condition, a, b)"
        elif kind.type is Type.NUMBER:
            message = "compare the number with something"
        elif kind.type is Type.CHOICE:
            message = "compare the choice with one of its values"
        else:
            return kind
        self.code.note(node, message)
        return _UNKNOWN

    def number(self, node: ast.expr) -> Stage:
        """Check an operand of arithmetic."""
        kind = self.kind(node)
        if kind.type not in {Type.NUMBER, Type.UNKNOWN}:
            hint = {
                Type.CONDITION: "; write where(condition, a, b)",
                Type.FLAG: "; write a if b else c",
            }
            self.code.note(node, f"a number is expected, not {kind.type}{hint.get(kind.type, '')}")
        return kind.stage

    def kind(self, node: ast.expr) -> Kind:
        """Return what an expression is, noting what is wrong in it."""
        match node:
            case ast.Name(id=name):
                return self.name(node, name)
            case ast.Constant(value=value):
                return self.constant(node, value)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return self.test(operand, "the operand of `not`")
            case ast.UnaryOp(operand=operand):
                return Kind(self.number(operand), Type.NUMBER)
            case ast.BinOp(left=left, right=right):
                return Kind(max(self.number(left), self.number(right)), Type.NUMBER)
            case ast.BoolOp(op=op, values=values):
                word = "and" if isinstance(op, ast.And) else "or"
                kinds = [self.test(part, f"an operand of `{word}`") for part in values]
                return _UNKNOWN if _UNKNOWN in kinds else kinds[0]
            case ast.IfExp(test=test, body=body, orelse=otherwise):
                self.test(test, "the condition of `if` and `else`")
                return Kind(max(self.number(body), self.number(otherwise)), Type.NUMBER)
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return self.comparison(node, left, op, right)
            case ast.Call(func=ast.Name(id=name), args=arguments):
                return self.call(node, name, arguments)
            case _:
                return _UNKNOWN

    def name(self, node: ast.Name, name: str) -> Kind:
        """Return what a name is, and remember that it is read."""
        flow = self.flow
        flow.read.add(name)
        if name in flow.hyperparameters:
            hyperparameter = flow.hyperparameters[name]
            stage = Stage.SCALAR if hyperparameter.schedulable else Stage.STATIC
            if self.where is Block.STATIC and stage is Stage.SCALAR:
                self.code.note(
                    node, f"{name!r} is schedulable, so only `is None` is known of it here"
                )
                return _UNKNOWN
            return Kind(stage, _TYPES[hyperparameter.kind])
        if self.where is Block.LEAF and name in {GRADIENT, WEIGHT, *flow.slots}:
            return Kind(Stage.LEAF, Type.NUMBER)
        if self.where is not Block.STATIC and name == STEP_NUMBER:
            return Kind(Stage.SCALAR, Type.NUMBER)
        if name in self.assigned:
            return self.assigned[name]
        if name not in self.blamed:
            self.code.note(node, self.unknown(name))
            self.blamed.add(name)
        return _UNKNOWN

    def unknown(self, name: str) -> str:
        if self.where is Block.SCALARS and name in {GRADIENT, WEIGHT, *self.flow.slots}:
            return f"{name!r} has a value for each leaf; `scalars` are computed once a step"
        if self.where is Block.STATIC and name in {GRADIENT, WEIGHT, STEP_NUMBER, *self.flow.slots}:
            return f"{name!r} is not known here; only hyperparameters are"
        if name in self.ever:
            return f"{name!r} is not assigned on every path to here"
        if name in self.later:
            return f"{name!r} is read before it is assigned"
        if name in FUNCTIONS:
            return f"{name!r} is a function; call it"
        visible = {*self.flow.hyperparameters, *self.assigned}
        if self.where is not Block.STATIC:
            visible |= {STEP_NUMBER}
        if self.where is Block.LEAF:
            visible |= {GRADIENT, WEIGHT, *self.flow.slots}
        return f"unknown name {name!r}{suggestion(name, visible)}"

    def constant(self, node: ast.expr, value: object) -> Kind:
        if value is None:
            self.code.note(node, "None stands in `is None` only")
        elif isinstance(value, bool):
            self.code.note(node, "ask for the switch itself: `nesterov`, or `not nesterov`")
        elif isinstance(value, str):
            self.code.note(node, "a string is compared with a choice only")
        else:
            return Kind(Stage.STATIC, Type.NUMBER)
        return _UNKNOWN

    def comparison(self, node: ast.expr, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Kind:
        flag = Kind(Stage.STATIC, Type.FLAG)
        if isinstance(op, ast.Is | ast.IsNot):
            name = left.id if isinstance(left, ast.Name) else ""
            found = self.flow.hyperparameters.get(name)
            if found is not None and found.optional:
                self.flow.read.add(name)
            elif found is None and isinstance(left, ast.Name) and name not in self.assigned:
                self.kind(left)
            else:
                self.code.note(left, "only an optional hyperparameter can be None")
            return flag
        if isinstance(left, ast.Name) and left.id in self.flow.hyperparameters:
            choice = self.flow.hyperparameters[left.id]
            if choice.kind == "choice":
                self.flow.read.add(left.id)
                value = right.value if isinstance(right, ast.Constant) else None
                if not isinstance(op, ast.Eq | ast.NotEq):
                    self.code.note(node, "choices are compared by == and !=")
                elif not isinstance(value, str):
                    self.code.note(right, "compare the choice with one of its values")
                elif value not in choice.choices:
                    hint = (
                        suggestion(value, choice.choices)
                        or f"; there are {', '.join(choice.choices)}"
                    )
                    self.code.note(right, f"{value!r} is no choice of {left.id!r}{hint}")
                return flag
        stage = max(self.number(left), self.number(right))
        return flag if stage is Stage.STATIC else Kind(stage, Type.CONDITION)

    def call(self, node: ast.expr, name: str, arguments: list[ast.expr]) -> Kind:
        if self.where is Block.STATIC:
            self.code.note(node, "conditions of hyperparameters call no functions")
            return _UNKNOWN
        if name not in FUNCTIONS:
            return _UNKNOWN
        if not FUNCTIONS[name].elementwise and self.where is Block.SCALARS:
            self.code.note(node, f"{name} is of a leaf; `scalars` are computed once a step")
        stages = [Stage.SCALAR]
        if name == "where" and arguments:
            condition = self.kind(arguments[0])
            if condition.type not in {Type.CONDITION, Type.UNKNOWN}:
                hint = "; write a if b else c" if condition.type is Type.FLAG else ""
                self.code.note(
                    arguments[0], f"where asks a condition on arrays, not {condition.type}{hint}"
                )
            stages.append(condition.stage)
            arguments = arguments[1:]
        stages.extend(self.number(argument) for argument in arguments)
        return Kind(max(stages), Type.NUMBER)
