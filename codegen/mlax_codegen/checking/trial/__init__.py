"""An abstract run of the equations: with shapes and ranges in the place of arrays and numbers."""
