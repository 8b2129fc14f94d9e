"""Branch nodes: `INode` with the five methods of model surgery, and `Container`."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import FrozenInstanceError
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    NoReturn,
    Self,
    TypeAlias,
    TypeGuard,
    cast,
    final,
    overload,
)

import jax
from jax.tree_util import GetAttrKey

from mlax._checking.predicates import holds
from mlax._jax.tracebacks import trimmed
from mlax._jax.trees import KeyPath, flatten, flatten_with_path, leaves_with_path
from mlax._module.apart import moved_apart
from mlax._module.containers import frozen
from mlax._module.exporting import register_plain
from mlax._module.nodes import ENode, State, is_leaf_state, is_state_or_unset, is_unfrozen_param
from mlax.tree import describe, flatten_given, keystr, structure_differences

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    _States: TypeAlias = State | tuple["_States", ...] | list[Any] | Mapping[Any, "_States"] | None
    S = TypeVar("S", covariant=True, default=Any)
    D = TypeVar("D", bound=_States)
    K = TypeVar("K")
    V = TypeVar("V", bound=State | None)
else:
    from typing import TypeVar

    S = TypeVar("S", covariant=True)

__all__ = ["Container", "INode", "is_branch_state", "is_container"]

_Of: TypeAlias = Callable[[ENode[Any]], bool]
_At: TypeAlias = Callable[[KeyPath, ENode[Any]], bool]


class INode(State):
    """A branch node: it holds other States, and can be taken apart and put together again.

    Predicates are called with leaf nodes (Variables and Parameters), never with the arrays in them.
    A node that is filtered out keeps its place in the tree, with `data=None`, so that all parts
    have the same structure.
    """

    __slots__ = ()

    @trimmed
    def filter(self, predicate: Callable[[ENode[Any]], bool] = is_unfrozen_param) -> Self:
        """Return the tree with only the nodes for which `predicate(node)` is true; the others have no data."""
        return self.partition(predicate)[0]

    @trimmed
    def filter_with_path(self, predicate: Callable[[KeyPath, ENode[Any]], bool]) -> Self:
        """Return the tree with only the nodes for which `predicate(path, node)` is true; the others have no
        data.
        """
        return self.partition_with_path(predicate)[0]

    if TYPE_CHECKING:  # one tree for each predicate, and one for the rest

        @overload
        def partition(self) -> tuple[Self, Self]: ...
        @overload
        def partition(self, a: _Of, /) -> tuple[Self, Self]: ...
        @overload
        def partition(self, a: _Of, b: _Of, /) -> tuple[Self, Self, Self]: ...
        @overload
        def partition(self, a: _Of, b: _Of, c: _Of, /) -> tuple[Self, Self, Self, Self]: ...
        @overload
        def partition(
            self, a: _Of, b: _Of, c: _Of, d: _Of, /
        ) -> tuple[Self, Self, Self, Self, Self]: ...
        @overload
        def partition(self, *predicates: _Of) -> tuple[Self, ...]: ...

    @trimmed
    def partition(self, *predicates: _Of) -> tuple[Self, ...]:
        """Split the tree into one tree for each predicate, and one for the rest.

        Args:
            *predicates: Functions of a node. A node goes to the first for which the result is true.
                Without predicates: unfrozen parameters.

        Returns:
            `len(predicates) + 1` trees with the structure of this one. `combine` is the inverse.

        Raises:
            TypeError: A predicate is not a function, or returns neither True nor False.
        """
        _refuse_other_than_functions(self, "node", predicates)
        return self.partition_with_path(*map(_without_path, predicates or (is_unfrozen_param,)))

    if TYPE_CHECKING:

        @overload
        def partition_with_path(self) -> tuple[Self]: ...
        @overload
        def partition_with_path(self, a: _At, /) -> tuple[Self, Self]: ...
        @overload
        def partition_with_path(self, a: _At, b: _At, /) -> tuple[Self, Self, Self]: ...
        @overload
        def partition_with_path(
            self, a: _At, b: _At, c: _At, /
        ) -> tuple[Self, Self, Self, Self]: ...
        @overload
        def partition_with_path(
            self, a: _At, b: _At, c: _At, d: _At, /
        ) -> tuple[Self, Self, Self, Self, Self]: ...
        @overload
        def partition_with_path(self, *predicates: _At) -> tuple[Self, ...]: ...

    @trimmed
    def partition_with_path(self, *predicates: _At) -> tuple[Self, ...]:
        """Split the tree like `partition`, with predicates of a key path and a node.

        Args:
            *predicates: Functions of a path and a node. A node goes to the first for which the
                result is true.

        Returns:
            `len(predicates) + 1` trees with the structure of this one.

        Raises:
            TypeError: A predicate is not a function, or returns neither True nor False.
        """
        _refuse_other_than_functions(self, "path, node", predicates)
        found, treedef = flatten_with_path(self, is_leaf=is_leaf_state)
        parts: list[list[ENode[Any]]] = [[] for _ in range(len(predicates) + 1)]
        for path, node in found:
            chosen = next(
                (i for i, of in enumerate(predicates) if _is_of(self, of, path, node)), -1
            )
            for part in parts:
                part.append(node.with_data(None))
            parts[chosen][-1] = node
        return tuple(treedef.unflatten(part) for part in parts)

    @trimmed
    def combine(self, *others: Self) -> Self:
        """Put together the parts that `partition` or `filter` made.

        Args:
            *others: Trees with the structure of this one.

        Returns:
            A tree with the first non-empty node for each place.

        Raises:
            ValueError: The trees have different structures.
        """
        nodes, treedef = flatten(self, is_leaf=is_leaf_state)
        for number, other in enumerate(others, 1):
            if not isinstance(cast("object", other), INode):
                raise TypeError(
                    f"{type(self).__name__}.combine: argument {number} must be a part of the same tree, "
                    f"got {describe(other)}"
                )
            alternatives, structure = flatten(other, is_leaf=is_leaf_state)
            if structure != treedef:
                raise ValueError(
                    f"{type(self).__name__}.combine: argument {number} is not a part of the same tree: "
                    + _difference(self, other)
                )
            nodes = [
                other if node.data is None else node
                for node, other in zip(nodes, alternatives, strict=True)
            ]
        combined: Self = treedef.unflatten(nodes)
        return combined


def _refuse_other_than_functions(tree: INode, arguments: str, predicates: Any) -> None:
    for predicate in predicates:
        if not callable(predicate):
            raise TypeError(
                f"{type(tree).__name__}: a predicate must be a function of ({arguments}), got {describe(predicate)}.\n"
                f"  For example: lambda {arguments}: mlax.is_parameter(node)"
            )


def _is_of(tree: INode, predicate: _At, path: KeyPath, node: ENode[Any]) -> bool:
    return holds(
        f"{type(tree).__name__}: a predicate",
        predicate,
        (path, node),
        lambda: f"{keystr(path)}, {node}",
        "Decide by the path, and by the class, shape and dtype of the node: mlax.is_parameter(node).",
    )


def _without_path(
    predicate: Callable[[ENode[Any]], bool],
) -> Callable[[KeyPath, ENode[Any]], bool]:
    return lambda _, node: predicate(node)


def _difference(tree: Any, other: Any) -> str:
    """Describe how two trees of different structure differ."""
    here, there = (
        {keystr(path) for path, _ in leaves_with_path(t, is_leaf=is_leaf_state)}
        for t in (tree, other)
    )
    if here != there:
        return "; ".join(
            f"{what} {', '.join(sorted(paths))}"
            for what, paths in (("it lacks", here - there), ("it also has", there - here))
            if paths
        )
    found = structure_differences(tree, other, is_leaf_state)
    more = [f"{len(found) - _MOST} more"] if len(found) > _MOST else []
    return "; ".join(found[:_MOST] + more)


_MOST = 5  # differences in one message


@final
class Container(INode, Generic[S]):
    """A branch node around a State or a PyTree of States.

    Args:
        states: A State, or nested tuples, lists and dicts of States and None. Containers are
            copied.

    Raises:
        TypeError: Something in `states` is not a State.
    """

    if TYPE_CHECKING:

        @property
        def states(self) -> S:
            """The State or PyTree of States. Declared as a property so that checkers see it is read-only."""
            ...

    else:
        __slots__ = ("states",)

    if TYPE_CHECKING:

        @overload  # for pyrefly, which would not see what is in a dict
        def __init__(self: "Container[dict[K, V]]", states: dict[K, V]) -> None: ...
        @overload
        def __init__(self: "Container[D]", states: D) -> None: ...

    @trimmed
    def __init__(self, states: Any) -> None:
        if hasattr(self, "states"):
            raise FrozenInstanceError("Container.__init__ was called before")
        states = copy_states("Container.states", states)
        states = moved_apart("Container", {"states": states})[0].get("states", states)
        object.__setattr__(self, "states", states)

    @trimmed
    def __init_subclass__(cls) -> NoReturn:
        raise TypeError(f"{cls.__name__}: a Container cannot have subclasses; inherit from Module")

    _only: ClassVar = "states"

    def _parts(self) -> Iterable[tuple[str | None, Any]]:
        yield None, self.states

    def __reduce__(self) -> tuple[Any, ...]:
        return Container, (self.states,)


_STATES = GetAttrKey("states")


def _unflatten(_: None, children: Any) -> Container[Any]:
    container = Container.__new__(Container)
    object.__setattr__(container, "states", children[0])
    return container


jax.tree_util.register_pytree_with_keys(
    Container,
    lambda container: (((_STATES, container.states),), None),
    _unflatten,
    lambda container: ((container.states,), None),
)
register_plain(Container, _unflatten)


def copy_states(name: str, states: Any) -> Any:
    """Copy the containers of a PyTree of States, into ones that cannot be changed in place.

    Raises:
        TypeError: It holds anything else.
    """
    for path, leaf in flatten_given(name, states, is_state_or_unset)[0]:
        if not isinstance(leaf, State):
            raise TypeError(
                f"{name}{keystr(path)} must be a State (Variable, Parameter, Container, Module), got "
                f"{describe(leaf)}.\n"
                f"  Wrap arrays in a Parameter or a Variable; anything else belongs in a field of a Module."
            )
    return frozen(name, states)


def is_branch_state(node: object) -> TypeGuard[INode]:
    """Whether `node` is a branch node: a Container or a Module."""
    return isinstance(node, INode)


def is_container(node: object) -> TypeGuard[Container[Any]]:
    """Whether `node` is a Container."""
    return isinstance(node, Container)
