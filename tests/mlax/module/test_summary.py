"""`mlax.summary`: which rows, which numbers, and how they are printed."""

from typing import Any, Self

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jaxtyping import Array, Float

import mlax
from mlax import Container, Module, Parameter, Variable
from mlax._module import summary as module_of_summary
from mlax._module.tables import Column, as_html, as_text, with_unit

X = jax.ShapeDtypeStruct((5, 3), jnp.float32)
KEY = jax.random.key(0)


class Linear(Module):
    size: int
    kernel: Parameter[Float[Array, "in out"]] = Parameter()

    def set_up(self, x: Float[Array, "*batch in"], rng: Array) -> Self:
        shape = x.shape[-1], self.size
        return self.replace(kernel=Parameter(jax.random.normal(rng, shape, x.dtype)))

    def forward(self, x: Float[Array, "*batch in"]) -> tuple[Float[Array, "*batch out"], Self]:
        return x @ self.kernel.data, self


class Norm(Module):
    gain: Parameter = Parameter(jnp.ones(3))
    shift: Parameter = Parameter(jnp.ones(3, jnp.bfloat16), frozen=True)
    count: Variable = Variable(0)

    def forward(self, x: Array) -> tuple[Array, Self]:
        return x * self.gain.data, self.replace(count=Variable(self.count.data + 1))


class Chain(Module):
    layers: Any
    unused: Any = None

    def forward(self, x: Array) -> tuple[Any, Self]:
        layers = self.layers.values() if isinstance(self.layers, dict) else self.layers
        return self.chain(x, *layers)


class Returns(Module):
    """Returns what it is given as a static field, around its input."""

    form: str = "array"

    def forward(self, x: Array) -> tuple[Any, Self]:
        forms = {"array": x, "None": None, "pair": (x, None), "dict": {"a": x, "b": 3}}
        return forms[self.form], self


def net() -> Chain:
    return Chain((Norm(), Chain([Linear(4)]), Linear(2)), unused=Linear(7))


TABLE = """\
path         class   output    parameters  frozen  variables  unset  bytes
───────────  ──────  ────────  ──────────  ──────  ─────────  ─────  ─────
             Chain   f32[5,2]          23       3          1      1  102 B
layers[0]    Norm    f32[5,3]           3       3          1          22 B
layers[1]    Chain   f32[5,4]          12                             48 B
  layers[0]  Linear  f32[5,4]          12                             48 B
layers[2]    Linear  f32[5,2]           8                             32 B
unused       Linear                                               1    0 B"""


def test_table_of_a_model_that_is_not_set_up():
    model = net()
    found = mlax.summary(model, X)
    assert found.text(100) == TABLE
    assert not model.layers[2].is_set_up
    assert (found.parameters, found.frozen, found.variables, found.bytes) == (23, 3, 1, 102)
    assert found.flops is None
    row = found.rows[3]
    assert (row.path, row.class_name, row.parameters) == ("layers[1].layers[0]", "Linear", 12)
    assert row.outputs == (jax.ShapeDtypeStruct((5, 4), jnp.float32),)
    assert not found.rows[-1].outputs


def test_table_is_the_same_once_the_model_is_set_up():
    model = net().replace(unused=None)
    made = mlax.set_up(model, X, rng=KEY)
    abstract = jax.eval_shape(lambda model: model, made)
    tables = [mlax.summary(each, X).text(100) for each in (model, made, abstract)]
    assert tables == [tables[0]] * 3
    assert "unset" not in tables[0]


def test_nothing_is_computed():
    x = jax.ShapeDtypeStruct((1, 10**6), jnp.float32)
    before = len(jax.live_arrays())
    found = mlax.summary(Chain((Linear(10**7), Linear(10**7))), x)
    assert len(jax.live_arrays()) == before
    assert found.parameters == 10**13 + 10**14


def test_without_inputs_there_are_no_outputs():
    found = mlax.summary(net())
    assert "output" not in repr(found)
    assert (found.parameters, found.rows[0].unset) == (3, 3)
    assert len(mlax.summary(Returns()).rows) == 1


@pytest.mark.parametrize(
    ("depth", "paths"),
    [
        (0, [""]),
        (1, ["", "layers[0]", "layers[1]", "layers[2]", "unused"]),
        (None, ["", "layers[0]", "layers[1]", "layers[1].layers[0]", "layers[2]", "unused"]),
    ],
)
def test_depth(depth, paths):
    found = mlax.summary(net(), X, depth=depth)
    assert [row.path for row in found.rows] == paths
    assert found.parameters == 23


