"""`mlax.summary`: the modules of a model as a table, with what they return and what they hold."""

import functools
import shutil
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import jax
import numpy as np
from jax.errors import ConcretizationTypeError, TracerArrayConversionError
from jaxtyping import Array

from mlax._jax.recursion import make_room
from mlax._jax.tracebacks import trimmed
from mlax._jax.trees import KeyPath, class_of, flatten, leaves, map_leaves
from mlax._module import calls
from mlax._module.batch_axes import with_batch_axes
from mlax._module.flops import flops as flops_of
from mlax._module.frames import (
    Frame,
    is_key,
    static_options,
    static_value,
    with_static_options,
)
from mlax._module.module import HasForward
from mlax._module.nodes import UNSET, is_parameter, is_unfrozen_param
from mlax._module.places import depth_of, modules_inside, own_nodes
from mlax._module.prepared import Prepared, target_of
from mlax._module.printing import pretty
from mlax._module.set_up import assembled, has_shape, needs_values, only_shapes
from mlax._module.tables import Column, as_html, as_text, with_unit
from mlax.tree import describe, path_text

__all__ = ["Row", "Summary", "summary"]


@dataclass(frozen=True)
class Row:
    """One module of a summary. All numbers include the modules inside it.

    Attributes:
        path: Its path in the model, such as `layers[0].norm`; "" for the model itself.
        name: Its path in the module around it: `norm`.
        depth: How many modules are around it.
        class_name: The name of its class.
        output: What it returns, as in the table: `f32[8,10]`; "" if it was not called.
        outputs: What it returns, for each call: a tree of `jax.ShapeDtypeStruct`.
        parameters: How many numbers its unfrozen Parameters hold.
        frozen: How many its frozen Parameters hold.
        variables: How many its Variables hold.
        unset: How many nodes are not set up. They do not count elsewhere.
        bytes: The size of all arrays.
        flops: Floating-point operations of all its calls; None if they were not asked for.
    """

    path: str
    name: str
    depth: int
    class_name: str
    output: str
    outputs: tuple[Any, ...]
    parameters: int
    frozen: int
    variables: int
    unset: int
    bytes: int
    flops: int | None


@dataclass(frozen=True, repr=False)
class Summary:
    """The modules of a model. It prints as a table, in notebooks too.

    Attributes:
        rows: One for each module, each before those inside it. The first is the model itself.
    """

    rows: tuple[Row, ...]

    @property
    def parameters(self) -> int:
        """How many numbers the unfrozen Parameters of the whole model hold."""
        return self.rows[0].parameters

    @property
    def frozen(self) -> int:
        """How many numbers the frozen Parameters of the whole model hold."""
        return self.rows[0].frozen

    @property
    def variables(self) -> int:
        """How many numbers the Variables of the whole model hold."""
        return self.rows[0].variables

    @property
    def bytes(self) -> int:
        """The size of all arrays of the model."""
        return self.rows[0].bytes

    @property
    def flops(self) -> int | None:
        """Floating-point operations of one call; None if they were not asked for."""
        return self.rows[0].flops

    def text(self, width: int | None = None) -> str:
        """Return the table as text.

        Args:
            width: How wide it should be at most. By default, as wide as the terminal.
        """
        room = shutil.get_terminal_size().columns if width is None else width
        return as_text(self._columns(), room)

    def __repr__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return as_html(self._columns())

    def _columns(self) -> list[Column]:
        rows = self.rows
        columns = [
            Column("path", ["  " * (row.depth - 1) + row.name for row in rows], is_text=True),
            Column("class", [row.class_name for row in rows], is_text=True),
        ]
        if any(row.outputs for row in rows):
            columns.append(Column("output", [row.output for row in rows], is_text=True))
        columns.append(Column("parameters", [_number(row.parameters) for row in rows]))
        columns += [
            Column(name, [_number(getattr(row, name)) for row in rows])
            for name in ("frozen", "variables", "unset")
            if getattr(rows[0], name)
        ]
        columns.append(Column("bytes", [with_unit(row.bytes, "B") for row in rows]))
        if rows[0].flops is not None:
            counted = ["" if row.flops is None else with_unit(row.flops, "") for row in rows]
            columns.append(Column("FLOPs", counted))
        return columns


def _number(number: int) -> str:
    return f"{number:,}" if number else ""


