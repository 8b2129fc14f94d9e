"""`mlax.typing.checked` as the type checker of jaxtyping's import hook and pytest option, on a user's package."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.one_python

THINGS = """
from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Self, TypeVar, overload

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from mlax import Module, Parameter, field
from mlax.typing import checked

if TYPE_CHECKING:
    from decimal import Decimal

T = TypeVar("T")


class Linear(Module):
    width: int = field(converter=int)
    kernel: Parameter[Float[Array, "n m"]] = Parameter()

    def __check__(self) -> None:
        if self.width < 0:
            raise ValueError("negative")

    def set_up(self, x: Float[Array, "n"], rng: Array) -> Self:
        return self.replace(kernel=Parameter(jax.random.normal(rng, (x.size, self.width))))

    def forward(self, x: Float[Array, "n"]) -> tuple[Float[Array, "m"], Self]:
        return x @ self.kernel.data, self

    def wrong(self) -> Self:
        return 3

    @classmethod
    def made(cls, width: int) -> Self:
        return cls(width)

    @staticmethod
    def doubled(x: Float[Array, "n"]) -> Float[Array, "n"]:
        return 2 * x

    @property
    def size(self) -> int:
        return "large"


@dataclasses.dataclass
class Point:
    x: Float[Array, "n"]
    y: Float[Array, "n"]

    def moved(self, by: Float[Array, "n"]) -> Self:
        return dataclasses.replace(self, x=self.x + by)

    def first(self, others: list[Self], named: dict[str, Self | None]) -> tuple[Self, int]:
        return others[0], 1

    def changed(self, by: Callable[[Self], Self]) -> Self:
        return by(self)


@dataclasses.dataclass
class Special(Point):
    def general(self) -> Self:
        return Point(self.x, self.y)


class Both(NamedTuple):
    a: Float[Array, "n"]
    b: Float[Array, "n"]

    def swapped(self) -> Self:
        return self._replace(a=self.b, b=self.a)

    @classmethod
    def zeros(cls, size: int) -> Self:
        return cls(jnp.zeros(size), jnp.zeros(size))


class Box(Generic[T]):
    def __init__(self, item: T) -> None:
        self.item = item

    def same(self) -> Self:
        return self.item

    @staticmethod
    def of(item: T, later: Later | None = None) -> Box[T]:
        return item if later else Box(item)


class Later: ...


async def awaited(x: Float[Array, "n"]) -> Float[Array, "n"]:
    return x


@checked
async def checked_later(x: Float[Array, "n"]) -> Float[Array, "n"]:
    return x if x.size == 2 else x[1:]


def counted(n: int) -> Iterator[int]:
    yield from range(n)


@overload
def either(x: int) -> int: ...
@overload
def either(x: str) -> str: ...
def either(x: int | str) -> int | str:
    return x


def price(x: Decimal, count: int) -> Decimal:
    return x


def added(x: Float[Array, "n"], y: Float[Array, "n"]) -> Float[Array, "n"]:
    return x + y


def nested(n: int) -> int:
    def inner(m: int) -> int:
        return str(m)

    return inner(n)
"""

TESTS = """
import asyncio
import traceback
import warnings

import jax
import jax.numpy as jnp
import jaxtyping
import mlax
import pytest

with jaxtyping.install_import_hook("by_hook", "mlax.typing.checked"):
    import by_hook.things
import by_option.things  # under the option --jaxtyping-packages

x, long = jnp.ones(2), jnp.ones(3)


@pytest.fixture(params=[by_hook.things, by_option.things], ids=["hook", "option"])
def things(request):
    return request.param


