"""Functions of a leaf's shape: what [shapes] computes for several of them, and the shapes of what slots hold."""

import ast
from collections.abc import Iterable, Iterator, Mapping

from mlax_codegen.checking.analysis import Analysis
from mlax_codegen.language import NDIM, SHAPE, Type
from mlax_codegen.reading.declarations import Slot
from mlax_codegen.reading.spec import Spec
from mlax_codegen.reading.trees import names_in, parts_of
from mlax_codegen.writing.expressions import expression_text

__all__ = ["ShapeFunctions"]


class ShapeFunctions:
    """Writes each function of a shape once.

    Attributes:
        slots: For each slot with a shape of its own, the name of the function that says which.
    """

    def __init__(self, spec: Spec, analysis: Analysis, names: Mapping[str, str]) -> None:
        self.spec = spec
        self.analysis = analysis
        self.names: Mapping[str, str] = names
        alike: dict[tuple[str, ...], list[Slot]] = {}
        for slot in spec.slots:
            if self._reads(slot):
                alike.setdefault((self._result(slot), self._type(slot)), []).append(slot)
        self.groups: list[list[Slot]] = list(alike.values())
        names_of_slots = {slot.name for slot in spec.slots}
        self.slots: dict[str, str] = {}
        for group in self.groups:
            together = "_and_".join(slot.name for slot in group)
            name = group[0].name if together in names_of_slots else together
            self.slots |= {slot.name: f"_{name}_shape" for slot in group}
        leaves = [*(phase.leaf for phase in spec.phases), *(f.leaf for f in spec.functions)]
        readers = [self._reads(group[0]) for group in self.groups]
        readers += [set(names_in(leaf.body)) for leaf in leaves]
        self.shared: set[str] = set()
        for name, code in spec.shapes.items():
            often = sum(name in self.needed(read) for read in readers) > 1
            if often and isinstance(code.expression, ast.Call | ast.IfExp | ast.ListComp):
                self.shared.add(name)

    def functions(self) -> Iterator[list[str]]:
        """Yield the lines of each function."""
        arguments = f"({self.analysis.held_as}: {self.spec.class_name}, {SHAPE}: Shape)"
        for name, code in self.spec.shapes.items():
            if name in self.shared:
                read = set(names_in([code.expression]))
                yield [
                    f"def _{name}_of{arguments} -> {self._type_of(name)}:",
                    f'    """Return `{name}` for a leaf."""',
                    *(f"    {line}" for line in self.values(read, SHAPE, f"len({SHAPE})")),
                    f"    return {expression_text(code, self._named)}",
                ]
        for group in self.groups:
            slot = group[0]
            read = self._reads(slot)
            yield [
                f"def {self.slots[slot.name]}{arguments} -> {self._type(slot)}:",
                f'    """{self._doc(group)}"""',
                *(f"    {line}" for line in self.values(read, SHAPE, f"len({SHAPE})")),
                f"    return {self._result(slot)}",
            ]

    def values(self, read: Iterable[str], shape: str, ndim: str) -> Iterator[str]:
        """Yield the statements that compute those values of [shapes] that some equations need.

        Args:
            read: Names that the equations read.
            shape: How the shape of the leaf is written there.
            ndim: How the number of its axes is.
        """
        names = {**self.names, SHAPE: shape, NDIM: ndim}
        needed = self.needed(read, stop=self.shared)
        for name, code in self.spec.shapes.items():
            if name not in needed:
                continue
            if name in self.shared:
                yield f"{name} = _{name}_of({self.analysis.held_as}, {shape})"
            else:
                yield f"{name} = {expression_text(code, names)}"

    def needed(self, read: Iterable[str], stop: Iterable[str] = ()) -> set[str]:
        """Return some names, and those that they are computed from; not beyond some."""
        needed = set(read)
        for name, code in reversed(self.spec.shapes.items()):
            if name in needed and name not in {*stop}:
                needed |= set(names_in([code.expression]))
        return needed

    @property
    def _named(self) -> Mapping[str, str]:
        return {**self.names, NDIM: f"len({SHAPE})"}

    def _reads(self, slot: Slot) -> set[str]:
        """Return what the shape of a slot's entries is computed from; nothing where it is that of the leaf."""
        codes = [slot.shape, slot.when if slot.name in self.analysis.per_leaf else None]
        expressions = [code.expression for code in codes if code]
        return {SHAPE, *names_in(expressions)} if expressions else set()

    def _doc(self, group: list[Slot]) -> str:
        names = " and ".join(f"`{slot.name}`" for slot in group)
        if group[0].name in self.analysis.several:
            return f"Return the shapes of the arrays of {names} for a leaf."
        nothing = "; [] for none" if group[0].name in self.analysis.per_leaf else ""
        return f"Return the shape of {names} for a leaf{nothing}."

    def _result(self, slot: Slot) -> str:
        shape = SHAPE
        if slot.shape is not None:
            shape = expression_text(slot.shape, self._named)
        if slot.name in self.analysis.per_leaf and slot.when:
            chosen = slot.shape is not None and isinstance(slot.shape.expression, ast.IfExp)
            shape = f"({shape})" if chosen else shape
            shape += f" if {expression_text(slot.when, self._named)} else []"
        return shape

    def _type(self, slot: Slot) -> str:
        if slot.name in self.analysis.several:
            return "list[Shape]"
        return "Shape | list[Shape]" if slot.name in self.analysis.per_leaf else "Shape"

    def _type_of(self, name: str) -> str:
        match self.analysis.shapes[name]:
            case Type.SIZES:
                return "Shape"
            case Type.NUMBER:
                return "int" if self._is_whole(self.spec.shapes[name].expression) else "float"
            case _:
                return "bool"

    def _is_whole(self, node: ast.expr) -> bool:
        """Whether a type checker finds an integer."""
        if isinstance(node, ast.IfExp):  # whatever the test compares
            return self._is_whole(node.body) and self._is_whole(node.orelse)
        parts = [*parts_of(node)]
        names = {part.id for part in parts if isinstance(part, ast.Name)}
        floats = {h.name for h in self.spec.hyperparameters if h.kind == "float"}
        floats |= {
            name
            for name, code in self.spec.shapes.items()
            if name in names and not self._is_whole(code.expression)
        }
        return not names & floats and not any(
            isinstance(part, ast.Div | ast.Pow)
            or (isinstance(part, ast.Constant) and isinstance(part.value, float))
            for part in parts
        )
