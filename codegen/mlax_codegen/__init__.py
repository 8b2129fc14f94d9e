"""The generator: turns specs, pages of TOML that hold a paper's equations, into typed optimizers.

`mlax-codegen` on the command line. It imports neither JAX nor mlax.
"""
