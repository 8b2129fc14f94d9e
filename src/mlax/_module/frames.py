"""Frames of calls: the three options that hold for a call and everything inside it, and where the module stands.

`rng`, `inference_mode` and `batch_axis_name` are options of a call. A `forward` that names one is
passed it; the others inherit it, until a call is given its own. They travel in two ways:

* The two static options are the value of a JAX user context. It is part of the key of JAX's caches, so a
  function that was traced with one value is traced again for another, wherever it was jitted.
* A key cannot travel there: every new key would make JAX trace all functions anew. It stands in the `Frame` of
  the running call, and is valid only in the trace in which it was given. JAX caches the bodies of `scan`,
  `cond` and `checkpoint` by identity; a key read in one of these would be the same in every later call.
"""

import functools
import zlib
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from contextvars import ContextVar, Token
from threading import get_ident
from typing import Any, NamedTuple, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from mlax._jax import dtypes
from mlax._jax.trees import KeyPath
from mlax._module.places import own_path_to, paths_to
from mlax.tree import keystr, path_text

__all__ = [
    "NOT_GIVEN",
    "OPTIONS",
    "Frame",
    "StaticOptions",
    "Watch",
    "at",
    "current_frame",
    "enter",
    "is_key",
    "is_one_key",
    "leave",
    "static_options",
    "static_value",
    "trace_state",
    "with_static_options",
]

OPTIONS = ("rng", "inference_mode", "batch_axis_name")


class _NotGiven:
    """The type of `NOT_GIVEN`: an option that no call has been given."""

    def __repr__(self) -> str:
        return "<not given>"

    def __reduce__(self) -> str:
        return "NOT_GIVEN"  # the global of this name


class _NotStatic:
    """The type of the marker for an option that was passed as an array: it cannot be inherited."""

    def __repr__(self) -> str:
        return "<an array>"


NOT_GIVEN = _NotGiven()
_NOT_STATIC = _NotStatic()


class StaticOptions(NamedTuple):
    """The static options of the running call, or `NOT_GIVEN`."""

    inference_mode: Any = NOT_GIVEN
    batch_axis_name: Any = NOT_GIVEN

    def inherited(self, name: str, where: object) -> Any:
        """Return an option for a `forward` that names it.

        Raises:
            TypeError: A caller passed it as an array.
        """
        value = self.inference_mode if name == "inference_mode" else self.batch_axis_name
        if value is _NOT_STATIC:
            raise TypeError(
                f"{where}: {name} was passed as an array further out, and arrays are not inherited.\n"
                f"  Pass it on, {name}={name}, or make it a Python value."
            )
        return value


_user_context: Any = jax.make_user_context(StaticOptions())


def static_options() -> StaticOptions:
    """Return the static options of the running call."""
    options: StaticOptions = _user_context.value
    return options


def with_static_options(options: StaticOptions) -> AbstractContextManager[None]:
    """Return a context in which these are the static options."""
    context: AbstractContextManager[None] = _user_context(options)
    return context


_TRUTH_VALUES: Any = (bool, int, float, np.bool_)


def static_value(name: str, value: Any) -> Any:
    """Return the value that calls inside inherit when one is passed: the same, or a marker that it cannot be."""
    if name == "inference_mode" and isinstance(value, _TRUTH_VALUES):
        return bool(value)  # 1 and True would share a trace
    if isinstance(value, list):
        return tuple(cast("list[object]", value))
    is_array = isinstance(value, jax.Array) or not isinstance(value, Hashable)
    return _NOT_STATIC if is_array else value


def at(path: KeyPath) -> str:
    """Return where a module stands, for a message: ` at layers[0]`; "" for the model itself."""
    return f" at {path_text(path)}" if path else ""


Watch: TypeAlias = Callable[["Frame", tuple[Any, ...], dict[str, Any], Any], None]


