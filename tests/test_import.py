"""`import mlax` is light: JAX, jaxtyping, typeguard and what they bring, and nothing before it is used."""

import subprocess
import sys

import pytest

HEAVY = [
    *(
        "equinox",
        "flax",
        "hypothesis",
        "jinja2",
        "matplotlib",
        "mlx",
        "optax",
        "pytest",
        "safetensors",
    ),
    *("jax.extend.core", "sklearn", "torch", "tqdm"),
    *("mlax.nn", "mlax_codegen", "mlax_optimizers.adam", "mlax_optimizers.sgd"),
]


def loaded_after(statement: str) -> set[str]:
    """Return the modules that a new Python has loaded after a statement."""
    program = f"{statement}\nimport sys\nprint(*sys.modules, sep='\\n')"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """What `import mlax` loads."""
    return loaded_after("import mlax")


def test_mlax_is_loaded(loaded: set[str]) -> None:
    """The list that the other test looks into is the right one."""
    assert {"mlax", "jax", "jaxtyping"} <= loaded


@pytest.mark.parametrize("module", HEAVY)
def test_import_loads_nothing_heavy(module: str, loaded: set[str]) -> None:
    """What is only needed by some is imported by them, on first use."""
    assert module not in loaded


@pytest.mark.one_python
def test_generated_modules_are_loaded_on_first_use() -> None:
    """One that is used is there, the others are not; of SGD tests/mlax/optim/test_face.py says so."""
    loaded = loaded_after("from mlax import optim; optim.adam.init")
    assert "mlax_optimizers.adam" in loaded
    assert "mlax_optimizers.sgd" not in loaded


def test_codegen_loads_nothing_of_mlax() -> None:
    """The generator stands alone: it also runs where JAX is not wanted."""
    loaded = loaded_after("import mlax_codegen.cli")
    assert "mlax" not in loaded
    assert "jax" not in loaded
