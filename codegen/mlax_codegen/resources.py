"""Where the specs and templates of mlax stand: in the installed package, or in the checkout around it."""

from pathlib import Path
from typing import Literal

__all__ = ["built_in_specs", "checkout", "resources"]


def checkout() -> Path | None:
    """Return the root of the checkout that this package and the current folder stand in; None outside one."""
    root = Path(__file__).resolve().parents[2]
    complete = (root / "codegen" / "specs").is_dir() and (root / "templates").is_dir()
    return root if complete and Path.cwd().resolve().is_relative_to(root) else None


def resources(name: Literal["specs", "templates"]) -> Path:
    """Return a folder that stands in the installed package, or in the checkout around it."""
    inside = Path(__file__).parent / name
    if inside.is_dir():
        return inside
    source = Path(__file__).parents[1]
    return source / name if name == "specs" else source.parent / name


def built_in_specs() -> list[Path]:
    """Return the specs that mlax itself is made from, by name."""
    return sorted(resources("specs").glob("*.toml"))
