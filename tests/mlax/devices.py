"""Scripts that need several simulated devices, or processes, which can only be set up when a process starts."""

import os
import socket
import subprocess
import sys
import time


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


def free_port() -> int:
    """Return a port of this computer that nobody listens to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def run_in_processes(count: int, script: str, *arguments: str, seconds: int = 120) -> None:
    """Run a script in several processes of one program, with two devices each, and state that all come to their end.

    Args:
        count: Of processes.
        script: What `python -c` runs, after `jax.distributed.initialize`.
        *arguments: What it finds in `sys.argv`.
        seconds: How long they may take.
    """
    address = f"127.0.0.1:{free_port()}"
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _BEGINNING.format(address, count, number) + script, *arguments],
            env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]
    end = time.monotonic() + seconds
    try:
        while any(p.poll() is None for p in processes) and not any(p.poll() for p in processes):
            assert time.monotonic() < end, f"not at the end after {seconds} s"
            time.sleep(0.05)
    finally:
        for process in processes:
            process.kill()
        errors = [process.communicate()[1] for process in processes]
    assert not any(process.returncode for process in processes), "\n".join(errors)


_BEGINNING = """
import jax
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize({!r}, {}, {})
"""