@trimmed
def summary(
    model: HasForward[..., Any] | Callable[..., Any],
    *inputs: Any,
    rng: Array | None = None,
    depth: int | None = None,
    flops: bool = False,
    **options: Any,
) -> Summary:
    """Return a table of the modules of a model: path, class, output, parameters, bytes.

        print(mlax.summary(model, x))

    The model is called with only shapes and dtypes. Nothing is computed, and no arrays are made. A
    model that is not set up is shown as set-up would make it.

    Args:
        model: A Module, or what `mlax.training` or `mlax.inference` returns for one. Without these,
            it is called in inference mode.
        *inputs: Its arguments: arrays, or `jax.ShapeDtypeStruct`s. Without any arguments the model
            is not called, and the table has no outputs.
        rng: PRNG key of the call. Only its type matters, and by default it is a typed one.
        depth: How many levels of modules inside the model are shown: 0 is the model itself, 1 also
            the modules directly inside. By default all are.
        flops: Whether to count floating-point operations. Each module is compiled in part for that,
            equal ones with equal inputs once.
        **options: Passed to the model. `batch_axis_name` holds for all modules inside, and an axis
            of this name has one example unless a `vmap` around maps over it.

    Returns:
        A Summary with a row for each module. A module that was called several times has one row.
        Inside `vmap` and `scan`, shapes are those of one example and one step.

    Raises:
        TypeError: `model` is not a Module, a `forward` in it needs values, or `depth` is not an integer.
        ValueError: `depth` is negative.
    """
    prepared = model if isinstance(model, Prepared) else None
    target = target_of(model if prepared is None else prepared.function)
    if target is None:
        given = model if prepared is None else prepared.function
        raise TypeError(f"mlax.summary takes a Module, or one with options, got {describe(given)}")
    if rng is not None and not is_key(rng):
        raise TypeError(
            f"mlax.summary: rng must be a key, such as jax.random.key(0), got {describe(rng)}"
        )
    _require_depth(depth)
    static = static_options()._replace(inference_mode=True)
    if prepared is not None:
        static, rng = prepared.merged(), prepared.rng if rng is None else rng
    if "batch_axis_name" in options:
        name = static_value("batch_axis_name", options.pop("batch_axis_name"))
        static = static._replace(batch_axis_name=name)
    module, function = target
    make_room(depth_of(module))
    key: Any = cast("Any", jax.eval_shape)(jax.random.key, 0) if rng is None else rng
    looking = _Looking(function, inputs, options, static, key, flops)
    looking.look(module)
    if flops and looking.made:  # once more, so that set-up does not count
        module = assembled(module, (), looking.made)
        looking = _Looking(function, inputs, options, static, key, flops)
        looking.look(module)
    counted = looking.count() if flops else {}
    return Summary(
        tuple(
            found.row(looking.called.get(found.path, []), counted)
            for found in looking.found
            if depth is None or found.depth <= depth
        )
    )


_INTEGERS: Any = (int, np.integer)


def _require_depth(depth: object) -> None:
    is_integer = isinstance(depth, _INTEGERS) and not isinstance(depth, bool)
    if depth is None or (is_integer and cast("int", depth) >= 0):
        return
    raise (ValueError if is_integer else TypeError)(
        f"mlax.summary: depth must be None or an integer >= 0, got {describe(depth)}.\n"
        f"  0 is the model itself, 1 also the modules directly inside it, None all."
    )


class _Called(NamedTuple):
    """A call of a module. Shapes take the place of arrays.

    Attributes:
        output: What it returned.
        text: The same as a text.
        function: The function that ran: `forward`, or another method.
        arguments: The module, arguments and keywords; empty if operations are not to be counted.
        static: The static options around it.
    """

    output: Any
    text: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    static: Any


@dataclass
class _Found:
    """A module, and what it and those inside it hold. `inside` is its path in the module around it."""

    path: KeyPath
    inside: KeyPath
    class_name: str
    depth: int
    parameters: int = 0
    frozen: int = 0
    variables: int = 0
    unset: int = 0
    bytes: int = 0

    def row(self, called: Sequence[_Called], counted: dict[KeyPath, int]) -> Row:
        return Row(
            path_text(self.path),
            path_text(self.inside),
            self.depth,
            self.class_name,
            _texts([call.text for call in called]),
            tuple(call.output for call in called),
            self.parameters,
            self.frozen,
            self.variables,
            self.unset,
            self.bytes,
            counted.get(self.path),
        )


def _texts(outputs: Sequence[str]) -> str:
    """Return the texts of all outputs of a module, equal ones once: `2× f32[3]`."""
    counts = {text: outputs.count(text) for text in outputs}
    return "; ".join(text if n == 1 else f"{n}× {text}" for text, n in counts.items())


