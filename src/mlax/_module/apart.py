"""Each module object stands in one place of a tree only.

Calls find a module by identity, and `jit` turns a module in two places into two.
"""

from collections.abc import Iterable, Mapping
from typing import Any
from weakref import WeakValueDictionary

from mlax._jax.recursion import make_room
from mlax._jax.trees import KeyPath, class_of, flatten, flatten_with_path, leaves, leaves_with_path
from mlax._module.flattening import Flattened, is_flattened
from mlax._module.nodes import ENode, is_leaf_state
from mlax.tree import keystr

__all__ = ["is_module_or_node", "modules_in", "moved_apart", "with_modules_apart"]


def is_module_or_node(node: object) -> bool:
    """Whether `node` is a Module, a Variable or a Parameter."""
    return is_flattened(node) or is_leaf_state(node)


def modules_in(values: Iterable[Any]) -> list[Any]:
    """Return the modules in trees, such as the children of a module, but not those inside them."""
    found: list[Any] = []
    for value in values:
        if value is None or isinstance(value, ENode):
            continue
        if isinstance(value, Flattened):
            found.append(value)
        elif class_of(value) is tuple:
            found += modules_in(value)
        else:
            found += [node for node in leaves(value, is_leaf=is_flattened) if is_flattened(node)]
    return found


def moved_apart(
    owner: str, fields: Mapping[str, Any], changed: Iterable[str] | None = None
) -> tuple[dict[str, Any], bool]:
    """Return the fields in which a module has to be copied so that each stands in one place only.

    A module without nodes is copied for its second place, which has no visible effect. A module that
    nothing has held before cannot be in a second place. So models that are built from their innermost
    modules outwards are not searched.

    Args:
        owner: Name of the class that has the fields.
        fields: States, or trees of States and None. The modules in each were moved apart when it was
            made.
        changed: Names of fields; the modules in all others are known to be apart. None for all.

    Returns:
        The fields to be replaced, and whether another branch may hold a module that is in these.

    Raises:
        ValueError: A module with nodes is in two places.
    """
    found = modules_in(fields.values())
    new = found if changed is None else modules_in(fields[name] for name in changed)
    is_held = False
    for module in new:
        aux_data = module._aux_data
        is_held = is_held or aux_data.is_held
        aux_data.is_held = True
    copies = {} if not is_held or _are_apart(found) else _copies(owner, fields)
    return copies, is_held or len(new) < len(found)


# Models that were searched before, so that an eager call in a loop need not do it again. By identity: a class may have
# an equality of its own.
_known: WeakValueDictionary[int, Any] = WeakValueDictionary()


def with_modules_apart(module: Any) -> Any:
    """Return a module in which each module stands in one place only.

    For models that are not fresh from a constructor: `jax.tree.map` can put one module in many places.

    Raises:
        ValueError: A module with nodes is in two places.
    """
    flattening = module._aux_data.flattening
    children, aux_data = flattening.flatten(module)
    found = modules_in(children)
    if not found or _known.get(id(module)) is module:
        return module
    if _are_apart(found):
        _known[id(module)] = module
        return module
    fields = dict(zip(flattening.children, children, strict=True))
    changed = fields | _copies(class_of(module).__name__, fields)
    return flattening.unflatten(aux_data, tuple(changed.values()))


def _are_apart(modules: list[Any]) -> bool:
    found = list(modules)
    for module in found:  # it grows
        found += modules_in(module._aux_data.flattening.flatten(module)[0])
    return len(set(map(id, found))) == len(found)


def _copies(owner: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that change when no module may stand in two places."""
    places: dict[int, str] = {}
    changed: dict[str, Any] = {}
    for name, value in fields.items():
        found, treedef = flatten_with_path(value, is_leaf=is_module_or_node)
        parts: list[Any] = []
        for path, part in found:
            parts.append(part)
            shared = False
            for below, module in _all_in(part) if is_flattened(part) else ():
                place = name + keystr(path + below)
                if id(module) in places:
                    _refuse_nodes(owner, module, places[id(module)], place)
                    shared = True
                places.setdefault(id(module), place)
            if shared:
                nodes, structure = flatten(part, is_leaf=is_leaf_state)
                parts[-1] = structure.unflatten(nodes)
        if any(new is not old for new, (_, old) in zip(parts, found, strict=True)):
            changed[name] = treedef.unflatten(parts)
    return changed


def _all_in(module: Any) -> list[tuple[KeyPath, Any]]:
    """Return a module and all that are inside, with their paths."""
    found: list[tuple[KeyPath, Any]] = [((), module)]
    for path, outer in found:  # it grows
        make_room(len(path))
        found += [(path + below, node) for below, node in _directly_in(outer)]
    return found


def _directly_in(module: Any) -> list[tuple[KeyPath, Any]]:
    inside = leaves_with_path(module, lambda node: node is not module and is_module_or_node(node))
    return [(path, node) for path, node in inside if is_flattened(node)]


def _refuse_nodes(owner: str, module: Any, first: str, second: str) -> None:
    """Raise an error if a module in two places has nodes."""
    inside: list[object] = leaves(module, is_leaf=is_leaf_state)
    if any(map(is_leaf_state, inside)):
        raise ValueError(
            f"{owner}: {first} and {second} are the same {type(module).__name__}.\n"
            "  Give each place its own module. To share one module, store it in one field and "
            "call that field in both places."
        )
