"""A state for another optimizer: with a wrapper more or fewer, or with other hyperparameters.

Both states are divided into parts, each of which belongs to one optimizer and some of the weights. A
new part continues the old parts of its class that belong to some of the same weights.
"""

import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax.tree_util import GetAttrKey, SequenceKey

from mlax._int8 import Int8, encoded, is_int8
from mlax._jax.dtypes import is_key
from mlax._jax.tracebacks import trimmed
from mlax._jax.tracing import is_tracer
from mlax._jax.trees import KeyPath, class_of, flatten_with_path
from mlax.optim._numbers import all_numbers, is_state
from mlax.optim.transformations._protocol import OptimizerLike
from mlax.optim.transformations._wrapping import Wrapper, as_optimizer
from mlax.optim.transformations.frozen import Frozen
from mlax.optim.transformations.multi_optimizer import MultiOptimizer
from mlax.optimizer import slot_values, trainable
from mlax.tree import describe, dotted, leaves_by_name, tree_equal
from mlax.typing import LeafMismatchError
from mlax.typing._weights import fault

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    S = TypeVar("S", default=Any)
else:
    from typing import TypeVar

    S = TypeVar("S")

__all__ = ["migrate"]


@trimmed
def migrate(
    state: object,
    optimizer: OptimizerLike[S, ...],
    weights: Any,
    *,
    replaced: Mapping[type[Any], type[Any]] | None = None,
    strict: bool = True,
    report: Callable[[str], object] | None = None,
) -> S:
    """Return a state for another optimizer, with everything from an old state that fits.

        state = optim.migrate(state, optim.ClipGradients(optim.Adam(3e-4), max_norm=1.0), weights)

    It is `optimizer.init(weights)` with slots, counts and the algorithm's own scalars of the old
    state, for each optimizer whose class is in both: an `Adam` continues, whatever wraps it now.
    Leaves are found by their path in the weights, so the weights may be distributed differently
    over the optimizers of a `MultiOptimizer`; counts and scalars are those of the optimizer that had
    the weights before. Leaves are copied, and cast to another `slot_dtype`; to int8 they are rounded
    to nearest.

    Numbers such as learning rates are those of the new optimizer; for the old ones,
    `with_numbers(new, numbers(old))`. Wrappers that are added start as in `init`, and the state of
    wrappers that are left out is dropped.

    Args:
        state: The old state, or a tree with several.
        optimizer: The optimizer to continue with.
        weights: The weights now, or the model.
        replaced: Classes of the old state with those that continue in their place, such as
            `{optim.Adam: optim.AdamW}`: what has the same name and shape in both has the same meaning.
        strict: Whether everything must continue that belongs to optimizers that are not wrappers. If
            False, other leaves start as in `init` or are dropped, with a warning.
        report: Called with a text that says by path what continues, what starts as in `init`, and
            what is dropped: `print`, or `logging.info`.

    Raises:
        LeafMismatchError: A leaf has no counterpart, or one of another shape, or several that are
            different, such as the step counts of two optimizers that become one; or the scales of
            an `Int8` do not fit its values. The message names all.
        TypeError: There is no state in `state`, or `optimizer` is not an optimizer.
        ValueError: `replaced` has a class that is not in the old state.
    """
    where = "optim.migrate"
    try:
        as_optimizer(optimizer)
    except TypeError as error:
        raise TypeError(f"{where}: expected {error}, got {describe(optimizer)}") from None
    made: Any = optimizer.init(weights)
    tree = trainable(weights)
    old, new = list(_parts(state, tree)), list(_parts(made, tree))
    if not old:
        raise TypeError(f"{where}: expected the state of an optimizer, got {describe(state)}")
    replaced = {} if replaced is None else replaced
    if not isinstance(cast("object", replaced), Mapping):
        raise TypeError(f"{where}: replaced must be a dict of classes, got {describe(replaced)}")
    for before in replaced:
        if all(part.optimizer is not before for part in old):
            raise ValueError(
                f"{where}: replaced has {getattr(before, '__name__', before)}, but the old state has {_classes(old)}"
            )

    for part in old:
        for name, leaf in part.leaves.items():
            if is_int8(leaf) and (reason := fault(leaf)):
                raise LeafMismatchError(f"{where}: {part.at(name)} in the old state: {reason}")
    plan = _planned(old, new, replaced)
    if plan.misfits:
        lines = "".join(f"\n  {line}" for line in plan.misfits)
        if strict:
            raise LeafMismatchError(
                f"{where}: not everything continues (strict=False continues what fits):{lines}"
            )
        warnings.warn(f"{where}: not everything continues:{lines}", stacklevel=3)
    if report is not None:
        report(f"{where}:\n  " + "\n  ".join(_told(old, new, plan)))
    leaves, treedef = leaves_by_name(where, "state", made)
    for part in new:
        for name, leaf in part.leaves.items():
            for source in plan.sources.get(part.at(name), [])[:1]:
                leaves |= _continued(part.at(name), source.value, leaf)
    result: S = treedef.unflatten(leaves.values())
    return result


