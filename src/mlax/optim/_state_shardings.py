"""Where the state of an optimizer lies, given where the weights lie."""

from typing import Any, Protocol, TypeVar

import jax
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from mlax._jax.tracebacks import trimmed
from mlax._jax.trees import leaves
from mlax._shardings import with_shardings
from mlax.optim.transformations._wrapping import as_optimizer
from mlax.tree import describe

__all__ = ["state_shardings"]

W = TypeVar("W")
S = TypeVar("S")
W_contra = TypeVar("W_contra", contravariant=True)
S_co = TypeVar("S_co", covariant=True)


class _HasInit(Protocol[W_contra, S_co]):
    """An optimizer."""

    def init(self, weights: W_contra, /) -> S_co: ...


@trimmed
def state_shardings(optimizer: _HasInit[W, S], weights: W, shardings: W | NamedSharding) -> S:
    """Return how the state of an optimizer is to be sharded, given how the weights are.

        places = mlax.shardings(model, mesh, rules)
        start = jax.jit(optimizer.init, out_shardings=optim.state_shardings(optimizer, model, places))

    A slot is sharded as the weight that it is for; a slot of another shape along those axes that it has in common with
    the weight. Numbers and matrices for an axis are whole on each device.

    Args:
        optimizer: An optimizer, or one that wraps others.
        weights: The argument of `init`: a model, or any tree of arrays or of `jax.ShapeDtypeStruct`s.
        shardings: A `jax.sharding.NamedSharding` for each array of the weights, as from `mlax.shardings`; or one for
            all.

    Returns:
        A tree like `optimizer.init(weights)`, with a `NamedSharding` in place of each leaf. Type checkers see the
        type of the state.

    Raises:
        TypeError: A sharding is not a `NamedSharding`, or `optimizer` is not an optimizer.
        ValueError: Weights and shardings do not have the same structure, a sharding does not fit its array, or the
            meshes are not the same.
    """
    where = "optim.state_shardings"
    try:
        as_optimizer(optimizer)
    except TypeError as error:
        raise TypeError(f"{where}: expected {error}, got {describe(optimizer)}") from None
    meshes: list[Any] = []
    for given in leaves(shardings):
        if not isinstance(given, NamedSharding):
            raise TypeError(
                f"{where}: expected jax.sharding.NamedShardings, got {describe(given)}.\n"
                f"  Make them with mlax.shardings(weights, mesh, rules)."
            )
        if given.mesh not in meshes:
            meshes.append(given.mesh)
    if len(meshes) != 1:
        raise ValueError(
            f"{where}: all shardings must have one mesh, got {len(meshes)}.\n"
            f"  Make them with mlax.shardings(weights, mesh, rules)."
        )
    # With Explicit axes, the types in a trace of `init` say where slots lie.
    names: Any = meshes[0].axis_names
    explicit = AbstractMesh(
        meshes[0].axis_sizes, names, axis_types=(AxisType.Explicit,) * len(names)
    )

    def typed(place: Any) -> NamedSharding:
        return NamedSharding(explicit, place.spec)

    # The caller may have set another mesh, with jax.set_mesh; JAX goes from one to another through none.
    none, use = AbstractMesh((), ()), jax.sharding.use_abstract_mesh
    with use(none), use(explicit):
        typed_weights = with_shardings(where, "weights", weights, jax.tree.map(typed, shardings))
        state = jax.eval_shape(optimizer.init, typed_weights)

    def placed(slot: Any) -> NamedSharding:
        spec = PartitionSpec() if slot.sharding is None else slot.sharding.spec
        return NamedSharding(meshes[0], spec)

    places: S = jax.tree.map(placed, state)
    return places


state_shardings.__module__ = "mlax.optim"
