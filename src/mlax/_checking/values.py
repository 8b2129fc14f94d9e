"""Whether run-time checks are on, and one value against one annotation."""

import contextlib
import contextvars
import os
import warnings
from collections.abc import Generator
from typing import Any, get_args

__all__ = ["check_value", "checks_enabled", "runtime_checks"]

_OFF = ("0", "false", "no", "off")

_enabled = contextvars.ContextVar(
    "mlax_runtime_checks",
    default=os.environ.get("MLAX_RUNTIME_CHECKS", "1").strip().lower() not in _OFF,
)


def checks_enabled() -> bool:
    """Return whether trees and annotations are checked here and now."""
    return _enabled.get()


@contextlib.contextmanager
def runtime_checks(enabled: bool) -> Generator[None, None, None]:
    """Turn the checks of trees and annotations on or off within a `with` block, in this thread or task.

    The environment variable `MLAX_RUNTIME_CHECKS=0` turns them off from the start. Under `jit` they run while the
    function is traced, so what is already compiled neither pays for them nor notices the change. Bounds of
    hyperparameters and what is refused at construction do not depend on it.
    """
    token = _enabled.set(enabled)
    try:
        yield
    finally:
        _enabled.reset(token)


def check_value(value: object, annotation: Any) -> None:
    """Check one value against one annotation, every item of its containers included.

    Names of dimensions and structures are tied to those of other values checked in the same
    `jaxtyping.jaxtyped("context")` block. A forward reference that cannot be resolved is let through.

    Raises:
        typeguard.TypeCheckError: The value does not conform. The message begins with what the value is.
    """
    # Imported at the first check: `import mlax` stays light, and checks that are off cost nothing.
    from typeguard import CollectionCheckStrategy, ForwardRefPolicy, TypeHintWarning, check_type

    # jaxtyping's own `jaxtyped(typechecker=typeguard.typechecked)` would check nothing: since version 4 that decorator
    # rewrites a function's source, and jaxtyping hands it a function without one.
    quiet: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if _has_string(annotation):
        # In `list["Name"]` the name is a plain string: typeguard lets it through as well, and warns.
        quiet = warnings.catch_warnings(action="ignore", category=TypeHintWarning)
    with quiet:
        check_type(
            value,
            annotation,
            forward_ref_policy=ForwardRefPolicy.IGNORE,
            collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS,
        )


def _has_string(annotation: Any) -> bool:
    return isinstance(annotation, str) or any(map(_has_string, get_args(annotation)))
