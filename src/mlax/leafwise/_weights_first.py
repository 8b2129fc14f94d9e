"""New weights before the slots that are still read, so that XLA on CPU has less to copy.

A step that is given the buffers of weights and state (donated) writes its results into them, and
XLA on CPU runs one loop for each result. The loop of the weights may read old slots: Lion's does,
and so do those of all algorithms whose slots are stored in a narrower dtype than they are computed
in. Loops of other slots may: Adan's moments read the last gradient. Then they have to run before
the slots are overwritten. XLA does not notice that this is possible,
and copies the slots first, which takes longer than the step itself. (The compiler option
`xla_cpu_copy_insertion_use_region_analysis`, off by default, makes it notice.)

So the new slots are made to depend on the new weights. On 64 leaves of 1 MB, Lion's step took 1.03
of Optax's time before, and 0.4 with this: see docs/benchmarks.md.

Leaves that need temporary arrays are computed one after the other, for the same reason: XLA would
begin with all of them, and keep the temporaries of all at once.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Jaxpr, Var, jaxpr_as_fun
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array

from mlax._int8 import is_int8
from mlax._jax.tracing import is_tracer
from mlax._jax.trees import flatten

__all__ = ["in_turn", "weights_first"]

S = TypeVar("S")
T = TypeVar("T")


def weights_first(function: Callable[[S], T], slots: S) -> tuple[T, bool]:
    """Return `function(slots)`. On CPU, a new slot is written after the weights if they or another slot read
    the old one.

    Args:
        function: Returns new weights, new slots, and anything else. It is traced.
        slots: A tree of arrays, with the structure of the new slots.

    Returns:
        The results, and whether they need large temporary arrays.
    """
    if cast("Any", jax.config).jax_disable_jit:
        return function(slots), False
    old = flatten(slots)[0]
    traced, shapes = jax.make_jaxpr(function, return_shape=True)(slots)
    jaxpr = traced.jaxpr
    results: list[Array] = cast("Any", jaxpr_as_fun(traced))(*old)
    weights, *others = results
    changed = jaxpr.outvars[: 1 + len(old)]
    read = [_computed_from(result, jaxpr, kept=changed) for result in changed]
    for i, variable in enumerate(jaxpr.invars):
        elsewhere = (found for j, found in enumerate(read) if j != 1 + i)
        is_read = any(variable in found for found in elsewhere) and changed[1 + i] is not variable
        if is_read and _form(weights) == _form(others[i]):
            others[i] = _after(weights, others[i])
    result: T = flatten(shapes)[1].unflatten([weights, *others])
    return result, weights.size >= _LARGE and _reduces(jaxpr, weights.size)


def sums_first(function: Callable[[S], T], slots: S) -> T:
    """Return `function(slots)`. On CPU, a new slot is written after the sums that read the old one.

    Not with several devices, where a slot would wait for all of them to agree on a sum.

    Args:
        function: Returns sums of a leaf, new slots, and anything else. It is traced.
        slots: A tree of arrays, with the structure of the new slots.
    """
    old = flatten(slots)[0]
    if not old or jax.device_count() > 1 or cast("Any", jax.config).jax_disable_jit:
        return function(slots)
    traced, shapes = jax.make_jaxpr(function, return_shape=True)(slots)
    jaxpr = traced.jaxpr
    results: list[Array] = cast("Any", jaxpr_as_fun(traced))(*old)
    count = len(flatten(shapes[0])[0])
    for i, variable in enumerate(jaxpr.invars, start=count):
        for x, total in zip(jaxpr.outvars[:count], results, strict=False):
            if variable is not jaxpr.outvars[i] and variable in _computed_from(x, jaxpr, kept=()):
                results[i] = _after(total, results[i])
    result: T = flatten(shapes)[1].unflatten(results)
    return result


_LARGE = 2**14
"""Number of elements from which on a temporary array costs more than waiting for the leaf before."""


def _reduces(jaxpr: Jaxpr, size: int) -> bool:
    """Return whether a leaf is reduced, or multiplied as a matrix, after it was computed from several arrays.

    XLA stores such an array: to compute it again in the loops that come after the reduction would
    take too long. What is computed from one array alone it rather repeats.

    Args:
        jaxpr: The whole step.
        size: Number of elements of the leaf.
    """
    given: set[object] = {x for x in (*jaxpr.invars, *jaxpr.constvars) if _size(x) > 1}
    for equation in jaxpr.eqns:
        if max(map(_size, equation.invars), default=0) >= size > max(map(_size, equation.outvars)):
            read = {y for x in equation.invars for y in _computed_from(x, jaxpr, kept=())}
            if len(given & read) > 1:
                return True
    return False


def _size(variable: Any) -> int:
    return math.prod(variable.aval.shape)


def _computed_from(result: Any, jaxpr: Jaxpr, kept: Sequence[Any]) -> set[Any]:
    """Return the variables that the loop of a result reads or computes.

    Args:
        result: A result of the step.
        jaxpr: The whole step.
        kept: All results. A loop reads those that it finds in memory.
    """
    equations = {variable: equation for equation in jaxpr.eqns for variable in equation.outvars}
    scalars = {x for x, made in equations.items() if made.primitive.name == "broadcast_in_dim"}

    def stays_in_memory(x: Any) -> bool:
        if not isinstance(x, Var) or x is result or x not in equations:
            return False
        # XLA rather repeats an operation with one array, such as adding a number, in each loop that uses it.
        operands = {y for y in equations[x].invars if isinstance(y, Var)} - scalars
        return sum(_shape(y) == _shape(x) for y in operands) > 1

    stop = {x for x in kept if stays_in_memory(x)}
    found: set[Any] = set()
    pending = [result]
    while pending:
        variable = pending.pop()
        if not isinstance(variable, Var) or variable in found or variable in stop:
            continue
        found.add(variable)
        if variable in equations:
            pending += equations[variable].invars
    return found


def _shape(variable: Var) -> object:
    return cast("Any", variable.aval).shape


def _after(first: Array, then: Array) -> Array:
    """Make `then` depend on `first`, so that XLA on CPU writes it later.

    XLA sees a `select` that depends on `first`. LLVM, which comes later, sees that the condition is
    always false.

    Args:
        first: An array like `then`, but for its dtype; each number waits for the one in its place.
            Of an array of another form, all wait for one number.
        then: An array.
    """
    return _ordered(first if _form(first) == _form(then) else _corner(first), then)


def _in_order(read: Array, then: Array) -> Array:
    def chosen(read: Array, then: Array) -> Array:
        never = lax.optimization_barrier(jnp.bool_(False)) & (read == 0)
        return lax.select(never, jnp.zeros_like(then), then)

    def as_it_is(_: Array, then: Array) -> Array:
        return then

    result: Array = cast("Any", lax.platform_dependent)(read, then, cpu=chosen, default=as_it_is)
    return result


_ordered: Callable[[Array, Array], Array] = jax.jit(_in_order)  # traced once for each shape


def _corner(array: Array) -> Array:
    """Return one number of an array that has some."""
    piece = lax.slice(array, (0,) * array.ndim, (1,) * array.ndim)
    return lax.squeeze(piece, range(array.ndim))


def in_turn(gradient: Array, results: Sequence[Any], before: dict[object, Array]) -> Array:
    """Return a leaf's gradient such that, on CPU, the leaf is computed after the one before it.

    XLA on CPU would begin with all leaves, and keep the temporary arrays of all at once. Reductions
    need such arrays, and so do slots in eight bits: two of float32 for Adam, which are wider than all
    that is stored.

    A leaf waits for one number of the leaf before it. With several devices, that number might have
    to be sent to all; so a leaf waits for the one of its shape and sharding before it, each number
    for the one in its place, and for none if the sharding is left to XLA.

    Args:
        gradient: Of the leaf.
        results: Results of the leaf before it, if it needed temporary arrays.
        before: The last such result; with several devices, the last of each shape and sharding. It
            is updated.
    """
    kind = _known_form if jax.device_count() > 1 else _form_of_a_number
    for result in results:
        values = result.values if is_int8(result) else result
        if is_tracer(values) and values.size:  # without elements there is nothing to wait for
            before[kind(values)] = values
    if not before or not is_tracer(gradient) or cast("Any", jax.config).jax_disable_jit:
        return gradient
    form = kind(gradient)
    return _after(before[form], gradient) if form is not None and form in before else gradient


def _form_of_a_number(array: Array) -> object:
    """Return what `_form` returns for one number of an array: its mesh and varying mesh axes."""
    form: Any = jax.typeof(array)
    sharding = NamedSharding(form.sharding.mesh, PartitionSpec())
    return form.update(shape=(), sharding=sharding, dtype=np.dtype(bool), weak_type=False)


def _known_form(array: Array) -> object:
    """Return what `_form` returns; None if it does not tell the sharding, outside of meshes and on Auto ones."""
    mesh: Any = jax.typeof(array).sharding.mesh
    return None if mesh.empty or AxisType.Auto in mesh.axis_types else _form(array)


def _form(array: Array) -> object:
    """Return an array's shape, sharding and varying mesh axes."""
    form: Any = jax.typeof(array)
    return form.update(dtype=np.dtype(bool), weak_type=False)
