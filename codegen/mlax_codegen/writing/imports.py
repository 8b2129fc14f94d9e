"""The imports of a generated module: of all names that it may import, those that its code has."""

import re
from collections.abc import Iterable

from mlax_codegen.language import IMPORTED

__all__ = ["imports", "sorted_names"]

_NOT_CODE = re.compile(r'"""[\s\S]*?"""|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|#.*')
_NAME = re.compile(r"(?<![\w.])[A-Za-z]\w*(?![\w=])")  # no attributes, no names of arguments


def imports(code: str) -> str:
    """Return the import statements that some code needs, in groups."""
    used = {*_NAME.findall(_NOT_CODE.sub("", code))}
    groups: dict[str, list[str]] = {"python": [], "others": [], "mlax": []}
    if "jnp" in used:
        groups["others"].append("import jax.numpy as jnp")
    for module, known in IMPORTED.items():
        names = sorted(used & known, key=_member_order)
        package = module.partition(".")[0]
        group = {"collections": "python", "typing": "python", "mlax": "mlax"}.get(package, "others")
        if names:
            groups[group].append(f"from {module} import {', '.join(names)}")
    return "\n\n".join("\n".join(group) for group in groups.values() if group)


def sorted_names(names: Iterable[str]) -> str:
    """Return names as the items of a list of strings."""
    return ", ".join(f'"{name}"' for name in sorted(names, key=_member_order))


def _member_order(name: str) -> tuple[int, list[tuple[int, str]]]:
    """Sort as ruff does: constants, classes, the rest; numbers in names by their value."""
    rank = 0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2
    parts = re.findall(r"\d+|\D+", name)
    return rank, [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
