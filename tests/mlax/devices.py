"""Scripts that need several simulated devices, which can only be set up when a process starts."""

import os
import subprocess
import sys


def run_on_devices(count: int, script: str, *arguments: str) -> None:
    """Run a script in a process of its own that has so many devices, and state that it comes to its end.

    Args:
        count: Of devices, all of them the CPU.
        script: What `python -c` runs.
        *arguments: What it finds in `sys.argv`.
    """
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