class _Looking:
    """One call of a model under `eval_shape`.

    Attributes:
        found: All modules, each before those inside it.
        called: The calls of each module, by its path.
        made: The modules that were set up, by their paths.
        is_called: Whether the model is called: whether it is given arguments.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        inputs: tuple[Any, ...],
        options: dict[str, Any],
        static: Any,
        key: Any,
        counts: bool,
    ) -> None:
        self.function = function
        self.given = inputs, options, key
        self.static = static
        self.counts = counts
        self.is_called = bool(inputs or options)
        self.found: list[_Found] = []
        self.called: dict[KeyPath, list[_Called]] = {}
        self.made: dict[KeyPath, Any] = {}

    def look(self, module: Any) -> None:
        """Call the model with shapes, and look at each module."""
        found, treedef = flatten((module, *self.given))

        def call(arrays: list[Any]) -> None:
            given = iter(arrays)
            model, args, kwargs, key = treedef.unflatten(
                next(given) if has_shape(leaf) else leaf for leaf in found
            )
            function, packed, model = self.function, model, model._unpacked()
            if model is not packed:
                function = class_of(model).forward
            seen = self._call(model, function, args, kwargs, key) if self.is_called else {}
            self._add((), (), model, 0, seen)

        try:
            arrays = [leaf for leaf in found if has_shape(leaf)]
            cast("Any", jax.eval_shape)(with_batch_axes(call, self.static), arrays)
        except (ConcretizationTypeError, TracerArrayConversionError) as error:
            cure = "Leave out the inputs: the table then has no outputs."
            raise TypeError(f"{needs_values('mlax.summary', module)}\n  {cure}") from error

    def _call(
        self, model: Any, function: Callable[..., Any], args: Any, kwargs: Any, key: Any
    ) -> dict[KeyPath, Any]:
        """Call the model, and note each call inside. Return the modules as they were called."""
        seen: dict[KeyPath, Any] = {}

        def watch(frame: Frame, args: Any, kwargs: Any, result: Any) -> None:
            module = frame.module
            path = frame.path_within(root)
            if path is None or module._original() is not module:
                return
            seen.setdefault(path, module)
            output = map_leaves(_shape, result[0])
            arguments = map_leaves(_shape, (module, args, kwargs)) if self.counts else ()
            call = _Called(output, _text(result[0]), frame.function, arguments, static_options())
            self.called.setdefault(path, []).append(call)

        with only_shapes(model, key) as labelled, with_static_options(self.static):
            root = Frame(labelled, function, None)
            root.give(key, lenient=True)
            root.watch = watch
            try:
                calls.start(root, None, args, kwargs)
            finally:
                root.watch = None  # which refers to root
        return seen

    def _add(
        self, around: KeyPath, inside: KeyPath, module: Any, depth: int, seen: dict[KeyPath, Any]
    ) -> _Found:
        """Add a module and those inside."""
        path = around + inside
        module = module._unpacked()
        if module._unset() and path in seen:
            module = seen[path]
            self.made[path] = map_leaves(_shape, module)
        found = _Found(path, inside, class_of(module).__name__, depth)
        self.found.append(found)
        for _, node in own_nodes(module):
            if node.data is UNSET:
                found.unset += 1
                continue
            arrays: list[Any] = leaves(node.data)
            count = sum(array.size for array in arrays)
            if is_unfrozen_param(node):
                found.parameters += count
            elif is_parameter(node):
                found.frozen += count
            else:
                found.variables += count
            found.bytes += sum(array.size * array.dtype.itemsize for array in arrays)
        for key, child in modules_inside(module):
            below = self._add(path, key, child, depth + 1, seen)
            for name in ("parameters", "frozen", "variables", "unset", "bytes"):
                setattr(found, name, getattr(found, name) + getattr(below, name))
        return found

    def count(self) -> dict[KeyPath, int]:
        """Return the floating-point operations of all calls of each module, by its path."""
        known: dict[Hashable, int] = {}
        return {
            path: sum(self._flops(call, known) for call in called)
            for path, called in self.called.items()
        }

    def _flops(self, call: _Called, known: dict[Hashable, int]) -> int:
        found, treedef = flatten((call.arguments, self.given[2]))
        like: list[Hashable] = [
            leaf if isinstance(leaf, Hashable) else id(cast("object", leaf)) for leaf in found
        ]
        kind = call.function, treedef, tuple(like), call.static
        if kind not in known:

            def run(*arrays: Any) -> Any:
                given = iter(arrays)
                (module, args, kwargs), key = treedef.unflatten(
                    next(given) if has_shape(leaf) else leaf for leaf in found
                )
                with only_shapes(module, key) as labelled, with_static_options(call.static):
                    frame = Frame(labelled, call.function, None)
                    frame.give(key, lenient=True)
                    result = calls.start(frame, None, args, kwargs)
                return [leaf for leaf in leaves(result) if isinstance(leaf, jax.Array)]

            arrays = [leaf for leaf in found if has_shape(leaf)]
            known[kind] = flops_of(with_batch_axes(run, call.static), arrays)
        return known[kind]


def _shape(leaf: Any) -> Any:
    if not has_shape(leaf):
        return leaf
    weak = bool(getattr(leaf, "weak_type", False))
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, weak_type=weak)


def _text(output: Any) -> str:
    if isinstance(output, jax.Array):
        return _text_of_array(output.shape, output.dtype)
    return " ".join(pretty(output, width=10_000).split())


@functools.cache
def _text_of_array(shape: tuple[int, ...], dtype: Any) -> str:
    name = str(dtype)
    for long, short in (("float", "f"), ("uint", "u"), ("int", "i"), ("complex", "c")):
        name = name.replace(long, short)
    return f"{name}[{','.join(map(str, shape))}]"
