"""What a class says about its own fields, in code: converters, checks, and fields in place of abstract properties.

Converters run wherever a value is given to a field: by an argument of the generated `__init__`, by an
assignment in `__init__` or `__post_init__`, by a default, and by `replace`; those of `InitVar`s, before
`__post_init__` gets the value. Checks (`__check__`) run
when everything has its value. Neither runs when JAX unflattens a module, nor when one is copied or
unpickled.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from jax.errors import ConcretizationTypeError

from mlax._jax.trees import class_of
from mlax._module.printing import shorten
from mlax.tree import describe

__all__ = [
    "CONVERTER",
    "NotAssigned",
    "checks_of",
    "convert_defaults",
    "convert_factory",
    "converted",
    "converted_value",
    "converters_of",
    "converting",
    "defaults_to_convert",
    "hides_property",
    "refuse_converter",
    "refuse_property",
    "run_checks",
]

CONVERTER = "converter"  # the key in the metadata of a dataclass field

_Converters: TypeAlias = Mapping[str, Callable[[Any], Any]]


def converters_of(cls: Any) -> _Converters:
    """Return the converters of a dataclass, by the names of the fields and `InitVar`s."""
    return {
        name: each.metadata[CONVERTER]
        for name, each in cls.__dataclass_fields__.items()
        if CONVERTER in each.metadata
    }


def converted(cls: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values of fields, by name, as their converters return them."""
    return {name: converted_value(cls, name, value) for name, value in values.items()}


def converted_value(cls: Any, name: str, value: Any) -> Any:
    """Return the value of one field as its converter returns it."""
    converter = cls._converters.get(name)
    return value if converter is None else _convert(cls.__name__, name, converter, value)


def _convert(owner: str, name: str, converter: Callable[[Any], Any], value: Any) -> Any:
    if class_of(value) is converter:  # a class need not take its own instances
        return value
    try:
        return converter(value)
    except Exception as error:
        error.add_note(f"in the converter of {owner}.{name}, which got {shorten(value)}")
        raise


def convert_factory(cls: type, name: str, declared: Any) -> None:
    """Change what the body of a class declares as a field to convert what its `default_factory` makes.

    So the `__init__` that dataclasses generates assigns nothing else, also for a field that it does not take.
    """
    if not _has_converter(declared) or _is_missing(declared.default_factory):
        return
    convert = functools.partial(_convert, cls.__name__, name, declared.metadata[CONVERTER])
    declared.default_factory = functools.partial(_made, convert, declared.default_factory)


def _made(convert: Callable[[Any], Any], factory: Callable[[], Any]) -> Any:
    return convert(factory())


def refuse_converter(cls: type, name: str, declared: Any) -> None:
    """Raise an error for a class variable with a converter."""
    if _has_converter(declared):
        raise TypeError(
            f"{cls.__name__}.{name} is a ClassVar, to which no converter is applied.\n"
            f"  Convert the value where it is given, or make it a field."
        )


def converting(cls: Any, init: Any) -> Callable[..., None]:
    """Return a generated `__init__`, changed to convert its arguments and the defaults of those not given.

    The `__init__` of a subclass may call it, and pass it fields of that subclass, too.
    """
    if cls._converters:  # annotations say what converters return, not what they take
        init.__annotations__ |= dict.fromkeys(cls._converters.keys() & init.__annotations__, Any)
    code = init.__code__
    names = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
    positional = names[: code.co_argcount - 1]

    @functools.wraps(init)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        own = class_of(self)  # a subclass may have declared a field anew
        given = dict(zip(positional, args, strict=False))
        for name in names:
            if name in own._converters and name not in given and name not in kwargs:
                kwargs |= _default_to_convert(cls, own, name)
        if own is not cls:
            for name in [name for name in kwargs if name in own._names and name not in cls._names]:
                setattr(self, name, kwargs.pop(name))
        first = converted(own, given).values()
        init(self, *first, *args[len(given) :], **converted(own, kwargs))

    return __init__


def _default_to_convert(cls: Any, own: Any, name: str) -> dict[str, Any]:
    """Return the default of a field, by its name, unless there is none or its factory converts it."""
    field = cls.__dataclass_fields__[name]
    if not _is_missing(field.default):
        return {name: field.default}
    if _is_missing(field.default_factory) or own._converters[name] is cls._converters.get(name):
        return {}
    return {name: field.default_factory()}