def test_what_is_right_passes(things):
    model = things.Linear.made(3)
    y, _ = mlax.set_up(model, x, rng=jax.random.key(0))(x)
    assert y.shape == (3,)
    assert things.Linear("4").replace(width="5").width == 5
    assert things.Linear.doubled(x).shape == model.doubled(x).shape == (2,)
    point = things.Point(x, x)
    assert point.moved(x).first([point], {"a": None}) == (point, 1)
    assert point.changed(lambda p: p) is point
    assert type(things.Special(x, x).moved(x)) is things.Special
    assert things.Both.zeros(2).swapped().a.size == 2
    assert things.Box.of(3).item == 3
    assert list(things.counted(2)) == [0, 1]
    assert (things.either(1), things.either("a")) == (1, "a")
    assert asyncio.run(things.awaited(x)) is x
    assert asyncio.run(things.checked_later(x)) is x


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: t.Linear.made("3"), "Linear.made: width must be int, got '3' (str)"),
        (lambda t: t.Linear.doubled(jnp.ones((2, 2))), 'Linear.doubled: x must be Float[Array, "n"], got float32[2,2]'),
        (lambda t: t.Linear(3).wrong(), "Linear.wrong: result must be Linear, got 3 (int)"),
        (lambda t: t.Linear(3).size, "Linear.size: result must be int, got 'large' (str)"),
        (lambda t: t.Point(x, long), 'Point.__init__: y must be Float[Array, "n"], got float32[3], where x is'),
        (lambda t: t.Point(x, x).first([3], {}), "Point.first: others[0] must be Point, got 3"),
        (
            lambda t: t.Special(x, x).first([], {"a": t.Point(x, x)}),
            "Point.first: named['a'] must be Special | None, got Point(",
        ),
        (lambda t: t.Point(x, x).changed(3), "Point.changed: by must be Callable[[Point], Point], got 3"),
        (lambda t: t.Special(x, x).general(), "Special.general: result must be Special, got Point("),
        (lambda t: t.Both.zeros("3"), "Both.zeros: size must be int"),
        (lambda t: t.Box(3).same(), "Box.same: result must be Box, got 3"),
        # jaxtyping itself leaves out names that are defined further down in the file.
        (lambda t: t.Box.of(3, 4), "Box.of: later must be Later | None, got 4"),
        (lambda t: t.Box.of(3, t.Later()), "Box.of: result must be Box"),
        (lambda t: t.counted("3"), "counted: n must be int"),
        (lambda t: t.either(3.5), "either: x must be int | str, got 3.5"),
        (lambda t: t.added(x, long), 'added: y must be Float[Array, "n"], got float32[3], where x is float32[2]'),
        (lambda t: t.nested(3), "inner: result must be int, got '3'"),
    ],
)
def test_what_is_wrong_is_named(things, call, message):
    with pytest.raises(jaxtyping.TypeCheckError) as caught:
        call(things)
    function, _, text = message.partition(": ")
    assert f"of {things.__name__}." in str(caught.value)
    assert f"{function}.\\n" in str(caught.value)
    assert f": {text}" in "".join(traceback.format_exception(caught.value))


def test_async_functions_are_checked_by_the_decorator_itself(things):
    with pytest.raises(TypeError, match="checked_later: x must be"):
        asyncio.run(things.checked_later(3))
    with pytest.raises(TypeError, match="checked_later: result must be"):
        asyncio.run(things.checked_later(long))


def test_modules_keep_their_own_checks(things):
    with pytest.raises(ValueError, match="negative"):
        things.Linear(-1)
    with pytest.raises(AttributeError, match="was called before"):
        things.Linear(1).__init__(2)


def test_annotations_that_do_not_resolve_warn_once(things):
    with pytest.warns(UserWarning) as caught:
        assert things.price(3, 4) == 3
    assert [str(one.message).partition(",")[0] for one in caught] == [
        "things.price: the annotation of x", "things.price: the annotation of the result"
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert things.price(3, 4) == 3
        with pytest.raises(jaxtyping.TypeCheckError):
            things.price(3, "4")
"""


def test_packages_of_users_are_checked(tmp_path: Path) -> None:
    for package in ("by_hook", "by_option"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
        (tmp_path / package / "things.py").write_text(THINGS)
    (tmp_path / "test_things.py").write_text(TESTS)
    options = ["-q", "-n", "0", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", "-c", os.devnull]
    options.append("--jaxtyping-packages=by_option,mlax.typing.checked")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "test_things.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
