#!/usr/bin/env python3
"""Print the figures of each package's import graph; exit with 1 if a package has an import cycle between files.

    .venv/bin/python .ci/structure.py [PACKAGE ...]

Imports inside functions count, imports under TYPE_CHECKING do not. `import a.b.c` counts as one
import, of the file of `a.b.c`, although Python runs the `__init__` files of `a` and `a.b` too. The parts of a package
are the files and folders at its top. A level is one step on the longest chain of imports.
"""

import sys
from collections.abc import Callable

import grimp

Graph = dict[str, set[str]]  # what each name imports


def files_of(package: str) -> Graph:
    """Return the import graph of a package's files."""
    found = grimp.build_graph(package, exclude_type_checking_imports=True, cache_dir=None)
    return {name: found.find_modules_directly_imported_by(name) for name in found.modules}


def parts_of(files: Graph) -> Graph:
    """Return the import graph of a package's parts: the files at its top, and the folders with everything in them."""

    def part(name: str) -> str:
        return ".".join(name.split(".")[:2])

    parts: Graph = {part(name): set() for name in files}
    for name, others in files.items():
        parts[part(name)] |= {part(other) for other in others} - {part(name)}
    return parts


def reaches(graph: Graph) -> Graph:
    """Return, for each name, every name that its chains of imports lead to."""

    def follow(name: str) -> set[str]:
        seen: set[str] = set()
        waiting = [name]
        while waiting:
            new = graph[waiting.pop()] - seen
            seen |= new
            waiting += new
        return seen

    return {name: follow(name) for name in graph}


def cycles(graph: Graph) -> list[list[str]]:
    """Return the groups of two or more names that all reach each other."""
    reached = reaches(graph)
    groups = {
        tuple(sorted(other for other in others if name in reached[other]))
        for name, others in reached.items()
        if name in others
    }
    return sorted(list(group) for group in groups)


def levels(graph: Graph) -> int:
    """Return the number of names on the longest chain of imports. A cycle is one level, however large."""
    together = {name: frozenset(cycle) for cycle in cycles(graph) for name in cycle}
    known: dict[frozenset[str], int] = {}

    def level(name: str) -> int:
        group = together.get(name, frozenset({name}))
        if group not in known:
            below = set[str]().union(*(graph[member] for member in group)) - group
            known[group] = 1 + max(map(level, below), default=0)
        return known[group]

    return max(map(level, graph))


def described(kind: str, graph: Graph, short: Callable[[str], str]) -> str:
    """Return the figures of one graph in a line, and a line for each cycle."""
    imports = sum(map(len, graph.values()))
    found = cycles(graph)
    lines = [
        f"{kind}: {len(graph)}, levels: {levels(graph)}, imports: {imports}, cycles: {len(found)}"
    ]
    lines += [f"cycle of {len(names)}: {', '.join(map(short, names))}" for names in found]
    return "\n".join(f"  {line}" for line in lines)


def main(packages: list[str]) -> int:
    """Print the figures; return 1 if a package has a cycle of files."""
    bad = False
    for package in packages:
        files = files_of(package)

        def short(name: str, package: str = package) -> str:
            return name.removeprefix(f"{package}.")

        print(package)
        print(described("files", files, short))
        print(described("parts", parts_of(files), short))
        bad |= bool(cycles(files))
    return int(bad)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["mlax", "mlax_codegen"]))
