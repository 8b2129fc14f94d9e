"""A callable with the options of its call: the result of `training`, `inference` and `capture`."""

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

from mlax._jax.trees import class_of
from mlax._module.flattening import Flattened, is_flattened
from mlax._module.frames import NOT_GIVEN, StaticOptions, static_options, static_value

__all__ = ["Prepared", "target_of"]


class Prepared:
    """A callable with options for its call.

    Attributes:
        function: A Module, a method of one, or any other callable.
        rng: Key of the call, or None to inherit one.
        static: The static options; `NOT_GIVEN` where they are inherited.
        name: The function that made it, for messages: `mlax.training`.
    """

    def __init__(
        self, function: Callable[..., Any], rng: Any, static: StaticOptions, name: str
    ) -> None:
        self.function = function
        self.rng = rng
        self.static = static
        self.name = name
        self.__wrapped__ = function  # for inspect.signature

    is_for_call: ClassVar[bool] = True
    """Whether `Module.call` takes it: whether it returns the pair that a `forward` returns."""

    def with_options(self, name: str, rng: Any, static: StaticOptions) -> Any:
        """Return the same with other options. Those that are not given stay."""
        pairs = zip(static, self.static, strict=True)
        merged = StaticOptions(*(before if new is NOT_GIVEN else new for new, before in pairs))
        return type(self)(self.function, self.rng if rng is None else rng, merged, name)

    def merged(self) -> StaticOptions:
        """Return the static options of the call: its own where it has them, else those around it."""
        around = static_options()
        own = (
            outer if value is NOT_GIVEN else static_value(name, value)
            for name, value, outer in zip(around._fields, self.static, around, strict=True)
        )
        return StaticOptions(*own)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.function, self.rng, self.static, self.name), vars(self)

    def __repr__(self) -> str:
        return f"<{self.name} of {self.function!r}>"


def target_of(function: Any) -> tuple[Any, Callable[..., Any]] | None:
    """Return the module that a callable is or is a method of, and the function that runs; None for anything else."""
    if isinstance(function, Flattened):
        return function, class_of(function).forward
    if inspect.ismethod(function) and is_flattened(function.__self__):
        return function.__self__, function.__func__
    return None
