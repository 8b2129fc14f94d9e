"""`mlax.set_up`: a whole model from shapes, without running it and without changing its state."""

import re
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

import mlax
from mlax import Container, Module, Parameter, Variable, tree_equal
from mlax.nn import init
from tests.mlax.models import BatchNorm, Linear, net

KEY = jax.random.key(0)
X = jnp.ones((4, 3))


class Chain(Module):
    """Calls its modules one after the other."""

    parts: Any
    extra: Any = None

    def forward(self, x: Array, rng: Array | None = None) -> tuple[Array, Self]:
        for name in sorted(self.parts):
            x, self = self.call(self.parts[name], x)
        return x, self


class Noisy(Module):
    """Says what happened to it."""

    weight: Parameter = Parameter()
    count: Variable = Variable(0)

    def set_up(self, x: Array) -> Self:
        events.append("set_up")
        return self.replace(weight=Parameter(jnp.ones_like(x)))

    def forward(self, x: Array, inference_mode: bool = False) -> tuple[Array, Self]:
        events.append(inference_mode)
        jax.debug.callback(lambda: events.append("computed"))
        return x * self.weight.data, self.replace(count=Variable(self.count.data + 1))


events: list[Any] = []


def test_a_model_is_set_up_without_running_it():
    del events[:]
    model = mlax.set_up(Noisy(), X)
    jax.effects_barrier()
    assert events == ["set_up", True]
    assert tree_equal(model, Noisy(Parameter(jnp.ones((4, 3)))))
    assert int(model.count.data) == 0
    assert mlax.set_up(model, X).weight.data is model.weight.data


def test_shapes_are_enough():
    expected = mlax.set_up(net(), X[0], rng=KEY)
    assert expected.layers[0].kernel.data.shape == (3, 4)
    shape = jax.ShapeDtypeStruct((3,), "float32")
    for args, kwargs in (
        ((shape,), {}),
        ((), {"x": shape}),
        ((), {"x": X[0]}),
        ((X[0], None, True), {}),
        ((X[0], KEY), {}),
        ((X[0],), {"inference_mode": True, "batch_axis_name": ()}),
    ):
        assert tree_equal(mlax.set_up(net(), *args, rng=KEY, **kwargs), expected)
    assert float(expected.norm.var.data.sum()) == 3
    assert int(expected.norm.steps.data) == 0


@pytest.mark.parametrize("place", [lambda m: [m], lambda m: {"a": (m,)}, Container, lambda m: m])
def test_a_model_with_modules_in_many_places(place):
    class Holds(Module):
        parts: Any

        def forward(self, x: Array) -> tuple[Array, Self]:
            return self.call(jax.tree.leaves(self.parts, is_leaf=mlax.is_module)[0], x)

    model = mlax.set_up(Holds(place(Linear(2))), X, rng=KEY)
    assert [leaf.shape for leaf in jax.tree.leaves(model)] == [(3, 2), (2,)]


@pytest.mark.one_python
def test_under_transformations():
    expected = mlax.set_up(net(), X[0], rng=KEY)
    by_jit = jax.jit(lambda x, key: mlax.set_up(net(), x, rng=key))(X[0], KEY)
    by_jit_of_input = jax.jit(lambda x: mlax.set_up(net(), x, rng=KEY))(X[0])
    by_jit_of_model = jax.jit(lambda m, key: mlax.set_up(m, X[0], rng=key))(net(), KEY)
    assert tree_equal(by_jit, expected)
    assert tree_equal(by_jit_of_input, by_jit_of_model, expected)
    keys = jax.random.split(KEY, 3)
    stacked = jax.vmap(lambda key: mlax.set_up(Linear(2), X, rng=key))(keys)
    for i in range(3):
        alone = mlax.set_up(Linear(2), X, rng=keys[i])
        assert tree_equal(jax.tree.map(lambda leaf, i=i: leaf[i], stacked), alone)
    shapes = jax.eval_shape(lambda key: mlax.set_up(net(), X[0], rng=key), KEY)
    assert jax.tree.structure(shapes) == jax.tree.structure(expected)


