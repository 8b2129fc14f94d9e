"""`UNSET`, the `data` of a node that `set_up` is still to make, and the refusal of trees that hold it."""

import functools
import operator
from collections.abc import Callable
from typing import Any, ClassVar, final

import jax

from mlax._jax.trees import leaves, leaves_with_path
from mlax.tree import keystr

__all__ = ["UNSET", "Unset", "refuse_unset"]


@final
class Unset:
    """The type of `UNSET`, the `data` of a node that `set_up` is still to make. A PyTree without leaves."""

    __module__ = "mlax"  # where pickles look for UNSET
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


def refuse_unset(where: str, name: str, tree: Any, why: str) -> None:
    """Refuse a tree with nodes that are still to be made. JAX would pass over them: they have no leaves.

    Args:
        where: Who refuses: `Adam.init`.
        name: What the tree is called there: `weights`.
        tree: The tree.
        why: Why they are UNSET, or what to do.

    Raises:
        ValueError: Names the path of each.
    """
    if any(map(_is_unset, leaves(tree, is_leaf=_is_unset))):
        found = leaves_with_path(tree, is_leaf=_is_unset)  # key paths cost more than all else here
        unset = [f"  {name}{keystr(path)}" for path, node in found if _is_unset(node)]
        count = "a node is" if len(unset) == 1 else f"{len(unset)} nodes are"
        raise ValueError("\n".join([f"{where}: {count} UNSET, {why}:", *unset]))
