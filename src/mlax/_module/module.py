"""`Module`, the base class of models. A subclass is a frozen dataclass and a PyTree.

How a module is made: `__init__` (generated or the user's) assigns the fields. Then `_finish` sorts
them into children and static fields, copies containers, raises errors about invalid values, and
makes the aux data. From then on the object is frozen, and JAX flattens it with the functions of
`mlax._module.flattening`.
"""

import dataclasses
import difflib
import functools
import inspect
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    ParamSpec,
    Protocol,
    Self,
    TypeAlias,
    TypeGuard,
    TypeVar,
    dataclass_transform,
    overload,
)

import jax

from mlax._jax.pickling import pickle_wrapped_functions_by_name
from mlax._jax.recursion import make_room
from mlax._jax.tracebacks import trim, trimmed
from mlax._jax.trees import class_of, map_leaves
from mlax._module import calls, field_checks
from mlax._module.apart import moved_apart
from mlax._module.arguments import refuse_arguments, takes_input
from mlax._module.branches import INode, copy_states
from mlax._module.contracts import (
    NotAssigned,
    checks_of,
    convert_defaults,
    convert_factory,
    converted,
    converted_value,
    converters_of,
    converting,
    defaults_to_convert,
    hides_property,
    refuse_converter,
    refuse_property,
    run_checks,
)
from mlax._module.exported_modules import register_module
from mlax._module.fields import (
    field,
    is_child,
    is_class_variable,
    is_to_copy,
    refuse_attributes,
    refuse_default,
)
from mlax._module.flattening import AuxData, Flattened, Unfinished, flattening_of
from mlax._module.nodes import UNSET, ENode
from mlax._module.numpy_numbers import with_python_numbers
from mlax._module.places import depth_of, own_nodes
from mlax._module.printing import shorten
from mlax._module.static import StaticError, tag

__all__ = ["HasForward", "Module", "field", "is_module"]

P = ParamSpec("P")
R = TypeVar("R", covariant=True)
T = TypeVar("T")
A = TypeVar("A", contravariant=True)
B = TypeVar("B", covariant=True)
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T5 = TypeVar("T5")