@pytest.mark.parametrize(
    ("depth", "error"), [(-1, ValueError), (True, TypeError), (1.0, TypeError), ("1", TypeError)]
)
def test_depth_is_refused_at_once(depth, error):
    with pytest.raises(
        error, match=r"depth must be None or an integer >= 0, got .*\n  0 is the mod"
    ):
        mlax.summary(net(), depth=depth)


@pytest.mark.parametrize(
    ("layers", "path"),
    [
        ((Linear(2),), "layers[0]"),
        ([Linear(2)], "layers[0]"),
        ({"first": Linear(2)}, "layers['first']"),
    ],
)
def test_modules_in_containers(layers, path):
    row = mlax.summary(Chain(layers), X).rows[1]
    assert (row.path, row.parameters, len(row.outputs)) == (path, 6, 1)
    assert mlax.summary(Chain(Container([Linear(2)]))).rows[1].path == "layers.states[0]"


@pytest.mark.parametrize(
    ("form", "text"),
    [("None", "None"), ("pair", "(f32[5,3], None)"), ("dict", "{'a': f32[5,3], 'b': 3}")],
)
def test_outputs_of_any_kind(form, text):
    found = mlax.summary(Returns(form), X)
    assert text in found.text(100)
    assert len(found.rows[0].outputs) == 1


class Twice(Module):
    layer: Any

    def forward(self, x: Array, *, longer: bool = False) -> tuple[Array, Self]:
        x, self = self.call(self.layer, x)
        return self.call(self.layer, jnp.concatenate([x, x]) if longer else x)


def test_several_calls_share_a_row():
    assert "2× f32[5,3]" in mlax.summary(Twice(Linear(3)), X).text(100)
    longer = mlax.summary(Twice(Linear(3)), X, longer=True)
    assert "f32[5,3]; f32[10,3]" in longer.text(100)
    assert [output.shape for output in longer.rows[1].outputs] == [(5, 3), (10, 3)]
    assert longer.parameters == 9


class Dropout(Module):
    def forward(self, x: Array, rng: Array, inference_mode: bool) -> tuple[Any, Self]:
        return x if inference_mode else (x, rng), self


def test_options():
    model = Chain((Dropout(),))
    assert mlax.summary(model, X).rows[1].outputs[0].shape == (5, 3)
    assert mlax.summary(mlax.inference(model), X).rows[1].outputs[0].shape == (5, 3)
    for call in (mlax.training(model, rng=KEY), mlax.training(model)):
        assert mlax.summary(call, X).rows[1].outputs[0][1].dtype == KEY.dtype
    given = mlax.summary(Dropout(), X, inference_mode=False, rng=jax.random.PRNGKey(0))
    assert given.rows[0].outputs[0][1].dtype == jnp.uint32


class Centred(Module):
    """Needs the axis that the option names."""

    scale: Parameter = Parameter()

    def set_up(self, x: Array) -> Self:
        return self.replace(scale=Parameter(jnp.ones(x.shape)))

    def forward(self, x: Array, batch_axis_name: Any) -> tuple[Array, Self]:
        centred = x - lax.pmean(x, batch_axis_name) + lax.axis_index(batch_axis_name)
        return centred * self.scale.data, self


class CentredOver(Centred):
    """Needs an axis of its own."""

    axis: str = "a"

    def forward(self, x: Array) -> tuple[Array, Self]:  # type: ignore[override]
        return super().forward(x, self.axis)


class MapsOver(Module):
    inner: Any

    def forward(self, x: Array) -> tuple[Array, Self]:
        inner = mlax.training(self.inner, batch_axis_name="a")
        return jax.vmap(inner, axis_name="a", out_axes=(0, None))(x)[0], self


@pytest.mark.one_python
@pytest.mark.parametrize(
    ("inner", "names"),
    [(Centred(), "a"), (CentredOver(), "a"), (MapsOver(Centred()), "a"), (Centred(), ("a", "b"))],
)
def test_an_axis_that_nothing_maps_over_has_one_example(inner, names):
    model = Chain((inner, Centred()))
    found = mlax.summary(mlax.training(model, batch_axis_name=names), X, flops=True)
    assert found.rows[0].output == "f32[5,3]"
    assert repr(found) == repr(mlax.summary(model, X, batch_axis_name=names, flops=True))
    ready: Any = mlax.set_up(model, X, batch_axis_name=names)
    assert ready.layers[1].scale.data.shape == (5, 3)
    call: Any = mlax.capture(mlax.training(ready, batch_axis_name=names), lambda m: m.layers[1])
    xs = jnp.ones(X.shape)
    for name in names:
        call, xs = jax.vmap(call, axis_name=name, out_axes=(0, None, 0)), jnp.stack([xs, xs])
    assert call(xs)[2].shape == xs.shape