class _Part(NamedTuple):
    """What one optimizer holds, without those inside it.

    Attributes:
        path: Where its state is.
        optimizer: Its class.
        weights: The paths of its weights.
        leaves: Its leaves by path within its state, without numbers such as learning rates. An
            `Int8` is a leaf.
    """

    path: str
    optimizer: type
    weights: tuple[str, ...]
    leaves: dict[str, Any]

    def at(self, name: str) -> str:
        """Return the path of a leaf."""
        return ".".join(filter(None, [self.path, name]))

    @property
    def place(self) -> str:
        return self.path or "the state"

    @property
    def may_be_left_out(self) -> bool:
        """Whether nothing in it has to continue."""
        return issubclass(self.optimizer, (Wrapper, MultiOptimizer, Frozen))


def _parts(state: object, weights: Any) -> Iterator[_Part]:
    """Yield the parts of a state, each before those inside it."""
    chosen = all_numbers(state)

    def walk(tree: object, path: KeyPath, weights: Any) -> Iterator[_Part]:
        for inner, node in flatten_with_path(tree, is_state)[0]:
            if is_state(node):
                yield from part(node, (*path, *inner), weights)

    def part(node: Any, path: KeyPath, weights: Any) -> Iterator[_Part]:
        h, fields, leaves = node.hyperparameters, node._asdict(), dict[str, Any]()
        for field, value in fields.items():
            for at, leaf in flatten_with_path(value, lambda x: is_state(x) or is_int8(x))[0]:
                name = dotted((GetAttrKey(field), *at))
                if not is_state(leaf) and dotted((*path, GetAttrKey(name))) not in chosen:
                    leaves[name] = leaf
        yield _Part(dotted(path), class_of(h), _weights_of(leaves, weights), leaves)
        if isinstance(h, MultiOptimizer):
            for i, (inside, some) in enumerate(
                zip(fields.pop("inner"), h.parts(weights), strict=True)
            ):
                yield from walk(inside, (*path, GetAttrKey("inner"), SequenceKey(i)), some)
        for name, value in fields.items():
            yield from walk(value, (*path, GetAttrKey(name)), weights)

    return walk(state, (), weights)


def _weights_of(leaves: Mapping[str, Any], weights: Any) -> tuple[str, ...]:
    """Return the paths of the weights that leaves are for; if that cannot be seen in their names, of all weights."""
    paths = [dotted(path) for path, _ in flatten_with_path(weights)[0]]
    names = [name.split(".") for name in leaves]
    inside = {
        ".".join(n[i:j]) for n in names for i in range(1, len(n)) for j in range(i, len(n) + 1)
    }
    return tuple([path for path in paths if path in inside] or paths)


def _owners(
    old: Sequence[_Part], new: Sequence[_Part], replaced: Mapping[type, type]
) -> Iterator[list[_Part]]:
    """Yield for each new part the old ones that it continues: those of its class that had some of its weights.

    If several of a class had a weight, one inside the other, the first continues the first.
    """
    chains: defaultdict[tuple[type, str], list[_Part]] = defaultdict(list)
    for part in old:
        for cls in {part.optimizer, replaced.get(part.optimizer, part.optimizer)}:
            for weight in part.weights:
                chains[cls, weight].append(part)
    seen: Counter[tuple[type, str]] = Counter()
    for part in new:
        owners: set[str] = set()
        for weight in part.weights:
            key = part.optimizer, weight
            owners.update(each.path for each in chains[key][seen[key] :][:1])
            seen[key] += 1
        yield [each for each in old if each.path in owners]


class _Leaf(NamedTuple):
    """A leaf of an old state."""

    path: str
    value: Any

    def __str__(self) -> str:
        is_number = getattr(self.value, "shape", None) == () and not is_key(self.value.dtype)
        return f"{self.path} ({self.value if is_number else describe(self.value)})"


class _Plan(NamedTuple):
    """What becomes of the leaves of an old state.

    Attributes:
        sources: For the path of each new leaf that continues, the old leaf, and others equal to it.
        misfits: Lines about leaves that should have continued.
    """

    sources: dict[str, list[_Leaf]]
    misfits: list[str]


