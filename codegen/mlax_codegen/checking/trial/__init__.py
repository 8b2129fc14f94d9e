"""An abstract run of the equations, with shapes and intervals in place of arrays and numbers: see README.md."""
