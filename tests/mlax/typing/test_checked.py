"""`checked` on users' own functions, the switches, and values checked one by one."""

import asyncio
import inspect
import pickle
import runpy
import sys
import threading
from collections.abc import Callable
from typing import Annotated, Any, Generic, NamedTuple, Self, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import typeguard
from jaxtyping import Array, Float, jaxtyped

from mlax._checking import values
from mlax.typing import (
    Count,
    LeafMismatchError,
    Scalar,
    Weights,
    check_value,
    checked,
    checks_enabled,
    runtime_checks,
)

T = TypeVar("T")


class Pair(NamedTuple, Generic[T]):
    """A state of a user's own."""

    first: T
    second: T | None
    count: Count


@checked
def blend(a: Weights, pair: Pair[Weights], *more: Weights, **named: Weights) -> Weights:
    """Docstring."""
    return a


@checked
def mean(x: Float[Array, "n"], y: Float[Array, "n"], scale: float = 1.0) -> Float[Array, ""]:
    return scale * jnp.mean(x + y)


ONE, TWO = jnp.ones(2), jnp.ones(3)


def pair(first: Any = ONE, second: Any = None, count: Any = None) -> Pair[Any]:
    return Pair(first, second, jnp.zeros((), jnp.int32) if count is None else count)


def test_what_corresponds_passes() -> None:
    assert blend(ONE, pair(), ONE, ONE, x=ONE) is ONE
    assert blend(np.ones(2, np.float32), pair()).shape == (2,)
    assert blend((), pair(())) == ()
    assert blend(None, pair(None)) is None


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: blend(TWO, pair(ONE)), "pair.first"),
        (lambda: blend(ONE, pair(ONE, TWO)), "pair.second"),
        (lambda: blend(ONE, pair(ONE), ONE, TWO), "more[1]"),
        (lambda: blend(ONE, pair(ONE), x=ONE, y=TWO), "named['y']"),
    ],
)
def test_every_place_of_a_tree_is_checked_and_named(call: Any, name: str) -> None:
    with pytest.raises(LeafMismatchError) as error:
        call()
    assert f"\n  {name}: float32[" in str(error.value)


def test_other_annotations_are_checked() -> None:
    assert mean(ONE, ONE) == 2
    assert mean(ONE, ONE, scale=2) == 4
    for call in (
        lambda: mean(ONE, TWO),
        lambda: mean(ONE, jnp.ones(2, jnp.int32)),
        lambda: mean(ONE, ONE, scale="2"),
        lambda: mean(ONE, [1.0, 1.0]),
    ):
        with pytest.raises(TypeError, match=r"test_checked.mean: (y|scale) must be"):
            call()


def test_results_are_checked() -> None:
    @checked
    def total(x: Float[Array, "n"]) -> Scalar:
        return x

    with pytest.raises(
        TypeError, match=r'total: result must be Float\[Array, ""\], got float32\[2\]'
    ):
        total(ONE)


def test_messages_say_what_a_dimension_is_tied_to() -> None:
    with pytest.raises(TypeError) as error:
        mean(ONE, TWO)
    assert str(error.value) == (
        'test_checked.mean: y must be Float[Array, "n"], got float32[3], '
        'where x is float32[2] as Float[Array, "n"]'
    )


def test_names_of_dimensions_live_for_one_call() -> None:
    mean(ONE, ONE)
    mean(TWO, TWO)

    @checked
    def outer(x: Float[Array, "n"]) -> Float[Array, "n"]:
        mean(TWO, TWO)  # has an n of its own
        return x

    outer(ONE)


def test_a_failed_call_leaves_no_names_behind() -> None:
    for _ in range(3):
        with pytest.raises(TypeError):
            mean(ONE, TWO)
    mean(TWO, TWO)

    @checked
    def broken(x: Float[Array, "n"]) -> None:
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        broken(ONE)
    with jaxtyped("context"):
        mean(TWO, TWO)


def test_the_decorated_function_keeps_its_kind_and_metadata() -> None:
    assert blend.__name__ == "blend"
    assert blend.__doc__ == "Docstring."
    assert list(inspect.signature(blend).parameters) == ["a", "pair", "more", "named"]
    assert pickle.loads(pickle.dumps(blend)) is blend


def test_annotations_are_resolved_at_the_first_call() -> None:
    @checked
    def later(x: "Later") -> "Missing":
        return x

    globals()["Later"] = int
    try:
        with pytest.warns(UserWarning, match=r"later: the annotation of the result, 'Missing'"):
            assert later(1) == 1
        with pytest.raises(TypeError, match="later: x must be int, got 'a'"):
            later("a")
    finally:
        del globals()["Later"]


def test_typeguard_and_jaxtyping_understand_weights_by_themselves() -> None:
    with jaxtyped("context"):
        typeguard.check_type({"a": ONE}, Weights)
        typeguard.check_type({"a": ONE + 1}, Weights)
        for other in ({"a": TWO}, {"b": ONE}, {"a": ONE.astype(jnp.bfloat16)}, {"a": 1.0}):
            with pytest.raises(typeguard.TypeCheckError):
                typeguard.check_type(other, Weights)


def test_check_value_ties_dimensions_within_a_context() -> None:
    with jaxtyped("context"):
        check_value(ONE, Float[Array, "n"])
        check_value([ONE, ONE], list[Float[Array, "n"]])
        with pytest.raises(typeguard.TypeCheckError):
            check_value([ONE, TWO], list[Float[Array, "n"]])
    check_value(TWO, Float[Array, "n"])


