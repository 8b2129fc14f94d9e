"""Looking inside a call: outputs of modules, and the first one that is not finite."""

from collections.abc import Callable
from typing import Any, ClassVar, ParamSpec, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np

from mlax._jax.dtypes import is_inexact
from mlax._jax.tracebacks import trimmed
from mlax._jax.tracing import is_tracer
from mlax._jax.trees import KeyPath, flatten_with_path, leaves
from mlax._module import calls
from mlax._module.apart import with_modules_apart
from mlax._module.flattening import is_flattened
from mlax._module.frames import Frame, StaticOptions, current_frame, trace_state
from mlax._module.module import HasForward
from mlax._module.nodes import is_state
from mlax._module.places import paths_to
from mlax._module.prepared import Prepared, target_of
from mlax.tree import describe, keystr, path_text

__all__ = ["capture", "first_non_finite"]

M = TypeVar("M")
P = ParamSpec("P")
R = TypeVar("R")


@trimmed
def capture(
    model: HasForward[P, tuple[R, M]], where: Callable[[M], Any]
) -> Callable[P, tuple[R, M, Any]]:
    """Return a model that also returns the outputs of some of the modules inside it.

        y, model, (features, logits) = mlax.capture(model, lambda m: (m.blocks, m.head))(x)

    Args:
        model: A Module, or what `mlax.training` or `mlax.inference` returns for one. Called inside a
            `forward`, it inherits the static options; give it a key with `mlax.training`.
        where: Function from the model to modules inside it: one, or any PyTree of them.

    Returns:
        A callable with the arguments of the model. It returns the result, the model, and the tree
        that `where` returned with each module replaced by its output, the first of the pair that
        its `forward` returned. For a module that was called several times, this is a tuple of all
        its outputs.

    Raises:
        TypeError: `model` is not a Module, or `where` does not return modules.
        ValueError: A module is not in the model, was not called, or was called only inside a
            transformation such as `scan`, outside which its output has no value.
    """
    call: Any = _Capturing(*_parts("mlax.capture", model))
    call.where = where
    capturing: Callable[P, tuple[R, M, Any]] = call
    return capturing


@trimmed
def first_non_finite(model: HasForward[P, Any]) -> Callable[P, str | None]:
    """Return a function that calls a model and names the first module with an output that is not finite.

        print(mlax.first_non_finite(model)(x))  # blocks[3].norm

    Modules are compared in the order in which their calls end, so the name is that of the innermost
    module that made a NaN or an infinity out of finite numbers, if its input was finite. Modules
    that are called inside `scan`, `vmap` and the like are not looked at, only the module around
    them.

    Args:
        model: A Module, or what `mlax.training` or `mlax.inference` returns for one.

    Returns:
        A callable with the arguments of the model. It returns the place of the module, the name of
        the model's class for the model itself, or None if all outputs are finite.

    Raises:
        TypeError: `model` is not a Module, or it is called under `jit`, where values are not known.
    """
    call: Any = _Searching(*_parts("mlax.first_non_finite", model))
    searching: Callable[P, str | None] = call
    return searching


def _parts(name: str, model: Any) -> tuple[Any, Any, StaticOptions, str]:
    """Return the parts of a `Prepared`, given a model with options or without."""
    if isinstance(model, _Watched):
        raise TypeError(
            f"{name} takes a Module, or a Module with options, got what {model.made_by} returned.\n"
            f"  Name all modules in one call: mlax.capture(model, lambda m: (m.a, m.b))"
        )
    known = model if isinstance(model, Prepared) else Prepared(model, None, StaticOptions(), name)
    if target_of(known.function) is None:
        raise TypeError(
            f"{name} takes a Module, or a Module with options, got {describe(known.function)}"
        )
    return known.function, known.rng, known.static, name


