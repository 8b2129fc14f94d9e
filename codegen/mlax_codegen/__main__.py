"""Run the command line as `python -m mlax_codegen`."""

import sys

from mlax_codegen.cli import program

if __name__ == "__main__":
    sys.exit(program())
