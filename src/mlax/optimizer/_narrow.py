"""The warnings that `init` gives if the dtype of a slot is, or would be, too narrow for the algorithm.

A step that keeps the fraction `b` of a slot changes it by 1 - b of its value. If that is at most
half the distance to the next number of the dtype, the change is rounded away and the slot never
changes. In bfloat16 this happens to an average with b = 0.999, and to every sum over many steps. It
does not happen with stochastic rounding. `tests/mlax/laws/test_narrow_slots.py` measures for all
optimizers which slots go wrong.
"""

import inspect
import math
import warnings
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Array

from mlax._int8 import is_int8
from mlax._jax.dtypes import epsilon, largest_number, smallest_subnormal
from mlax._jax.tracing import is_tracer
from mlax._jax.trees import KeyPath, class_of, leaves_with_path
from mlax.optimizer._hyperparameters import Number, is_schedule
from mlax.tree import keystr

__all__ = ["outside", "warn_if_narrow", "warn_if_wide"]

Part: TypeAlias = Number | None


def warn_if_narrow(
    state: Any,
    *,
    kept: Mapping[str, Part | tuple[Part, ...]] | None = None,
    squares: Collection[str] = (),
    scales: Mapping[str, float | Array] | None = None,
) -> None:
    """Warn about slots of a new state whose dtype is too narrow, with reasons and cures.

    Args:
        state: A state with `hyperparameters`. Their `stochastic_rounding` is taken into account, if
            they have it.
        kept: For each slot, the fraction of it that a step keeps: the decay of an average, or 1 for
            a sum. A tuple if it is not the same for all leaves. Schedules, traced arrays and None
            are ignored.
        squares: Slots to which squares of gradients are added: 1 - b of them if a step keeps b < 1,
            otherwise all.
        scales: For each slot, the factor that gradients are multiplied by before they are added in
            the first step.
    """
    kept, scales = kept or {}, scales or {}
    stochastic: bool | None = getattr(state.hyperparameters, "stochastic_rounding", None)
    lines: list[str] = []
    found: list[_Reason] = []
    for name in dict.fromkeys([*kept, *squares, *scales]):
        parts = [*_known(kept.get(name))]
        for dtype, path in _dtypes(getattr(state, name)).items():
            scale = next(_known(scales.get(name)), 1.0)
            out_of_range = (
                _squares(parts, scale, dtype) if name in squares else _first(scale, dtype)
            )
            reasons = [*_stalling(parts, dtype, stochastic), *out_of_range]
            if reasons:
                place = f"state.{name}{keystr(path)}"
                lines.append(f"{place} in {dtype.name} " + "; and ".join(x.text for x in reasons))
                found += reasons
    if lines:
        warnings.warn(
            f"{type(state.hyperparameters).__name__}: the dtype of these slots is too narrow:\n  "
            + "\n  ".join([*lines, *_cures(found)]),
            UserWarning,
            stacklevel=outside(),
        )


def warn_if_wide(state: Any, reasons: Mapping[str, str]) -> None:
    """Warn about slots of a new state that are left wide although its slots are to be in eight bits.

    Args:
        state: A state with `hyperparameters`.
        reasons: For each slot, why eight bits are too few for it.
    """
    h = state.hyperparameters
    if h.slot_dtype != np.int8:
        return
    lines = [
        f"\n  state.{name} stays in {' and '.join(dtype.name for dtype in dtypes)}: {reason}"
        for name, reason in reasons.items()
        if (dtypes := _dtypes(getattr(state, name)))
    ]
    if lines:
        text = f'{type(h).__name__}: slot_dtype="int8" does not apply to all slots:{"".join(lines)}'
        warnings.warn(text, UserWarning, stacklevel=outside())


class _Reason(NamedTuple):
    """What goes wrong in a slot.

    Attributes:
        text: The end of a sentence that begins with the slot.
        float32: Whether float32 slots avoid it.
        stochastic: Whether stochastic rounding avoids it.
        decay: The largest decay that avoids it; None if no decay does.
    """

    text: str
    float32: bool = True
    stochastic: bool = False
    decay: float | None = None


