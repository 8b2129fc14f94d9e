"""Tracebacks without mlax's own frames: they end at the line of the user's code that was wrong.

An error passes up to ten frames of mlax on its way out of the call of a module, and again for each
module around it. They say nothing to a user. So public functions leave them out:

    try:
        ...
    except Exception as error:
        trim(error)
        raise

After a bare `raise`, Python adds the frame of the caller to the traceback, but not this one. All
frames of the user's own code stay. Those of JAX inside are left out as well, as JAX does it for
most of its functions. `JAX_TRACEBACK_FILTERING=off` shows all frames.
"""

import contextlib
import dataclasses
import dis
import functools
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, TypeVar, cast

import jax

__all__ = ["trim", "trimmed"]

F = TypeVar("F", bound=Callable[..., Any])

_MOST = 300
"""Longer tracebacks stay as they are: each module around the error would go through all of it again."""

_REFUSALS = (TypeError, ValueError, OSError, dataclasses.FrozenInstanceError, NotImplementedError)
"""What mlax raises, or lets pass, if it is used in a way that cannot be right."""

_RAISE = dis.opmap["RAISE_VARARGS"]


def trim(error: BaseException) -> None:
    """Leave the frames of mlax and JAX out of the traceback of an error, and of the errors that led to it.

    They stay if mlax itself failed, as with a KeyError at an operation in the innermost frame:
    whoever mends mlax needs them.
    """
    if cast("Any", jax.config).jax_traceback_filtering == "off":
        return
    one: BaseException | None = error
    while one is not None:
        one.__traceback__ = _without_ours(one)
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)


def trimmed(function: F) -> F:
    """Return a function that trims the errors that it raises."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            trim(error)
            raise

    return cast("F", wrapper)


def _without_ours(error: BaseException) -> TracebackType | None:
    entries: list[TracebackType] = []
    traceback = error.__traceback__
    while traceback is not None:
        if not traceback.tb_frame.f_code.co_filename.startswith(_folder("jax")):
            entries.append(traceback)
        traceback = traceback.tb_next
        if len(entries) > _MOST:
            return error.__traceback__
    if isinstance(error, _REFUSALS) or (entries and not _has_failed(entries[-1])):
        entries = [entry for entry in entries if not _is_ours(entry.tb_frame)]
    for entry in reversed(entries):
        traceback = TracebackType(traceback, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return traceback


def _has_failed(innermost: TracebackType) -> bool:
    """Whether the innermost frame is mlax's, and not at a `raise` statement."""
    instruction = innermost.tb_frame.f_code.co_code[innermost.tb_lasti]
    return _is_ours(innermost.tb_frame) and instruction != _RAISE


def _is_ours(frame: FrameType) -> bool:
    code = frame.f_code
    made_by_dataclasses = code.co_qualname.startswith("__create_fn__.")
    return made_by_dataclasses or code.co_filename.startswith(_ours())


@functools.cache
def _ours() -> tuple[str, ...]:
    """Return how the file names of mlax's code begin, and of what runs in between."""
    folders = map(_folder, ("mlax", "mlax_optimizers", "jaxtyping"))
    return "<mlax: ", contextlib.__file__, dataclasses.__file__, *folders


@functools.cache
def _folder(package: str) -> str:
    spec = find_spec(package)
    assert spec is not None
    return f"{Path(str(spec.origin)).parent}/"
