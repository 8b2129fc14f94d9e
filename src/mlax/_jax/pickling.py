"""Functions that JAX has wrapped are pickled by name, as plain functions are.

`jax.nn.relu`, `jnp.tanh` and many more are objects of JAX's own classes (`jit`, `custom_jvp`, `jnp.ufunc`), which do
not say how they are pickled. So pickle looks for the function inside one of them under the name of the whole, finds
the whole, and fails. cloudpickle and dill copy the function, and a model that holds the copy has another structure.
"""

import copyreg
import sys
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["pickle_wrapped_functions_by_name"]

_MAIN = ("__main__", "__mp_main__")


def pickle_wrapped_functions_by_name() -> None:
    """Let pickle, cloudpickle, dill and `copy` find functions that JAX has wrapped by their names.

    Those that have no name, or are defined in a script or notebook, are pickled as before.
    """
    for cls in (type(jax.jit(_by_name)), jax.custom_jvp, jax.custom_vjp, jnp.ufunc):
        copyreg.pickle(cls, _by_name)


def _by_name(function: Any) -> Any:
    home: Any = getattr(function, "__module__", None)
    name: Any = getattr(function, "__qualname__", None) or getattr(function, "__name__", None)
    found: Any = sys.modules.get(home)
    for part in name.split(".") if name else ():
        found = getattr(found, part, None)
    if found is function and home not in _MAIN:
        return name  # a string stands for the global of this name
    return function.__reduce_ex__(4)
