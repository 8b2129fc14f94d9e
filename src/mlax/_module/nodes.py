"""The leaf nodes of a model, `Variable` and `Parameter`.

A model is a tree of States. Leaf nodes (`ENode`, for exterior) wrap arrays and say what they are
for. Branch nodes (`INode`, for interior, in `branches` and `module`) hold other nodes. Every State
is an immutable PyTree.
"""

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import FrozenInstanceError
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Never,
    Self,
    TypeAlias,
    TypeGuard,
    cast,
    overload,
)

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array

from mlax._jax.dtypes import is_inexact
from mlax._jax.tracebacks import trimmed
from mlax._jax.trees import class_of, leaves, leaves_with_path, map_leaves
from mlax._module.hidden import Ref
from mlax._module.node_trees import fill, frozen_of, recipe_of, register_as_tree, unflattened
from mlax._module.operators import refuse_operators
from mlax._module.printing import with_article
from mlax._module.recipes import Initializer, Recipe, dtype_of, initialized, recipe
from mlax._module.state import State
from mlax._module.unset import UNSET, Unset
from mlax.tree import describe, flatten_given, keystr

if TYPE_CHECKING:
    from typing import ClassVar, Protocol

    from typing_extensions import TypeVar

    # What arrays may be in, by a method: given `list` or `Mapping`, some checkers take `[x]` for a `list[Any]`.
    class _List(Protocol):
        def reverse(self) -> None: ...

    class _Mapping(Protocol):
        def keys(self) -> Any: ...

    class _Registered(Protocol):
        def tree_flatten(self) -> tuple[Any, Any]: ...

    class _Dataclass(Protocol):
        __dataclass_fields__: ClassVar[dict[str, Any]]
        __dict__: dict[str, Any]  # to tell it from a Module

    _Tree: TypeAlias = tuple[Any, ...] | _List | _Mapping | _Registered | _Dataclass
    T = TypeVar("T", covariant=True, default=Array)
    K = TypeVar("K")
    D = TypeVar("D", bound=Array | jax.ShapeDtypeStruct | _Tree, default=Array)
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
    "with_frozen",
    "with_parts",
]


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
    if isinstance(leaf, Ref):
        raise TypeError(
            f"{cls.__name__}.data must be an array that does not change, got {describe(leaf)} in a Ref.\n"
            f"  Use what it holds now, `{cls.__name__}(ref[...])`, and return changed copies of the module."
        )
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
            f"{cls.__name__}.data: JAX has no array type for {describe(data)}, {with_article(type(data).__name__)}"
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


_OR_UNTRAINED = "Make it a Variable, or Parameter(..., frozen=True)."


def _refuse_exact(name: str, node: Any, cure: str = _OR_UNTRAINED) -> None:
    """Raise an error if a Parameter holds, or is to hold, arrays that cannot be trained."""
    for path, leaf in leaves_with_path(node.data):
        if hasattr(leaf, "dtype"):  # transformations put other things into nodes
            _refuse_exact_dtype(f"{name}.data{keystr(path)}", describe(leaf), leaf.dtype, cure)
    own = recipe_of(node)
    if own is not None and own.dtype is not None:
        _refuse_exact_dtype(f"{name}.dtype", own.dtype.name, own.dtype, cure)


