"""Start a script in several processes of one JAX program, on this computer.

    python examples/processes.py 2 examples/distributed.py --devices 4

The script is given `--processes`, `--process` and `--coordinator` too, for `jax.distributed.initialize`. On a cluster,
its scheduler does this. If one process fails, or the time is up, all are stopped.
"""

import socket
import subprocess
import sys
import time


def run(count: int, command: list[str], seconds: float = 300) -> None:
    """Run a script in several processes, and wait for all.

    Args:
        count: Number of processes.
        command: A script of Python and its arguments.
        seconds: How long they may take.

    Raises:
        RuntimeError: One has failed.
        TimeoutError: They took longer.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    common = ["--processes", str(count), "--coordinator", coordinator]
    processes = [
        subprocess.Popen([sys.executable, *command, *common, "--process", str(number)])
        for number in range(count)
    ]
    end = time.monotonic() + seconds
    try:
        while any(process.poll() is None for process in processes):
            if any(process.returncode for process in processes):
                break
            if time.monotonic() > end:
                raise TimeoutError(f"{' '.join(command)}: not at the end after {seconds} s")
            time.sleep(0.1)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    codes = [process.returncode for process in processes]
    if any(codes):
        raise RuntimeError(f"{' '.join(command)}: the processes ended with {codes}")


if __name__ == "__main__":
    run(int(sys.argv[1]), sys.argv[2:])
