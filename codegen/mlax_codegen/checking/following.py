"""Which names may have a property: to be complex, for example, or negative.

The equations of a step are followed from the first to the last. An assignment gives the property to a name, or takes it
away; what one branch gives a name, it has afterwards. What the state has at the end of a step, it may have at the
beginning, so steps are followed until nothing is new.
"""

import ast
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain

from mlax_codegen.reading.equations import BlockCode
from mlax_codegen.reading.spec import Spec

__all__ = ["Following", "computed_from"]


class Following(ABC):
    """Follows one property.

    Attributes:
        known: The names that may have it, where the walk is.
        code: The equations where it is.
    """

    known: set[str]
    code: BlockCode

    def __init__(self, spec: Spec, begin: Iterable[str]) -> None:
        self.spec = spec
        self.begin: set[str] = {*begin}
        self.names: set[str] = {each.name for each in spec.state}

    @abstractmethod
    def may(self, node: ast.expr) -> bool:
        """Whether a value may have the property, if the names do that are `known`."""

    def follow(self) -> set[str]:
        """Return the names of the state that may have the property."""
        while more := self.step() - self.begin:
            self.begin |= more
        return self.begin & self.names

    def step(self) -> set[str]:
        """Return the names of the state that may have the property after a step, or a function."""
        self.known = {*self.begin}
        for phase in self.spec.phases:
            before = self.known
            self.blocks(phase.blocks)
            if phase.is_partial:
                self.known |= before
        found = self.known & self.names
        for function in self.spec.functions:
            self.known = {*self.begin}
            self.blocks([function.leaf])
            found |= self.known & self.names
        return found

    def blocks(self, codes: Sequence[BlockCode]) -> None:
        for self.code in codes:
            self.statements(self.code.body)

    def statements(self, body: Sequence[ast.stmt]) -> None:
        for statement in body:
            match statement:
                case ast.If(body=then, orelse=otherwise):
                    before = self.known
                    self.statements(then)
                    after, self.known = self.known, before
                    self.statements(otherwise)
                    self.known = self.known | after
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self.known = self.known | {name} if self.may(value) else self.known - {name}
                case _:
                    pass


def computed_from(
    names: Iterable[str], reads: Mapping[str, Iterable[str]], but: Collection[str] = ()
) -> set[str]:
    """Return the names that others are computed from.

    Args:
        names: The others.
        reads: The names that each name is computed from directly.
        but: Names that are not followed.
    """
    found: set[str] = set()
    pending = {*names}
    while pending:
        read = {*chain.from_iterable(reads.get(name, ()) for name in pending)}
        pending = read - found - {*but}
        found |= read
    return found
