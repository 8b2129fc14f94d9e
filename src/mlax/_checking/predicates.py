"""Functions that users give to choose parts of a tree."""

from collections.abc import Callable
from typing import Any

import numpy as np

from mlax._jax.trees import class_of
from mlax.tree import describe

__all__ = ["asked", "holds"]


def asked(
    name: str, function: Callable[..., Any], given: tuple[Any, ...], what: Callable[[], str]
) -> Any:
    """Return what a function answers. An error that it raises gets a note that says for what.

    Args:
        name: What was given the function, for messages: `MultiOptimizer.filters[0]`.
        function: The function.
        given: Its arguments.
        what: Returns a text that shows these arguments, for messages.
    """
    try:
        return function(*given)
    except Exception as error:
        error.add_note(f"{name} raised this for {what()}")
        raise


def holds(
    name: str,
    predicate: Callable[..., Any],
    given: tuple[Any, ...],
    what: Callable[[], str],
    cure: str,
) -> bool:
    """Return the answer of a predicate.

    Args:
        name: As in `asked`, as are those below.
        predicate: The function.
        given: Its arguments.
        what: Returns a text that shows these arguments, for messages.
        cure: What the error says a predicate can decide by.

    Raises:
        TypeError: The answer is neither True nor False.
    """
    answer = asked(name, predicate, given, what)
    if class_of(answer) in (bool, np.bool_):
        return bool(answer)
    raise TypeError(
        f"{name} must return True or False, got {describe(answer)} for {what()}.\n  {cure}"
    )