def test_an_axis_that_is_mapped_keeps_its_size():
    class Sized(Module):
        kernel: Parameter = Parameter()

        def set_up(self, x: Array, rng: Array) -> Self:
            return self.replace(kernel=Parameter(jnp.ones(lax.all_gather(x, "a").shape)))

        def forward(self, x: Array) -> tuple[Array, Self]:
            return x, self

    def shape(x: Any) -> tuple[int, ...]:
        return mlax.set_up(Sized(), x, rng=KEY, batch_axis_name="a").kernel.data.shape

    assert shape(X) == (1, 5, 3)
    shapes: list[tuple[int, ...]] = []
    jax.vmap(lambda x: shapes.append(shape(x)), axis_name="a")(jnp.ones((2, 5, 3)))
    assert shapes == [(2, 5, 3)]


def test_without_an_axis_the_error_says_how_to_name_it():
    x, model = jnp.ones(3), Chain((CentredOver(),))
    ready = Chain((CentredOver(Parameter(x)),))
    for call in (
        lambda: mlax.summary(model, x),
        lambda: mlax.set_up(model, x),
        lambda: ready(x),
        lambda: mlax.capture(ready, lambda m: m.layers)(x),
        lambda: mlax.first_non_finite(ready)(x),
    ):
        with pytest.raises(NameError, match="unbound axis name: a") as caught:
            call()
        assert caught.value.__notes__[0].startswith("  Map over examples around the call")
        assert len([note for note in caught.value.__notes__ if note.startswith("  Map")]) == 1


def test_modules_that_are_alike_are_made_once():
    """For each trace, and never of other shapes, dtypes or static fields."""
    made: list[Any] = []

    class Makes(Linear):
        def set_up(self, x: Array, rng: Array) -> Self:
            made.append((self.size, x.shape))
            return super().set_up(x, rng)

    class Inside(Module):
        inner: Any
        transform: Any = jax.vmap

        def forward(self, x: Array) -> tuple[Array, Self]:
            return self.transform(lambda x: self.call(self.inner, x)[0])(x), self

    layers = (Makes(3), Makes(3), Inside(Makes(3)), Makes(3), Makes(4), Makes(4), Makes(4))
    last = Inside(Makes(4), jax.jit)
    found = mlax.summary(Chain((*layers, Chain((Makes(4), Makes(4))), last)), X)
    outputs = [row.output for row in found.rows if row.class_name == "Makes"]
    assert outputs == ["f32[5,3]"] * 2 + ["f32[3]"] + ["f32[5,3]"] + ["f32[5,4]"] * 6
    assert found.parameters == 4 * 9 + 12 + 5 * 16
    assert made == [(3, (5, 3)), (3, (3,)), (4, (5, 3)), (4, (5, 4)), (4, (5, 4))]


def test_methods():
    class Coder(Module):
        inner: Any

        def decode(self, x: Array) -> tuple[Array, Self]:
            return self.call(self.inner, x)

    found = mlax.summary(Coder(Linear(4)).decode, X)
    assert [row.outputs[0].shape for row in found.rows] == [(5, 4), (5, 4)]


def test_packed_models_are_shown_as_they_were():
    model = mlax.set_up(net().replace(unused=None), X, rng=KEY)
    assert mlax.summary(mlax.pack(model), X).text(100) == mlax.summary(model, X).text(100)
    assert mlax.summary(mlax.pack(model)).text(100) == mlax.summary(model).text(100)
    outer = mlax.summary(Chain((mlax.pack(model),)), X)
    assert [row.path for row in outer.rows][:3] == ["", "layers[0]", "layers[0].layers[0]"]
    assert outer.parameters == 23


def test_data_that_are_trees_or_keys_or_nothing():
    class Holder(Module):
        tree: Any = Parameter({"a": jnp.ones(3), "b": jnp.ones((2, 2), jnp.bfloat16)})
        key: Any = Variable(KEY)
        nothing: Any = Parameter(None)

    found = mlax.summary(Holder())
    assert (found.parameters, found.variables, found.rows[0].unset) == (7, 1, 0)
    assert found.bytes == 12 + 8 + 8


