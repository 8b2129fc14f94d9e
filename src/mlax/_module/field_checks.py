"""The checks of construction and `replace`, and the memory of those that passed.

`kinds` checks every field, which takes little time. The data of nodes are checked together, so that
one name of a dimension has one size. Where all that this check can see (`seen`) is as in an earlier one
that passed, it is not done again.
"""

import contextlib
from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import Any

import jax

from mlax._checking.hints import hints_of_fields
from mlax._checking.values import checks_enabled
from mlax._jax.trees import class_of, flatten
from mlax._module.annotations import Checked, dimensions, node_items, verify_together
from mlax._module.kinds import AnnotationMismatchError, check_kinds
from mlax._module.nodes import ENode
from mlax._module.seen import UnknownError, computes_shapes, nodes_in, seen_in_nodes, seen_in_tree

__all__ = ["check_changes", "check_fields", "check_static"]

_MOST = 1024  # checks remembered for each class


def check_fields(module: Any) -> None:
    """Check the fields of a new module: the kinds of their values, and the data of nodes."""
    if not checks_enabled():
        return
    check_kinds(module)
    memory = _memory_of(class_of(module))
    flattening = module._aux_data.flattening
    seen = memory.seen(module, [flattening], flattening.flatten(module)[0])
    if memory.has(seen):
        return
    if items := node_items(module):
        verify_together(module, type(module).__name__, items)
    memory.add(seen)


def check_static(module: Any) -> None:
    """Check the kinds of the static fields of a module that was pickled: its class may have changed since.

    Nodes are checked in calls.
    """
    if checks_enabled():
        check_kinds(module, module._aux_data.flattening.static)


def check_changes(old: Any, new: Any, changes: Collection[str]) -> None:
    """Check a copy in which fields were replaced: these, and the nodes whose shape or dtype differs from before.

    Args:
        old: The module before.
        new: The copy.
        changes: The names of the fields that were replaced.
    """
    if not checks_enabled():
        return
    changed = [name for name in changes if getattr(new, name) is not getattr(old, name)]
    check_kinds(new, changed)
    memory = _memory_of(class_of(new))
    before, after = _children(old, changed), _children(new, changed)
    if not before and not after and not memory.computes:
        return
    named = [*before, None, *after]
    seen = memory.seen(new, named, [*before.values(), *after.values()])
    if memory.has(seen):
        return
    where = f"{type(new).__name__}.replace"
    data = {item.name: _signature(item.value) for item in node_items(old, changed)}
    items = [
        item for item in node_items(new, changed) if data.get(item.name) != _signature(item.value)
    ]
    if items:
        verify_together(new, where, list(map(_of_stack, items)), all_sized=False)
    if memory.computes and not all(isinstance(getattr(new, name), ENode) for name in changed):
        _check_computed(new, where, set(new._names).difference(changed))
    memory.add(seen)


def _check_computed(new: Any, where: str, unchanged: Collection[str]) -> None:
    """Check the nodes that were not replaced, but whose shape follows from what was: `{self.width}`."""
    for item in node_items(new, unchanged):
        if "{" not in dimensions(item.annotation):
            continue
        try:
            verify_together(new, where, [_of_stack(item)], all_sized=False)
        except AnnotationMismatchError as error:
            message = (
                f"{error}\n  Replace it in the same call as the field that its shape follows from."
            )
            raise AnnotationMismatchError(message) from None


def _children(module: Any, names: Collection[str]) -> dict[str, Any]:
    """Return those of some fields that are children."""
    children = module._aux_data.flattening.children
    return {name: getattr(module, name) for name in names if name in children}


def _of_stack(item: Checked) -> Checked:
    """Allow more axes in front than the annotation of a node has.

    So a stack of modules, as `vmap` makes one, can be cast and sliced. In a call, fewer axes are seen.
    """
    axes = dimensions(item.annotation)
    several = "*" in axes or "..." in axes
    if several or not axes or not isinstance(item.value, jax.Array):
        return item
    if item.value.ndim <= len(axes.split()):
        return item
    array: Any = item.annotation
    return item._replace(annotation=array.dtype[array.array_type, f"... {axes}"])


def _signature(data: Any) -> Any:
    found, treedef = flatten(data)
    return treedef, [(leaf.shape, leaf.dtype) for leaf in found]


class _Memory:
    """What the checks of one class have seen and passed.

    Args:
        hints: The annotations of its fields.
    """

    def __init__(self, hints: Mapping[str, Any]) -> None:
        self.hints = hints
        self.computes = computes_shapes(hints)
        self._passed = set[Hashable]()

    def seen(
        self, module: Any, known: Iterable[Hashable], children: Iterable[Any]
    ) -> Hashable | None:
        """Return all that a check depends on; None if that cannot be remembered.

        Args:
            module: The module, for shapes such as `{self.child.width}`, which may read all of it.
            known: Which fields are checked.
            children: Their values.
        """
        found = [*known]
        try:
            if self.computes:
                found.append(seen_in_tree(module))
            found += seen_in_nodes(nodes_in(children))
        except UnknownError:
            return None
        return tuple(found)

    def has(self, seen: Hashable | None) -> bool:
        """Whether such a check has passed."""
        try:
            return seen is not None and seen in self._passed
        except Exception:  # a foreign tree whose structures cannot be hashed or compared
            return False

    def add(self, seen: Hashable | None) -> None:
        """Remember a check that passed."""
        if len(self._passed) >= _MOST:
            self._passed.clear()
        with contextlib.suppress(Exception):  # as in `has`
            self._passed.add(seen)


_memories: dict[type, _Memory] = {}


def _memory_of(cls: Any) -> _Memory:
    """Return the memory of a class. It starts anew when a name that was missing in an annotation is defined."""
    hints = hints_of_fields(cls)
    memory = _memories.get(cls)
    if memory is None or memory.hints is not hints:
        memory = _memories[cls] = _Memory(hints)
    return memory
