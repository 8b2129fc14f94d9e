"""The nodes of a model: `State` and its leaf nodes, `Variable` and `Parameter`.

A model is a tree of States. Leaf nodes (`ENode`, for exterior) wrap arrays and say what they are
for. Branch nodes (`INode`, for interior, in `branches` and `module`) hold other nodes. Every State
is an immutable PyTree.
"""

import copy
import inspect
from collections.abc import Callable, Iterable
from dataclasses import FrozenInstanceError
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    NoReturn,
    Self,
    TypeAlias,
    TypeGuard,
    overload,
)

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from mlax._jax.trees import leaves_with_path, map_leaves
from mlax._module.printing import Printed
from mlax._module.unset import UNSET, Unset
from mlax.tree import describe, flatten_given

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    T = TypeVar("T", covariant=True, default=Array)
else:
    from typing import TypeVar

    T = TypeVar("T", covariant=True)

__all__ = [
    "UNSET",
    "ENode",
    "Parameter",
    "State",
    "Unset",
    "Variable",
    "is_frozen_param",
    "is_leaf_state",
    "is_parameter",
    "is_state",
    "is_unfrozen_param",
    "is_variable",
]


class State(Printed):
    """Base class of everything in a model that holds arrays: an immutable PyTree."""

    __slots__ = ()

    if not TYPE_CHECKING:  # if type checkers saw these, they would no longer check attributes

        def __setattr__(self, name: str, value: Any) -> NoReturn:
            raise FrozenInstanceError(
                f"cannot assign to {type(self).__name__}.{name}: {type(self).__name__} is frozen; "
                f"make a changed copy instead"
            )

        def __delattr__(self, name: str) -> NoReturn:
            raise FrozenInstanceError(
                f"cannot delete {type(self).__name__}.{name}: {type(self).__name__} is frozen"
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy the arrays and share static values, so that the copy has the same structure."""
        copied: Self = map_leaves(lambda leaf: copy.deepcopy(leaf, memo), self)
        return copied


class _DataKey:
    """The key of a node's `data`. A single array needs no key of its own: `model.kernel`, not
    `model.kernel.data`.

    The keys of all nodes are equal, whatever the nodes hold: JAX compares keys to explain why trees
    do not match.
    """

    name = "data"

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "<data>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _DataKey)

    def __hash__(self) -> int:
        return hash(_DataKey)


_ONE_ARRAY = _DataKey("")
_TREE = _DataKey(".data")


def _data_key(data: Any) -> object:
    empty = data is UNSET or data is None
    return _ONE_ARRAY if empty or jax.tree_util.all_leaves([data]) else _TREE


def _strong_array(cls: type, leaf: Any) -> Any:
    """Return one leaf of `data` as a strongly typed JAX array; raise an error if that is impossible."""
    data: object = leaf
    if isinstance(leaf, State):
        raise TypeError(
            f"{cls.__name__}.data holds a State, {type(leaf).__name__}: a Variable or Parameter wraps arrays only.\n"
            f"  Assign the {type(leaf).__name__} to a field of a Module, or wrap several in a Container."
        )
    if leaf is UNSET:
        raise TypeError(
            f"{cls.__name__}.data holds UNSET among other values: a node is made as a whole.\n"
            f"  Make all of it in set_up and use `{cls.__name__}()` until then, or give each part its own node."
        )
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf
    if not isinstance(leaf, (jax.Array, np.ndarray, np.generic, bool, int, float, complex)):
        raise TypeError(
            f"{cls.__name__}.data must be an array or a PyTree of arrays, got {describe(leaf)}.\n"
            f"  A hyperparameter needs no wrapper: assign it directly to a field of the Module."
        )
    try:
        # JAX may share memory with a NumPy array, even after `jnp.array`, and the caller may write to it.
        array = jnp.asarray(leaf.copy() if isinstance(leaf, np.ndarray) else leaf)
    except OverflowError:
        raise TypeError(f"{cls.__name__}.data: {describe(data)} is too large for JAX") from None
    except (TypeError, ValueError):
        raise TypeError(
            f"{cls.__name__}.data: JAX has no array type for {describe(data)}, a {type(data).__name__}"
        ) from None
    weak = getattr(array, "weak_type", False)  # keys have none
    return lax.convert_element_type(array, array.dtype) if weak else array


def _strong_arrays(cls: type, data: Any) -> Any:
    if data is UNSET or data is None:
        return data
    found, treedef = flatten_given(f"{cls.__name__}.data", data, is_state_or_unset)
    return treedef.unflatten(_strong_array(cls, leaf) for _, leaf in found)


def is_state_or_unset(node: object) -> bool:
    """Whether `node` is a State, or UNSET outside of one."""
    return isinstance(node, (State, Unset))


def _refuse_exact(data: Any) -> None:
    for path, leaf in leaves_with_path(data):
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            raise TypeError(
                f"Parameter.data{jax.tree_util.keystr(path)} is {describe(leaf)}: only floating-point and complex "
                f"arrays can be trained.\n"
                f"  Make it a Variable, or Parameter(..., frozen=True)."
            )


_Flatten: TypeAlias = Callable[[Any], tuple[tuple[Any], Any]]
_Unflatten: TypeAlias = Callable[[Any, Any], Any]
_unflatten: dict[type, _Unflatten] = {}


def _register(cls: type["ENode[Any]"]) -> None:
    """Register `cls` as a PyTree.

    An object is filled while its class is `mutable`, which has the same layout and plain
    assignment; then its class is set to `cls`. This is a third faster than bypassing
    `State.__setattr__` for each attribute.
    """
    mutable = type(
        cls.__name__,
        (cls,),
        {
            "__slots__": (),
            "__init__": object.__init__,
            "__setattr__": object.__setattr__,
            "__delattr__": object.__delattr__,  # one slot of the type serves both
        },
        register=False,
    )
    flatten, unflatten = (_with_frozen if hasattr(cls, "frozen") else _with_data)(cls, mutable)

    def flatten_with_keys(node: Any) -> tuple[tuple[tuple[Any, Any]], Any]:
        (data,), aux_data = flatten(node)
        return ((_data_key(data), data),), aux_data

    _unflatten[cls] = unflatten
    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)


def _with_data(cls: Any, mutable: Any) -> tuple[_Flatten, _Unflatten]:
    """Return flatten and unflatten for nodes that have only `data`."""

    def flatten(node: Any) -> tuple[tuple[Any], Any]:
        return (node.data,), None

    def unflatten(_: Any, children: Any) -> Any:
        node = mutable()
        (node.data,) = children
        node.__class__ = cls
        return node

    return flatten, unflatten


def _with_frozen(cls: Any, mutable: Any) -> tuple[_Flatten, _Unflatten]:
    """Return flatten and unflatten for nodes that have `data` and `frozen`."""

    def flatten(node: Any) -> tuple[tuple[Any], Any]:
        return (node.data,), node.frozen

    def unflatten(frozen: Any, children: Any) -> Any:
        node = mutable()
        (node.data,) = children
        node.frozen = frozen
        node.__class__ = cls
        return node

    return flatten, unflatten


def _refuse_own_attributes(cls: type) -> None:
    """Raise an error for a class of nodes that has its own attributes: transformations would lose them."""
    if cls.__module__ == __name__:
        return
    found = [*inspect.get_annotations(cls)]
    found += [name for name in ("__init__", "__new__") if name in cls.__dict__]
    slots: Any = cls.__dict__.get("__slots__", ())
    found += [slots] if isinstance(slots, str) else [*slots]
    if found:
        raise TypeError(
            f"{cls.__name__}.{found[0]}: a class of nodes cannot have its own attributes or __init__; a node is only "
            f"its data.\n  Put anything else in a field of a Module, beside the node."
        )


class ENode(State, Generic[T]):
    """A leaf node: it wraps `data`, an array or a PyTree of arrays.

    `data` may also be `UNSET` (`set_up` will make it from the first input) or None (it was filtered
    out).

    Raises:
        TypeError: `data` holds a State, or something that is not an array.
    """

    if TYPE_CHECKING:

        @property
        def data(self) -> T:
            """The array or PyTree of arrays. Declared as a property so that checkers see it is read-only."""
            ...

        @overload
        def __init__(self: "ENode[Array]", data: np.ndarray | np.generic | complex) -> None: ...
        @overload
        def __init__(self, data: T | Unset | None = ...) -> None: ...
        def __init__(self, data: Any = UNSET) -> None: ...

    else:
        __slots__ = ("data",)

        def __init__(self, data: Any = UNSET) -> None:
            if type(self) is ENode:
                raise TypeError(
                    "ENode is abstract: make a Parameter (trained) or a Variable (not trained)"
                )
            object.__setattr__(self, "data", _strong_arrays(type(self), data))

    def __init_subclass__(cls, *, register: bool = True, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if register:
            _refuse_own_attributes(cls)
            _register(cls)

    def _parts(self) -> Iterable[tuple[str | None, Any]]:
        yield None, self.data

    @classmethod
    def _restored(cls, data: Any, aux_data: Any) -> Any:
        return _unflatten[cls](aux_data, (data,))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self)._restored, (self.data, getattr(self, "frozen", None))

    def with_data(self, data: Any) -> Self:
        """Return a copy with other data. The data are not checked as in the constructor."""
        copy: Self = self._restored(data, getattr(self, "frozen", None))
        return copy


class Variable(ENode[T]):
    """Data that are not trained: an array of any JAX dtype, or a PyTree of arrays.

    Args:
        data: NumPy arrays and Python scalars become strongly typed JAX arrays.
    """

    __slots__ = ()


class Parameter(ENode[T]):
    """Data that are trained: a floating-point or complex array, or a PyTree of them.

    Args:
        data: NumPy arrays and Python scalars become strongly typed JAX arrays.
        frozen: Whether optimizers leave it alone. Static. A frozen Parameter may have any JAX
            dtype.

    Raises:
        TypeError: An unfrozen Parameter is given integers, bools or keys.
    """

    if TYPE_CHECKING:

        @property
        def frozen(self) -> bool:
            """Whether optimizers leave it alone. Declared as a property so that checkers see it is read-only."""
            ...

        @overload
        def __init__(
            self: "Parameter[Array]",
            data: np.ndarray | np.generic | complex,
            *,
            frozen: bool = ...,
        ) -> None: ...
        @overload
        def __init__(self, data: T | Unset | None = ..., *, frozen: bool = ...) -> None: ...
        def __init__(self, data: Any = UNSET, *, frozen: bool = False) -> None: ...

    else:
        __slots__ = ("frozen",)

        def __init__(self, data: Any = UNSET, *, frozen: bool = False) -> None:
            super().__init__(data)
            if not isinstance(frozen, bool):
                raise TypeError(f"Parameter.frozen must be a bool, got {frozen!r}")
            object.__setattr__(self, "frozen", frozen)
            if not frozen:
                _refuse_exact(self.data)

    def _parts(self) -> Iterable[tuple[str | None, Any]]:
        yield None, self.data
        if self.frozen:
            yield "frozen", True


def is_state(node: object) -> TypeGuard[State]:
    """Whether `node` is a State of any kind."""
    return isinstance(node, State)


def is_leaf_state(node: object) -> TypeGuard[ENode[Any]]:
    """Whether `node` is a leaf node: a Variable or a Parameter."""
    return isinstance(node, ENode)


def is_variable(node: object) -> TypeGuard[Variable[Any]]:
    """Whether `node` is a Variable."""
    return isinstance(node, Variable)


def is_parameter(node: object) -> TypeGuard[Parameter[Any]]:
    """Whether `node` is a Parameter, frozen or not."""
    return isinstance(node, Parameter)


def is_frozen_param(node: object) -> TypeGuard[Parameter[Any]]:
    """Whether `node` is a frozen Parameter."""
    return isinstance(node, Parameter) and node.frozen


def is_unfrozen_param(node: object) -> TypeGuard[Parameter[Any]]:
    """Whether `node` is a Parameter to be optimized."""
    return isinstance(node, Parameter) and not node.frozen
