"""Which values are complex where leaves are, and what is not defined for them.

Complex weights work unless a spec says `complex = "..."`. Then gradients and weights are complex, and so is what is
computed from them, but for magnitudes: a mean of `abs2(g)` is real, also as a slot, and may be compared and have a
root. What needs an order is refused for complex numbers, and so is a power or square where a magnitude is meant.
"""

import ast

from mlax_codegen.checking.following import Following
from mlax_codegen.language import FUNCTIONS, GRADIENT, WEIGHT, Type
from mlax_codegen.reading.spec import Spec
from mlax_codegen.reading.trees import in_short, indexed

__all__ = ["check_complexness"]

_REFUSE = 'or refuse complex weights: complex = "..." with the reason'


def check_complexness(spec: Spec) -> None:
    """Record what is not defined for complex numbers, if the spec does not refuse complex weights."""
    if spec.complex is None:
        _Complexness(spec).check()


class _Complexness(Following):
    """Follows which names are complex; then, once that is certain, records what is wrong with it."""

    def __init__(self, spec: Spec) -> None:
        trees = [each.name for each in spec.arguments if each.is_tree]
        begin = [x.name for x in spec.slots if x.init.word in {"copy", "gradient", "normal"}]
        super().__init__(spec, [GRADIENT, WEIGHT, *trees, *begin])
        self.is_certain: bool = False

    def check(self) -> None:
        self.follow()
        self.is_certain = True
        self.step()

    def wrong(self, node: ast.expr, message: str, cure: str) -> None:
        if self.is_certain:
            self.code.note(node, f"{message}; {cure}, {_REFUSE}")

    def may(self, node: ast.expr) -> bool:
        """Return whether a value is complex, recording what is not defined for it."""
        match node:
            case ast.Name(id=name):
                return name in self.known
            case ast.Subscript(value=value):
                return self.may(value)
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                parts = [self.may(left), self.may(right)]
                if any(parts) and not isinstance(op, ast.Eq | ast.NotEq | ast.Is | ast.IsNot):
                    message = "complex numbers have no order, and complex leaves make this complex"
                    self.wrong(node, message, "compare `abs2(x)` or `real(x)`")
                return False
            case ast.BinOp(left=base, op=ast.Pow()):
                if self.may(base):
                    self.squared(node, base)
                return False
            case ast.BinOp(left=left, op=ast.Mod() | ast.FloorDiv(), right=right):
                if any([self.may(left), self.may(right)]):
                    message = "a complex number is not divided with a remainder"
                    self.wrong(node, message, "divide `abs(x)` or `real(x)`")
                return False
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                parts = [self.may(left), self.may(right)]
                same = ast.dump(left) == ast.dump(right)
                if all(parts) and same:
                    self.squared(node, left)
                return any(parts) and not same and not _is_magnitude(left, right)
            case ast.IfExp(body=body, orelse=otherwise):
                return any([self.may(body), self.may(otherwise)])
            case ast.ListComp():
                return self.may(indexed(node)[0])
            case ast.Call(func=ast.Name(id="where"), args=[_, ast.Constant(), ast.Constant()]):
                return False  # a choice between two numbers is real: it counts elements, and moves none
            case ast.Call(func=ast.Name(id=name)):
                return self.call(node, name)
            case _:
                children = [x for x in ast.iter_child_nodes(node) if isinstance(x, ast.expr)]
                found = {self.may(child) for child in children}  # of all: each may be wrong
                return True in found

    def squared(self, node: ast.expr, base: ast.expr) -> None:
        short = in_short(base, "x")
        message = f"{short!r} is complex where leaves are, and a power of it is not a magnitude"
        self.wrong(node, message, f"write `abs2({short})` for the square of the magnitude")

    def call(self, node: ast.Call, name: str) -> bool:
        facts = FUNCTIONS[name].facts
        arrays = {Type.NUMBER, Type.COUNTED, Type.SUMMED, Type.ARRAYS}
        pairs = zip(FUNCTIONS[name].parameters, node.args, strict=False)
        given = [(p, argument, self.may(argument)) for p, argument in pairs]
        found = any(is_complex for p, _, is_complex in given if p.type in arrays)
        if found and "ordered" in facts:
            message = f"complex numbers have no order, so {name} is not defined for them"
            if name == "cbrt":
                message = "a complex number has three cube roots"
            self.wrong(node, message, "apply it to `abs(x)` or `real(x)`")
        elif found and name == "sqrt":
            short = in_short(node.args[0], "x")
            message = f"{short!r} is complex where leaves are, and has two roots"
            self.wrong(node, message, "take the root of magnitudes, as in `sqrt(abs2(x))`")
        is_condition = FUNCTIONS[name].result is Type.CONDITION
        return found and not (is_condition or facts & {"ordered", "real"} or name == "sqrt")


def _is_magnitude(left: ast.expr, right: ast.expr) -> bool:
    """Whether two factors are each other's conjugates."""
    first, second = ast.unparse(left), ast.unparse(right)
    return first == f"conj({second})" or second == f"conj({first})"