def test_each_module_has_a_key_of_its_own_from_its_path():
    class Keyed(Module):
        key: Variable = Variable()

        def set_up(self, rng: Array) -> Self:
            return self.replace(key=Variable(rng))

        def forward(self, x: Array) -> tuple[Array, Self]:
            return x, self

    few = mlax.set_up(Chain({"a": Keyed(), "c": Keyed()}), X, rng=KEY)
    many = mlax.set_up(
        Chain({"a": Keyed(), "b": Keyed(), "c": Keyed()}, Keyed().replace(key=Variable(KEY))),
        X,
        rng=KEY,
    )
    for name in ("a", "c"):
        assert tree_equal(few.parts[name], many.parts[name])
    distinct = {tuple(jax.random.key_data(part.key.data).tolist()) for part in many.parts.values()}
    assert len(distinct) == 3
    other = mlax.set_up(Chain({"a": Keyed()}), X, rng=jax.random.key(1))
    assert not tree_equal(other.parts["a"], few.parts["a"])
    legacy = mlax.set_up(Linear(2), X, rng=jax.random.PRNGKey(0))
    assert legacy.is_set_up


def test_what_was_not_called_is_named():
    model = Chain({"a": Linear(2)}, [Linear(3), Container(BatchNorm())])
    with pytest.raises(ValueError, match="UNSET") as error:
        mlax.set_up(model, X, rng=KEY)
    assert str(error.value) == (
        "mlax.set_up: 5 nodes are UNSET; their modules were not called with these inputs:\n"
        "  model.extra[0].kernel\n  model.extra[0].bias\n  model.extra[1].states.mean\n"
        "  model.extra[1].states.var\n  model.extra[1].states.scale"
    )


def test_without_a_key_where_one_is_needed():
    with pytest.raises(
        ValueError,
        match=r"^Linear at parts\['a'\] is not set up \(UNSET: kernel, bias\), and its set_up needs a key",
    ):
        mlax.set_up(Chain({"a": Linear(2)}), X)
    assert mlax.set_up(BatchNorm(), X[0]).is_set_up


class Reads(Module):
    mean: Parameter = Parameter()
    how: str = "mean"

    def set_up(self, x: Array, rng: Array | None = None) -> Self:
        if self.how == "float":
            return self.replace(mean=Parameter(float(x.mean())))
        if self.how == "numpy":
            return self.replace(mean=Parameter(np.asarray(x)))
        if self.how == "if" and x[0, 0] > 0:
            return self.replace(mean=Parameter(1.0))
        return self.replace(mean=Parameter(x.mean()))

    def forward(self, x: Array) -> tuple[Array, Self]:
        return x - self.mean.data, self


@pytest.mark.parametrize("how", ["mean", "float", "numpy", "if"])
def test_a_set_up_that_reads_values_is_refused(how):
    message = "Reads.set_up of model.parts['a'] reads the values of its input, but mlax.set_up knows only shapes and"
    model = Chain({"a": Reads(how=how)})
    with pytest.raises(TypeError, match=f"^{re.escape(message)}"):
        mlax.set_up(model, X, rng=KEY)
    with pytest.raises(TypeError, match=f"^{re.escape(message)}"):
        jax.jit(lambda key: mlax.set_up(model, X, rng=key))(KEY)
    with pytest.raises(TypeError, match=f"^{re.escape(message)}"):
        jax.vmap(lambda key: mlax.set_up(model, X, rng=key))(jax.random.split(KEY, 2))
    assert float(model(X)[1].parts["a"].mean.data.max()) == 1


def test_a_set_up_may_compute_with_numpy_from_its_key():
    class Orthogonal(Module):
        q: Parameter = Parameter()

        def set_up(self, x: Array, rng: Array) -> Self:
            square = np.asarray(jax.random.normal(rng, (x.shape[-1], x.shape[-1])))
            return self.replace(q=Parameter(np.linalg.qr(square)[0]))

        def forward(self, x: Array) -> tuple[Array, Self]:
            return x @ self.q.data, self

    q = mlax.set_up(Orthogonal(), X, rng=KEY).q.data
    assert jnp.allclose(q @ q.T, jnp.eye(3), atol=1e-5)


