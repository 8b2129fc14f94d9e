"""What a class says about its own fields, in code: converters, checks, and fields in place of abstract properties.

Converters run wherever a value is given to a field: by an argument of the generated `__init__`, by an
assignment in `__init__` or `__post_init__`, by a default, and by `replace`. Checks (`__check__`) run
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

__all__ = [
    "CONVERTER",
    "NotAssigned",
    "checks_of",
    "convert_defaults",
    "converted",
    "converted_value",
    "converters_of",
    "converting",
    "hides_property",
    "run_checks",
]

CONVERTER = "converter"  # the key in the metadata of a dataclass field

_Converters: TypeAlias = Mapping[str, Callable[[Any], Any]]


def converters_of(cls: Any) -> _Converters:
    """Return the converters of a dataclass, by the names of the fields."""
    return {
        each.name: each.metadata[CONVERTER]
        for each in dataclasses.fields(cls)
        if CONVERTER in each.metadata
    }


def converted(cls: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values of fields, by name, as their converters return them."""
    return {name: converted_value(cls, name, value) for name, value in values.items()}


def converted_value(cls: Any, name: str, value: Any) -> Any:
    """Return the value of one field as its converter returns it."""
    converter = cls._converters.get(name)
    if converter is None:
        return value
    try:
        return converter(value)
    except Exception as error:
        error.add_note(f"in the converter of {cls.__name__}.{name}, which got {shorten(value)}")
        raise


def converting(cls: Any, init: Callable[..., None]) -> Callable[..., None]:
    """Return a generated `__init__`, changed to convert its arguments and the defaults of those not given."""
    if not cls._converters:
        return init
    # The annotation of a field says what its converter returns, not what it takes.
    init.__annotations__ |= dict.fromkeys(cls._converters.keys() & init.__annotations__, Any)
    parameters = list(inspect.signature(init).parameters.values())[1:]
    positional = [each.name for each in parameters if each.kind is not each.KEYWORD_ONLY]
    defaults = [
        cls.__dataclass_fields__[each.name] for each in parameters if each.name in cls._converters
    ]

    @functools.wraps(init)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        given = dict(zip(positional, args, strict=False))
        for field in defaults:
            if field.name not in given and field.name not in kwargs and _has_default(field):
                kwargs[field.name] = _default(field)
        own = class_of(self)  # a subclass may have declared a field anew
        first = converted(own, given).values()
        init(self, *first, *args[len(given) :], **converted(own, kwargs))

    return __init__


def convert_defaults(module: Any) -> None:
    """Give a module the converted defaults of those fields to which its `__init__` did not assign anything."""
    cls = class_of(module)
    for name in cls._converters:
        field = cls.__dataclass_fields__[name]
        if name not in vars(module) and _has_default(field):
            object.__setattr__(module, name, converted_value(cls, name, _default(field)))


def _has_default(field: "dataclasses.Field[Any]") -> bool:
    return not (_is_missing(field.default) and _is_missing(field.default_factory))


def _default(field: "dataclasses.Field[Any]") -> Any:
    factory: Any = field.default_factory
    return field.default if _is_missing(factory) else factory()


def _is_missing(default: object) -> bool:
    """Whether this is `dataclasses.MISSING`, or a copy of it in a class that cloudpickle has loaded."""
    return isinstance(default, type(dataclasses.MISSING))


def checks_of(cls: type, root: type) -> tuple[Callable[[Any], object], ...]:
    """Return the `__check__` methods of a class and its bases, those of bases first.

    Args:
        cls: The class.
        root: The class that has an empty one.
    """
    owners = [base for base in reversed(cls.__mro__) if base is not root]
    return tuple([vars(base)["__check__"] for base in owners if "__check__" in vars(base)])


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
    mro = cls.__mro__
    declares = next(i for i, base in enumerate(mro) if name in inspect.get_annotations(base))
    return declares < next(i for i, base in enumerate(mro) if name in vars(base))
