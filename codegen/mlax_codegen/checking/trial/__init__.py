"""A run of the equations with shapes and intervals instead of arrays and numbers: see README.md."""
