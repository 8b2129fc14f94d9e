"""`jit`, `grad` and `checkpoint`: JAX's own functions, with types that last.

For type checkers, all types end at `jax.jit`, `jax.grad` and `jax.checkpoint`: they return functions of unknown
arguments with unknown results. The signatures here keep both. At run time they are JAX's functions, the same objects.
"""

from typing import TYPE_CHECKING, Any

import jax

__all__ = ["checkpoint", "grad", "jit"]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Concatenate, Literal, ParamSpec, Protocol, Self, TypeAlias, TypeVar, overload

    from jax.stages import Lowered, Traced
    from jaxtyping import Array

    P = ParamSpec("P")
    Q = ParamSpec("Q")
    R = TypeVar("R")
    T = TypeVar("T")
    R_co = TypeVar("R_co", covariant=True)
    A = TypeVar("A", bound=Any)
    B = TypeVar("B", bound=Any)
    Aux = TypeVar("Aux")

    _Names: TypeAlias = str | Iterable[str] | None
    _Numbers: TypeAlias = int | Sequence[int] | None
    _Scalar: TypeAlias = Array | float

    class Jitted(Protocol[P, R_co]):
        """A function compiled by `jit`, with the arguments and the result of the one that was given."""

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
        # As a method. pyright takes the second of these, pyrefly the third.
        @overload
        def __get__(self, instance: None, owner: type, /) -> Self: ...
        @overload
        def __get__(
            self: "Jitted[Concatenate[T, Q], R]", instance: T, owner: type, /
        ) -> Callable[Q, R]: ...
        @overload
        def __get__(
            self: Callable[Concatenate[T, Q], R], instance: T, owner: type, /
        ) -> Callable[Q, R]: ...
        def trace(self, *args: Any, **kwargs: Any) -> Traced: ...
        def lower(self, *args: Any, **kwargs: Any) -> Lowered: ...
        def eval_shape(self, *args: Any, **kwargs: Any) -> Any: ...
        def clear_cache(self) -> None: ...

    class _Jit(Protocol):
        def __call__(self, fun: Callable[P, R], /) -> Jitted[P, R]: ...

    @overload
    def jit(
        fun: Callable[P, R],
        /,
        *,
        in_shardings: Any = ...,
        out_shardings: Any = ...,
        static_argnums: _Numbers = ...,
        static_argnames: _Names = ...,
        donate_argnums: _Numbers = ...,
        donate_argnames: _Names = ...,
        keep_unused: bool = ...,
        inline: bool = ...,
        compiler_options: dict[str, Any] | None = ...,
    ) -> Jitted[P, R]: ...
    @overload
    def jit(
        *,
        in_shardings: Any = ...,
        out_shardings: Any = ...,
        static_argnums: _Numbers = ...,
        static_argnames: _Names = ...,
        donate_argnums: _Numbers = ...,
        donate_argnames: _Names = ...,
        keep_unused: bool = ...,
        inline: bool = ...,
        compiler_options: dict[str, Any] | None = ...,
    ) -> _Jit: ...
    def jit(*args: Any, **kwargs: Any) -> Any:
        """Compile a function when it is first called. This is `jax.jit`, with types that last.

        The result has the arguments and the result type of `fun`, and `lower`, `trace`, `eval_shape` and
        `clear_cache`. Without `fun` it is a decorator: `@mlax.jit(donate_argnums=0)`. See `jax.jit` for the arguments.

        Raises:
            TypeError: `fun` cannot be called.
        """

    def checkpoint(
        fun: Callable[P, R],
        /,
        *,
        prevent_cse: bool = ...,
        policy: Callable[..., bool] | None = ...,
        static_argnums: int | tuple[int, ...] = ...,
    ) -> Callable[P, R]:
        """Recompute what `fun` computed when gradients need it, in place of storing it. This is `jax.checkpoint`.

        The result has the arguments and the result type of `fun`. See `jax.checkpoint` for the arguments.
        """
        ...

    # mypy would like the last two, for numbers that are not known, to agree with the others.
    @overload
    def grad(  # type: ignore[overload-overlap]
        fun: Callable[Concatenate[A, P], _Scalar],
        argnums: Literal[0] = ...,
        has_aux: Literal[False] = ...,
        holomorphic: bool = ...,
        allow_int: bool = ...,
    ) -> Callable[Concatenate[A, P], A]: ...
    @overload
    def grad(
        fun: Callable[Concatenate[A, P], tuple[_Scalar, Aux]],
        argnums: Literal[0] = ...,
        *,
        has_aux: Literal[True],
        holomorphic: bool = ...,
        allow_int: bool = ...,
    ) -> Callable[Concatenate[A, P], tuple[A, Aux]]: ...
    @overload
    def grad(  # type: ignore[overload-overlap]
        fun: Callable[Concatenate[A, B, P], _Scalar],
        argnums: Literal[1],
        has_aux: Literal[False] = ...,
        holomorphic: bool = ...,
        allow_int: bool = ...,
    ) -> Callable[Concatenate[A, B, P], B]: ...
    @overload
    def grad(  # type: ignore[overload-overlap]
        fun: Callable[Concatenate[A, B, P], _Scalar],
        argnums: tuple[Literal[0], Literal[1]],
        has_aux: Literal[False] = ...,
        holomorphic: bool = ...,
        allow_int: bool = ...,
    ) -> Callable[Concatenate[A, B, P], tuple[A, B]]: ...
    @overload
    def grad(
        fun: Callable[P, _Scalar],
        argnums: int | Sequence[int],
        has_aux: Literal[False] = ...,
        holomorphic: bool = ...,
        allow_int: bool = ...,
    ) -> Callable[P, Any]: ...
    @overload
    def grad(
        fun: Callable[P, tuple[_Scalar, Aux]],
        argnums: int | Sequence[int],
        has_aux: Literal[True],
        holomorphic: bool = ...,
        allow_int: bool = ...,
    ) -> Callable[P, tuple[Any, Aux]]: ...
    def grad(fun: Any, *args: Any, **kwargs: Any) -> Any:
        """Return a function that computes the gradient of a real scalar function. This is `jax.grad`.

        Gradients have the type of the argument that they are for: the first, unless `argnums` names others. With
        `has_aux=True`, `fun` returns a pair, and so does the result: gradients, and what `fun` returned beside
        the scalar. See `jax.grad` for the arguments.

        Raises:
            TypeError: `fun` does not return a real scalar, or an argument has a dtype without gradients.
        """

else:
    jit = jax.jit
    grad = jax.grad
    checkpoint = jax.checkpoint
