"""Calls check the nodes, the arguments and the result together, under every transformation."""

import re
from typing import Any, Self, TypedDict, Union, Unpack

import jax
import jax.numpy as jnp
import pytest
from jaxtyping import Array, Float

import mlax
from mlax import AnnotationMismatchError, Module, Parameter, Variable
from tests.mlax.models import Linear, linear


def ones(*shape: int) -> Parameter:
    return Parameter(jnp.ones(shape))


X = jnp.ones((4, 2))


class Result(Linear):
    wrong: bool = False

    def forward(
        self, x: Float[Array, "*batch in"], rng: Array | None = None
    ) -> tuple[Float[Array, "*batch out"], Self]:
        y, _ = super().forward(x)
        return (y[..., :1] if self.wrong else y), self


def result(wrong: bool) -> Result:
    made = linear()
    return Result(3, wrong, kernel=made.kernel, bias=made.bias)


WAYS = {
    "eager": lambda call, model, x: call(model, x),
    "jit": lambda call, model, x: jax.jit(call)(model, x),
    "vmap": lambda call, model, x: jax.vmap(call, in_axes=(None, 0))(model, x[None]),
    "grad": lambda call, model, x: jax.grad(lambda m: call(m, x).sum())(model),
    "value_and_grad": lambda call, model, x: mlax.value_and_grad(lambda m: (call(m, x).sum(), m))(
        model
    ),
    "checkpoint": lambda call, model, x: jax.checkpoint(call)(model, x),
    "scan": lambda call, model, x: jax.lax.scan(lambda c, y: (c, call(model, y)), 0, x[None]),
    "scan over layers": lambda call, model, x: jax.lax.scan(
        lambda c, layer: (c, call(layer, x)), 0, jax.tree.map(lambda leaf: leaf[None], model)
    ),
    "vmap over models": lambda call, model, x: jax.vmap(call, in_axes=(0, None))(
        jax.tree.map(lambda leaf: leaf[None], model), x
    ),
    "eval_shape": jax.eval_shape,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_calls_are_checked_in_every_way(way):
    def call(model: Linear, x: Array) -> Array:
        return model(x)[0]

    way(call, linear(), X)
    way(call, result(False), X)
    broken = jax.tree.unflatten(jax.tree.structure(linear()), [jnp.ones((2, 3)), jnp.ones(4)])
    for model, x, message in (
        (
            linear(),
            jnp.ones((4, 3)),
            "Linear.forward: x does not match its annotation\n  x: float32[4,3]",
        ),
        (
            linear(),
            jnp.ones((4, 2), int),
            "Linear.forward: x does not match its annotation\n  x: int32[4,2]",
        ),
        (broken, X, "Linear.forward: bias does not match its annotation\n  bias: float32[4]"),
        (
            result(True),
            X,
            "Result.forward: the result does not match its annotation\n  the result: float32[4,1]",
        ),
    ):
        with pytest.raises(AnnotationMismatchError, match=f"^{re.escape(message)}"):
            way(call, model, x)
    with mlax.runtime_checks(False):
        way(call, result(True), X)


def test_the_message_about_a_result_says_what_it_is_tied_to():
    with pytest.raises(AnnotationMismatchError) as error:
        result(True)(X)
    assert str(error.value).splitlines()[1:] == [
        '  the result: float32[4,1], expected Float[Array, "*batch out"]',
        "  dimensions are tied by name to",
        '    kernel: float32[2,3] as Float[Array, "in out"]',
        '    bias: float32[3] as Float[Array, "out"]',
        '    x: float32[4,2] as Float[Array, "*batch in"]',
    ]


def test_shapes_may_refer_to_static_fields():
    class Head(Module):
        size: int
        kernel: Parameter[Float[Array, "in {self.size}"]] = Parameter()

        def forward(self, x: Float[Array, "b in"]) -> tuple[Float[Array, "b {self.size}"], Self]:
            return x @ self.kernel.data, self

    head = Head(3, ones(2, 3))
    assert head(X)[0].shape == (4, 3)
    with pytest.raises(
        AnnotationMismatchError, match=re.escape('expected Float[Array, "in {self.size}"]')
    ):
        Head(4, ones(2, 3))
    with pytest.raises(AnnotationMismatchError, match=r"^Head\.replace: kernel"):
        head.replace(size=4)
    with mlax.runtime_checks(False):
        other = head.replace(size=4)
    with pytest.raises(AnnotationMismatchError, match=r"^Head\.forward: kernel"):
        other(X)


class Sizes(TypedDict):
    width: int


def test_unpacked_arguments():
    class Many(Module):
        def forward(self, *pair: *tuple[Self, int], **sizes: Unpack[Sizes]) -> tuple[int, Self]:
            return pair[1], self

    Many()(Many(), 3, width=3)
    for args, sizes, name in (
        ((Many(),), {"width": 3}, "pair"),
        ((Many(), "3"), {"width": 3}, "pair"),
        ((3, 3), {"width": 3}, "pair"),
        ((Many(), 3), {"width": "3"}, "sizes"),
    ):
        with pytest.raises(AnnotationMismatchError, match=rf"^Many\.forward: {name} does not"):
            Many()(*args, **sizes)


def test_arguments_of_every_kind():
    class Many(Module):
        def forward(
            self,
            x: Float[Array, "n"],
            *rest: Float[Array, "n"],
            n: int = 1,
            others: list[Self] = (),
            **more: Float[Array, "n"],
        ) -> tuple[dict[str, Float[Array, "n"]], Self]:
            return {"x": x}, self

    x = jnp.ones(3)
    Many()(x, x, x, n=2, other=x, others=[Many()])
    for args, kwargs, name in (
        ((x, x, jnp.ones(4)), {}, "rest[1]"),
        ((x,), {"other": jnp.ones(4)}, "other"),
        ((x,), {"n": "a"}, "n"),
        (("a",), {}, "x"),
    ):
        with pytest.raises(
            AnnotationMismatchError, match=rf"^Many\.forward: {re.escape(name)} does not"
        ):
            Many()(*args, **kwargs)


def test_each_call_has_dimensions_of_its_own():
    class Block(Module):
        first: Linear
        second: Linear

        def forward(self, x: Float[Array, "b in"]) -> tuple[Float[Array, "b out"], Self]:
            x, self = self.call(self.first, x)
            return self.call(self.second, x)

    assert Block(linear(2, 5), linear(5, 7))(X)[0].shape == (4, 7)
    assert linear()(jnp.ones((1, 2)))[0].shape == (1, 3)


class Empty(Module): ...


N, M = Float[Array, "n"], Float[Array, "m"]
TWO_PLACES = {
    "an empty field": (Parameter[N] | None, Parameter[M] | None, lambda: None),
    "a module": (Parameter[N] | Empty, Parameter[M] | Empty, Empty),
    "a node of another kind": (
        Parameter[N] | Variable[Any],
        Parameter[M] | Variable[Any],
        lambda: Variable(jnp.ones(3)),
    ),
}


@pytest.mark.parametrize("in_tuple", [False, True], ids=["fields", "in a tuple"])
@pytest.mark.parametrize("case", TWO_PLACES.values(), ids=TWO_PLACES.keys())
def test_a_call_that_passed_says_nothing_about_nodes_in_other_places(case, in_tuple):
    first, second, other = case

    class Fields(Module):
        a: first  # type: ignore[valid-type]
        b: second  # type: ignore[valid-type]

        def forward(self, x: Float[Array, "n"]) -> tuple[Array, Self]:
            return x, self

    class InTuple(Module):
        both: tuple[first, second]  # type: ignore[valid-type]

        def forward(self, x: Float[Array, "n"]) -> tuple[Array, Self]:
            return x, self

    def made(*both: Any) -> Module:
        return InTuple(both) if in_tuple else Fields(*both)

    x = jnp.ones(4)
    for _ in range(2):
        made(other(), ones(3))(x)
        with pytest.raises(AnnotationMismatchError, match=r"\.forward: x does not match"):
            made(ones(3), other())(x)


def test_self_in_the_annotations_of_a_call_is_the_class_of_the_module():
    class Cell(Module):
        def forward(
            self, x: int, other: Self | None = None, wrong: bool = False
        ) -> tuple[tuple[Self, int], Self]:
            return ((3 if wrong else self), x), self

    assert Cell()(1, Cell())[0][1] == 1
    with pytest.raises(AnnotationMismatchError, match=r"^Cell\.forward: other"):
        Cell()(1, linear())
    with pytest.raises(AnnotationMismatchError, match=r"^Cell\.forward: the result"):
        Cell()(1, wrong=True)


Data = Union[Float[Array, "n"], dict[str, "Data"]]  # noqa: UP007


@pytest.mark.parametrize("depth", range(5))
def test_aliases_that_name_themselves_are_checked_at_any_depth(depth):
    class Holds(Module):
        data: Parameter[Data]

        def forward(self, x: Data) -> tuple[Data, Self]:
            return x, self

    def nested(*shape: int) -> Any:
        found: Any = jnp.ones(shape)
        for _ in range(depth):
            found = {"a": found}
        return found

    model = Holds(Parameter(nested(3)))
    assert jax.tree.leaves(model(nested(3))[0])[0].shape == (3,)
    for wrong in (
        lambda: Holds(Parameter(nested(3, 3))),
        lambda: model(nested(4)),
        lambda: model(nested(3, 3)),
    ):
        with pytest.raises(AnnotationMismatchError):
            wrong()
