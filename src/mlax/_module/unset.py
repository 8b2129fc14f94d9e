"""`UNSET`: the `data` of a node that `set_up` has yet to make. Trees that hold it are refused."""

import functools
import operator
from collections.abc import Callable
from typing import Any, ClassVar, final

import jax

from mlax._jax.trees import leaves, leaves_with_path
from mlax._module.exporting import register_plain
from mlax.tree import keystr

__all__ = ["UNSET", "Unset", "holds_unset", "refuse_unset"]


@final
class Unset:
    """The type of `UNSET`, which is the `data` of a node that `set_up` has yet to make. A PyTree without leaves."""

    __module__ = "mlax"  # pickles find UNSET there
    __slots__ = ()
    _instance: ClassVar["Unset | None"] = None

    def __new__(cls) -> "Unset":
        if cls._instance is None:
            cls._instance = super().__new__(cls)
        return cls._instance

    def __repr__(self) -> str:
        return "UNSET"

    def __reduce__(self) -> str:
        return "UNSET"


UNSET = Unset()
_is_unset: Callable[[object], bool] = functools.partial(operator.is_, UNSET)
jax.tree_util.register_pytree_node(Unset, lambda _: ((), None), lambda _, __: UNSET)
register_plain(Unset, lambda _, __: UNSET)


def holds_unset(tree: Any) -> bool:
    """Whether a tree has a node that is yet to be made."""
    return any(map(_is_unset, leaves(tree, is_leaf=_is_unset)))


def refuse_unset(where: str, name: str, tree: Any, why: str) -> None:
    """Raise an error if nodes of a tree are UNSET. They have no leaves, so JAX would pass over them.

    Args:
        where: The function that calls, for the message: `Adam.init`.
        name: What that function calls the tree: `weights`.
        tree: The tree.
        why: Why they are UNSET, or what to do.

    Raises:
        ValueError: Names the path of each such node.
    """
    if holds_unset(tree):
        found = leaves_with_path(tree, is_leaf=_is_unset)  # only now: key paths are the costly part
        unset = [f"  {name}{keystr(path)}" for path, node in found if _is_unset(node)]
        count = "a node is" if len(unset) == 1 else f"{len(unset)} nodes are"
        raise ValueError("\n".join([f"{where}: {count} UNSET; {why}:", *unset]))