def _planned(old: Sequence[_Part], new: Sequence[_Part], replaced: Mapping[type, type]) -> _Plan:
    sources: dict[str, list[_Leaf]] = {}
    misfits: list[str] = []
    told: set[str] = set()
    for part, owners in zip(new, _owners(old, new, replaced), strict=True):
        if not part.weights or (part.may_be_left_out and not owners):
            continue
        cls = part.optimizer
        if all(cls not in (each.optimizer, replaced.get(each.optimizer)) for each in old):
            misfits.append(
                f"{part.place}: {cls.__name__}, but the old state has {_classes(old)}{_cure(part, old)}"
            )
            continue
        for name, leaf in part.leaves.items():
            found = _leaves(name, owners)
            told.update(each.path for each in found)
            fitting = [each for each in found if _fits(each.value, leaf)]
            if not fitting:
                there = f"{describe(found[0].value)} in" if found else "nothing in"
                misfits.append(f"{part.at(name)}: {describe(leaf)}, but {there} the old state")
            elif differences := _differences(fitting):
                sources[part.at(name)] = fitting[:1]
                misfits.append(f"{part.at(name)}: {differences}")
            else:
                sources[part.at(name)] = fitting
    return _Plan(sources, [*misfits, *_lost(old, told)])


def _lost(old: Sequence[_Part], told: Set[str]) -> Iterator[str]:
    """Yield lines about leaves that have no counterpart, except those at paths that were told of."""
    for part in old:
        leaves = {part.at(name): leaf for name, leaf in part.leaves.items()}
        lost = {path: leaf for path, leaf in leaves.items() if path not in told}
        if part.may_be_left_out or not lost:
            continue
        if len(lost) < len(leaves):
            yield from (f"{path}: {describe(x)}, only in the old state" for path, x in lost.items())
        # The counts of an optimizer without weights mean nothing.
        elif part.weights or any(leaf.shape for leaf in lost.values()):
            yield f"{part.place}: {part.optimizer.__name__}, only in the old state"


def _leaves(name: str, parts: Sequence[_Part]) -> list[_Leaf]:
    return [_Leaf(part.at(name), part.leaves[name]) for part in parts if name in part.leaves]


def _classes(parts: Sequence[_Part]) -> str:
    return ", ".join(sorted({part.optimizer.__name__ for part in parts}))


def _differences(found: Sequence[_Leaf]) -> str:
    """Return the end of a line about leaves that should continue as one, or "" if they are equal."""
    first, *others = found
    paths = " and ".join(each.path for each in found)
    if others and any(is_tracer(x) for each in found for x in jax.tree.leaves(each.value)):
        return f"{paths} may differ, and values are not known under jit; migrate outside of it"
    if all(tree_equal(first.value, each.value) for each in others):
        return ""
    return f"{' and '.join(map(str, found))} differ in the old state"


def _told(old: Sequence[_Part], new: Sequence[_Part], plan: _Plan) -> Iterator[str]:
    """Yield lines about what becomes of all leaves: one for each field of a state, if it is the same for all in it."""
    used = {leaf.path for sources in plan.sources.values() for leaf in sources}
    for part in new:
        fates: dict[str, str] = {}
        for name in part.leaves:
            source = plan.sources.get(part.at(name))
            fates[name] = source[0].path.removesuffix(name) if source else "-"
        for name, fate in _by_field(fates):
            end = "starts as in init" if fate == "-" else f"continues {fate}{name}"
            yield f"{part.at(name)} {end}"
    for part in old:
        dropped = {name: "" if part.at(name) in used else "-" for name in part.leaves}
        yield from (f"{part.at(name)} is dropped" for name, fate in _by_field(dropped) if fate)


def _by_field(fates: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield fields with the fate of all their leaves, and otherwise the leaves with their own."""
    for field, names in groupby(fates, lambda name: name.partition(".")[0]):
        inside = {name: fates[name] for name in names}
        same = len({*inside.values()}) == 1
        yield from {field: next(iter(inside.values()))}.items() if same else inside.items()


def _cure(part: _Part, old: Sequence[_Part]) -> str:
    """Return the end of a line about a class that is not in the old state: one there may have just what it needs."""
    for other in old:
        same = part.leaves.keys() == other.leaves.keys()
        fits = same and all(_fits(other.leaves[name], leaf) for name, leaf in part.leaves.items())
        if fits and not other.may_be_left_out:
            return (
                " (is it the same but for its name? "
                f"replaced={{{other.optimizer.__name__}: {part.optimizer.__name__}}})"
            )
    return ""


def _fits(old: Any, new: Any) -> bool:
    """Return whether a leaf can continue as another: only floating-point dtypes and int8 slots may differ."""
    floating = all(is_int8(each) or jnp.issubdtype(each.dtype, jnp.floating) for each in (old, new))
    return old.shape == new.shape and (old.dtype == new.dtype or floating)


def _continued(place: str, old: Any, new: Any) -> dict[str, Any]:
    """Return by path the leaves with which a leaf continues as another."""
    both = is_int8(old) and is_int8(new)
    if both and old.dtype == new.dtype and old.scales.shape == new.scales.shape:
        found = Int8(*(jnp.array(each, copy=True) for each in old))
    elif is_int8(new):
        values: Any = slot_values(old)
        found = encoded(values, new)
    else:
        return {place: jnp.array(slot_values(old) if is_int8(old) else old, new.dtype, copy=True)}
    return {f"{place}.{name}": each for name, each in found._asdict().items()}
