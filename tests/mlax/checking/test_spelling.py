"""How annotations are printed in messages."""

import typing
from collections.abc import Callable, Mapping
from types import GenericAlias
from typing import (
    Annotated,
    Any,
    ForwardRef,
    Generic,
    Literal,
    NamedTuple,
    Optional,
    Self,
    TypeVar,
    Union,
    cast,
)

import jax
import jaxtyping
import numpy as np
import pytest
from jaxtyping import Array, ArrayLike, Float, Float32, Int, PRNGKeyArray

from mlax._checking.spelling import spelled

T = TypeVar("T")
FLOATS: Any = Float[Array, "n"]
TREE = cast("Any", jaxtyping).PyTree


class Outer:
    class Inner: ...


class Pair(NamedTuple, Generic[T]):
    first: T


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (Float[Array, "n"], 'Float[Array, "n"]'),
        (Float[Array, ""], 'Float[Array, ""]'),
        (Float32[jax.Array, "2 *n"], 'Float32[Array, "2 *n"]'),
        (Float[np.ndarray, "a b"], 'Float[np.ndarray, "a b"]'),
        (Float[Any, "..."], 'Float[Any, "..."]'),
        (FLOATS | None, 'Float[Array, "n"] | None'),
        (Optional[FLOATS], 'Float[Array, "n"] | None'),  # noqa: UP045
        (Union[None, int, str], "int | str | None"),  # noqa: UP007
        (jax.Array, "Array"),
        (PRNGKeyArray, "PRNGKeyArray"),
        (PRNGKeyArray | None, "PRNGKeyArray | None"),
        (ArrayLike | None, "ArrayLike | None"),
        (jax.typing.DTypeLike, "DTypeLike"),
        (TREE, "PyTree"),
        (TREE[Float[Array, "n"]], 'PyTree[Float[Array, "n"]]'),
        (TREE[int | None, "T"], 'PyTree[int | None, "T"]'),
        (dict[str, Float[Array, "n"]], 'dict[str, Float[Array, "n"]]'),
        (typing.Dict[str, jax.Array], "dict[str, Array]"),  # noqa: UP006
        (typing.Dict, "dict"),  # noqa: UP006
        (Mapping[str, int], "Mapping[str, int]"),
        (tuple[Int[Array, "b"], ...], 'tuple[Int[Array, "b"], ...]'),
        (tuple[()], "tuple[()]"),
        (list[jax.Array | None], "list[Array | None]"),
        (Callable[[jax.Array, int], Float[Array, ""]], 'Callable[[Array, int], Float[Array, ""]]'),
        (Callable[..., Any], "Callable[..., Any]"),
        (Callable[[], None], "Callable[[], None]"),
        (Callable, "Callable"),
        (type[int], "type[int]"),
        (Literal["a", 1], "Literal['a', 1]"),
        (Annotated[int, "note"], "int"),
        (Pair[jax.Array], "Pair[Array]"),
        (Pair, "Pair"),
        (Outer.Inner, "Outer.Inner"),
        (np.float32, "np.float32"),
        (GenericAlias(list, ("Name",)), "list[Name]"),
        (ForwardRef("Name"), "Name"),
        ("Name | None", "Name | None"),
        (Any, "Any"),
        (Self, "Self"),
        (T, "T"),
        (TypeVar("Bound", bound="Pair"), "Pair"),
        (GenericAlias(list, T), "list[T]"),
        (None, "None"),
    ],
)
def test_spelled(annotation: Any, text: str) -> None:
    assert spelled(annotation) == text


def test_spelled_local_class() -> None:
    class Local: ...

    assert spelled(Local | None) == "Local | None"
