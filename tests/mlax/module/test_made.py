"""Set-up of modules whose unset nodes know how they are made."""

from typing import Any, Self

import jax
import jax.numpy as jnp
import pytest
from jax.nn import initializers
from jaxtyping import Array, Float

import mlax
from mlax import UNSET, Module, Parameter, Variable, tree_equal
from mlax.nn.init import constant, he_normal, normal, ones, zeros

KEY = jax.random.key(0)
X = jnp.ones((4, 3))


class Dense(Module):
    """A layer as they should be written."""

    out_features: int
    kernel: Parameter[Float[Array, "in out"]] = Parameter()
    bias: Parameter[Float[Array, "out"]] = Parameter()

    def set_up(self, x: Float[Array, "*batch in"], rng: Array) -> Self:
        shape = (x.shape[-1], self.out_features)
        kernel = self.kernel.made(rng, shape, he_normal, x.dtype)
        return self.replace(kernel=kernel, bias=self.bias.made(None, shape[1:], zeros, x.dtype))

    def forward(
        self, x: Float[Array, "*batch in"], rng: Array | None = None
    ) -> tuple[Float[Array, "*batch out"], Self]:
        return x @ self.kernel.data + self.bias.data, self


class Chain(Module):
    """Calls one after another."""

    layers: tuple[Module, ...]

    def forward(self, x: Array, rng: Array | None = None) -> tuple[Array, Self]:
        for layer in self.layers:
            x, self = self.call(layer, x, rng=rng)
        return x, self


def once(model: Any, how: str) -> Any:
    """Set up a model in one of several ways that all give the same."""
    match how:
        case "set_up":
            return mlax.set_up(model, X, rng=KEY)
        case "shapes":
            return mlax.set_up(model, jax.ShapeDtypeStruct(X.shape, X.dtype), rng=KEY)
        case "jit":
            return jax.jit(lambda model, key: mlax.set_up(model, X, rng=key))(model, KEY)
        case "vmap":
            keys = jnp.stack([KEY, KEY])
            stacked = jax.vmap(lambda key: mlax.set_up(model, X, rng=key))(keys)
            return jax.tree.map(lambda x: x[1], stacked)
        case _:
            return once(once(model, "set_up"), "jit")


WAYS = ["set_up", "shapes", "jit", "vmap", "twice"]


@pytest.mark.parametrize("how", WAYS)
def test_a_models_recipes_are_followed(how):
    given = Parameter(jnp.full((4, 2), 3.0))
    model = Chain(
        (
            Dense(4, Parameter(init=ones), Parameter(init=constant(0.5), frozen=True)),
            Dense(2, kernel=given, bias=Parameter(frozen=True)),
        )
    )
    done = once(model, how)
    expected = Chain(
        (
            Dense(4, Parameter(jnp.ones((3, 4))), Parameter(jnp.full(4, 0.5), frozen=True)),
            Dense(2, given, Parameter(jnp.zeros(2), frozen=True)),
        )
    )
    assert tree_equal(done, expected)


@pytest.mark.one_python
@pytest.mark.parametrize("how", WAYS)
def test_random_recipes_get_the_key_of_their_layer(how):
    plain = once(Chain((Dense(4), Dense(4))), how).layers
    asked = once(Chain((Dense(4, Parameter(init=initializers.he_normal())), Dense(4))), how).layers
    assert tree_equal(plain, asked)
    assert not jnp.array_equal(plain[0].kernel.data.ravel()[:12], plain[1].kernel.data.ravel()[:12])


def test_dtypes_of_their_own():
    half = Parameter(dtype=jnp.bfloat16)
    done = mlax.set_up(Dense(4, half, half), X, rng=KEY)
    assert done.kernel.data.dtype == done.bias.data.dtype == jnp.bfloat16
    x = jnp.ones(3, jnp.bfloat16)
    assert done(x)[0].dtype == jnp.bfloat16
    shapes = jax.eval_shape(lambda key: mlax.set_up(Dense(4, half), X, rng=key), KEY)
    assert shapes.kernel.data == jax.ShapeDtypeStruct((3, 4), jnp.bfloat16)


