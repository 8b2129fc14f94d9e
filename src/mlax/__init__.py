"""Typed modules and code-generated optimizers for JAX."""

import importlib
from typing import TYPE_CHECKING, Any

from mlax._faces import claim as _claim
from mlax._jax.transforms import checkpoint as checkpoint
from mlax._jax.transforms import grad as grad
from mlax._jax.transforms import jit as jit
from mlax._module.branches import Container as Container
from mlax._module.branches import INode as INode
from mlax._module.branches import is_branch_state as is_branch_state
from mlax._module.branches import is_container as is_container
from mlax._module.containers import FrozenDefaultDict as FrozenDefaultDict
from mlax._module.containers import FrozenDict as FrozenDict
from mlax._module.containers import FrozenList as FrozenList
from mlax._module.containers import FrozenOrderedDict as FrozenOrderedDict
from mlax._module.fields import field as field
from mlax._module.freezing import freeze as freeze
from mlax._module.freezing import unfreeze as unfreeze
from mlax._module.gradients import value_and_grad as value_and_grad
from mlax._module.kinds import AnnotationMismatchError as AnnotationMismatchError
from mlax._module.looking import capture as capture
from mlax._module.looking import first_non_finite as first_non_finite
from mlax._module.module import Module as Module
from mlax._module.module import is_module as is_module
from mlax._module.nodes import UNSET as UNSET
from mlax._module.nodes import ENode as ENode
from mlax._module.nodes import Parameter as Parameter
from mlax._module.nodes import State as State
from mlax._module.nodes import Variable as Variable
from mlax._module.nodes import is_frozen_param as is_frozen_param
from mlax._module.nodes import is_leaf_state as is_leaf_state
from mlax._module.nodes import is_parameter as is_parameter
from mlax._module.nodes import is_state as is_state
from mlax._module.nodes import is_unfrozen_param as is_unfrozen_param
from mlax._module.nodes import is_variable as is_variable
from mlax._module.options import inference as inference
from mlax._module.options import training as training
from mlax._module.set_up import set_up as set_up
from mlax._module.summary import summary as summary
from mlax._module.surgery import At as At
from mlax._module.surgery import at as at
from mlax._packing.pack import pack as pack
from mlax._packing.packed import Packed as Packed
from mlax._saving.contents import Contents as Contents
from mlax._saving.saving import flatten as flatten
from mlax._saving.saving import load as load
from mlax._saving.saving import load_contents as load_contents
from mlax._saving.saving import load_metadata as load_metadata
from mlax._saving.saving import save as save
from mlax._saving.saving import unflatten as unflatten
from mlax._saving.static import check_static as check_static
from mlax._saving.static import static_text as static_text
from mlax._shardings import abstract as abstract
from mlax._shardings import shardings as shardings
from mlax.tree import tree_equal as tree_equal
from mlax.typing import LeafMismatchError as LeafMismatchError
from mlax.typing import runtime_checks as runtime_checks

_claim(__name__, [name for name in dir() if not name.startswith("_")])

if TYPE_CHECKING:
    from mlax import experimental as experimental
    from mlax import losses as losses
    from mlax import nn as nn
    from mlax import optim as optim


if not TYPE_CHECKING:  # with this, type checkers would accept any misspelt name

    def __getattr__(name: str) -> Any:
        # Loaded on first use, so that `import mlax` stays fast.
        if name in {"experimental", "losses", "nn", "optim"}:
            return importlib.import_module(f"mlax.{name}")
        raise AttributeError(f"module 'mlax' has no attribute {name!r}")
