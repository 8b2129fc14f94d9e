"""The folders of mlax's specs and templates, in the installed package or in a checkout."""

from pathlib import Path
from typing import Literal

__all__ = ["built_in_specs", "checkout", "resources"]


def checkout() -> Path | None:
    """Return the root of the checkout that contains both this package and the current folder, or None."""
    root = Path(__file__).resolve().parents[2]
    complete = (root / "codegen" / "specs").is_dir() and (root / "templates").is_dir()
    return root if complete and Path.cwd().resolve().is_relative_to(root) else None


def resources(name: Literal["specs", "templates"]) -> Path:
    """Return the folder from the installed package, or from the checkout that contains this package."""
    inside = Path(__file__).parent / name
    if inside.is_dir():
        return inside
    source = Path(__file__).parents[1]
    return source / name if name == "specs" else source.parent / name


def built_in_specs() -> list[Path]:
    """Return the specs of mlax's own optimizers, sorted by name."""
    return sorted(resources("specs").glob("*.toml"))