def test_a_lazy_call():
    model = Dense(4, kernel=Parameter(init=constant(2.0)))
    y, done = model(X, rng=KEY)
    assert tree_equal(y, jnp.full((4, 4), 6.0))
    assert tree_equal(done, Dense(4, Parameter(jnp.full((3, 4), 2.0)), Parameter(jnp.zeros(4))))
    assert model.kernel.data is UNSET
    traces: list[int] = []

    @jax.jit
    def step(model: Any, key: Any) -> Any:
        traces.append(1)
        return model(X, rng=key)

    for _ in range(3):
        y, model = step(model, KEY)
    assert len(traces) == 2  # with and without set-up
    assert tree_equal(model, done)


class Careless(Module):
    """Makes nodes without asking how."""

    kernel: Parameter = Parameter()
    pair: tuple[Parameter, Variable] = (Parameter(), Variable())

    def set_up(self, x: Array) -> Self:
        return self.replace(kernel=Parameter(x), pair=(Parameter(x + 1), Variable(0)))

    def forward(self, x: Array) -> tuple[Array, Self]:
        return x * self.kernel.data, self


def test_a_set_up_that_ignores_a_recipe_is_refused():
    for model, name, node in (
        (Careless(Parameter(init=he_normal)), "kernel", "Parameter(UNSET, init=he_normal)"),
        (Careless(Parameter(dtype=jnp.float32, frozen=True)), "kernel", "Parameter(UNSET, dtype="),
        (
            Careless(pair=(Parameter(), Variable(init=zeros))),
            "pair[1]",
            "Variable(UNSET, init=zeros)",
        ),
    ):
        for call in (
            lambda model=model: model(X[0]),
            lambda model=model: mlax.set_up(model, X[0]),
            lambda model=model: jax.jit(model)(X[0]),
            lambda model=model: jax.vmap(model)(X),
        ):
            with pytest.raises(TypeError) as error:
                call()
            assert f"Careless.set_up: {name} is {node}" in str(error.value)
            assert "set_up replaced it by " in str(error.value)
            assert f"self.{name}.made(rng, shape, init, dtype)" in str(error.value)
    frozen = Careless(Parameter(frozen=True))(X[0])[1]
    assert frozen.kernel.frozen
    assert (
        Careless(Parameter(jnp.ones(3)), (Parameter(1.0), Variable(7)))(X[0])[1].kernel is not None
    )


def test_one_recipe_in_two_nodes_counts_twice():
    shared = Parameter(init=ones)

    class Half(Module):
        """Asks one of its nodes how it is made, not the other."""

        a: Parameter = shared
        b: Parameter = shared

        def set_up(self, x: Array) -> Self:
            made = self.a.made(None, x.shape, zeros, x.dtype)
            return self.replace(a=made, b=Parameter(x))

        def forward(self, x: Array) -> tuple[Array, Self]:
            return x, self

    class Whole(Half):
        """Asks both."""

        def set_up(self, x: Array) -> Self:
            a, b = (node.made(None, x.shape, zeros, x.dtype) for node in (self.a, self.b))
            return self.replace(a=a, b=b)

    with pytest.raises(TypeError, match=r"Half\.set_up: b is "):
        Half()(X)
    done = Whole()(X)[1]
    assert tree_equal((done.a.data, done.b.data), (jnp.ones_like(X), jnp.ones_like(X)))


