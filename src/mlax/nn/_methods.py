"""Methods of layers beside `forward`, such as `decode`, that are calls like it: set-up, checks and options included."""

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar, cast

from mlax._jax.tracebacks import trim
from mlax._jax.trees import class_of
from mlax._module.calls import run
from mlax._module.frames import current_frame
from mlax.tree import describe

__all__ = ["as_call", "method_of"]

F = TypeVar("F", bound=Callable[..., Any])


def as_call(method: F) -> F:
    """Let a method that returns `(result, self)` be a call when it is called directly: `layer.decode(x, cache)`.

    In a call of the same module it is a plain method.
    """

    @functools.wraps(method)
    def called(self: Any, *args: Any, **kwargs: Any) -> Any:
        frame = current_frame()
        if frame is not None and frame.module is self:
            return method(self, *args, **kwargs)
        try:
            return run(self, args, kwargs, called)
        except Exception as error:
            trim(error)
            raise

    return cast("F", called)


def _is_in_class(function: FunctionType) -> bool:
    holder, _, _ = function.__qualname__.rpartition(".")
    return holder != "" and not holder.endswith("<locals>")


def method_of(where: str, model: Any, method: Any) -> Callable[..., Any]:
    """Return the method of this name that the class of a model has: it may override the one that is given.

    Args:
        where: The function that takes it, for the message.
        model: The model.
        method: A method of its class, of a base class or of a protocol; or a function of the model, which is returned.

    Raises:
        TypeError: The class has none.
    """
    if isinstance(method, FunctionType) and not _is_in_class(method):
        return method
    cls, name = class_of(model), getattr(method, "__name__", "")
    function: Callable[..., Any] | None = getattr(cls, name, None)
    if function is None:
        got = getattr(method, "__qualname__", None) or describe(method)
        raise TypeError(
            f"{where} takes a method of {cls.__name__}, such as {cls.__name__}.forward, got {got}"
        )
    return function