def test_modules_that_pass_through_transformations():
    class Through(Module):
        norm: BatchNorm
        how: str

        def forward(self, x: Array) -> tuple[Array, Self]:
            def run(norm: BatchNorm, row: Array) -> tuple[Array, BatchNorm]:
                return norm(row, inference_mode=True)

            match self.how:
                case "vmap":
                    y, norm = jax.vmap(run, in_axes=(None, 0), out_axes=(0, None))(self.norm, x)
                case "closure":
                    y, norm = jax.vmap(lambda row: run(self.norm, row), out_axes=(0, None))(x)
                case "checkpoint":
                    y, norm = jax.checkpoint(run)(self.norm, x[0])
                case "jit":
                    y, norm = jax.jit(run)(self.norm, x[0])
                case _:
                    step = lambda norm, row: run(norm, row)[::-1]  # noqa: E731
                    norm, y = jax.lax.scan(step, mlax.set_up(self.norm, x[0]), x)
            return y, self.replace(norm=norm)

    expected = mlax.set_up(BatchNorm(), X[0])
    for how in ("vmap", "closure", "checkpoint", "jit", "scan"):
        model = Through(BatchNorm(), how)
        if how != "scan":
            assert tree_equal(mlax.set_up(model, X).norm, expected), how
            jitted = jax.jit(lambda x, m=model: mlax.set_up(m, x))(X)
            assert tree_equal(jitted.norm, expected), how
        assert tree_equal(model(X)[1].norm, expected), how


def test_a_set_up_may_make_children():
    class Grows(Module):
        width: int
        parts: list[Linear] | None = None
        scale: Parameter = Parameter()

        def set_up(self, x: Array) -> Self:
            made = [Linear(self.width), Linear(x.shape[-1])]
            return self.replace(parts=made, scale=Parameter(1.0))

        def forward(self, x: Array) -> tuple[Array, Self]:
            for part in self.parts:
                x, self = self.call(part, x)
            return x * self.scale.data, self

    model = mlax.set_up(Grows(5), X, rng=KEY)
    assert [part.kernel.data.shape for part in model.parts] == [(3, 5), (5, 3)]
    assert model(X)[0].shape == (4, 3)
    jitted = jax.jit(lambda key: mlax.set_up(Grows(5), X, rng=key))(KEY)
    assert tree_equal(jitted, model)


def test_a_wrapper_decides_itself_when_it_is_set_up():
    class Delta(Module):
        inner: Linear
        delta: Parameter | None = None

        @property
        def is_set_up(self) -> bool:
            return self.delta is not None

        def set_up(self, x: Array, rng: Array) -> Self:
            inner = mlax.set_up(self.inner, x, rng=rng)
            return self.replace(inner=inner, delta=Parameter(jnp.zeros_like(inner.kernel.data)))

        def forward(self, x: Array) -> tuple[Array, Self]:
            y, self = self.call(self.inner, x)
            return y + x @ self.delta.data, self

    model = mlax.set_up(Chain({"a": Delta(Linear(2))}), X, rng=KEY)
    assert model.parts["a"].delta.data.shape == (3, 2)
    assert model(X)[0].shape == (4, 2)


def test_a_module_that_forward_changes_before_it_calls_it():
    class Tunes(Module):
        norm: BatchNorm

        def forward(self, x: Array) -> tuple[Array, Self]:
            self = self.replace(norm=self.norm.replace(momentum=0.5))
            return self.call(self.norm, x, inference_mode=True)

    model = mlax.set_up(Tunes(BatchNorm()), X[0])
    assert tree_equal(model.norm, mlax.set_up(BatchNorm(), X[0]))
    assert model(X[0])[1].norm.momentum == 0.5


class Scale(Module):
    w: Parameter = Parameter()

    def set_up(self, x: Array) -> Self:
        return self.replace(w=Parameter(jnp.ones_like(x)))

    def forward(self, x: Array) -> tuple[Array, Self]:
        return x * self.w.data, self