@pytest.mark.one_python
def test_made_inside_transformations_of_a_set_up():
    class Stack(Module):
        """Makes a kernel for each of its layers."""

        depth: int
        how: str
        kernel: Parameter = Parameter()

        def set_up(self, x: Array, rng: Array) -> Self:
            def make(key: Any) -> Any:
                return self.kernel.made(key, (3, 3), he_normal, x.dtype)

            keys = jax.random.split(rng, self.depth)
            if self.how == "vmap":
                return self.replace(kernel=jax.vmap(make)(keys))
            if self.how == "map":
                return self.replace(kernel=jax.lax.map(make, keys))
            if self.how == "jit":
                return self.replace(kernel=jax.jit(jax.vmap(make))(keys))
            return self.replace(kernel=Parameter(jax.vmap(make)(keys).data * 1.0))

        def forward(self, x: Array, rng: Array | None = None) -> tuple[Array, Self]:
            return x, self

    done = {}
    for how in ("vmap", "map", "jit", "a new Parameter"):
        model = Stack(2, how, Parameter(init=normal(1.0), frozen=True))
        done[how] = once(model, "set_up").kernel
        assert tree_equal(once(model, "jit").kernel, done[how])
        assert done[how].frozen
        assert done[how].data.shape == (2, 3, 3)
        assert 0.5 < float(done[how].data.std()) < 2
        assert tree_equal(done[how], done["vmap"])


@jax.jit
def made_elsewhere(node: Parameter) -> Parameter:
    return node.made(None, (3,), zeros, jnp.float32)


def test_made_inside_a_function_that_was_traced_before():
    class Cached(Module):
        """Makes its node in a function that JAX would trace only once."""

        bias: Parameter = Parameter()

        def set_up(self, x: Array) -> Self:
            return self.replace(bias=made_elsewhere(self.bias))

        def forward(self, x: Array) -> tuple[Array, Self]:
            return x + self.bias.data, self

    made_elsewhere(Parameter(init=ones))
    for how in ("set_up", "set_up", "jit"):
        done = once(Cached(Parameter(init=ones)), how)
        assert tree_equal(done, Cached(Parameter(jnp.ones(3))))
        assert tree_equal(Cached(Parameter(init=ones))(X)[1], done)


def test_nodes_that_stay_unset_keep_their_recipe():
    class Wrapper(Module):
        """Decides itself that it is set up."""

        kernel: Parameter = Parameter()
        done: bool = False

        @property
        def is_set_up(self) -> bool:
            return self.done

        def set_up(self, x: Array) -> Self:
            return self.replace(kernel=Parameter(), done=True)

        def forward(self, x: Array) -> tuple[Array, Self]:
            return x, self

    done = Wrapper(Parameter(init=he_normal))(X)[1]
    assert repr(done.kernel) == "Parameter(UNSET, init=he_normal)"


class NoKey(Module):
    """Has a set_up that can do without a key."""

    bias: Parameter = Parameter()

    def set_up(self, x: Array, rng: Array | None = None) -> Self:
        return self.replace(bias=self.bias.made(rng, x.shape, zeros, x.dtype))

    def forward(self, x: Array, rng: Array | None = None) -> tuple[Array, Self]:
        return x + self.bias.data, self


def test_without_a_key():
    assert tree_equal(NoKey()(X)[0], X)
    model = NoKey(Parameter(init=normal(0.1)))
    for call in (lambda: model(X), lambda: mlax.set_up(model, X), lambda: jax.jit(model)(X)):
        with pytest.raises(ValueError, match=r"^NoKey is not set up") as error:
            call()
        assert str(error.value) == (
            "NoKey is not set up (UNSET: bias). Parameter.made: normal(stddev=0.1) failed to make float32[4,3] "
            "without a key: normal(stddev=0.1) needs a key, got None\n"
            "  Set up with a key, `mlax.set_up(model, x, rng=key)`; set_up has to pass it on: "
            "made(rng, shape, init, dtype)."
        )
    assert not tree_equal(mlax.set_up(model, X, rng=KEY)(X)[0], X)


def test_static_data_of_a_model_say_nothing_of_recipes(tmp_path):
    """Files can be loaded into a model with or without recipes: nothing of them remains."""
    path = tmp_path / "model.safetensors"
    mlax.save(path, mlax.set_up(Dense(4, Parameter(init=ones)), X, rng=KEY))
    like = mlax.set_up(Dense(4, Parameter(init=he_normal)), X, rng=KEY)
    assert tree_equal(mlax.load(path, like).kernel.data, jnp.ones((3, 4)))
