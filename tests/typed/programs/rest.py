"""What the other programs do not reach: losses, schedules, looking at a model, packing, files, checks of one's own code."""

from typing import Never, Self, assert_type

import jax.numpy as jnp
from jaxtyping import Array, Float

import mlax
from mlax import Module, Parameter, losses, optim
from mlax.typing import checked


class Scale(Module):
    width: int
    kernel: Parameter = Parameter()

    def forward(self, x: Array) -> tuple[Array, Self]:
        return x * self.kernel.data, self


class Line:
    def __init__(self, slope: Float[Array, "n"]) -> None:
        self.slope = slope

    @checked
    def moved(self, y: Float[Array, "n"], *, times: int = 1) -> Self:
        return type(self)(self.slope + times * y)

    @classmethod
    @checked
    def flat(cls, width: int) -> Self:
        return cls(jnp.zeros(width))

    @property
    @checked
    def steeper(self) -> Self:
        return self.moved(self.slope)

    @checked
    def stopped(self) -> Never:
        raise RuntimeError


class Ray(Line):
    pass


def functions_of_ones_own(ray: Ray, y: Array) -> None:
    assert_type(ray.moved(y, times=2), Ray)
    assert_type(Ray.flat(3), Ray)
    assert_type(ray.steeper, Ray)
    if y.ndim:
        ray.stopped()


def losses_and_schedules(x: Array) -> None:
    assert_type(losses.cross_entropy(x, jnp.array(1), label_smoothing=0.1), Array)
    optim.Adam(optim.cosine_decay(0.1, 10))
    optim.SGD(lambda step: 0.1 / (step + 1))


def clipped(model: Scale) -> None:
    clipped, norm = optim.clip_grad_norm(model, 1.0)
    assert_type(clipped, Scale)
    assert_type(norm, Array)
    assert_type(optim.clip_grad_value(model, 1.0), Scale)


def looked_at(model: Scale, x: Array) -> None:
    assert_type(mlax.summary(model, x, flops=True).parameters, int)
    mlax.summary(mlax.training(model), x)
    mlax.summary(mlax.pack(model), x)
    assert_type(mlax.first_non_finite(model)(x), str | None)
    assert_type(mlax.tree_equal(model, model), bool)


def packed(model: Scale) -> None:
    assert_type(mlax.pack(model).unpack(), Scale)


def as_functions(model: Scale, x: Array) -> None:
    assert_type(mlax.freeze(model), Scale)
    if mlax.is_module(x):
        return
    node: object = model.kernel
    if mlax.is_parameter(node):
        print(node.frozen)


def wrong_functions_of_ones_own(line: Line, y: Array) -> None:
    line.moved()  # wrong
    line.moved(3)  # wrong
    line.moved(y, time=2)  # wrong
    line.moved(y).slop  # wrong
    Line.flat("3")  # wrong
    line.steeper.slop  # wrong
    checked(3)  # wrong


def wrong_losses(x: Array) -> None:
    losses.cross_entropy(x)  # wrong
    losses.cross_entropy(x, "a")  # wrong
    losses.cross_entropy(x, x, smoothing=0.1)  # wrong
    losses.squared_error(x, x).item.x  # wrong
    losses.hubber(x, x)  # wrong


def wrong_schedules() -> None:
    optim.Adam(optim.cosine_decay)  # wrong
    optim.Adam(lambda: 0.1)  # wrong
    optim.Adam(optim.cosine_decay(0.1, "10"))  # wrong
    optim.warmup(0.1)  # wrong


def wrong_looks(model: Scale, x: Array) -> None:
    mlax.summary(model, x).params  # wrong
    mlax.summary(3)  # wrong
    mlax.capture(model, "x")(x)  # wrong
    mlax.first_non_finite(model)("x")  # wrong
    mlax.first_non_finite(3)  # wrong
    mlax.freeze(model).kernal  # wrong
    mlax.freeze()  # wrong
    mlax.pack(model).unpack().kernal  # wrong
    mlax.pack()  # wrong
    mlax.flatten(model).kernel  # wrong
    mlax.unflatten(model)  # wrong
    mlax.unflatten({}, like=model).kernal  # wrong
    mlax.load_contents("x").array  # wrong
    mlax.save("x", model, {"epoch": 3})  # wrong


def out_of_reach(model: Scale, weights: dict[str, Array]) -> None:
    """Seen when the program runs."""
    mlax.summary(model, weights["x"], flop=True)  # wrong: unseen by pyright, mypy, pyrefly, ty
    optim.Lookahead(optim.Adam()).init(model).inner.m.kernal  # wrong: unseen by pyright, mypy, pyrefly
    Parameter(3)  # wrong: unseen by pyright, mypy, pyrefly, ty
    optim.Adam(b1=2.0)  # wrong: unseen by pyright, mypy, pyrefly, ty
    optim.apply_updates((weights, optim.adam.init(weights)), weights)  # wrong: unseen by pyright, mypy, pyrefly, ty
    optim.Lookahead(optim.adam)  # wrong: unseen by pyright, mypy, pyrefly, ty
    optim.to_optax(optim.adam)  # wrong: unseen by pyright, mypy, pyrefly, ty