def _refuse_exact_dtype(name: str, given: str, dtype: Any, cure: str) -> None:
    if not is_inexact(dtype):
        raise TypeError(
            f"{name} is {given}: only floating-point and complex arrays can be trained.\n  {cure}"
        )


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
        TypeError: `data` holds a State, or something that is not an array; or `init` or `dtype` is
            not valid, or is given together with data.
    """

    if TYPE_CHECKING:

        @property
        def data(self) -> T:
            """The array or PyTree of arrays. Declared as a property so that checkers see it is read-only."""
            ...

        def __init__(self, *, an_enode_is_abstract: Never) -> None:
            """Checkers report `ENode(...)`, since nothing can be given for this."""

    else:
        __slots__ = ("_frozen", "_told", "data")

        @trimmed
        def __init__(self, data: Any = UNSET, *, init: Any = None, dtype: Any = None) -> None:
            self._fill(data, None, init, dtype)

        def _fill(self, data: Any, frozen: bool | None, init: Any, dtype: Any) -> None:
            cls = type(self)
            if cls is ENode:
                raise TypeError(
                    "ENode is abstract: make a Parameter (trained) or a Variable (not trained)"
                )
            if hasattr(self, "data"):
                raise FrozenInstanceError(f"{cls.__name__}.__init__ was called before")
            strong = _strong_arrays(cls, data)
            fill(self, strong, frozen, recipe(cls.__name__, data, init, dtype))

    @trimmed
    def __init_subclass__(cls, *, register: bool = True, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if register:
            _refuse_own_attributes(cls)
            register_as_tree(cls)

    def _parts(self) -> Iterable[tuple[str | None, Any]]:
        yield None, self.data
        recipe = recipe_of(self)
        if recipe is not None:
            yield from recipe.parts()

    def __reduce__(self) -> tuple[Any, ...]:
        recipe = recipe_of(self)
        made: tuple[Any, ...] = () if recipe is None else (recipe.init, recipe.dtype)
        state: tuple[Any, ...] = (self.data, frozen_of(self), *made)
        return object.__new__, (type(self),), state  # as in Module

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if hasattr(self, "data"):
            raise FrozenInstanceError(f"this {type(self).__name__} is frozen")
        data, frozen, *made = state  # checked before, by the constructor
        fill(self, data, frozen, Recipe(*made) if made else None)

    def with_data(self, data: Any) -> Self:
        """Return a copy with other data. The data are not checked as in the constructor; containers are copied.

        An unset node that gets data, or None, forgets its init and dtype.
        """
        if isinstance(data, (tuple, list, dict)):
            data = map_leaves(lambda leaf: leaf, cast("Any", data))
        copy: Self = unflattened(self, data, frozen_of(self))
        return copy

    @trimmed
    def made(
        self, rng: Array | None, shape: Sequence[int], init: Initializer, dtype: DTypeLike
    ) -> Self:
        """Return the node with its array. For `set_up`; a node that is not unset stays as it is.

        If the node was given its own init or dtype (`Parameter(init=he_normal)`), they are used in
        place of those of the layer.

        Args:
            rng: Key for the initializer. None is enough for those that need no key, such as zeros.
            shape: Shape of the array.
            init: The layer's initializer, a function of `(key, shape, dtype)`.
            dtype: The layer's dtype, usually that of its input.

        Raises:
            TypeError: An unfrozen Parameter would get integers, bools or keys; or the initializer
                does not return an array.
            ValueError: The array has another shape or dtype than the initializer was asked for, or
                the initializer needs a key.
        """
        if self.data is not UNSET:
            return self
        where = f"{type(self).__name__}.made"
        own = recipe_of(self)
        if own is not None:
            own.note_use()
            init = init if own.init is None else own.init
            dtype = dtype if own.dtype is None else own.dtype
        if is_unfrozen_param(self):
            known = dtype_of(f"{where}: dtype", dtype)
            cure = "Give the layer floating-point inputs, or the node its own dtype: Parameter(dtype=jnp.float32)."
            _refuse_exact_dtype(f"{where}: dtype", known.name, known, cure)
        array = initialized(where, rng, shape, init, dtype)
        return self.with_data(_strong_array(type(self), array))


refuse_operators(ENode)


class Variable(ENode[T]):
    """Data that are not trained: an array of any JAX dtype, or a PyTree of arrays.

    Without data it is unset: `set_up` will make it.

    Args:
        data: NumPy arrays and Python scalars become strongly typed JAX arrays.
        init: Initializer of an unset node, a function of `(key, shape, dtype)`. By default the
            layer decides.
        dtype: Dtype of an unset node. By default the layer decides.
    """

    __slots__ = ()

    if TYPE_CHECKING:

        @overload
        def __init__(self, data: Unset | None) -> None: ...
        @overload
        def __init__(
            self, *, init: Initializer | None = ..., dtype: DTypeLike | None = ...
        ) -> None: ...
        @overload
        def __init__(self: "Variable[Array]", data: np.ndarray | np.generic | complex) -> None: ...
        @overload
        def __init__(self: "Variable[dict[K, D]]", data: dict[K, D]) -> None: ...
        @overload
        def __init__(self: "Variable[D]", data: D) -> None: ...
        def __init__(self, data: Any = UNSET, **recipe: Any) -> None: ...


class Parameter(ENode[T]):
    """Data that are trained: a floating-point or complex array, or a PyTree of them.

    Without data it is unset: `set_up` will make it.

    Args:
        data: NumPy arrays and Python scalars become strongly typed JAX arrays.
        frozen: Whether optimizers leave it alone. Static. A frozen Parameter may have any JAX
            dtype.
        init: Initializer of an unset node, a function of `(key, shape, dtype)`. By default the
            layer decides.
        dtype: Dtype of an unset node. By default the layer decides.

    Raises:
        TypeError: An unfrozen Parameter is given integers, bools or keys.
    """

    if TYPE_CHECKING:

        @property
        def frozen(self) -> bool:
            """Whether optimizers leave it alone. Declared as a property so that checkers see it is read-only."""
            ...

        @overload
        def __init__(self, data: Unset | None, *, frozen: bool = ...) -> None: ...
        @overload
        def __init__(
            self,
            *,
            frozen: bool = ...,
            init: Initializer | None = ...,
            dtype: DTypeLike | None = ...,
        ) -> None: ...
        @overload
        def __init__(
            self: "Parameter[Array]",
            data: np.ndarray | np.generic | complex,
            *,
            frozen: bool = ...,
        ) -> None: ...
        @overload
        def __init__(
            self: "Parameter[dict[K, D]]", data: dict[K, D], *, frozen: bool = ...
        ) -> None: ...
        @overload
        def __init__(self: "Parameter[D]", data: D, *, frozen: bool = ...) -> None: ...
        def __init__(self, data: Any = UNSET, **options: Any) -> None: ...

    else:
        __slots__ = ()

        frozen = property(frozen_of, doc="Whether optimizers leave it alone.")

        @trimmed
        def __init__(
            self, data: Any = UNSET, *, frozen: bool = False, init: Any = None, dtype: Any = None
        ) -> None:
            _refuse_other_than_bool(frozen)
            self._fill(data, frozen, init, dtype)
            if not frozen:
                _refuse_exact("Parameter", self)

    def _parts(self) -> Iterable[tuple[str | None, Any]]:
        yield from super()._parts()
        if self.frozen:
            yield "frozen", True


def _refuse_other_than_bool(frozen: object) -> None:
    if not isinstance(frozen, bool):
        raise TypeError(f"Parameter.frozen must be a bool, got {frozen!r}")


def with_frozen(node: Any, frozen: bool, name: str = "Parameter", cure: str = _OR_UNTRAINED) -> Any:
    """Return a Parameter that is frozen or not. An unset one keeps its init and dtype.

    Args:
        node: The Parameter.
        frozen: Whether optimizers are to leave it alone.
        name: What messages call it.
        cure: What messages advise.

    Raises:
        TypeError: It cannot be trained, because of the dtype of its data.
    """
    _refuse_other_than_bool(frozen)
    if frozen is node.frozen:
        return node
    if not frozen:
        _refuse_exact(name, node, cure)
    return unflattened(node, node.data, frozen)


def with_parts(node: Any, **parts: Any) -> Any:
    """Return a node with other `data`, or `frozen`, or both, checked as in the constructor."""
    if "data" not in parts:
        return with_frozen(node, parts["frozen"])
    if not all(hasattr(leaf, "dtype") for leaf in leaves(node.data)):
        return node.with_data(
            parts["data"]
        )  # a tree of other things than arrays, such as `in_axes`
    parts = {"frozen": node.frozen} | parts if hasattr(node, "frozen") else parts
    return class_of(node)(**parts)


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
