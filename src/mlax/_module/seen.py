"""What the checks of nodes and arguments can see of a value.

They see structure, shapes, dtypes, static fields and plain values. Where all of these are as in a check
that passed before, nothing is checked again. To compare them takes about 1 us, a check 30 us and more.
"""

import operator
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, cast

import jax
import numpy as np

from mlax._jax.trees import class_of, flatten
from mlax._module.apart import is_module_or_node
from mlax._module.flattening import Flattened, is_flattened
from mlax._module.nodes import ENode

__all__ = ["UnknownError", "computes_shapes", "nodes_in", "seen", "seen_in_nodes", "seen_in_tree"]


class UnknownError(Exception):
    """Raised for a value whose check may depend on what cannot be remembered."""


def nodes_in(children: Iterable[Any]) -> list[Any]:
    """Return the nodes in children of a module, for each container its structure before its nodes, and None in
    place of a module or an empty field.
    """
    nodes: list[Any] = []
    for value in children:
        if isinstance(value, ENode):
            nodes.append(value)
        elif value is None or isinstance(value, Flattened):
            nodes.append(None)
        else:
            found, treedef = flatten(value, is_leaf=is_module_or_node)
            nodes.append(treedef)
            if not all(map(is_flattened, found)):
                nodes += [None if is_flattened(node) else node for node in found]
    return nodes


def seen_in_nodes(nodes: Iterable[Any]) -> list[Hashable]:
    """Return what a check can see of nodes, as `nodes_in` returns them."""
    found: list[Hashable] = []
    for node in nodes:
        if node is None or type(node) is _TreeDef:
            found.append(node)
        else:
            found += class_of(node), seen(node.data)
    return found


def seen(value: object) -> Hashable:
    """Return what a check can see of a value.

    Raises:
        UnknownError: That is not known.
    """
    see = _see.get(type(value)) or _way_to_see(value)
    return see(value)


def seen_in_tree(value: Any) -> Hashable:
    """Return what a check can see of a tree: structure and leaves."""
    found, treedef = flatten(value)
    if len(found) == 1 and found[0] is value:
        raise UnknownError
    return treedef, tuple(map(seen, found))


def computes_shapes(hints: Mapping[str, Any]) -> bool:
    """Whether one of the annotations has a shape that is computed, such as `{self.width}`."""
    return any("{" in repr(hint) for hint in hints.values())


_of_array: Callable[[Any], Hashable] = operator.attrgetter("aval")


def _of_numpy(value: Any) -> Hashable:
    return class_of(value), value.shape, value.dtype


def _of_plain(value: Any) -> Hashable:
    return class_of(value), value


_TreeDef: type = cast("Any", jax.tree_util).PyTreeDef
_PLAIN = (bool, int, float, complex, str, bytes, type(None), jax.ShapeDtypeStruct, _TreeDef)
_see: dict[type, Callable[[Any], Hashable]] = dict.fromkeys(_PLAIN, _of_plain)
_numpy: Any = (np.ndarray, np.generic)


def _way_to_see(value: Any) -> Callable[[Any], Hashable]:
    is_array = isinstance(value, jax.Array)  # a tracer, too
    see = _of_array if is_array else _of_numpy if isinstance(value, _numpy) else seen_in_tree
    _see[class_of(value)] = see
    return see