def _cures(reasons: list[_Reason]) -> list[str]:
    """Return the last line of the message; no line if nothing helps."""
    decays = [reason.decay for reason in reasons if reason.decay is not None]
    cures = ["pass slot_dtype=jnp.float32"] if any(reason.float32 for reason in reasons) else []
    cures += ["stochastic_rounding=True"] if all(reason.stochastic for reason in reasons) else []
    cures += [f"use decays of at most {min(decays):g}"] if decays else []
    text = ", or ".join(cures)
    return [f"{text[0].upper()}{text[1:]}."] if text else []


def _stalling(parts: list[float], dtype: Any, stochastic: bool | None) -> Iterator[_Reason]:
    """Yield a reason for each fraction that differs from 1 by less than a dtype can represent.

    With stochastic rounding, a narrow dtype represents on average as much as float32, in which it
    is computed.
    """
    is_half = dtype.itemsize < 4 and not stochastic
    half, half_of_float32 = epsilon(dtype) / 2, epsilon(np.float32) / 2
    if stochastic and dtype.itemsize < 4:
        half = half_of_float32
    for part in parts:
        if part == 1 and is_half:
            text = f"ignores changes smaller than 1/{1 / half:g} of its value"
            yield _Reason(text, stochastic=stochastic is False)
        elif part != 1 and abs(1 - part) <= half:
            verb = "decays" if part < 1 else "grows"
            yield _Reason(
                f"never {verb} at {part:.6g} a step: each change is rounded away",
                float32=is_half,
                stochastic=is_half and stochastic is False and abs(1 - part) > half_of_float32,
                decay=math.floor((1 - half) * 1e4) / 1e4 if part < 1 else None,
            )


def _first(scale: float, dtype: Any) -> Iterator[_Reason]:
    """Yield a reason if gradients multiplied by a scale underflow."""
    least = smallest_subnormal(dtype) / 2  # this is rounded to 0
    if dtype.itemsize < 4 and scale < math.sqrt(least):
        yield _Reason(
            f"begins with gradients times {scale:g}: gradients below {least / scale:.1e} become 0"
        )


def _squares(parts: list[float], scale: float, dtype: Any) -> Iterator[_Reason]:
    """Yield a reason if squares of gradients, times a scale, leave the range of a dtype.

    A step adds 1 - b of a square, which has to be more than half the smallest positive number.
    """
    added = min((1 - part for part in parts if part < 1), default=1.0)
    least, largest = smallest_subnormal(dtype) / 2, largest_number(dtype)
    if largest < 1e9:
        times = "" if scale == 1 else f", at first times {scale:g}"
        yield _Reason(
            f"holds squares of gradients{times}: gradients below {math.sqrt(least / added) / scale:.1e} add nothing, "
            "so that updates are divided by a root near 0 and become huge or infinite; "
            f"squares of gradients above {_plain(math.sqrt(largest) / scale)} are clipped"
        )


def _plain(value: float) -> str:
    return f"{value:.0f}" if value < 1e4 else f"{value:.1e}"


def _known(kept: Any) -> Iterator[float]:
    """Yield the numbers whose values are known."""
    for part in kept if class_of(kept) is tuple else (kept,):
        if not (part is None or is_schedule(part) or is_tracer(part)):
            yield float(part)


def _dtypes(slot: Any) -> dict[Any, KeyPath]:
    """Return the dtypes in a slot, each with the path to its first array."""
    found: dict[Any, KeyPath] = {}
    for path, leaf in leaves_with_path(slot, is_int8):
        if not is_int8(leaf):
            found.setdefault(leaf.dtype, path)
    return found


def outside() -> int:
    """Return the stack level of the first caller outside this library, JAX, and the modules of optimizers.

    An optimizer's module, generated or not, is recognised by its State. If a script defines an
    optimizer itself, it counts as the caller.
    """
    nearest, level, frame = 0, 0, inspect.currentframe()
    while frame:
        if frame.f_globals.get("__name__", "").partition(".")[0] not in ("mlax", "jax"):
            nearest = nearest or level
            state = frame.f_globals.get("State")
            if "hyperparameters" not in getattr(state, "_fields", ()):
                return level
        level, frame = level + 1, frame.f_back
    return nearest
