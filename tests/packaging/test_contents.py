"""A wheel holds three import packages with everything they need, from the checkout or from an sdist."""

import hashlib
from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT, Distributions, files_in

pytestmark = pytest.mark.one_python

# Where a folder of the checkout ends up in the wheel.
INSTALLED_AS = {
    "src/mlax": "mlax",
    "generated/mlax_optimizers": "mlax_optimizers",
    "codegen/mlax_codegen": "mlax_codegen",
    "codegen/specs": "mlax_codegen/specs",
    "templates": "mlax_codegen/templates",
}


def sources(folder: str) -> list[Path]:
    """Return the files of one folder of the checkout, relative to it."""
    top = ROOT / folder
    files = (path for path in top.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return sorted(path.relative_to(top) for path in files)


@pytest.mark.parametrize("folder", INSTALLED_AS)
def test_wheel_holds_every_file(folder: str, distributions: Distributions) -> None:
    """Nothing is left out on the way through the sdist, and nothing is changed."""
    wheel = files_in(distributions.wheel_from_sdist)
    assert sources(folder)
    for file in sources(folder):
        installed = f"{INSTALLED_AS[folder]}/{file.as_posix()}"
        assert wheel.get(installed) == (ROOT / folder / file).read_bytes(), installed


@pytest.mark.parametrize("package", ["mlax", "mlax_optimizers", "mlax_codegen"])
def test_packages_are_typed(package: str, distributions: Distributions) -> None:
    """Checkers believe a package's annotations only beside a py.typed."""
    assert f"{package}/py.typed" in files_in(distributions.wheel_from_sdist)


def test_wheel_holds_nothing_else(distributions: Distributions) -> None:
    """No tests, examples or caches at the top level, where they would be imported by accident."""
    packages = {"mlax", "mlax_optimizers", "mlax_codegen"}
    for path in files_in(distributions.wheel_from_sdist):
        top = path.split("/")[0]
        assert top in packages or top.endswith(".dist-info"), path
        assert "__pycache__" not in path


def test_both_ways_to_a_wheel_agree(distributions: Distributions) -> None:
    """The wheel does not depend on whether it is built from the checkout or from the sdist."""
    assert files_in(distributions.wheel_from_sdist) == files_in(distributions.wheel_from_checkout)


@pytest.mark.parametrize(
    "path",
    [
        "pyproject.toml",
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Makefile",
        "tests",
        "examples",
        ".ci/constraints.txt",
    ],
)
def test_sdist_can_be_built_and_tested(path: str, distributions: Distributions) -> None:
    """Whoever packages mlax further needs its tests too."""
    names = files_in(distributions.sdist)
    assert any(name == path or name.startswith(f"{path}/") for name in names)


def test_the_license_travels(distributions: Distributions) -> None:
    """The text itself is in both files, and the metadata name it by its SPDX identifier."""
    text = (ROOT / "LICENSE").read_bytes()
    assert files_in(distributions.sdist)["LICENSE"] == text
    wheel = files_in(distributions.wheel_from_sdist)
    (info,) = {path.split("/")[0] for path in wheel if ".dist-info/" in path}
    assert wheel[f"{info}/licenses/LICENSE"] == text
    metadata = wheel[f"{info}/METADATA"].decode().splitlines()
    assert "License-Expression: Apache-2.0" in metadata
    assert "License-File: LICENSE" in metadata


def test_the_license_is_the_standard_text() -> None:
    """Apache-2.0 word for word; only the line that names the owner is ours."""
    text = (ROOT / "LICENSE").read_text(encoding="ascii")
    ours, theirs = "Copyright 2026 The mlax authors", "Copyright [yyyy] [name of copyright owner]"
    assert text.count(ours) == 1
    standard = text.replace(ours, theirs).encode("ascii")
    digest = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
    assert hashlib.sha256(standard).hexdigest() == digest
