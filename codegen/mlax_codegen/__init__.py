"""The generator: it turns specs, pages of TOML with the equations of an algorithm, into typed optimizers.

On the command line it is called `mlax-codegen`. It imports neither JAX nor mlax.
"""

from mlax_codegen.reading.mistakes import SpecError
from mlax_codegen.reading.spec import read_spec
from mlax_codegen.writing.render import render_module

__all__ = ["SpecError", "read_spec", "render_module"]

for _public in (SpecError, read_spec, render_module):
    _public.__module__ = __name__
