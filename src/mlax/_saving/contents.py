"""What a file holds, without its arrays: names, shapes, dtypes, static values and the classes of nodes, all as text.

Classes are written by their qualified names, for people and for messages. They are never imported.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, cast

from jax.tree_util import GetAttrKey

from mlax._jax.trees import KeyPath, flatten_with_path
from mlax._module.flattening import AuxData
from mlax._module.nodes import ENode
from mlax._module.static_texts import StaticParts
from mlax._saving.leaves import ArrayType
from mlax.tree import describe, dotted

__all__ = ["Contents", "classes_by_path", "nodes"]


def classes_by_path(tree: object) -> dict[str, str]:
    """Return the qualified names of the classes of the nodes in a tree, by dotted path; "" is the tree itself.

    Lists, dicts, plain tuples, Parameters and Variables are left out. For a Packed, the nodes of the
    original tree are listed under `layout`.
    """
    return {dotted(path): f"{cls.__module__}.{cls.__qualname__}" for path, cls in nodes(tree)}


def nodes(tree: object, path: KeyPath = ()) -> Iterator[tuple[KeyPath, type]]:
    """Yield paths and classes of the nodes in a tree; see `classes_by_path`."""
    children, treedef = flatten_with_path(tree, is_leaf=lambda node: node is not tree)
    node: tuple[type, Any] | None = cast("Any", treedef).node_data()
    if node is None:
        return
    cls, aux_data = node
    if not issubclass(cls, (list, dict, ENode, type(None))) and cls is not tuple:
        yield path, cls
    if isinstance(aux_data, AuxData):
        for name, value in zip(aux_data.flattening.static, aux_data.values, strict=True):
            if isinstance(value, StaticParts):
                yield from nodes(value.static_parts()[1], (*path, GetAttrKey(name)))
    for key, child in children:
        yield from nodes(child, (*path, *key))


class Contents(NamedTuple):
    """What `mlax.save` or another program wrote into a file, apart from the values of arrays.

    Attributes:
        arrays: Shape and dtype of each array, by dotted path.
        static: Static fields of modules, hyperparameters and schedules, as text, by dotted path.
        classes: The qualified name of the class of each module and other node, by dotted path; the
            path of the whole tree is "".
        metadata: The strings given to `save`, or written by another program.
    """

    arrays: dict[str, ArrayType]
    static: dict[str, str]
    classes: dict[str, str]
    metadata: dict[str, str]

    def __str__(self) -> str:
        """Return a table: the nodes with their classes, and in each its static values and arrays."""
        numbers = sum(math.prod(one.shape) for one in self.arrays.values())
        lines = [f"{_counted(len(self.arrays), 'array')} with {_counted(numbers, 'number')}"]
        lines += [f"metadata {name}: {text}" for name, text in self.metadata.items()]
        shown = {name: describe(kind) for name, kind in self.arrays.items()}
        for path, names in _by_node(self.classes, [*self.static, *shown]).items():
            depth = sum(_is_inside(path, other) for other in self.classes)
            if path in self.classes:
                name = _below(path, _around(path, self.classes))
                lines.append(
                    "  " * (depth - 1) + f"{name or 'the whole tree'}: {self.classes[path]}"
                )
            for name in dict.fromkeys(names):
                if name == path and name not in self.arrays:
                    continue  # the name of an optimizer's class
                texts = [each[name] for each in (self.static, shown) if name in each]
                lines += [
                    f"{'  ' * depth}{_below(name, path) or repr(name)}: {text}" for text in texts
                ]
        return "\n".join(map(_printable, lines))


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _printable(line: str) -> str:
    """Return a line without control characters. A stranger's file may contain anything."""
    return line if line.isprintable() else repr(line)[1:-1]


def _by_node(classes: Mapping[str, str], names: Iterable[str]) -> dict[str, list[str]]:
    """Return the names in each node, without those in nodes inside it. Nodes stand before those inside them."""
    inside: dict[str, list[str]] = {path: [] for path in classes}
    for name in names:
        path = name if name in classes else _around(name, classes)
        inside.setdefault(path, []).append(name)
    return inside


def _around(path: str, classes: Mapping[str, str]) -> str:
    """Return the path of the next node around a path."""
    while path:
        path = path.rpartition(".")[0]
        if path in classes:
            break
    return path


def _is_inside(path: str, node: str) -> bool:
    return not node or path == node or path.startswith(f"{node}.")


def _below(name: str, path: str) -> str:
    """Return a name without the path of the node that it is in."""
    return name.removeprefix(path).removeprefix(".")
