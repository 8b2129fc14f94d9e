"""Typed modules and code-generated optimizers for JAX."""

import importlib
from typing import TYPE_CHECKING, Any

from mlax._annotations import AnnotationMismatchError as AnnotationMismatchError
from mlax._gradients import value_and_grad as value_and_grad
from mlax._set_up import set_up as set_up
from mlax.branch import Container as Container
from mlax.branch import INode as INode
from mlax.branch import is_branch_state as is_branch_state
from mlax.branch import is_container as is_container
from mlax.module import Module as Module
from mlax.module import field as field
from mlax.module import is_module as is_module
from mlax.packing import Packed as Packed
from mlax.packing import pack as pack
from mlax.saving import flatten as flatten
from mlax.saving import load as load
from mlax.saving import load_metadata as load_metadata
from mlax.saving import save as save
from mlax.saving import unflatten as unflatten
from mlax.state import UNSET as UNSET
from mlax.state import ENode as ENode
from mlax.state import Parameter as Parameter
from mlax.state import State as State
from mlax.state import Variable as Variable
from mlax.state import is_frozen_param as is_frozen_param
from mlax.state import is_leaf_state as is_leaf_state
from mlax.state import is_parameter as is_parameter
from mlax.state import is_state as is_state
from mlax.state import is_unfrozen_param as is_unfrozen_param
from mlax.state import is_variable as is_variable
from mlax.tree import tree_equal as tree_equal
from mlax.typing import LeafMismatchError as LeafMismatchError
from mlax.typing import runtime_checks as runtime_checks

if TYPE_CHECKING:
    from mlax import experimental as experimental
    from mlax import losses as losses
    from mlax import optim as optim


if not TYPE_CHECKING:  # checkers would take every misspelt name for one that this finds

    def __getattr__(name: str) -> Any:
        # Loaded on first use: `import mlax` stays light.
        if name in {"experimental", "losses", "optim"}:
            return importlib.import_module(f"mlax.{name}")
        raise AttributeError(f"module 'mlax' has no attribute {name!r}")