def scale(value: float) -> Scale:
    return Scale(Parameter(jnp.full(3, value)))


class Two(Module):
    """Does with its two children what a call allows."""

    left: Scale
    right: Scale
    lazy: Linear
    how: str

    def forward(self, x: Array) -> tuple[Array, Self]:
        left, right = self.left, self.right
        match self.how:
            case "map":
                both = jax.tree.map(lambda a, b: (a + b) / 2, left, right)
            case "cond":
                both = jax.lax.cond(x.sum() > 0, lambda: left, lambda: right)
            case "select":
                both = jax.tree.map(lambda a, b: jax.lax.select(x.sum() > 0, a, b), left, right)
            case "combine":
                both = left.filter(lambda _: False).combine(right)
            case "equal":
                assert tree_equal(left, left.replace())
                assert jax.tree.structure(left) == jax.tree.structure(right)
                both = left
            case "replace":
                both = self.replace(left=right, right=left).left
            case "while":
                both = jax.lax.fori_loop(0, 2, lambda i, m: jax.tree.map(jnp.negative, m), left)
            case _:
                stacked = jax.tree.map(lambda *arrays: jnp.stack(arrays), left, right)
                x, _ = jax.lax.scan(lambda x, module: (module(x)[0], None), x, stacked)
                both = left
        y, _ = both(x)
        return self.call(self.lazy, y)


@pytest.mark.one_python
@pytest.mark.parametrize(
    "how", ["map", "cond", "select", "combine", "equal", "replace", "while", "scan"]
)
def test_forward_sees_the_same_as_in_a_call(how):
    """Modules that are set up compare, stack, combine and scan while others are set up beside them."""
    model = Two(scale(1.0), scale(2.0), Linear(2), how)
    expected = mlax.set_up(Linear(2), X[0], rng=KEY)
    done = mlax.set_up(model, X[0], rng=KEY)
    assert done.lazy.kernel.data.shape == expected.kernel.data.shape == (3, 2)
    assert tree_equal(done.replace(lazy=Linear(2)), model)
    assert done(X[0])[0].shape == (2,)
    jitted = jax.jit(lambda key: mlax.set_up(model, X[0], rng=key))(KEY)
    assert tree_equal(jitted, done)
    assert tree_equal(mlax.set_up(done, X[0], rng=KEY), done)


class Inside(Module):
    """Sets its child up in `forward`: before a scan, in its body, or in a branch."""

    cell: Linear | BatchNorm
    how: str

    def forward(self, xs: Array) -> tuple[Array, Self]:
        match self.how:
            case "before":
                cell = mlax.set_up(self.cell, xs[0])
                cell, ys = jax.lax.scan(lambda cell, x: cell(x)[::-1], cell, xs)
            case "body":
                _, ys = jax.lax.scan(lambda _, x: (None, mlax.set_up(self.cell, x)(x)[0]), None, xs)
                cell = mlax.set_up(self.cell, xs[0])
            case "branch":
                cell = mlax.set_up(self.cell, xs[0])
                ys = jax.lax.cond(
                    xs.sum() > 0, lambda: mlax.set_up(self.cell, xs[0])(xs)[0], lambda: xs
                )
            case _:
                cell = mlax.set_up(self.cell, xs[0])
                ys = jax.vmap(lambda x: cell(x)[0])(xs)
        return ys, self.replace(cell=cell)


@pytest.mark.parametrize("how", ["before", "body", "branch", "vmap"])
def test_forward_may_set_up_its_child(how):
    model = mlax.set_up(Inside(Linear(3), how), X, rng=KEY)
    assert model.cell.kernel.data.shape == (3, 3)
    assert isinstance(model.cell.kernel.data, jax.Array)
    assert model(X)[0].shape == (4, 3)
    jitted = jax.jit(lambda key: mlax.set_up(Inside(Linear(3), how), X, rng=key))(KEY)
    assert tree_equal(jitted, model)
    other = mlax.set_up(Chain({"a": Linear(3)}), X[0], rng=KEY)
    assert not tree_equal(other.parts["a"], model.cell)  # keys depend on the path


