"""Checking one value against one annotation, and the switch that turns checks off."""

import contextlib
import contextvars
import os
import warnings
from collections.abc import Callable, Generator
from typing import Any, Never, NoReturn, get_args

from mlax._checking.hints import Recursive

__all__ = ["check_value", "checks_enabled", "runtime_checks"]

_OFF = ("0", "false", "no", "off")

_enabled = contextvars.ContextVar(
    "mlax_runtime_checks",
    default=os.environ.get("MLAX_RUNTIME_CHECKS", "1").strip().lower() not in _OFF,
)


def checks_enabled() -> bool:
    """Return whether run-time checks are on."""
    return _enabled.get()


@contextlib.contextmanager
def runtime_checks(enabled: bool) -> Generator[None, None, None]:
    """Turn the checks of trees and annotations on or off within a `with` block, in this thread or task.

    The environment variable `MLAX_RUNTIME_CHECKS=0` turns them off from the start. Under `jit`,
    checks run while a function is traced: a compiled function does not pay for them, and does not
    notice this switch. It does not affect bounds of hyperparameters, nor errors raised when a
    module is constructed.
    """
    token = _enabled.set(enabled)
    try:
        yield
    finally:
        _enabled.reset(token)


def check_value(value: object, annotation: Any) -> None:
    """Check one value against one annotation, including every item of containers.

    Names of dimensions and structures refer to the same sizes and structures as in other values
    checked in the same `jaxtyping.jaxtyped("context")` block. A forward reference that cannot be
    resolved is not checked.

    Raises:
        typeguard.TypeCheckError: The value does not conform. The message begins with the kind of
            value.
    """
    # Imported at the first check, so that `import mlax` stays fast and disabled checks cost nothing.
    from typeguard import (
        CollectionCheckStrategy,
        ForwardRefPolicy,
        TypeHintWarning,
        check_type,
        checker_lookup_functions,
    )

    if _checker_of not in checker_lookup_functions:
        checker_lookup_functions.append(_checker_of)
    # jaxtyping's own `jaxtyped(typechecker=typeguard.typechecked)` would check nothing: since typeguard 4 that
    # decorator rewrites the source of a function, and jaxtyping passes it a function without source.
    quiet: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if _has_string(annotation):
        # In `list["Name"]` the name is a plain string: typeguard does not check it either, but warns.
        quiet = warnings.catch_warnings(action="ignore", category=TypeHintWarning)
    with quiet:
        check_type(
            value,
            annotation,
            forward_ref_policy=ForwardRefPolicy.IGNORE,
            collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS,
        )


def _checker_of(origin: Any, _: tuple[Any, ...], __: tuple[Any, ...]) -> Callable[..., None] | None:
    """Return how typeguard is to check what it does not know; None for all other annotations."""
    if isinstance(origin, Recursive):
        return _check_recursive
    return _refuse if origin in (Never, NoReturn) else None


def _refuse(value: Any, origin: Any, _: tuple[Any, ...], __: Any) -> None:
    from typeguard import TypeCheckError

    raise TypeCheckError(f"there is no {origin}")


def _check_recursive(value: Any, origin: Recursive, _: tuple[Any, ...], memo: Any) -> None:
    from typeguard import check_type_internal

    check_type_internal(value, origin.__value__, memo)


def _has_string(annotation: Any) -> bool:
    return isinstance(annotation, str) or any(map(_has_string, get_args(annotation)))
