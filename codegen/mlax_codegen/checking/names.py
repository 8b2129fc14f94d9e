"""Which names each block of equations can read, and which it may assign."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import NamedTuple

from mlax_codegen.language import (
    COUNT,
    FUNCTIONS,
    GRADIENT,
    NDIM,
    RESERVED,
    RESULT,
    SHAPE,
    STEP_NUMBER,
    TOTAL_COUNT,
    UPDATE,
    WEIGHT,
    Type,
)
from mlax_codegen.reading.declarations import Argument, NamedFunction, Scalar, Slot
from mlax_codegen.reading.habits import for_assignment
from mlax_codegen.reading.hyperparameters import Hyperparameter
from mlax_codegen.reading.spec import Spec

__all__ = ["UNKNOWN", "Block", "Names", "Stage", "StagedType"]


class Stage(IntEnum):
    """When a value is known. A result is known when the last of its operands is."""

    STATIC = 0  # before anything runs: sizes, booleans, numbers that are compiled in
    SCALAR = 1  # once a step
    LEAF = 2  # for each leaf


class StagedType(NamedTuple):
    """The type of a value, and when the value is known."""

    stage: Stage
    type: Type

    @property
    def words(self) -> str:
        """Its name in messages."""
        array = self.stage is Stage.LEAF and self.type is Type.NUMBER
        return "an array" if array else str(self.type)


class Block(StrEnum):
    """The kinds of blocks, which read and assign different names."""

    STATIC = "static"  # conditions of hyperparameters
    SHAPES = "shapes"  # conditions and values of the shape of a leaf, too
    SCALARS = "scalars"
    LEAF = "leaf"
    FUNCTION = "function"


UNKNOWN = StagedType(Stage.STATIC, Type.UNKNOWN)
_TYPES = {
    "float": Type.NUMBER,
    "integer": Type.NUMBER,
    "flag": Type.FLAG,
    "choice": Type.CHOICE,
    "list": Type.NUMBERS,
}
_NUMBER = StagedType(Stage.SCALAR, Type.NUMBER)
_ARRAY = StagedType(Stage.LEAF, Type.NUMBER)
_ONLY = {
    Block.STATIC: "only hyperparameters can",
    Block.SHAPES: "only hyperparameters, shape, ndim and names defined above in [shapes] can",
    Block.FUNCTION: "a function can read w, t, slots, hyperparameters, [scalars] and [arguments]",
}


@dataclass
class Names:
    """The names of a spec, as far as its blocks have been checked.

    Attributes:
        shapes: The type of each name in [shapes].
        slot_types: The type of each slot: a number, or a list of arrays.
        computed: Names that `scalars` have assigned, and totals.
        totals: The totals among them.
        locals: Names that leaf equations have assigned; those of their own end with the phase, or the function.
        handed: Those among them that a phase hands on.
        moved: Whether a phase has assigned `update`, which later ones may change.
        function: The function whose equations are checked, if any are.
        broken: Names whose declaration or assignment has a mistake. Nothing more is said about them.
    """

    spec: Spec
    shapes: dict[str, StagedType] = field(default_factory=dict[str, StagedType])
    slot_types: dict[str, Type] = field(default_factory=dict[str, Type])
    computed: dict[str, StagedType] = field(default_factory=dict[str, StagedType])
    totals: set[str] = field(default_factory=set[str])
    locals: set[str] = field(default_factory=set[str])
    handed: dict[str, StagedType] = field(default_factory=dict[str, StagedType])
    moved: bool = False
    function: NamedFunction | None = None
    broken: set[str] = field(default_factory=set[str])

    def __post_init__(self) -> None:
        """Index what the spec declares."""
        spec = self.spec
        self.hyperparameters: Mapping[str, Hyperparameter] = {
            h.name: h for h in spec.hyperparameters
        }
        self.slots: Mapping[str, Slot] = {slot.name: slot for slot in spec.slots}
        self.scalars: Mapping[str, Scalar] = {scalar.name: scalar for scalar in spec.scalars}
        self.arguments: Mapping[str, Argument] = {a.name: a for a in spec.arguments}
        self.keys: frozenset[str] = frozenset(s.name for s in spec.scalars if s.is_key)
        self.slot_types |= dict.fromkeys(self.slots, Type.NUMBER)
        self.broken |= spec.document.broken

    def readable(self) -> Iterator[tuple[Collection[Block], Mapping[str, StagedType]]]:
        """Yield what equations can read, apart from what their block assigns: blocks, and the names for these."""
        options = {
            h.name: StagedType(Stage.SCALAR if h.schedulable else Stage.STATIC, _TYPES[h.kind])
            for h in self.spec.hyperparameters
        }
        labels = {h.name: options.pop(h.name) for h in self.spec.hyperparameters if h.is_label}
        ndim = {NDIM: StagedType(Stage.STATIC, Type.NUMBER)}
        shape = {SHAPE: StagedType(Stage.STATIC, Type.SIZES)}
        count = {COUNT: StagedType(Stage.STATIC, Type.NUMBER)}
        numbers = [x.name for x in self.spec.scalars if not x.is_key]
        numbers += [x.name for x in self.spec.arguments if not x.is_tree]
        slots = {name: StagedType(Stage.LEAF, kind) for name, kind in self.slot_types.items()}
        arrays = [WEIGHT, *(x.name for x in self.spec.arguments if x.is_tree)]
        keys = {name: StagedType(Stage.LEAF, Type.KEY) for name in self.keys}
        moved = [UPDATE] if self.moved else []
        yield (*Block,), options
        # Labels may differ from leaf to leaf.
        yield (Block.SHAPES, Block.LEAF, Block.FUNCTION), labels | shape | ndim | self.shapes
        yield (
            (Block.SCALARS, Block.LEAF, Block.FUNCTION),
            dict.fromkeys([STEP_NUMBER, *numbers], _NUMBER),
        )
        yield (Block.LEAF, Block.FUNCTION), slots | count | dict.fromkeys(arrays, _ARRAY)
        yield (Block.SCALARS, Block.LEAF), {TOTAL_COUNT: _NUMBER} | self.computed
        yield (Block.LEAF,), dict.fromkeys([GRADIENT, *moved], _ARRAY) | self.handed | keys

    def visible(self, block: Block) -> dict[str, StagedType]:
        """Return the names that a block can read, without those that it assigns itself."""
        found: dict[str, StagedType] = {}
        for blocks, names in self.readable():
            found |= names if block in blocks else {}
        # If a declaration has a mistake, the type of its name is unknown.
        return found | dict.fromkeys({*found} & self.spec.document.broken, UNKNOWN)

    def invisible(self, name: str, block: Block) -> str | None:
        """Return why a block cannot read a name that exists elsewhere; None if no block can."""
        of_leaf, of_step = self.visible(Block.LEAF), self.visible(Block.SCALARS)
        if name in self.hyperparameters:
            why = f"{name!r} is a label, and leaves may have different ones"
            return f"{why}; read it in `leaf`, or in `when` or `shape` of a slot"
        if block is Block.SCALARS and name in self.keys:
            return f"{name!r} is a random key; read it in `leaf`"
        if block is Block.SCALARS and name in of_leaf:
            why = "has a value for each leaf, but `scalars` are computed once per step"
            return f"{name!r} {why}; move this equation to `leaf`"
        if block in _ONLY and name in {*of_leaf, *of_step, *self.spec.shapes, *self.locals}:
            return f"{name!r} cannot be used here; {_ONLY[block]}"
        if name in self.locals:
            cure = f'add hands_on = ["{name}"] there, or make it a slot or a total'
            return f"{name!r} exists only in the phase that assigns it; {cure}"
        if name in {UPDATE, RESULT}:
            return f"`{name}` cannot be read here"
        if name in FUNCTIONS:
            return f"{name!r} is a function; call it"
        return None

    def cannot_assign(self, name: str, block: Block, *, last: bool) -> str | None:
        """Return why a block cannot assign a name, or None; `last` is for the last phase."""
        constant = {
            **dict.fromkeys(self.hyperparameters, "a hyperparameter"),
            **dict.fromkeys(self.arguments, "an argument"),
            **dict.fromkeys(self.spec.shapes, "defined in [shapes]"),
        }
        if name in self.spec.document.broken:
            return None
        if name in constant:
            return f"{name!r} is {constant[name]}; equations cannot change it"
        if name in self.keys:
            return f"{name!r} is a random key; each step gets a new one without an assignment"
        if name in self.scalars and block is not Block.SCALARS:
            return f"{name!r} is a scalar of the state; assign it in `scalars`"
        changes = self.function.changes if self.function else ()
        match block:
            case Block.SCALARS if name in self.scalars:
                return None
            case Block.SCALARS if name in self.slots:
                return f"{name!r} is a slot; assign it in `leaf`"
            case Block.SCALARS if name in {UPDATE, GRADIENT}:
                return f"assign `{name}` in `leaf`"
            case Block.FUNCTION if name in self.slots:
                cure = f'a function can change it with changes = ["{name}"]'
                return None if name in changes else f"{name!r} is a slot; {cure}"
            case Block.FUNCTION if name == RESULT:
                return "this function returns the state, not a result" if changes else None
            case Block.LEAF if name == UPDATE:
                return None if last else "assign `update` in the last phase"
            case Block.LEAF if name == GRADIENT or name in self.slots:
                return None
            case Block.LEAF if name in self.handed:
                return f"{name!r} is handed on by a phase before; give this another name"
            case Block.LEAF if name in self.computed:
                what = "a total" if name in self.totals else "computed in `scalars`"
                return f"{name!r} is {what}; `leaf` cannot change it"
            case _:
                return self.wrong_local(name)

    def wrong_local(self, name: str) -> str | None:
        """Return why a name cannot stand for a new value, or None."""
        if name in FUNCTIONS:
            return f"{name!r} is a function; choose another name"
        if name in RESERVED and (cure := for_assignment(name)):
            return f"{name!r} cannot be assigned; {cure}"
        if name in RESERVED:
            return f"{name!r} is {RESERVED[name]}; choose another name"
        if name != name.lower() or name.startswith("_"):
            return f"{name!r} is not a valid name: use a-z, 0-9 and _, as in 'c1' or 'direction'"
        return None