def test_check_value_lets_unknown_names_through() -> None:
    check_value(ONE, "NoSuchName")
    check_value([1], list["NoSuchName"])


def test_runtime_checks_nest_and_are_restored() -> None:
    assert checks_enabled()
    with runtime_checks(False):
        assert not checks_enabled()
        mean(ONE, jnp.ones(1))
        with runtime_checks(True):
            assert checks_enabled()
            with pytest.raises(TypeError):
                mean(ONE, TWO)
        assert not checks_enabled()
    assert checks_enabled()
    with pytest.raises(RuntimeError), runtime_checks(False):
        raise RuntimeError
    assert checks_enabled()


def test_runtime_checks_are_a_threads_own() -> None:
    seen: list[bool] = []
    with runtime_checks(False):
        thread = threading.Thread(target=lambda: seen.append(checks_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


@pytest.mark.parametrize(
    ("value", "enabled"), [("0", False), ("off", False), ("1", True), ("", True)]
)
def test_the_environment_turns_checks_off(
    value: str, enabled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read when the module is loaded; here it is loaded once more."""
    monkeypatch.setenv("MLAX_RUNTIME_CHECKS", value)
    loaded = runpy.run_path(str(values.__file__))
    assert loaded["checks_enabled"]() is enabled


def test_checks_do_not_run_in_compiled_code() -> None:
    calls: list[int] = []

    @jax.jit
    def step(x: Array) -> Array:
        calls.append(1)
        return mean(x, x)

    step(ONE)
    step(ONE + 1)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (Pair, r"got <class .*Pair'>.*\n  Decorate its methods\."),
        (property(lambda self: 1), r"got <property.*\n  Put @checked below @property\."),
        (staticmethod(len), r"Put @checked below @staticmethod\."),
    ],
)
def test_other_things_than_functions_are_refused(thing: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        checked(thing)


def test_results_of_async_functions_are_checked_when_they_are_there() -> None:
    @checked
    async def first(x: Float[Array, "n"], wait: float) -> Float[Array, "n"]:
        await asyncio.sleep(wait)
        return x if wait else x[1:]

    async def both() -> Any:
        return await asyncio.gather(first(ONE, 0.01), first(TWO, 0.01))  # the names do not mix

    assert inspect.iscoroutinefunction(first) is (sys.version_info >= (3, 12))
    one, two = asyncio.run(both())
    assert one is ONE
    assert two is TWO
    with pytest.raises(TypeError, match=r"first: result must be .*, got float32\[1\]"):
        asyncio.run(first(ONE, 0))
    with pytest.raises(TypeError, match="first: x must be"):
        asyncio.run(first(3, 0))  # type: ignore[arg-type]


class Counter:
    """Methods whose annotations contain `Self`."""

    @checked
    def step(self, x: Float[Array, "n"]) -> Self:
        return self

    @checked
    def wrong(self) -> Self:
        return 3  # type: ignore[return-value]

    @checked
    def merged(self, other: Self, *more: Self, by: "Self | None" = None) -> tuple[Self, int]:
        return self, len(more)

    @checked
    def each(
        self,
        others: list[Self],
        named: dict[str, Self],
        f: Callable[[Self], Self],
        kind: type[Self],
    ) -> "list[Self | None]":
        return [*others, *named.values(), f(self), None]

    @checked
    def of_weights(self, weights: Weights, pair: Annotated[tuple[Self, int], "pair"]) -> Self:
        return pair[0]

    @classmethod
    @checked
    def made(cls, other: Self | None = None) -> Self:
        return cls()

    @staticmethod
    @checked
    def alone(other: Self) -> Self:  # type: ignore[misc]
        return other


class SubCounter(Counter):
    pass


def test_self_is_the_class_of_the_object() -> None:
    counter, sub = Counter(), SubCounter()
    assert counter.step(jnp.ones(3)) is counter
    assert counter.merged(sub, counter, by=counter) == (counter, 1)
    assert sub.each([sub], {"a": sub}, lambda x: x, SubCounter) == [sub, sub, sub, None]
    assert counter.of_weights({"a": ONE}, (sub, 1)) is sub
    assert type(SubCounter.made(sub)) is SubCounter
    assert Counter.alone(3) == 3  # type: ignore[arg-type]
    for wrong, message in (
        (counter.wrong, r"wrong: result must be Counter, got 3"),
        (lambda: counter.merged(3), r"merged: other must be Counter, got 3"),
        (lambda: sub.merged(counter), r"merged: other must be SubCounter, got "),
        (lambda: counter.merged(counter, 3), r"merged: more\[0\] must be Counter"),
        (lambda: counter.merged(counter, by=3), r"merged: by must be Counter \| None"),
        (lambda: counter.each([3], {}, len, Counter), r"each: others\[0\] must be Counter"),
        (lambda: counter.each([], {"a": 3}, len, Counter), r"each: named\['a'\] must be"),
        (
            lambda: counter.each([], {}, 3, Counter),
            r"each: f must be Callable\[\[Counter\], Counter",
        ),
        (lambda: counter.each([], {}, lambda x: x, int), r"each: kind must be type\[Counter\]"),
        (lambda: counter.each([], {}, lambda x: 3, Counter), r"each: result\[0\] must be"),
        (lambda: counter.of_weights({"a": ONE}, (3, 1)), r"of_weights: pair\b.* must be"),
        (lambda: SubCounter.made(counter), r"made: other must be SubCounter"),
    ):
        with pytest.raises(TypeError, match=message):
            wrong()
