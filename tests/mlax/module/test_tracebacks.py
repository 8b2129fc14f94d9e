"""Tracebacks of errors that pass mlax: the user's own frames, and no others."""

import json
import subprocess
import sys
import traceback
from typing import Any, Self

import jax
import jax.numpy as jnp
import pytest
from jaxtyping import Array, Float

import mlax
from mlax import Module, Parameter

X = jnp.ones((2, 3))


def ones(size: int) -> Array:
    if size == 0:
        raise ValueError("nothing to scale")
    return jnp.ones(size)


class Scale(Module):
    size: int
    factor: Parameter[Float[Array, "n"]] = Parameter()

    def set_up(self, x: Float[Array, "*batch n"]) -> Self:
        return self.replace(factor=Parameter(ones(self.size)))

    def forward(self, x: Float[Array, "*batch n"]) -> tuple[Float[Array, "*batch n"], Self]:
        return x * self.factor.data, self


class Net(Module):
    layers: tuple[Any, ...]

    def forward(self, x: Array) -> tuple[Array, Self]:
        for layer in self.layers:
            x, self = self.call(layer, x)
        return x, self


class Fails(Module):
    def forward(self, x: Array) -> tuple[Array, Self]:
        raise KeyError("mine")


def functions(call: Any) -> list[str]:
    """Return the names of the functions in the traceback of the error that a call raises, without the first."""
    with pytest.raises(Exception) as caught:  # noqa: PT011
        call()
    frames = traceback.extract_tb(caught.value.__traceback__)
    first = next(i for i, frame in enumerate(frames) if frame.name == "<lambda>")
    return [frame.name for frame in frames[first + 1 :]]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: Net((Scale(3), Scale(4)))(X), ["forward"]),
        (lambda: Net((Scale(3), Fails()))(X), ["forward", "forward"]),
        (lambda: Net((Net((Fails(),)),)).chain(X, Fails()), []),
        (lambda: mlax.training(Net((Fails(),)))(X), ["forward", "forward"]),
        (lambda: mlax.set_up(Net((Scale(3), Scale(4))), X), ["forward"]),
        (lambda: mlax.set_up(Net((Scale(0),)), X), ["forward", "set_up", "ones"]),
        (lambda: Net(X), []),
        (lambda: Net(3, 4), []),  # pyright: ignore
        (lambda: Net(()).replace(layer=3), []),
        (lambda: setattr(Net(()), "layers", 3), []),
        (lambda: mlax.at(Net(()), lambda net: net.layer).get(), ["<lambda>"]),  # type: ignore
        (lambda: Parameter(1), []),
        (lambda: mlax.value_and_grad(lambda model: model)(X), []),  # type: ignore
        # `__new__` is that of abc.ABCMeta.
        (lambda: type("Net", (Module,), {"kernel": Parameter()}), ["__new__"]),
        (lambda: type("Net", (Module,), {"__annotations__": {"replace": int}}), ["__new__"]),
        (
            lambda: type("Net", (Net,), {"a": 1, "__annotations__": {"a": int, "b": int}}),
            ["__new__"],
        ),
        (lambda: type("Own", (mlax.Variable,), {"__annotations__": {"more": int}}), []),
        (lambda: type("Own", (mlax.Container,), {}), []),
        (lambda: mlax.Container("abc"), []),  # type: ignore
        (lambda: Scale(3).filter(3), []),  # type: ignore
        (lambda: Scale(3).partition_with_path(3), []),  # type: ignore
        (lambda: mlax.typing.checked(3), []),  # type: ignore
        (lambda: mlax.losses.squared_error(X), []),  # type: ignore
        (lambda: mlax.nn.init.constant("a"), ["__init__"]),  # type: ignore - made by dataclasses
        (lambda: mlax.field(default=1, converter=2), []),  # type: ignore
        (lambda: mlax.optim.Adam(b1=2.0), []),
        (lambda: mlax.optim.adam.init({"w": X}, b1=2.0), []),
        (lambda: mlax.optim.adam.init({"w": 1}), []),
        (lambda: mlax.optim.Adam().init({"w": 1}), []),
        (lambda: mlax.optim.apply_updates(X, X[0]), []),
        (lambda: mlax.losses.squared_error(X, X[0]), []),
        (lambda: mlax.unflatten({}, X), []),
        (lambda: mlax.load("nothing/there", X), []),
        (lambda: mlax.load(__file__, X), []),
        (lambda: mlax.pack({1: X, "one": X}), []),
    ],
)
def test_tracebacks_hold_the_frames_of_users_only(call, expected):
    assert functions(call) == expected


def test_jaxs_setting_shows_all_frames():
    before = jax.config.jax_traceback_filtering  # type: ignore
    jax.config.update("jax_traceback_filtering", "off")
    try:
        assert len(functions(lambda: Net(()).replace(layer=3))) > 1
    finally:
        jax.config.update("jax_traceback_filtering", before)


def test_frames_stay_if_mlax_itself_fails(monkeypatch):
    namespace: dict[str, Any] = {}
    exec(compile("def fails(*_): {}[0]", mlax.__file__, "exec"), namespace)
    monkeypatch.setattr("mlax._module.calls._forward", namespace["fails"])
    assert functions(lambda: Net(())(X))[-1] == "fails"


def test_errors_that_led_to_an_error_are_trimmed():
    def init(*_: Any) -> Array:
        raise ValueError("no key")

    class Made(Module):
        node: Parameter = Parameter(init=init)

        def set_up(self, x: Array) -> Self:
            return self.replace(node=self.node.made(None, x.shape, init, x.dtype))

        def forward(self, x: Array) -> tuple[Array, Self]:
            return x, self

    with pytest.raises(ValueError, match="is not set up") as caught:
        mlax.set_up(Made(), X)
    files: set[str] = set()
    error: BaseException | None = caught.value
    while error is not None:
        files |= {frame.filename for frame in traceback.extract_tb(error.__traceback__)}
        error = error.__cause__
    assert files == {__file__}


