"""`checked` agrees with Python's typing rules: `Self` wherever they allow it, `Never`, unpacked arguments."""

import asyncio
import functools
from typing import (
    Any,
    Generic,
    NamedTuple,
    Never,
    NoReturn,
    Self,
    TypedDict,
    TypeGuard,
    TypeVar,
    Unpack,
)

import pytest
from jaxtyping import PyTree

from mlax.typing import checked

T = TypeVar("T")


class Linked(NamedTuple):
    value: int
    next: "Self | None" = None


class Settings(TypedDict, total=False):
    scale: float
    like: "Settings"


class Chain(Generic[T]):
    """Methods that return what they are given, as if it were what their annotations say."""

    @checked
    def named(self: Self, x: Any) -> Self:
        return x

    @classmethod
    @checked
    def of_class(cls: type[Self], x: Any) -> Self:
        return x

    @checked
    def starred(*both: object) -> Self:
        return both[1]

    @checked
    def in_tree(self, x: Any) -> PyTree[Self]:
        return x

    @checked
    def in_named_tree(self, x: Any) -> PyTree[Self | None, "S"]:
        return x

    @checked
    def in_tuple(self, x: Any) -> list[tuple[Self, *tuple[Self, ...]]]:
        return x

    @checked
    def in_union(self, x: Any) -> "dict[str, type[Self]] | Self | None":
        return x

    @checked
    def guard(self, x: Any) -> TypeGuard[Self]:
        return x

    @checked
    def with_inner(self, x: Any) -> Self:
        @checked
        def inner(_) -> Self:
            return self

        return inner(x)

    @checked
    def never(self) -> Never:
        pass

    @checked
    async def never_later(self) -> NoReturn:
        pass

    @checked
    def unpacked(self, *pair: *tuple[Self, int], **settings: Unpack[Settings]) -> None:
        pass


class SubChain(Chain[int]):
    pass


@checked
def linked(x: Linked) -> None:
    pass


@checked
def impossible(x: Never) -> None:
    pass


@checked
def of_settings(x: Settings) -> None:
    pass


SUB = SubChain()


@pytest.mark.parametrize(
    ("call", "right", "wrong", "message"),
    [
        (SUB.named, SUB, Chain(), "named: result must be SubChain, got "),
        (SubChain.of_class, SUB, Chain(), "of_class: result must be SubChain, got "),
        (SUB.starred, SUB, 3, "starred: result must be SubChain, got 3"),
        (SUB.in_tree, {"a": [SUB]}, {"a": [3]}, r"result must be PyTree\[SubChain\], got "),
        (SUB.in_named_tree, [SUB, None], 3, r'must be PyTree\[SubChain \| None, "S"\], got 3'),
        (SUB.in_tuple, [(SUB, SUB)], [(SUB, 3)], r"result\[0\]\[1\] must be SubChain, got 3"),
        (SUB.in_union, {"a": SubChain}, {"a": int}, r"result must be dict\[str, type\[SubChain"),
        (SUB.guard, True, 3, r"result must be TypeGuard\[SubChain\], got 3"),
        (linked, Linked(1, Linked(2)), Linked(1, 2), r"x.next must be .*Linked \| None, got 2"),
        (of_settings, {"scale": 1.0}, {"scal": 1.0}, "x must be Settings, got .*\n  It has no key"),
        (
            of_settings,
            {"like": {"scale": 1.0}},
            {"like": {"scale": ""}},
            r"x\['like'\]\['scale'\] must be float",
        ),
    ],
)
def test_what_self_stands_for(call: Any, right: Any, wrong: Any, message: str) -> None:
    call(right)
    with pytest.raises(TypeError, match=message):
        call(wrong)


def test_self_in_a_function_inside_a_method_is_not_its_argument() -> None:
    assert SUB.with_inner(3) is SUB


def test_never_does_not_return_and_takes_nothing() -> None:
    with pytest.raises(TypeError, match="never: result must be Never, got None"):
        SUB.never()
    with pytest.raises(TypeError, match="never_later: result must be NoReturn, got None"):
        asyncio.run(SUB.never_later())
    with pytest.raises(TypeError, match="impossible: x must be Never, got 3"):
        impossible(3)


def test_unpacked_arguments() -> None:
    SUB.unpacked(SUB, 3, scale=1.0)
    for args, settings, message in (
        ((), {}, r"pair must be tuple\[SubChain, int\], got "),
        ((SUB,), {}, r"pair must be tuple\[SubChain, int\], got "),
        ((SUB, "3"), {}, r"pair\[1\] must be int, got '3'"),
        ((Chain(), 3), {}, r"pair\[0\] must be SubChain, got "),
        ((SUB, 3), {"scale": ""}, r"settings\['scale'\] must be float, got ''"),
        ((SUB, 3), {"scal": 1.0}, "settings must be Settings, got .*\n  It has no key 'scal'"),
    ):
        with pytest.raises(TypeError, match=message):
            SUB.unpacked(*args, **settings)


def test_callables_without_a_name() -> None:
    assert checked(functools.partial(SUB.named, SUB))() is SUB
