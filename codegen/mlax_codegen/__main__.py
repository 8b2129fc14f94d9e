"""Run the command line as `python -m mlax_codegen`."""

import sys

from mlax_codegen.cli import main

if __name__ == "__main__":
    sys.exit(main())
