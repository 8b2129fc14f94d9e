"""Speed and memory of mlax, compared with other libraries and the machine's limits: `python -m benchmarks --help`."""