class Fails(Module):
    def forward(self, x: Array) -> tuple[Array, Self]:
        return x @ jnp.ones((7, 8)), self


class Reads(Module):
    def forward(self, x: Array) -> tuple[Array, Self]:
        return x if x.sum() > 0 else -x, self


def test_errors_say_where():
    with pytest.raises(TypeError, match="shape") as caught:
        mlax.summary(Chain((Norm(), Fails())), X)
    assert "in Fails.forward at layers[1]" in caught.value.__notes__
    with pytest.raises(TypeError, match=r"needs values, for example in an `if`.\n  Leave out"):
        mlax.summary(Chain((Reads(),)), X)
    with pytest.raises(TypeError, match=r"mlax.summary takes a Module, .*got 3"):
        mlax.summary(3)
    with pytest.raises(TypeError, match=r"mlax.summary: rng must be a key"):
        mlax.summary(net(), X, rng=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="too many positional arguments"):
        mlax.summary(net(), X, X)


class Loop(Module):
    cell: Any
    unroll: int = 1

    def forward(self, x: Array) -> tuple[Array, Self]:
        def step(x: Array, _: None) -> tuple[Array, None]:
            return self.cell(x)[0], None

        return lax.scan(step, x, None, length=7, unroll=self.unroll)[0], self


def test_operations_are_counted_without_those_of_set_up():
    found = mlax.summary(Chain((Linear(4), Linear(2))), X, flops=True)
    assert [row.flops for row in found.rows] == [200, 120, 80]
    assert "FLOPs" in repr(found)
    assert mlax.summary(Twice(Linear(3)), X, flops=True).rows[1].flops == 180


@pytest.mark.one_python
@pytest.mark.parametrize("unroll", [1, 2, 3, 7])
def test_all_iterations_of_a_scan_count(unroll):
    inner = mlax.summary(Linear(3), X, flops=True).flops
    outer = mlax.summary(Loop(Loop(Linear(3)), unroll), X, flops=True).flops
    assert inner is not None
    assert outer is not None
    assert 49 * inner <= outer <= 50 * inner  # beside it, XLA counts the counter of each loop


def test_equal_calls_are_analysed_once(monkeypatch):
    counted: list[Any] = []

    def flops_of(function: Any, arguments: Any) -> int:
        counted.append(arguments)
        return len(counted)

    monkeypatch.setattr(module_of_summary, "flops_of", flops_of)
    model = mlax.set_up(Chain((Linear(3), Linear(3), Linear(3), Linear(4))), X, rng=KEY)
    found = mlax.summary(model, X, flops=True)
    assert len(counted) == 3  # Linear(3), Linear(4), and the whole
    assert [row.flops for row in found.rows] == [3, 1, 1, 1, 2]


def test_text_is_cut_to_the_room_there_is():
    columns = [
        Column("path", ["layers[0].a_long_name", "模型"], is_text=True),
        Column("output", ["f32[2]", "f32[2]"], is_text=True),
        Column("parameters", ["1", "2,000"]),
    ]
    assert as_text(columns, 100).splitlines()[2:] == [
        "layers[0].a_long_name  f32[2]           1",
        "模型                   f32[2]       2,000",
    ]
    assert as_text(columns, 35).splitlines() == [
        "path             output  parameters",
        "───────────────  ──────  ──────────",
        "layers[0].a_lo…  f32[2]           1",
        "模型             f32[2]       2,000",
    ]
    assert as_text(columns, 10) == as_text(columns, 32)


def test_html_is_escaped():
    text = as_html([Column("class", ["A<B>"], is_text=True), Column("bytes", ["3 B"])])
    assert "A&lt;B&gt;" in text
    assert text.count("<tr>") == 2
    assert mlax.summary(net(), X)._repr_html_().count("<tr>") == 7


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (12_345, "12.3 kB"),
        (999_499, "999 kB"),
        (999_500, "1.00 MB"),
        (4 * 10**18, "4000000 TB"),
    ],
)
def test_units(number, text):
    assert with_unit(number, "B") == text


@pytest.mark.one_python
def test_treescope_shows_models():
    import treescope

    model = Chain((Norm(), Linear(2, Parameter(dtype=jnp.bfloat16))))
    text = treescope.render_to_text(model)
    assert "Linear(size=2, kernel=Parameter(data=UNSET, dtype=bfloat16))" in text
    assert "data=<jax.Array([1, 1, 1], dtype=bfloat16)>,\n        frozen=True," in text
    assert "states=FrozenList([" in treescope.render_to_text(Container([Variable(jnp.ones(30))]))
