"""Where the arrays of a tree are to lie on a mesh of devices, said by rules about their paths."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, cast

import jax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec, Sharding
from jax.tree_util import GetAttrKey

from mlax._jax.dtypes import is_key
from mlax._jax.tracebacks import trimmed
from mlax._jax.trees import class_of, flatten
from mlax._module.unset import refuse_unset
from mlax._saving.contents import nodes
from mlax.tree import describe, dotted, leaves_by_name

__all__ = ["abstract", "shardings", "with_shardings"]

T = TypeVar("T")


@trimmed
def shardings(
    tree: T,
    mesh: Mesh | AbstractMesh,
    rules: Mapping[str, PartitionSpec],
    *,
    strict: bool = True,
) -> T:
    """Return how the arrays of a tree are to be sharded, by rules about their paths.

        rules = {r"blocks\\..*\\.kernel": P("data", "model"), "embedding": P("data")}
        places = mlax.shardings(model, mesh, rules)
        model = jax.device_put(model, places)

    A rule is a regular expression that matches a whole path, as `mlax.flatten` spells it, and a
    `jax.sharding.PartitionSpec`: for each axis of the array, None or the names of axes of the mesh. The first rule that
    matches counts. Arrays that no rule matches, keys, and arrays without axes are whole on each device.

    The blocks of an `nn.Repeat` are stacked along a new first axis. There, rules are about the array of one block; one
    with an entry more than that array has axes is about the stack.

    Args:
        tree: A model that is set up, a state, or any tree of arrays or of `jax.ShapeDtypeStruct`s.
        mesh: The devices, or only their axes.
        rules: A `jax.sharding.PartitionSpec` for each regular expression.
        strict: Whether each rule has to count for an array.

    Returns:
        The tree with a `jax.sharding.NamedSharding` in place of each leaf. Type checkers see the type of the tree, and
        so an array in each place: for one of the shardings, look into `jax.tree.leaves(places)`.

    Raises:
        ValueError: A rule does not fit an array that it counts for, and the message says why for each; or, if
            `strict`, it counts for none. Or a node of the tree is UNSET.
        TypeError: The rules are not a dict of `PartitionSpec`s by regular expression, or `mesh` is not a mesh.
    """
    where = "mlax.shardings"
    refuse_unset(where, "tree", tree, "set up the model first (mlax.set_up)")
    if not isinstance(cast("object", mesh), Mesh | AbstractMesh):
        raise TypeError(f"{where}: mesh must be a jax.sharding.Mesh, got {describe(mesh)}")
    patterns = _compiled(where, rules)
    leaves, treedef = leaves_by_name(where, "tree", tree)
    stacks = [
        dotted((*path, GetAttrKey(cls._stacked)))
        for path, cls in cast("Any", nodes(tree))
        if getattr(cls, "_stacked", "")
    ]
    sizes: dict[str, int] = dict(mesh.shape)
    count: Counter[str] = Counter()
    places: list[NamedSharding] = []
    misfits: list[str] = []
    for name, leaf in leaves.items():
        rule = next((rule for rule, pattern in patterns.items() if pattern.fullmatch(name)), None)
        spec = PartitionSpec()
        if rule is not None:
            count[rule] += 1
            if _has_axes(leaf):
                stacked = sum(f"{name}.".startswith(f"{stack}.") for stack in stacks)
                spec = _of_stack(rules[rule], leaf.ndim, stacked)
                misfits += [
                    f"{name or 'the array'}: {describe(leaf)}: {misfit}, got {rule!r}: {rules[rule]}"
                    for misfit in _misfits(leaf.shape, spec, sizes)
                ]
        places.append(NamedSharding(mesh, spec if not misfits else PartitionSpec()))
    if misfits:
        listed = "".join(f"\n  {line}" for line in misfits)
        raise ValueError(f"{where}: rules that do not fit the arrays that they count for:{listed}")
    unused = [rule for rule in rules if not count[rule]]
    if unused and strict:
        matched = any(patterns[unused[0]].fullmatch(name) for name in leaves)
        why = "others come before it wherever it matches" if matched else "it matches no path"
        paths = ", ".join([*leaves][:3])
        raise ValueError(
            f"{where}: the rule {unused[0]!r} counts for no array: {why}.\n"
            f"  Mend or remove it, or pass strict=False. Paths are as mlax.flatten spells them: {paths}."
        )
    made: T = treedef.unflatten(places)
    return made


def _compiled(where: str, rules: object) -> dict[str, re.Pattern[str]]:
    expected = f"{where}: rules must be a dict of jax.sharding.PartitionSpecs by regular expression"
    given: Any = rules
    if not isinstance(given, Mapping):
        raise TypeError(f"{expected}, got {describe(rules)}")
    patterns: dict[str, re.Pattern[str]] = {}
    for rule, spec in cast("Any", given).items():
        if not (isinstance(rule, str) and isinstance(spec, PartitionSpec)):
            raise TypeError(f"{expected}, got {describe(spec)} for {rule!r}")
        try:
            patterns[rule] = re.compile(rule)
        except re.error as error:
            raise ValueError(f"{where}: {rule!r} is not a regular expression: {error}") from None
    return patterns


def _has_axes(leaf: Any) -> bool:
    return bool(getattr(leaf, "shape", ())) and not is_key(leaf.dtype)


def _of_stack(spec: PartitionSpec, ndim: int, stacked: int) -> PartitionSpec:
    """Return the spec of an array of stacked blocks, given that of one block."""
    return spec if len(spec) > ndim - stacked else PartitionSpec(*[None] * stacked, *spec)


def _misfits(shape: tuple[int, ...], spec: PartitionSpec, sizes: dict[str, int]) -> Iterator[str]:
    """Yield the reasons why a spec does not fit an array."""
    if len(spec) > len(shape):
        yield f"expected at most {len(shape)} entries, one for each axis of the array"
        return
    used: Counter[str] = Counter()
    for axis, entry in enumerate(spec):
        names: tuple[Any, ...] = entry if class_of(entry) is tuple else (entry,)
        parts = 1
        for name in names if entry is not None else ():
            if name not in sizes:
                yield f"the mesh has the axes {', '.join(map(repr, sizes))}, and not {name!r}"
                continue
            used[name] += 1
            parts *= sizes[name]
            if used[name] == 2:
                yield f"the axis {name!r} of the mesh can shard only one axis of an array"
        if shape[axis] % parts:
            yield f"axis {axis} of length {shape[axis]} cannot be divided by {parts}, the size of {entry!r}"


@trimmed
def abstract(tree: T, shardings: object) -> T:
    """Return a tree with a `jax.ShapeDtypeStruct` in place of each array: its shape, dtype and sharding.

    Pass it to `mlax.load` as `like`, or to Orbax as the tree to restore.

        model = mlax.load("model.safetensors", like=mlax.abstract(model, places))

    Args:
        tree: Arrays or `jax.ShapeDtypeStruct`s: a model, a state, or the result of `jax.eval_shape`. Python
            numbers stay as they are.
        shardings: The sharding of each leaf, from `mlax.shardings` or `optim.state_shardings`; or one for all.

    Raises:
        ValueError: The trees do not have the same structure, or a sharding does not fit its array.
    """
    return with_shardings("mlax.abstract", "tree", tree, shardings)


def with_shardings(where: str, what: str, tree: T, shardings: object) -> T:
    """Do what `abstract` does; messages begin with `where`, and call the tree `what`."""
    leaves, treedef = leaves_by_name(where, what, tree)
    if isinstance(shardings, Sharding):
        places: list[Any] = [shardings] * len(leaves)
    else:
        places, structure = flatten(shardings)
        if structure != treedef:
            others = leaves_by_name(where, "shardings", shardings)[0]
            differ = [name or "the whole tree" for name in sorted(leaves.keys() ^ others.keys())]
            raise ValueError(
                f"{where}: `{what}` and `shardings` must have the same structure, got {len(leaves)} leaves and "
                f"{len(others)} shardings; they differ at {', '.join(differ[:3]) or 'their nodes'}.\n"
                f"  Make them from this tree: mlax.shardings({what}, mesh, rules)."
            )
    misfits = [
        f"\n  {name or 'the array'}: {describe(leaf)}: {misfit}, got {place.spec}"
        for (name, leaf), place in zip(leaves.items(), places, strict=True)
        if isinstance(place, NamedSharding) and _has_axes(leaf)
        for misfit in _misfits(leaf.shape, place.spec, dict(place.mesh.shape))
    ]
    if misfits:
        raise ValueError(f"{where}: shardings that do not fit their arrays:{''.join(misfits)}")
    made: T = treedef.unflatten(map(_with_sharding, leaves.values(), places))
    return made


def _with_sharding(leaf: Any, sharding: Any) -> Any:
    if not hasattr(leaf, "shape"):
        return leaf
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