class TwoCells(Module):
    """Sets its children up in `forward`: with the call's key, another one, or inside a scan."""

    cell: Linear
    other: Linear

    def forward(self, x: Array, how: str = "") -> tuple[Array, Self]:
        if how == "scan":
            step = lambda x, _: (mlax.set_up(self.cell, x)(x)[0], None)  # noqa: E731
            return jax.lax.scan(step, x, length=2)[0], self
        if how == "key in a scan":
            step = lambda x, key: (mlax.set_up(self.cell, x, rng=key)(x)[0], None)  # noqa: E731
            return jax.lax.scan(step, x, jax.random.split(KEY, 2))[0], self
        cell = self.cell.replace() if how == "copy" else self.cell
        self = self.replace(cell=mlax.set_up(cell, x), other=mlax.set_up(self.other, x))
        return x, self


class Holder(Module):
    child: Module

    def forward(self, x: Array, how: str = "") -> tuple[Array, Self]:
        if how == "direct":
            return self.child(x)[0], self
        return self.call(self.child, x, how=how)


def test_set_up_in_a_lazy_call_has_the_key_of_the_call():
    model = Holder(TwoCells(Linear(3), Linear(3)))
    done = mlax.training(model, rng=KEY)(X)[1].child
    assert done.cell.is_set_up
    assert not tree_equal(done.cell.kernel, done.other.kernel)
    assert tree_equal(jax.jit(lambda key: mlax.training(model, rng=key)(X)[1].child)(KEY), done)
    assert not tree_equal(mlax.training(model, rng=jax.random.key(1))(X)[1].child, done)
    keyless = mlax.training(Inside(BatchNorm(), "body"), rng=KEY)(X)[1]  # needs no key in its scan
    assert keyless.cell.is_set_up
    assert mlax.training(model, rng=KEY)(X, how="key in a scan")[0].shape == (4, 3)


@pytest.mark.parametrize(
    ("how", "cure"),
    [
        ("scan", "Pass one, mlax.set_up(module, x, rng=key): it is not inherited"),
        ("copy", "Pass one, mlax.set_up(module, x, rng=key): it is not inherited"),
        ("direct", "A direct call, `self.child(x)`, inherits no key."),
        ("no key", "Set up the model first, `model = mlax.set_up(model, x, rng=key)`"),
        ("set_up", "Pass one: mlax.set_up(model, x, rng=key)"),
    ],
)
def test_set_up_that_finds_no_key_names_a_cure_that_helps(how, cure):
    model = Holder(TwoCells(Linear(3), Linear(3)))
    call = mlax.training(model, rng=None if how == "no key" else KEY)
    with pytest.raises(ValueError, match=rf"needs a key\.\n  {re.escape(cure)}"):
        mlax.set_up(model, X) if how == "set_up" else call(X, how=how)


class Ensemble(Module):
    """Makes in `forward` what `mlax.set_up` cannot see, or may."""

    cell: Any
    how: str
    other: Any = None

    def forward(self, x: Array, rng: Array | None = None) -> tuple[Array, Self]:
        keys = jax.random.split(KEY if rng is None else rng, 3)

        def made(key: Array) -> Linear:
            return mlax.set_up(self.cell, x, rng=key)

        def called(key: Array) -> Linear:
            return mlax.training(self.cell, rng=key)(x)[1]

        match self.how if not self.cell.is_set_up else "done":
            case "vmap":
                return x, self.replace(cell=jax.vmap(made)(keys))
            case "scan":
                return x, self.replace(
                    cell=jax.lax.scan(lambda _, k: (None, made(k)), None, keys)[1]
                )
            case "calls under vmap":
                return x, self.replace(cell=jax.vmap(called)(keys))
            case "list":
                return x, self.replace(cell=Container([made(key) for key in keys]))
            case "elsewhere":
                return x, self.replace(other=jax.vmap(made)(keys))
            case "transposed":
                return x, self.replace(cell=jax.tree.map(jnp.transpose, made(KEY)))
            case "without bias":
                return x, self.replace(cell=made(KEY).replace(bias=None))
            case "first":
                return x, self.replace(cell=jax.tree.map(lambda a: a[0], jax.vmap(made)(keys)))
            case "discarded":
                return jax.vmap(lambda key: made(key)(x)[0])(keys), self
            case "kept aside":
                return x, self.replace(cell=made(KEY), other=Variable(x))
            case _:
                return x, self


