"""How XLA compiles a program that a test runs once or twice: in a fifth of the time.

As compiler options for one program; run as a script, this prints them for `XLA_FLAGS`, as `.ci/suite` sets them for all
tests but those marked `optimized`.
"""

import importlib.metadata
from typing import Any

# The program is fused and laid out in memory as always, only LLVM does not optimize it.
WITHOUT_LLVM: dict[str, Any] = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}

# Nor is it split to be compiled in parallel, which costs more than it saves where programs are small.
QUICKLY: dict[str, Any] = {**WITHOUT_LLVM, "xla_cpu_parallel_codegen_split_count": 1}
if tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2])) < (0, 11):
    # Each fused loop is built with MLIR, or directly in a quarter of the time. Newer ones have no choice.
    QUICKLY["xla_cpu_use_fusion_emitters"] = False

if __name__ == "__main__":
    print(*(f"--{name}={str(value).lower()}" for name, value in QUICKLY.items()))