def defaults_to_convert(cls: Any, *, generated: bool) -> tuple[str, ...]:
    """Return the names of the fields whose converted default a module gets before its `__init__` runs.

    Args:
        cls: The class.
        generated: Whether its `__init__` is generated, and so takes fields.
    """
    fields = [each for each in dataclasses.fields(cls) if each.name in cls._converters]
    return tuple(
        each.name
        for each in fields
        if not _is_missing(each.default) and not (generated and each.init)
    )


def convert_defaults(module: Any, names: tuple[str, ...]) -> None:
    """Give a module the converted defaults of fields."""
    cls = class_of(module)
    for name in names:
        default = cls.__dataclass_fields__[name].default
        object.__setattr__(module, name, converted_value(cls, name, default))


def _has_converter(declared: Any) -> bool:
    return isinstance(declared, dataclasses.Field) and CONVERTER in declared.metadata


def _is_missing(default: object) -> bool:
    """Whether this is `dataclasses.MISSING`, or a copy of it in a class that cloudpickle has loaded."""
    return isinstance(default, type(dataclasses.MISSING))


def checks_of(cls: type, root: type) -> tuple[Callable[[Any], object], ...]:
    """Return the `__check__` methods of a class and its bases, those of bases first.

    Args:
        cls: The class.
        root: The class that has an empty one.

    Raises:
        TypeError: A `__check__` is not a method.
    """
    owners = [base for base in reversed(cls.__mro__) if base is not root]
    checks = {base: vars(base)["__check__"] for base in owners if "__check__" in vars(base)}
    for base, check in checks.items():
        if issubclass(class_of(check), (classmethod, staticmethod, type)) or not callable(check):
            raise TypeError(
                f"{base.__name__}.__check__ must be a method, got {describe(check)}.\n"
                f"  Define it in the body of the class: def __check__(self) -> None"
            )
    return tuple(checks.values())


def run_checks(module: Any) -> None:
    """Run the checks of a new module. To an error they raise, add a note that shows the module."""
    for check in class_of(module)._checks:
        try:
            answer = check(module)
        except Exception as error:
            error.add_note(f"in {check.__qualname__} of {shorten(module, 200)}")
            if isinstance(error, ConcretizationTypeError):
                error.add_note(
                    "  A check that runs while JAX traces knows shapes and dtypes, not the values of arrays."
                )
            raise
        if answer is not None:
            raise TypeError(
                f"{check.__qualname__} returned {shorten(answer)}, which has no effect.\n"
                f"  Raise an error if the module is not valid, and return nothing."
            )


class NotAssigned:
    """Stands in a class for a field without a default, where a base class has a property of that name.

    Python finds the value in the instance before this, but not before a property.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: object, owner: type) -> Any:
        raise AttributeError(f"{owner.__name__!r} has no attribute {self.name!r}")


def hides_property(cls: type, name: str) -> bool:
    """Whether a field stands before a property of its name, an abstract one perhaps, in the order of base classes."""
    if not isinstance(inspect.getattr_static(cls, name, None), property):
        return False
    declares, holder = _field_and_property(cls, name)
    return cls.__mro__.index(declares) < cls.__mro__.index(holder)


def refuse_property(cls: type, name: str) -> None:
    """Raise an error if a property stands before a field of its name in the order of base classes."""
    if hides_property(cls, name) or not isinstance(
        inspect.getattr_static(cls, name, None), property
    ):
        return
    declares, holder = _field_and_property(cls, name)
    if declares in holder.__mro__:
        what = "; rename one"
        cure = (
            f"To leave it to subclasses how they provide {name}, make it an abstract property in "
            f"{declares.__name__}."
        )
    else:
        what = f", and comes after {holder.__name__} in the bases of {cls.__name__}"
        cure = (
            f"Name {_base_with(cls, declares)} before {_base_with(cls, holder)} in these bases, or declare the "
            f"field in the body of {cls.__name__} again."
        )
    raise TypeError(
        f"{holder.__name__}.{name} is a property, but {declares.__name__} declares a field {name}{what}.\n"
        f"  {cure}"
    )


def _field_and_property(cls: type, name: str) -> tuple[type, type]:
    """Return the first class that declares a field, and the first that has an attribute of its name."""
    declares = next(base for base in cls.__mro__ if name in inspect.get_annotations(base))
    return declares, next(base for base in cls.__mro__ if name in vars(base))


def _base_with(cls: type, base: type) -> str:
    # `issubclass` would ask `cls`, too, which is not finished: `abc` takes its answers for those of its first base.
    return next(one.__name__ for one in cls.__bases__ if base in one.__mro__)