@pytest.mark.parametrize(
    ("how", "what"),
    [
        ("vmap", r"cell\.kernel becomes float32\[3,3,2\].*makes float32\[3,2\] there"),
        ("scan", r"cell\.kernel becomes float32\[3,3,2\].*makes float32\[3,2\] there"),
        ("calls under vmap", r"cell\.kernel becomes float32\[3,3,2\].*makes float32\[3,2\] there"),
        ("list", r"cell\.states\[0\]\.kernel becomes float32\[3,2\].*makes no module there"),
        ("elsewhere", r"other\.kernel becomes float32\[3,3,2\].*makes no module there"),
        ("transposed", r"cell\.kernel becomes float32\[2,3\].*makes float32\[3,2\] there"),
        ("without bias", r"cell\.bias is dropped.*makes float32\[2\] there"),
    ],
)
def test_what_only_a_forward_makes_is_refused(how, what):
    model = Ensemble(Linear(2), how)
    lazily = mlax.training(model, rng=KEY)(X[0])[1]
    assert jax.tree.leaves(lazily)
    with pytest.raises(ValueError, match=rf"^mlax\.set_up: model\.{what}"):
        mlax.set_up(model, X[0], rng=KEY)
    with pytest.raises(ValueError, match=rf"^mlax\.set_up: model\.{what}"):
        jax.jit(lambda key: mlax.set_up(model, X[0], rng=key))(KEY)


@pytest.mark.parametrize("how", ["first", "discarded", "kept aside"])
def test_what_a_forward_may_do_with_a_part_that_it_sets_up(how):
    expected = mlax.set_up(Ensemble(Linear(2), how), X[0], rng=KEY)
    assert expected.cell.kernel.data.shape == (3, 2)
    assert expected.other is None
    assert tree_equal(mlax.set_up(expected, X[0], rng=KEY), expected)


class Careless(Module):
    """Makes both nodes without asking whether one was given, as most layers do."""

    kernel: Parameter = Parameter()
    pair: Parameter | tuple = (Parameter(), Variable())

    def set_up(self, x: Array, rng: Array) -> Self:
        made = Parameter(jax.random.normal(rng, x.shape))
        return self.replace(kernel=made, pair=(Parameter(jnp.zeros_like(x)), Variable(0)))

    def forward(self, x: Array, rng: Array | None = None) -> tuple[Array, Self]:
        return x * self.kernel.data + self.pair[0].data, self


@pytest.mark.parametrize("lazily", [False, True])
def test_given_nodes_are_kept(lazily):
    def done(model: Careless) -> Careless:
        return model(X[0], rng=KEY)[1] if lazily else mlax.set_up(model, X[0], rng=KEY)

    given = Parameter(jnp.full(3, 3.0), frozen=True)
    model = done(Careless(kernel=given))
    assert model.kernel.frozen
    assert model.kernel.data is given.data
    assert jnp.array_equal(model.pair[0].data, jnp.zeros(3))
    model = done(Careless(pair=(Parameter(), Variable(7))))
    assert int(model.pair[1].data) == 7
    assert not model.kernel.frozen
    frozen = done(Careless(Parameter(frozen=True)))
    assert frozen.kernel.frozen
    assert frozen.kernel.data.shape == (3,)


class Holds(Module):
    """Its `set_up` returns what it is told to, whatever there was."""

    made: Any
    part: Any = None
    own: Parameter = Parameter()

    def set_up(self, x: Array, rng: Array) -> Self:
        own = self.own.made(None, (3,), init.zeros, x.dtype)
        return self.replace(own=own, **self.made(self, x, rng))

    def forward(self, x: Array) -> tuple[Array, Self]:
        return x, self


