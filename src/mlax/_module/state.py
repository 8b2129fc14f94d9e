"""`State`, the base class of everything in a model that holds arrays."""

import copy
from dataclasses import FrozenInstanceError
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from mlax._jax.tracebacks import trimmed
from mlax._jax.trees import map_leaves
from mlax._module.printing import Printed

__all__ = ["State"]


class State(Printed):
    """Base class of everything in a model that holds arrays: an immutable PyTree."""

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def __dict__(self) -> MappingProxyType[str, Any]:  # type: ignore[override]
            ...

    if not TYPE_CHECKING:  # if type checkers saw these, they would no longer check attributes

        @trimmed
        def __setattr__(self, name: str, value: Any) -> NoReturn:
            raise FrozenInstanceError(
                f"cannot assign to {type(self).__name__}.{name}: {type(self).__name__} is frozen; "
                f"make a changed copy instead"
            )

        @trimmed
        def __delattr__(self, name: str) -> NoReturn:
            raise FrozenInstanceError(
                f"cannot delete {type(self).__name__}.{name}: {type(self).__name__} is frozen"
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy the arrays and share static values, so that the copy has the same structure."""
        copied: Self = map_leaves(lambda leaf: copy.deepcopy(leaf, memo), self)
        return copied
