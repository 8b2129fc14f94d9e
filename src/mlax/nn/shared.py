"""`Shared`: one array in two places of a model."""

from collections.abc import Callable
from typing import Any, Self

from jaxtyping import Array

from mlax._module.nodes import is_leaf_state
from mlax._module.surgery import at
from mlax._module.unset import holds_unset
from mlax.nn._effective import Effective, M
from mlax.nn._inside import Model, P, R, S
from mlax.tree import describe

__all__ = ["Shared"]


class Shared(Effective[M]):
    """A model in which one node's data are made of others in each call, such as tied weights.

        nn.Shared(model, where=lambda m: m.head.kernel, get=lambda m: m.embedding.kernel.data.T)

    The array is stored, trained and saved once. To call one layer twice, call its field twice: that needs no `Shared`.
    An output layer that is tied to an `Embedding` is `self.call(self.embedding.attend, x)`. Functions made by `def` in
    a module can be pickled, lambdas cannot; cloudpickle takes both.

    Args:
        inner: The model. Its node at `where` is emptied.
        where: From a model to the node whose data are not stored.
        get: From the model to these data, with any shape and computation.
    """

    inner: M
    where: Callable[[M], Any]
    get: Callable[[M], Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "inner", self._emptied(self.inner))

    def _emptied(self, model: Any) -> Any:
        node = at(model, self.where).get()
        if not is_leaf_state(node):
            raise TypeError(
                f"Shared.where must lead to a node, such as `lambda m: m.head.kernel`, got {describe(node)}"
            )
        if node.data is None or holds_unset(model):
            return model  # an unset one is emptied when it is set up
        return at(model, self.where).apply(lambda node: node.with_data(None))

    def set_up(self, *args: Any, rng: Array, **kwargs: Any) -> Self:
        """Set up the model."""
        new = super().set_up(*args, rng=rng, **kwargs)
        return new.replace(inner=self._emptied(new.inner))

    def forward(
        self: "Shared[Model[P, R, S]]", *args: P.args, **kwargs: P.kwargs
    ) -> "tuple[R, Shared[S]]":
        """Return the result of the model with the data in both places."""
        layer: Any = self
        result, layer = layer._called(args, kwargs)
        return result, layer

    def _effective(self) -> M:
        """Return the model with the data in both places."""
        made: Any = self.get(self.inner)
        data = made.data if is_leaf_state(made) else made
        full: M = at(self.inner, self.where).apply(lambda node: node.with_data(data))
        return full
