"""Whether what equations compute is used: it must reach an update or a result.

A slot that only its own equation reads is kept for nothing, and a value that is overwritten before anything reads it
was meant otherwise. Blocks are walked backwards: an assignment is used if its name is read further on, and only then
are the names that it reads. What the state holds is read on in the next step, so the walk is repeated until nothing
changes.
"""

import ast
from collections.abc import Sequence

from mlax_codegen.language import RESULT, SKIP, UNLESS, UPDATE
from mlax_codegen.reading.equations import BlockCode
from mlax_codegen.reading.spec import Spec
from mlax_codegen.reading.trees import assignments_in, is_total, names_in, target_of

__all__ = ["check_use"]


def check_use(spec: Spec) -> None:
    """Record what equations compute and nothing uses. It may be used once other mistakes are corrected."""
    _Liveness(spec).check()


class _Liveness:
    """Finds the assignments whose values nothing uses.

    Attributes:
        state: The names of the state.
        lasting: Those names, and others that outlive the block that assigns them.
        unused: The assignments, each with its block.
    """

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.unclear: bool = spec.document.unclear
        self.mentioned: set[str] = spec.document.mentioned | spec.document.broken
        self.state: set[str] = {one.name for table in (spec.slots, spec.scalars) for one in table}
        scalars = [code for phase in spec.phases if (code := phase.scalars)]
        leaves = [statement for phase in spec.phases for statement in phase.leaf.body]
        self.lasting: set[str] = {name for name, value in assignments_in(leaves) if is_total(value)}
        self.lasting |= {name for code in scalars for name, _ in assignments_in(code.body)}
        self.lasting |= {name for phase in spec.phases for name in phase.hands_on}
        self.lasting |= self.state | {UPDATE, SKIP}
        self.functions: list[BlockCode] = [function.leaf for function in spec.functions]
        self.unused: dict[ast.stmt, BlockCode] = {}

    def check(self) -> None:
        """Walk until the state that the next step uses is known; then record what is left."""
        after: set[str] = set()
        while (used := after | self.step(after)) != after:
            after = used
        codes = [*self.spec.blocks, *self.functions]
        pairs = [pair for code in codes for pair in assignments_in(code.body)]
        assigned = [name for name, _ in pairs]
        unused = [target_of(statement) for statement in self.unused]
        lost = {name for name in unused if unused.count(name) == assigned.count(name)} - after
        lost -= self.mentioned
        # A name that only unused names are computed from is not recorded beside these.
        reads = [(name, {*names_in([value])}) for name, value in pairs]
        read = {one for name, names in reads for one in names if one != name or one in self.state}
        for name in lost & read & self.state:
            table = "slots" if any(slot.name == name for slot in self.spec.slots) else "scalars"
            message = f"{name!r} is read, but no update or result is computed from it"
            place = self.spec.document
            place.at_key((table, name), f"{message}; use it or remove it", consequence=self.unclear)
        lost_here = lost - read - self.state
        for statement, code in sorted(self.unused.items(), key=lambda item: item[0].lineno):
            name = target_of(statement)
            message = f"this value of {name!r} is never read: it is overwritten, or its block ends"
            if name in lost_here:
                lost_here.remove(name)
                message = f"{name!r} is assigned but never read; use it in an equation or remove it"
                code.note(statement, message, consequence=self.unclear)
            elif name not in lost | self.mentioned:
                code.note(statement, f"{message}; use it or remove it", consequence=self.unclear)

    def step(self, after: set[str]) -> set[str]:
        """Return what of the state is used by a step or function after which `after` is used."""
        self.unused = {}
        live = after | {UPDATE}
        for phase in reversed(self.spec.phases):
            between = live if phase.is_partial else set[str]()  # elsewhere all stays as it is
            live = self.block(phase.leaf, live) | between | {UNLESS, SKIP}
            live = self.block(phase.unless, live) if phase.unless else live
            live &= self.lasting
            live = self.block(phase.skip, live) if phase.skip else live
            live = self.block(phase.scalars, live) if phase.scalars else live
        for code in self.functions:
            live |= self.block(code, after | {RESULT}) | after
        return live & self.state

    def block(self, code: BlockCode, live: set[str]) -> set[str]:
        """Return what is used before a block, if `live` is used after it."""
        return self.statements(code, code.body, live)

    def statements(self, code: BlockCode, body: Sequence[ast.stmt], live: set[str]) -> set[str]:
        for statement in reversed(body):
            match statement:
                case ast.If(test=test, body=then, orelse=otherwise):
                    branches = [self.statements(code, each, live) for each in (then, otherwise)]
                    live = branches[0] | branches[1] | {*names_in([test])}
                case ast.Assign(value=value):
                    name = target_of(statement)
                    if name in live | self.mentioned:
                        live = live - {name} | {*names_in([value])}
                    else:
                        self.unused[statement] = code
                case _:
                    pass
        return live