class Frame:
    """One call of a module, while it runs.

    Attributes:
        module: The module, as it was when it was called.
        function: The function that runs: `forward`, or another method.
        outer: The call in which it was called, or None.
        path: Its path in the module of the outer call; None if it was called directly.
        giver: The frame whose key this one inherits, or None.
        depth: How many calls are around this one, itself included.
        within: Where it stands in the module of the outer call, if it runs in the place of that; its key is the same.
        hints: Where to look for a child first; see `places.own_path_to`.
        thread: The thread that it runs in.
        waiting: Whether a user's own `__call__` runs, which may call that of Module.
        watch: Called with each frame inside, the arguments and keywords of its call, and the result.
    """

    giver: "Frame | None" = None
    waiting = False
    within: KeyPath = ()
    _was_given = False
    _times = 0
    _key: Array | None = None
    _trace: object = None
    _lenient = False
    _count = 0
    _counts: dict[KeyPath, int] | None = None

    def __init__(
        self,
        module: Any,
        function: Callable[..., Any],
        outer: "Frame | None",
        path: KeyPath | None = None,
    ) -> None:
        self.module = module
        self.function = function
        self.outer = outer
        self.path = path
        self.hints: dict[str, int] = {}
        self.thread = get_ident()
        self.depth: int = 1 if outer is None else outer.depth + 1
        self.watch: Watch | None = None if outer is None else outer.watch

    def give(self, key: Any, *, lenient: bool = False) -> None:
        """Let this call and everything inside have a key of its own.

        Args:
            key: Anything but a key counts as none.
            lenient: Whether calls that cannot inherit it go without, instead of raising an error.
        """
        # `giver` is never the frame itself: only the garbage collector would free such a frame, and its arrays.
        self.giver, self._lenient = None, lenient
        self._was_given = is_key(key)
        self._key, self._trace = (key, trace_state()) if self._was_given else (None, None)

    def _giver_inside(self) -> "Frame | None":
        """Return the frame whose key calls inside inherit."""
        return self if self._was_given else self.giver

    def has_key_around(self) -> bool:
        """Whether a call further out was given a key, which this one does not inherit."""
        outer = self.outer
        return outer is not None and (
            outer._giver_inside() is not self.giver or outer.has_key_around()
        )

    def inherit(self, outer: "Frame", *, counts: bool = True) -> None:
        """Let this call have a key that is folded from that of the outer call, if that has one.

        Args:
            outer: The outer call.
            counts: Whether it counts as one of the calls of this module.
        """
        giver = self.giver = outer._giver_inside()
        if giver is None:
            return
        # A body that JAX has cached does not run again. If calls in it counted, keys of later calls would depend
        # on what was cached.
        if counts and self.path is not None and trace_state() == giver._trace:
            known = outer._counts
            if known is None:
                known = outer._counts = {}
            self._count = known.get(self.path, 0)
            known[self.path] = self._count + 1

    def stand_in(self, outer: "Frame") -> None:
        """Let this call have the key of the outer call, in whose place it runs; another, if it is not the first."""
        self.giver = outer._giver_inside()
        self.path = ()
        self._count = outer._times
        outer._times += 1

    def is_elsewhere(self) -> bool:
        """Whether a transformation was begun since the key that this call inherits was given."""
        return self.giver is not None and trace_state() != self.giver._trace

    def key(self) -> Array | None:
        """Return the key of this call, or None if there is none.

        Raises:
            ValueError: A transformation was begun since the key was given.
        """
        giver = self.giver
        if giver is None:
            return self._key
        if self.is_elsewhere():
            if giver._lenient:
                return None
            raise ValueError(
                f"{self}: a key is not inherited inside a jit, vmap, scan, cond, checkpoint, grad or custom derivative "
                f"that a `forward` has begun.\n"
                f"  Pass the key in: mlax.training(child, rng=key)"
            )
        return self._folded()

    def _folded(self) -> Array | None:
        if self._key is None and self.outer is not None:
            key = self.outer._folded()
            if (self.path or self._count) and key is not None:
                text = f"{keystr(self.path or ())}#{self._count}"
                key = jax.random.fold_in(key, zlib.crc32(text.encode()))
            self._key = key
        return self._key

    def place(self) -> str:
        """Return where the module stands in the model that was called, such as `layers[0].norm`; "" for the model."""
        return path_text(self.place_in_model())

    def place_in_model(self) -> KeyPath:
        """Return the path of the module in the model that was called, as far out as it is known."""
        path = self._path_in_outer()
        return () if path is None or self.outer is None else self.outer.place_in_model() + path

    def path_within(self, root: "Frame") -> KeyPath | None:
        """Return the path of the module in that of another frame; None if it is not known to be inside."""
        if self is root:
            return ()
        path = self._path_in_outer()
        around = None if path is None or self.outer is None else self.outer.path_within(root)
        return None if path is None or around is None else around + path

    def find_path(self) -> None:
        """Find out the path of a module that was called directly."""
        if self.path is None:
            self.path = self._path_in_outer()

    def _path_in_outer(self) -> KeyPath | None:
        if self.path is not None:
            return self.path + self.within
        if self.outer is None:
            return None
        path = own_path_to(self.module, self.outer.module, self.outer.hints)
        if path is not None:
            return path
        found = paths_to(self.module, self.outer.module, deep=True)
        return found[0] if found else None

    def described(self, signature: str = "", method: str = "") -> str:
        """Return the call for a message: `Linear.forward at layers[0]`."""
        return f"{type(self.module).__name__}.{method or self._name()}{signature}{self.standing()}"

    def _name(self) -> str:
        return getattr(self.function, "__name__", "forward")

    def standing(self) -> str:
        """Return where the module stands for a message: ` at layers[0]`; "" for the model itself."""
        return at(self.place_in_model())

    def __str__(self) -> str:
        return self.described()


_frame: ContextVar[Frame | None] = ContextVar("mlax_call", default=None)


def current_frame() -> Frame | None:
    """Return the innermost call that runs in this thread."""
    frame = _frame.get()
    # asyncio.to_thread and others copy context variables to another thread, where JAX's user contexts are unset.
    return frame if frame is None or frame.thread == get_ident() else None


def enter(frame: Frame) -> Token[Frame | None]:
    """Let a frame be the current one until `leave`."""
    return _frame.set(frame)


def leave(token: Token[Frame | None]) -> None:
    """Let the frame before be the current one again."""
    _frame.reset(token)


@functools.cache
def _opaque_trace_state() -> Callable[..., object]:
    from jax.extend import core  # 12 ms: imported when a key is first given

    get: Callable[..., object] = cast("Any", core).get_opaque_trace_state
    return get


def trace_state() -> object:
    """Return a value that differs inside every transformation, and stays the same under `named_scope`."""
    return _opaque_trace_state()(convention="nnx")


def is_key(rng: object) -> bool:
    """Whether this is a PRNG key or several: typed, or raw as returned by `jax.random.PRNGKey`."""
    if not isinstance(rng, jax.Array):
        return False
    is_raw = rng.ndim > 0 and jnp.issubdtype(rng.dtype, jnp.unsignedinteger)
    return is_raw or dtypes.is_key(rng.dtype)


def is_one_key(rng: Any) -> bool:
    """Whether a key is one, not several."""
    return bool(rng.ndim == (0 if dtypes.is_key(rng.dtype) else 1))
