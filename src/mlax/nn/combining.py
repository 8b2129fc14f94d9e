"""Modules made of modules: `Series`, `Parallel`, `Residual`."""

from typing import Any, Generic, Self, TypeVar, overload

from jaxtyping import Array

from mlax._module.module import Module
from mlax.nn._fields import one_by_one, residual_sum

__all__ = ["Parallel", "Residual", "Series"]

M = TypeVar("M", bound=Module, covariant=True)


def _refuse_others(name: str, modules: tuple[Any, ...]) -> None:
    one_by_one(name, "modules", modules)
    for each in modules:
        if callable(each) and not isinstance(each, (Module, type)):
            function = getattr(each, "__name__", "function")
            raise TypeError(
                f"{name} takes modules, got the function {function}.\n"
                f"  Make a layer of it: nn.F({function})"
            )


class Series(Module):
    """Calls modules one after another, each with the result of the one before.

        nn.Series(nn.Linear(32), nn.F(jax.nn.relu), nn.Linear(10))

    Without modules it returns its input. `series[i]` is a layer, `series[i:j]` a Series of several, `len(series)` their
    number. To type checkers, a layer in it is a `Module`: where its own type matters, write a class with fields.

    Args:
        layers: The modules.
    """

    layers: tuple[Module, ...]

    def __init__(self, *layers: Module) -> None:
        _refuse_others("Series", layers)
        super().__init__(layers=layers)

    def forward(self, x: Any) -> tuple[Any, Self]:
        """Return the result of the last module."""
        return self.chain(x, *self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    @overload
    def __getitem__(self, index: slice) -> Self: ...
    @overload
    def __getitem__(self, index: int) -> Module: ...
    def __getitem__(self, index: int | slice) -> Module | Self:
        """Return one layer, or a Series of several."""
        found = self.layers[index]
        return self.replace(layers=found) if isinstance(found, tuple) else found


class Parallel(Module):
    """Calls modules with the same input, and returns a tuple of their results.

    Args:
        branches: The modules.
    """

    branches: tuple[Module, ...]

    def __init__(self, *branches: Module) -> None:
        _refuse_others("Parallel", branches)
        super().__init__(branches=branches)

    def forward(self, x: Any) -> tuple[tuple[Any, ...], Self]:
        """Return the results of all modules."""
        results: list[Any] = []
        for branch in self.branches:
            result, self = self.call(branch, x)
            results.append(result)
        return tuple(results), self


class Residual(Module, Generic[M]):
    """Adds a module's result to its input: `x + inner(x)` (He et al., 2016).

    Args:
        inner: The module. Its result has the shape and the dtype of its input.
    """

    inner: M

    def forward(self, x: Array) -> tuple[Array, Self]:
        """Return the sum.

        Raises:
            ValueError: The result has another shape or dtype than the input.
        """
        inner: Any = self.inner
        y, self = self.call(inner, x)
        return residual_sum(self, x, "inner", y), self