class HasForward(Protocol[P, R]):
    """Anything with a `forward` method."""

    def forward(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Compute a result from the arguments."""
        ...


class _HasForwardPair(Protocol[P, R]):
    def forward(self, *args: P.args, **kwargs: P.kwargs) -> tuple[R, Any]: ...


_Called: TypeAlias = _HasForwardPair[P, T] | Callable[P, tuple[T, Any]]


class _HasReplace(Protocol[P]):
    def __replace__(self, *args: P.args, **kwargs: P.kwargs) -> Any: ...


class _Replacing(Protocol):
    """What `replace` is to type checkers: it takes the arguments of `__replace__`.

    For Python 3.13 and later, checkers give each dataclass one that takes its fields.
    """

    def __get__(self, module: T, cls: type[_HasReplace[P]]) -> Callable[P, T]: ...


class _HasForwardOfOne(Protocol[A, B]):
    def forward(self, x: A, /) -> tuple[B, Any]: ...


_Step: TypeAlias = _HasForwardOfOne[A, B] | Callable[[A], tuple[B, Any]]


class _SignatureOfForward:
    """Gives a model the signature of its `forward`, for `inspect.signature(model)` and `jax.jit(model)`."""

    def __get__(self, module: Any, cls: type) -> inspect.Signature:
        if module is None:
            raise AttributeError("__signature__")  # that of the class is that of its __init__
        return inspect.signature(module.forward)


@dataclass_transform(
    frozen_default=True, eq_default=False, field_specifiers=(field, dataclasses.field)
)
class Module(INode, Flattened, metaclass=ABCMeta):
    """Base class of models.

    A subclass becomes a frozen dataclass and a PyTree without a decorator. A field is a child if
    its value is a State or None, or a tuple, list or dict of those. Every other field is static,
    and its value must be hashable. Lists and dicts are copied, and cannot be changed in place.

    A subclass implements `forward`, and `set_up` if it has nodes to make from the first input:

        class Linear(Module):
            out_features: int
            kernel: Parameter[Float[Array, "in out"]] = Parameter()

            def set_up(self, x: Float[Array, "*batch in"], rng: Array) -> Self:
                shape = (x.shape[-1], self.out_features)
                return self.replace(kernel=Parameter(jax.random.normal(rng, shape, x.dtype)))

            def forward(
                self, x: Float[Array, "*batch in"]
            ) -> tuple[Float[Array, "*batch out"], Self]:
                return x @ self.kernel.data, self

    Raises:
        TypeError: A field is a bare array, is unhashable, hides an array or a State, mixes States
            with other values, or does not match its annotation.
    """

    if TYPE_CHECKING:

        @property
        @abstractmethod
        def __match_args__(self) -> tuple[str, ...]:
            """Checkers define it in every subclass, as in all dataclasses. So to them, Module alone is abstract."""
            ...

    else:
        __signature__ = _SignatureOfForward()

        # Not declared to checkers, so that editors do not offer them.
        _aux_data: AuxData
        _mutable: ClassVar[type | None]
        _names: ClassVar[tuple[str, ...]] = ()
        _params: ClassVar[object] = None
        _has_forward: ClassVar[bool] = False
        _has_plain_call: ClassVar[bool] = True
        _has_plain_is_set_up: ClassVar[bool] = True
        _fresh_defaults: ClassVar[Mapping[str, Any]] = {}
        _converters: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}
        _checks: ClassVar[tuple[Callable[[Any], object], ...]] = ()

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    @trimmed
    def __init_subclass__(cls, *, kw_only: bool = False, **kwargs: Any) -> None:
        """Make the subclass a frozen dataclass.

        Args:
            kw_only: Whether `__init__` takes the fields of this class only by keyword, as in
                `dataclasses.dataclass`.
            **kwargs: Passed to other base classes.
        """
        super().__init_subclass__(**kwargs)
        _complete(cls, kw_only=kw_only)

    def __init__(self, **fields: Any) -> None:
        """Assign fields. For the `__init__` of a subclass, which may also assign them itself and not call this.

        Below another base class: `Module.__init__(self, width=3)`.

        Args:
            **fields: Values by field name.

        Raises:
            TypeError: A name is not that of a field.
        """
        if type(self) is Module:
            raise TypeError("Module is abstract: inherit from it")
        super().__init__()
        for name, value in fields.items():
            setattr(self, name, value)

    if not TYPE_CHECKING:

        @trimmed
        def __setattr__(self, name: str, value: Any) -> None:
            if _is_finished(self):
                super().__setattr__(name, value)  # refuses
            if name not in self._names:
                raise TypeError(
                    f"{type(self).__name__}.{name} is assigned in __init__, but is not a field of the class.\n"
                    f"  Declare it in the body of {type(self).__name__}: `{name}: {type(value).__name__}`"
                )
            object.__setattr__(self, name, converted_value(type(self), name, value))

        @trimmed
        def __delattr__(self, name: str) -> None:
            if _is_finished(self):
                super().__delattr__(name)
            object.__delattr__(self, name)

    def set_up(self, *args: Any, **kwargs: Any) -> Self:
        """Return a copy whose own nodes are made, given a sample of the arguments of `forward`.

        Your implementation takes those arguments of `forward` that it needs, by the same names, and
        `rng` for a key.
        """
        raise TypeError(
            f"{type(self).__name__} has UNSET nodes ({', '.join(self._unset())}), but no set_up to make them.\n"
            f"  Define set_up(self, x, rng) -> Self, or give the nodes data."
        )

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Any, Self]:
        """Return the result, and this module or a changed copy. When it is called, all nodes are set up."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def __call__(self: HasForward[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the module: set it up if needed, check nodes and arguments, and return the result of `forward`."""
        try:
            result: R = calls.run(self, args, kwargs)
        except Exception as error:
            trim(error)
            raise
        return result

    def call(  # noqa: D417 - **kwargs with *args
        self, child: _Called[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> tuple[T, Self]:
        """Call a child. Return its result, and this module with the child replaced by the one that came back.

        Args:
            child: A module inside this one, found by identity, a method of one, or what
                `mlax.training` or `mlax.inference` returns for it. Submodules are only searched if
                it is not in this module's own fields.
            *args: Passed to the child, as are `**kwargs`.

        Returns:
            Its result; and this module itself if the child came back unchanged, else a copy.

        Raises:
            ValueError: The child is not in this module.
        """
        try:
            return calls.run_child(self, child, args, kwargs)
        except Exception as error:
            trim(error)
            raise

    if TYPE_CHECKING:

        @overload
        def chain(self, x: T, a: _Step[T, T1], /) -> tuple[T1, Self]: ...
        @overload
        def chain(
            self,
            x: T,
            a: _Step[T, T1],
            b: _Step[T1, T2],
            /,
        ) -> tuple[T2, Self]: ...
        @overload
        def chain(
            self,
            x: T,
            a: _Step[T, T1],
            b: _Step[T1, T2],
            c: _Step[T2, T3],
            /,
        ) -> tuple[T3, Self]: ...
        @overload
        def chain(
            self,
            x: T,
            a: _Step[T, T1],
            b: _Step[T1, T2],
            c: _Step[T2, T3],
            d: _Step[T3, T4],
            /,
        ) -> tuple[T4, Self]: ...
        @overload
        def chain(
            self,
            x: T,
            a: _Step[T, T1],
            b: _Step[T1, T2],
            c: _Step[T2, T3],
            d: _Step[T3, T4],
            e: _Step[T4, T5],
            /,
        ) -> tuple[T5, Self]: ...
        @overload
        def chain(self, x: T, /, *children: _Step[T, T]) -> tuple[T, Self]: ...

    def chain(self, x: Any, /, *children: Any) -> tuple[Any, Self]:
        """Call children one after another, each with the result of the one before.

        All are found before the first is called, so `self.chain(x, *self.layers)` needs no loop.

        Args:
            x: The argument of the first child.
            *children: Modules inside this one, methods of these, or what `mlax.training` and
                `mlax.inference` return for these.

        Returns:
            The result of the last, and this module with the children replaced by those that came
            back.

        Raises:
            ValueError: One of them is not in this module.
        """
        try:
            return calls.run_chain(self, x, children)
        except Exception as error:
            trim(error)
            raise

    def __check__(self) -> None:
        """Raise an error if the values of the fields do not fit together. A class may define this.

        It runs at the end of the constructor and of `replace`, when the fields have passed the checks
        of their annotations; first for base classes, of which each may have its own. It cannot
        assign anything. While JAX traces, arrays have shapes and dtypes, but no values.
        """

    @property
    def is_set_up(self) -> bool:
        """Whether no node in the module's own fields is UNSET. Submodules do not count."""
        return not self._unset()

    def _unset(self) -> list[str]:
        return [name for name, node in own_nodes(self) if node.data is UNSET]

    if TYPE_CHECKING:
        replace: ClassVar[_Replacing]
        """Return a copy with some fields changed. Neither `__init__` nor `__post_init__` is called."""

    else:

        @trimmed
        def replace(self, **changes: Any) -> Self:
            """Return a copy with some fields changed. Neither `__init__` nor `__post_init__` is called.

            Args:
                **changes: New values by field name. Converters of their fields are applied to them.

            Raises:
                TypeError: A name is not that of a field, or a value is not valid for its field.
                Exception: What a `__check__` of the class or a converter raises.
            """
            return _replaced(self, changes)

    def __replace__(self, **changes: Any) -> Self:
        """Same as `replace`, for `copy.replace` in Python 3.13."""
        return self.replace(**changes)

    def _parts(self) -> Iterable[tuple[str | None, Any]]:
        for each in dataclasses.fields(self):
            if each.repr:
                yield each.name, getattr(self, each.name, "<not assigned>")

    # cloudpickle takes a function that rebuilds objects by value, with all that it refers to, if its name is not
    # public. So none of ours is named here.
    def __reduce__(self) -> tuple[Any, ...]:
        make_room(depth_of(self))
        return object.__new__, (type(self),), _values(self)

    def __setstate__(self, values: Mapping[str, Any]) -> None:
        if _is_finished(self):
            raise dataclasses.FrozenInstanceError(f"this {type(self).__name__} is frozen")
        cls: Any = type(self)
        unknown = [name for name in values if name not in cls._names]
        if unknown or any(
            name not in values and not _has_default(cls, name) for name in cls._names
        ):
            fields = ", ".join(cls._names) or "(none)"
            holds = ", ".join(unknown or values) or "no fields"
            raise TypeError(
                f"{cls.__name__}: the pickle holds {holds}, but the class has the fields {fields}.\n"
                "  Load it with the version of the class that was pickled, and store it with mlax.save."
            )
        _fill(self, values)
        field_checks.check_static(self)


pickle_wrapped_functions_by_name()

_RESERVED = frozenset(dir(Module)) | {"_aux_data", "_mutable"}


def _complete(cls: Any, *, kw_only: bool = False) -> None:
    """Turn a new class into a Module, unless that has been done."""
    if cls.__dict__.get("_mutable") is not None:
        return
    _make_dataclass(cls, kw_only=kw_only)
    cls._mutable = _mutable(cls)
    cls._checks = checks_of(cls, Module)
    cls._has_forward = cls.forward is not Module.forward
    cls._has_plain_call = cls.__call__ is Module.__call__
    cls._has_plain_is_set_up = cls.is_set_up is Module.is_set_up
    register_module(cls)
    if "__init_subclass__" in cls.__dict__:
        cls.__init_subclass__ = classmethod(_completing(cls.__dict__["__init_subclass__"].__func__))


def _completing(init_subclass: Callable[..., None]) -> Callable[..., None]:
    """Return a user's `__init_subclass__`, changed to work even if it does not call that of Module."""

    @trimmed
    @functools.wraps(init_subclass)
    def completed(cls: Any, *args: Any, **kwargs: Any) -> None:
        init_subclass(cls, *args, **kwargs)
        _complete(cls)

    return completed


def _make_dataclass(cls: Any, *, kw_only: bool) -> None:
    """Turn a new class into a frozen dataclass, and store on it what constructors need."""
    for name, annotation in inspect.get_annotations(cls).items():
        declared = cls.__dict__.get(name)
        if is_class_variable(annotation):
            refuse_converter(cls, name, declared)
        else:
            refuse_default(cls, name, declared)
            convert_factory(cls, name, declared)
            if hides_property(cls, name):
                setattr(cls, name, dataclasses.field())  # else the property would be the default
    for base in cls.__mro__[1:]:
        _mend_fields(base)
    # With a custom __init__, fields with defaults may come first: the rule against it is for generated ones.
    init = "__init__" not in cls.__dict__
    try:
        dataclasses.dataclass(frozen=True, eq=False, repr=False, init=init, kw_only=kw_only)(cls)
    except TypeError as error:
        if "follows default argument" not in str(error):
            raise
        raise TypeError(
            f"{cls.__name__}: {error}.\n  Give it a default, or declare it with mlax.field(kw_only=True)."
        ) from None
    for name in ("__setattr__", "__delattr__", "__replace__"):
        # Those of dataclasses would not work with a custom __init__.
        if name in cls.__dict__:
            delattr(cls, name)
    for base in cls.__mro__:
        if base is cls or not (issubclass(base, Module) or base in Module.__mro__):
            refuse_attributes(cls, base)
    fields = dataclasses.fields(cls)
    for each in fields:
        if each.name == "self":
            raise TypeError(
                f"{cls.__name__}.self: a field cannot be called self; choose another name"
            )
        if each.name in _RESERVED:
            raise TypeError(
                f"{cls.__name__}.{each.name}: a field cannot have the name of a method of Module; choose another name"
            )
        if hides_property(cls, each.name):
            setattr(cls, each.name, hiding := NotAssigned())
            hiding.__set_name__(cls, each.name)
        else:
            refuse_property(cls, each.name)
    cls._names = tuple(each.name for each in fields)
    cls._fresh_defaults = {each.name: each.default for each in fields if is_to_copy(each.default)}
    cls._params = cls.__dict__["__dataclass_params__"]
    cls._converters = converters_of(cls)
    cls.__init__ = _freezing(cls, cls.__init__, generated=init)


def _mend_fields(cls: type) -> None:
    """Put `dataclasses.MISSING` in place of its copies in the fields of a class that cloudpickle has loaded.

    dataclasses compares it by identity.
    """
    for each in cls.__dict__.get("__dataclass_fields__", {}).values():
        for name in ("default", "default_factory", "kw_only"):
            if isinstance(getattr(each, name), type(dataclasses.MISSING)):
                setattr(each, name, dataclasses.MISSING)


def _replaced(module: Any, changes: dict[str, Any]) -> Any:
    """Return a copy of a module with some fields changed: see `Module.replace`."""
    cls = class_of(module)
    names: tuple[str, ...] = cls._names
    unknown = changes.keys() - set(names)
    if unknown:
        name = min(unknown)
        close = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"the fields are {', '.join(names)}"
        raise TypeError(f"{cls.__name__}.replace: no field {name!r}, {hint}")
    changes = converted(cls, changes)
    new = object.__new__(cls)
    _fill(new, _values(module) | changes, module._aux_data.label, changes)
    field_checks.check_changes(module, new, changes)
    run_checks(new)
    return new


def _values(module: Any) -> dict[str, Any]:
    return {name: getattr(module, name) for name in module._names}


def _is_finished(module: Module) -> bool:
    try:
        aux_data: object = object.__getattribute__(module, "_aux_data")  # not a user's __getattr__
    except AttributeError:
        return False
    return aux_data.failed if isinstance(aux_data, Unfinished) else aux_data is not None


def _mutable(cls: type[Module]) -> type | None:
    """Return a twin of `cls` with the same memory layout and plain assignment, or None if Python does not allow
    it.

    The fastest way to a frozen object is to fill an instance of the twin and then set its class to
    `cls`. Unflattening takes about 300 ns this way, and 640 ns with `object.__setattr__` for each
    field. Python does not allow it, for example, if `cls` has another base class before Module.
    """
    plain = {
        "_mutable": object,
        "__slots__": (),
        "__init__": object.__init__,
        "__setattr__": object.__setattr__,
        "__delattr__": object.__delattr__,  # with __setattr__ one slot of the type
    }
    mutable = ABCMeta(cls.__name__, (Module,), plain)
    try:
        object.__setattr__(mutable(), "__class__", cls)
    except TypeError:
        return None
    return mutable


def _freezing(cls: Any, init: Callable[..., None], *, generated: bool) -> Callable[..., None]:
    """Return an `__init__` that converts what a generated one is given, and freezes the object in the end."""
    running, failed = Unfinished(cls, failed=False), Unfinished(cls, failed=True)
    defaults = defaults_to_convert(cls, generated=generated)
    inner = converting(cls, init) if generated else init
    outer = inner if cls._converters else init

    @functools.wraps(init)
    def __init__(self: Module, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        if type(self) is not cls:  # called by the __init__ of a subclass, which is not done yet
            inner(self, *args, **kwargs)
            return
        if _is_finished(self):
            raise dataclasses.FrozenInstanceError(f"{cls.__name__}.__init__ was called before")
        try:
            object.__setattr__(self, "_aux_data", running)
            if defaults:
                convert_defaults(self, defaults)
            try:
                outer(self, *args, **kwargs)
            except TypeError:
                infers = cls.set_up is not Module.set_up and takes_input(cls.set_up)
                refuse_arguments(cls, init, args, kwargs, infers=infers)
                raise
            _finish(self)
            field_checks.check_fields(self)
            run_checks(self)
        except BaseException as error:
            object.__setattr__(self, "_aux_data", failed)
            trim(error)
            raise

    __init__.__module__ = __name__
    return __init__


def _fill(
    module: Module,
    values: Mapping[str, Any],
    label: Hashable = None,
    changes: Iterable[str] | None = None,
) -> None:
    """Give a new module its fields, without its `__init__`: for `replace`, `copy` and `pickle`."""
    for name, value in values.items():
        object.__setattr__(module, name, value)
    _finish(module, label, changes)


def _finish(module: Module, label: Hashable = None, changes: Iterable[str] | None = None) -> None:
    """Sort the fields of a new module into children and static fields, and freeze it.

    Fields are read and written as attributes, never through `__dict__`: Python stores attributes
    more compactly until `__dict__` is first used.
    """
    cls = class_of(module)
    if cls.__dict__["__dataclass_params__"] is not cls._params:
        raise TypeError(
            f"{cls.__name__} is decorated with @dataclass; remove the decorator: every Module is a frozen dataclass"
        )
    children: list[str] = []
    static: list[str] = []
    values: list[Any] = []
    tags: list[Hashable] = []
    branches: dict[str, Any] = {}
    for name in cls._names:
        value = _value(module, name)
        if name in cls._fresh_defaults and value is cls._fresh_defaults[name]:
            value = map_leaves(_copied, value)
            object.__setattr__(module, name, value)
        try:
            if not is_child(value):
                if (plain := with_python_numbers(cls, name, value)) is not value:
                    value = plain
                    object.__setattr__(module, name, value)
                static.append(name)
                values.append(value)
                tags.append(tag(value))
                continue
        except StaticError as error:
            raise TypeError(
                f"{cls.__name__}.{name} = {shorten(value)} is not a valid field: {error}.\n  {error.cure}"
            ) from None
        children.append(name)
        if isinstance(value, (list, tuple, dict)):
            value = copy_states(f"{cls.__name__}.{name}", value)
            object.__setattr__(module, name, value)
        if value is not None and not isinstance(value, ENode):
            branches[name] = value
    is_held = False
    if branches:
        among = branches if changes is None else branches.keys() & changes
        copies, is_held = moved_apart(cls.__name__, branches, among)
        for name, value in copies.items():
            object.__setattr__(module, name, value)
    flattening = flattening_of(cls, tuple(children), tuple(static))
    aux_data = AuxData(flattening, tuple(values), tuple(tags), label, is_held=is_held)
    object.__setattr__(module, "_aux_data", aux_data)


def _value(module: Module, name: str) -> Any:
    """Return the value of a field, or its default if `__init__` did not assign one."""
    cls: Any = type(module)
    try:
        # A default is an attribute of the class. A user's __getattr__ is not called: it may read other fields.
        return object.__getattribute__(module, name)
    except AttributeError:
        _mend_fields(cls)
        factory = cls.__dataclass_fields__[name].default_factory
        if factory is dataclasses.MISSING:
            where = "in __post_init__" if cls._params.init else "there"
            cure = f"Assign it {where}, or give it a default."
            if not cls._params.init and hasattr(cls, "__post_init__"):
                cure += " A __post_init__ runs in a generated __init__, not after one of your own."
            raise TypeError(
                f"{cls.__name__}.__init__ did not assign the field {name!r}.\n  {cure}"
            ) from None
        object.__setattr__(module, name, factory())
        return getattr(module, name)


def _has_default(cls: Any, name: str) -> bool:
    _mend_fields(cls)
    factory = cls.__dataclass_fields__[name].default_factory
    return hasattr(cls, name) or factory is not dataclasses.MISSING


def _copied(leaf: Any) -> Any:
    return leaf.copy() if isinstance(leaf, jax.Array) else leaf


def is_module(node: object) -> TypeGuard[Module]:
    """Whether `node` is a Module."""
    return isinstance(node, Module)
