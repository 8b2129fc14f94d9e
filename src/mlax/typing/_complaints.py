"""Error messages about trees that do not correspond: a line for each leaf, and the cure if it is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from mlax._jax.trees import KeyPath, flatten_with_path
from mlax._module.nodes import is_parameter
from mlax._module.static_texts import static_texts
from mlax._packing.packed import layouts
from mlax.tree import is_frozen_otherwise, mismatches
from mlax.typing._collecting import Tree
from mlax.typing._weights import Signature, as_arrays, faults, refused_leaves

__all__ = ["LeafMismatchError", "Reference", "refuse_leaves", "refuse_lines", "refuse_trees"]


class LeafMismatchError(TypeError):
    """Trees passed to one function do not correspond: leaves differ in place, shape or dtype."""

    __module__ = "mlax.typing"


@dataclass
class Reference:
    """The tree that the other trees of a call are compared with."""

    name: str
    signature: Signature


def refuse_leaves(label: str, at: Tree, optimizer: str | None) -> NoReturn:
    """Raise an error about leaves that are not floating-point or complex arrays.

    Args:
        label: Name of the function that is called.
        at: The tree.
        optimizer: Name of the optimizer whose state the function returns, if it returns one.
    """
    lines = refused_leaves(at.name, at.tree, optimizer)
    raise LeafMismatchError(
        f"{label}: leaves that are not floating-point or complex arrays:\n  " + "\n  ".join(lines)
    )


def refuse_trees(
    label: str, trees: Sequence[Tree], reference: Reference, optimizer: str | None
) -> NoReturn:
    """Raise an error about the trees of one argument, at least one of which does not correspond to the
    reference.
    """
    lines: list[str] = []
    for at in trees:
        signature, suffix = reference.signature, ""
        if at.slot_dtype is not None:
            signature, suffix = signature.with_dtype(at.slot_dtype), " in slot_dtype"
        expected = signature.as_tree()
        tree = at.tree if at.int8 is None else as_arrays(at.tree, expected)
        lines += mismatches(at.name, tree, reference.name, expected, suffix)
        lines += [] if at.int8 is None else faults(at.name, at.tree, at.int8)
    if not lines:
        for at in trees:
            refuse_leaves(label, at, optimizer)
    cure = _packed_otherwise(trees, reference) or _frozen_otherwise(trees, reference)
    refuse_lines(label, [*lines, *cure], reference)


def refuse_lines(label: str, lines: Sequence[str], reference: Reference) -> NoReturn:
    """Raise an error about leaves that do not correspond to the reference, with a line for each."""
    raise LeafMismatchError(
        f"{label}: leaves that do not correspond to `{reference.name}` (no implicit promotion):\n  "
        + "\n  ".join(lines)
    )


def _packed_otherwise(trees: Sequence[Tree], reference: Reference) -> list[str]:
    """Return a line with the cure if trees do not correspond because they are packed differently."""
    expected = layouts(reference.signature.as_tree())
    for at in trees:
        given = layouts(at.tree)
        if len(given) < len(expected):
            return [
                f"{reference.name} is packed, {at.name} is not: use packed.filter().repack({at.name})"
            ]
        if len(given) > len(expected):
            return [
                f"{at.name} is packed, {reference.name} is not: pack both, or use {at.name}.unpack(); "
                "a loss function that unpacks its model should return packed.repack(model)"
            ]
        for layout, other in zip(given, expected, strict=True):
            told, texts = (dict(static_texts(one.numbered())) for one in (layout, other))
            for name, text in told.items():
                if texts.get(name, text) != text:
                    return [
                        f"{at.name} and {reference.name} differ in {name}: {text}, but {texts[name]}"
                    ]
        if given != expected:
            return [
                f"{at.name} and {reference.name} were packed from different trees, or with a different threshold "
                "or group"
            ]
    return []


def _frozen_otherwise(trees: Sequence[Tree], reference: Reference) -> list[str]:
    """Return a line with the cure if Parameters were frozen or unfrozen after a state was made."""
    expected = _parameters(reference.signature.as_tree())
    for at in trees:
        given = _parameters(at.tree)
        if any(is_frozen_otherwise(node, expected.get(path)) for path, node in given.items()):
            return [
                f"Parameters have been frozen or unfrozen since `{at.name.partition('.')[0]}` was computed: "
                "compute it anew (a state: optimizer.init(model))"
            ]
    return []


def _parameters(tree: object) -> dict[KeyPath, object]:
    return dict(flatten_with_path(tree, is_parameter)[0])
