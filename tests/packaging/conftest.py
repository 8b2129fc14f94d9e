"""What the packaging tests share: the built distributions, and a virtual environment with the wheel alone."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.once import once

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Distributions:
    """The files that a release consists of."""

    sdist: Path
    wheel_from_sdist: Path
    wheel_from_checkout: Path


@dataclass(frozen=True)
class Installed:
    """A virtual environment with the wheel installed, and an empty folder to run in."""

    scripts: Path
    folder: Path

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of the environment's programs as someone without a checkout would."""
        # PYTHONPATH and its like would let the checkout in.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        return subprocess.run(
            [str(self.scripts / program), *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """Build as a release is built (the wheel from the sdist), and a wheel from the checkout."""

    def build(folder: Path) -> None:
        _run(sys.executable, "-m", "build", "--outdir", str(folder / "released"), str(ROOT))
        _run(sys.executable, "-m", "build", "--wheel", "--outdir", str(folder / "wheel"), str(ROOT))

    folder = once(tmp_path_factory, "distributions", build)
    (sdist,), (wheel,) = folder.glob("released/*.tar.gz"), folder.glob("released/*.whl")
    (wheel_from_checkout,) = folder.glob("wheel/*.whl")
    return Distributions(sdist, wheel, wheel_from_checkout)


@pytest.fixture(scope="session")
def installed(distributions: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Install the released wheel, and borrow its dependencies from the environment of the tests."""

    def install(folder: Path) -> None:
        venv.create(folder, with_pip=False, symlinks=os.name != "nt")
        paths = _paths(folder)
        _run(
            *(sys.executable, "-m", "pip", "--python", str(Path(paths["scripts"], "python"))),
            *("install", "--no-deps", "--no-index", str(distributions.wheel_from_sdist)),
        )
        # A path named in a .pth file is searched, but .pth files in it are not read: the editable mlax stays out.
        theirs = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
        Path(paths["purelib"], "dependencies.pth").write_text("\n".join(theirs))

    environment = once(tmp_path_factory, "environment", install)
    return Installed(Path(_paths(environment)["scripts"]), tmp_path_factory.mktemp("elsewhere"))


def _paths(environment: Path) -> dict[str, str]:
    """Return where a virtual environment keeps its programs and packages."""
    scheme = sysconfig.get_preferred_scheme("prefix")
    base = {"base": str(environment), "platbase": str(environment)}
    return sysconfig.get_paths(scheme, vars=base)


def files_in(archive: Path) -> dict[str, bytes]:
    """Return what a wheel or an sdist holds, by path (without the sdist's top folder)."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return {name: wheel.read(name) for name in wheel.namelist()}
    result: dict[str, bytes] = {}
    with tarfile.open(archive) as sdist:
        for member in sdist.getmembers():
            if file := sdist.extractfile(member):
                result[member.name.split("/", 1)[1]] = file.read()
    return result


def _run(*command: str) -> None:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