def wrapped(values: Any) -> Container:
    return Container({"a": values})


@pytest.mark.parametrize("lazily", [False, True])
def test_given_nodes_inside_children_are_kept(lazily):
    def done(model: Holds) -> Any:
        called = mlax.training(model, rng=KEY)(X[0])[1] if lazily else None
        return (called or mlax.set_up(model, X[0], rng=KEY)).part

    given = scale(7.0)
    for hold in (lambda part: part, lambda part: (part,), lambda part: wrapped([part, None])):
        new = lambda self, x, rng, hold=hold: {"part": hold(scale(0.0))}  # noqa: E731
        none = lambda self, x, rng: {"part": None}  # noqa: E731
        for made in (new, none):
            part = done(Holds(made, hold(given)))
            assert tree_equal(part, hold(given))
            assert jax.tree.leaves(part)[0] is given.w.data
    assert done(Holds(none, given.w)).data is given.w.data
    assert done(Holds(none, scale(7.0).replace(w=Parameter(frozen=True)))) is None
    frozen = done(Holds(new, wrapped([Scale(Parameter(frozen=True)), None]))).states["a"][0].w
    assert frozen.frozen
    assert tree_equal(frozen.data, jnp.zeros(3))


def test_given_nodes_of_children_that_become_a_stack_or_move():
    def stacked(self: Holds, x: Array, rng: Array) -> dict[str, Any]:
        make = jax.vmap(lambda key: mlax.set_up(self.part, x, rng=key))
        return {"part": make(jax.random.split(rng, 2))}

    block = Holds(lambda self, x, rng: {}, scale(7.0), Parameter(init=init.ones))
    part = mlax.set_up(Holds(stacked, block), X[0], rng=KEY).part
    assert tree_equal(part.part.w, Parameter(jnp.full((2, 3), 7.0)))
    assert tree_equal(part.own, Parameter(jnp.ones((2, 3))))
    moved = lambda self, x, rng: {"part": (self.part,)}  # noqa: E731
    assert tree_equal(mlax.set_up(Holds(moved, scale(7.0)), X[0], rng=KEY).part, (scale(7.0),))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            (scale(0.0), scale(1.0)),
            r"part\[1\]\.w was given as Parameter\(f32\[3\]\), but set_up ret",
        ),
        ((Scale(Parameter(init=init.ones)),), r"part\[0\]\.w is .* did not use its init and dtype"),
    ],
)
def test_a_set_up_that_leaves_no_place_for_a_node_of_a_child_is_refused(given, message):
    model = Holds(lambda self, x, rng: {"part": (scale(0.0),)}, given)
    with pytest.raises(TypeError, match=rf"^Holds\.set_up: {message}"):
        mlax.set_up(model, X[0], rng=KEY)


def test_a_stack_that_sets_up_its_block_under_vmap():
    class Stack(Module):
        block: Any
        depth: int

        @property
        def is_set_up(self) -> bool:
            return self.block.is_set_up

        def set_up(self, x: Array, rng: Array) -> Self:
            keys = jax.random.split(rng, self.depth)
            make = jax.vmap(lambda key: mlax.set_up(self.block, x, rng=key))
            return self.replace(block=make(keys))

        def forward(self, x: Array) -> tuple[Array, Self]:
            x, block = jax.lax.scan(lambda x, block: block(x), x, self.block)
            return x, self.replace(block=block)

    model = Chain({"a": Stack(Linear(3), 2), "b": Linear(2)})
    done = mlax.set_up(model, X[0], rng=KEY)
    assert done.parts["a"].block.kernel.data.shape == (2, 3, 3)
    jitted = jax.jit(lambda key: mlax.set_up(model, X[0], rng=key))(KEY)
    assert tree_equal(jitted, done)
    lazily = Stack(Linear(3), 2).set_up(X[0], KEY)
    assert lazily(X[0])[0].shape == (3,)