PRELUDE = """
from typing import Any, Self
import jax, jax.numpy as jnp
from jaxtyping import Array, Float
import mlax
from mlax import Module, Parameter, optim

class Linear(Module):
    out_features: int
    kernel: Parameter[Float[Array, "in out"]] = Parameter()

    def set_up(self, x: Float[Array, "*batch in"], rng: Array) -> Self:
        shape = (x.shape[-1], self.out_features)
        return self.replace(kernel=Parameter(jax.random.normal(rng, shape, x.dtype)))

    def forward(self, x: Float[Array, "*batch in"]) -> tuple[Float[Array, "*batch out"], Self]:
        return x @ self.kernel.data, self

class Net(Module):
    layers: tuple[Linear, ...]

    def forward(self, x: Float[Array, "*batch n"]) -> tuple[Float[Array, "*batch m"], Self]:
        return self.chain(x, *self.layers)

class Dropout(Module):
    rate: float

    def forward(self, x: Array, rng: Array) -> tuple[Array, Self]:
        return x, self

class Embedding(Module):
    table: Any

    def forward(self, x: Array) -> tuple[Array, Self]:
        return x @ jnp.ones((7, 8)), self

x = jnp.ones((2, 3))
unset = Net((Linear(4), Linear(5)))
net = mlax.set_up(unset, x, rng=jax.random.key(0))
wrong = net.replace(layers=(net.layers[0], Linear(5, kernel=Parameter(jnp.ones((3, 5))))))
half = jax.tree.map(lambda w: w.astype(jnp.bfloat16), net.filter())
adam = optim.Adam()
state = adam.init(net)
"""

MISTAKES = [
    ("unset(x)", "Linear at layers[0] is not set up (UNSET: kernel)"),
    ("mlax.set_up(unset, x)", "Linear at layers[0] is not set up (UNSET: kernel)"),
    ("mlax.training(unset)(x)", "Linear at layers[0] is not set up (UNSET: kernel)"),
    ("wrong(x)", "x: float32[2,4], expected Float[Array,"),
    ("mlax.inference(wrong)(x)", "x: float32[2,4], expected Float[Array,"),
    ("mlax.set_up(unset, x.astype(int))", "x: int32[2,3], expected Float[Array,"),
    ("Embedding(None)(x)", "return x @ jnp.ones((7, 8)), self"),
    ("mlax.summary(unset, x.astype(int))", "x: int32[2,3], expected Float[Array,"),
    ("Embedding(x)", "float32[2,3] is an array"),
    ("Linear('3')", "Linear.out_features must be int"),
    ("Linear()", "Linear: out_features is missing"),
    ("Dropout(0.5)(x)", "missing a required argument: 'rng'"),
    ("net.layers = ()", "cannot assign to Net.layers"),
    ("net.replace(layer=())", "did you mean 'layers'?"),
    (
        "class A(Module):\n    kernel = Parameter()",
        "Declare it in the body of A: `kernel: Parameter",
    ),
    ("class A(Module):\n    layers: list = []", "Use mlax.field(default_factory="),
    ("class A(Module):\n    w: Any = jnp.ones(3)", "Wrap it in a Parameter (trained) or a Var"),
    ("class A(Module):\n    a: int = 3\n    b: int", "non-default argument 'b' follows default"),
    ("class A(Module):\n    replace: int", "a field cannot have the name of a method"),
    ("class A(mlax.Variable):\n    more: int", "Put anything else"),
    ("optim.adam.init({'w': 1})", "weights['w']: 1 (int)"),
    (
        "optim.adam.init(net, slot_dtype='x')",
        "slot_dtype must be a floating-point dtype, int8 or None",
    ),
    ("optim.adam.step({'w': x}, state, net.filter())", "gradients: a different container, dict"),
    ("optim.adam.step(half, state, net.filter())", "gradients.layers[0].kernel: bfloat16[3,4]"),
    ("adam.step(half, state, net.filter())", "gradients.layers[0].kernel: bfloat16[3,4]"),
    ("adam.update(net, half, state)", "gradients.layers[0].kernel: bfloat16[3,4]"),
    ("adam.init(unset)", "adam.init: 2 nodes are UNSET"),
    ("optim.Adam(learning_rate=-1)", "learning_rate must be >= 0"),
    ("mlax.value_and_grad(lambda net, x: net(x))(net, x)", "must return a real scalar"),
]

SHELL = """
import contextlib, io, json, re, sys
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

shell = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
printed = []
for cell in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        shell.run_cell(cell)
    printed.append(re.sub(r"\x1b\\[[0-9;]*m", "", out.getvalue()))
json.dump(printed, sys.stdout)
"""


@pytest.mark.one_python
def test_ipython_shows_the_mistake_on_one_screen(tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    cells = [PRELUDE, *(line for line, _ in MISTAKES), "jax.jit(wrong)(x)"]
    done = subprocess.run(
        [sys.executable, "-c", SHELL],
        input=json.dumps(cells),
        capture_output=True,
        text=True,
        check=True,
    )
    prelude, *printed, jitted = json.loads(done.stdout)
    assert not prelude
    for (line, message), text in zip(MISTAKES, printed, strict=True):
        assert f"----> 1 {line.splitlines()[0]}\n" in text
        assert message in text
        assert len(text.strip().splitlines()) <= 15, text
        assert "/mlax" not in text
    assert len(jitted.strip().splitlines()) <= 20, jitted
    assert "return self.chain(x, *self.layers)" in jitted
