"""Write tests/mlax/parity/torch_optimizers.npz: the weights after 100 steps of PyTorch's optimizers.

PyTorch is too large to be installed for tests. This was run with torch 2.13.0 on a CPU, in the
environment of the tests with `pip install torch==2.13.0` added:

    python -m tests.mlax.parity.make_torch_references

The weights and the gradients are those of `comparison.sequence`. For each case of `torch_cases.py`
and each dtype there is one array, (seeds, elements of all leaves in their order).
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from tests.mlax.parity.comparison import SEEDS, sequence
from tests.mlax.parity.torch_cases import CASES, STEPS, Case, rate_at

DATA = Path(__file__).parent / "torch_optimizers.npz"


def trained(case: Case, seed: int, dtype: Any) -> np.ndarray[Any, Any]:
    """Return all weights after all steps, one after the other."""
    import torch  # type: ignore

    # In float64 also what PyTorch keeps in the default dtype: NAdam's product of momenta, and ASGD's step size.
    torch.set_default_dtype(torch.float64)
    # Muon iterates in bfloat16, which leaves three digits to compare; and it may not divide its own momentum.
    torch.Tensor.bfloat16 = torch.Tensor.clone
    weights, gradients = sequence(seed, dtype)
    if case.matrices:
        weights, gradients = weights["layer"]["w"], gradients["layer"]["w"]
    parameters = [torch.nn.Parameter(torch.tensor(w)) for w in jax.tree.leaves(weights)]
    optimizer = getattr(torch.optim, case.theirs)(parameters, **case.settings)
    for step in range(STEPS):
        if case.scheduled:
            optimizer.param_groups[0]["lr"] = float(rate_at(step))
        for parameter, g in zip(parameters, jax.tree.leaves(gradients), strict=True):
            parameter.grad = torch.tensor(g[step])
        optimizer.step()
    return np.concatenate([p.detach().numpy().ravel() for p in parameters])


def main() -> None:
    """Write the file."""
    results = {
        f"{case.name}/{np.dtype(dtype).name}": np.stack([trained(case, s, dtype) for s in SEEDS])
        for case in CASES
        for dtype in (np.float32, np.float64)
    }
    DATA.parent.mkdir(exist_ok=True)
    np.savez_compressed(DATA, **results)


if __name__ == "__main__":
    main()