class _Watched(Prepared):
    """A module that is called while every call inside is watched."""

    is_for_call = False
    made_by: ClassVar[str]

    @property
    def target(self) -> tuple[Any, Callable[..., Any]]:
        """The module, and the function that runs."""
        return cast("tuple[Any, Callable[..., Any]]", target_of(self.function))

    def _watched(
        self, args: Any, kwargs: Any, watch: Callable[[KeyPath, Any], None]
    ) -> tuple[Any, Any]:
        """Call the module, and `watch` with the path and the output of each call that ends."""
        root = Frame(*self.target, current_frame())
        around = root.watch

        def see(frame: Frame, args: Any, kwargs: Any, result: Any) -> None:
            if around is not None:
                around(frame, args, kwargs, result)
            path = frame.path_within(root)
            if path is not None:
                watch(path, result[0])

        root.watch = see
        try:
            result: tuple[Any, Any] = calls.start(root, self, args, kwargs)
        finally:
            root.watch = None  # which refers to root
        return result


class _Capturing(_Watched):
    made_by = "mlax.capture"
    where: Callable[[Any], Any]

    def with_options(self, name: str, rng: Any, static: Any) -> Any:
        changed = super().with_options(name, rng, static)
        changed.where = self.where
        return changed

    @trimmed
    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Any, Any, Any]:
        model = self.target[0]._original()
        places, treedef = self._places(with_modules_apart(model))
        outputs: dict[KeyPath, list[Any]] = {path: [] for path in places}
        state = trace_state()
        hidden = set[KeyPath]()

        def watch(path: KeyPath, output: Any) -> None:
            if path in outputs:
                if trace_state() == state:
                    outputs[path].append(output)
                else:
                    hidden.add(path)

        result, changed = self._watched(args, kwargs, watch)
        for path, found in outputs.items():
            if not found:
                why = (
                    "was called only inside a transformation, such as scan or vmap: its output has no value outside"
                    if path in hidden
                    else "was not called, or only as another object: a copy from jax.tree.map or replace, or what JAX "
                    "makes of a module that is passed to a jitted function"
                )
                raise ValueError(f"mlax.capture: {_name(model, path)} {why}")
        ordered = [outputs[path] for path in places]
        return (
            result,
            changed,
            treedef.unflatten(one[0] if len(one) == 1 else tuple(one) for one in ordered),
        )

    def _places(self, model: Any) -> tuple[list[KeyPath], Any]:
        chosen = self.where(model)
        found, treedef = flatten_with_path(chosen, is_leaf=is_state)
        if not found:
            raise TypeError(f"mlax.capture: where must return modules of the model, got {chosen!r}")
        places: list[KeyPath] = []
        for path, module in found:
            if not is_flattened(module):
                raise TypeError(
                    f"mlax.capture: where must return modules of the model, but where(model){keystr(path)} is "
                    f"{describe(module)}"
                )
            inside = [()] if module is model else paths_to(module, model, deep=True)
            if not inside:
                raise ValueError(
                    f"mlax.capture: where(model){keystr(path)} is a {type(module).__name__} that is not in the model"
                )
            places.append(inside[0])
        return places, treedef


class _Searching(_Watched):
    made_by = "mlax.first_non_finite"

    @trimmed
    def __call__(self, *args: Any, **kwargs: Any) -> str | None:
        model = self.target[0]._original()
        found: list[KeyPath] = []

        def watch(path: KeyPath, output: Any) -> None:
            if not found and not all(map(_is_finite, leaves(output))):
                found.append(path)

        result, _ = self._watched(args, kwargs, watch)
        if any(map(is_tracer, leaves(result))):
            raise TypeError(
                "mlax.first_non_finite reads values, and under jit, vmap or grad there are only shapes.\n"
                "  Call it outside of them, or look at outputs with mlax.capture, which works inside."
            )
        return _name(model, found[0]) if found else None


def _is_finite(leaf: Any) -> bool:
    if is_tracer(leaf) or not isinstance(leaf, _NUMBERS):
        return True
    dtype = getattr(leaf, "dtype", None) or np.result_type(leaf)
    return not is_inexact(dtype) or bool(jnp.isfinite(jnp.asarray(leaf)).all())


_NUMBERS: Any = (jax.Array, np.ndarray, np.generic, float, complex)


def _name(model: Any, path: KeyPath) -> str:
    return path_text(path) or type(model).__name__
