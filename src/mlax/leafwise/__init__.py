"""Leaf arithmetic: mapping it over trees, and the functions it is written with.

Generated optimizers contain plain arithmetic for one leaf, without casts. `map_leaves` and
`reduce_leaves` decide on the dtype: they widen narrow leaves, forbid implicit promotion, and round
once, as an `Output` says. The other functions are for use in such arithmetic, by subject:

* elementwise: `abs2`, `cbrt`, `clip`, `magnitude`, `real`, `sigmoid`, `softplus`, `sqrt`
* a leaf as a whole, or along some axes: `summed`, `mean`, `largest`, `smallest`, `norm`,
  `rms`, `std`; of weights and a direction: `trust_ratio`
* shapes, before anything is computed: `two_largest_axes`, `two_axes`, `without`, `product`,
  `reduced`, `vectors`, `matrices`
* factored second moments: `outer_mean`; a vector for each axis: `along`, `as_vector`, `least`
* matrices: `matmul`, `transpose`, `singular_vectors`, `orthonormal`, `orthogonalize`, `as_matrix`,
  `reshape`; `gathered`, before one is cut; one for each axis: `gram`, `inverse_root`, `eigenbasis`,
  `refreshed_basis`, `rotate`, `rotate_back`
* of all leaves together: `total_norm`, `total_mean`, `total_max`, `total_min`, `count_all`; for each leaf:
  `handed_on`; at intervals: `every`; under conditions: `unless`, `no_update`; random: `normal`, `uniform`, `rademacher`

They take arrays in the dtype that the leaf is computed in, at least float32, with any number of
axes, including empty arrays. Results have the same dtype. For zeros and numbers from 1e-30 to 1e15
they are finite.
"""

from mlax._faces import claim as _claim
from mlax._jax.placement import gathered as gathered
from mlax.leafwise._axes import along as along
from mlax.leafwise._axes import as_vector as as_vector
from mlax.leafwise._axes import least as least
from mlax.leafwise._axes import matrices as matrices
from mlax.leafwise._axes import outer_mean as outer_mean
from mlax.leafwise._axes import product as product
from mlax.leafwise._axes import reduced as reduced
from mlax.leafwise._axes import reshape as reshape
from mlax.leafwise._axes import two_axes as two_axes
from mlax.leafwise._axes import two_largest_axes as two_largest_axes
from mlax.leafwise._axes import vectors as vectors
from mlax.leafwise._axes import without as without
from mlax.leafwise._elements import abs2 as abs2
from mlax.leafwise._elements import cbrt as cbrt
from mlax.leafwise._elements import clip as clip
from mlax.leafwise._elements import magnitude as magnitude
from mlax.leafwise._elements import normal as normal
from mlax.leafwise._elements import rademacher as rademacher
from mlax.leafwise._elements import real as real
from mlax.leafwise._elements import sigmoid as sigmoid
from mlax.leafwise._elements import softplus as softplus
from mlax.leafwise._elements import sqrt as sqrt
from mlax.leafwise._elements import uniform as uniform
from mlax.leafwise._mapping import Totals as Totals
from mlax.leafwise._mapping import count_all as count_all
from mlax.leafwise._mapping import every as every
from mlax.leafwise._mapping import handed_on as handed_on
from mlax.leafwise._mapping import map_leaves as map_leaves
from mlax.leafwise._mapping import reduce_leaves as reduce_leaves
from mlax.leafwise._mapping import total_max as total_max
from mlax.leafwise._mapping import total_mean as total_mean
from mlax.leafwise._mapping import total_min as total_min
from mlax.leafwise._mapping import total_norm as total_norm
from mlax.leafwise._mapping import totals as totals
from mlax.leafwise._mapping import unless as unless
from mlax.leafwise._matrices import as_matrix as as_matrix
from mlax.leafwise._matrices import eigenbasis as eigenbasis
from mlax.leafwise._matrices import gram as gram
from mlax.leafwise._matrices import inverse_root as inverse_root
from mlax.leafwise._matrices import matmul as matmul
from mlax.leafwise._matrices import orthogonalize as orthogonalize
from mlax.leafwise._matrices import orthonormal as orthonormal
from mlax.leafwise._matrices import refreshed_basis as refreshed_basis
from mlax.leafwise._matrices import rotate as rotate
from mlax.leafwise._matrices import rotate_back as rotate_back
from mlax.leafwise._matrices import singular_vectors as singular_vectors
from mlax.leafwise._matrices import transpose as transpose
from mlax.leafwise._norms import largest as largest
from mlax.leafwise._norms import mean as mean
from mlax.leafwise._norms import norm as norm
from mlax.leafwise._norms import rms as rms
from mlax.leafwise._norms import smallest as smallest
from mlax.leafwise._norms import std as std
from mlax.leafwise._norms import summed as summed
from mlax.leafwise._norms import trust_ratio as trust_ratio
from mlax.leafwise._rounding import Output as Output
from mlax.leafwise._rounding import Rounding as Rounding
from mlax.leafwise._rounding import no_update as no_update

_claim(__name__, [name for name in dir() if not name.startswith("_")])
