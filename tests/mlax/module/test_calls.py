"""Calls: arguments, results, lazy set-up, and how a module calls its children."""

import inspect
import pickle
import re
from typing import Any, Self

import jax
import jax.numpy as jnp
import pytest
from jaxtyping import Array

import mlax
from mlax import Container, Module, Parameter, Variable, tree_equal
from mlax._module import apart
from tests.mlax.models import BatchNorm, Linear, linear, net
from tests.mlax.module.option_models import Dropout
from tests.mlax.module.option_models import X as XS

KEY = jax.random.key(0)
X = jnp.ones((4, 3))


class Scale(Module):
    factor: Parameter = Parameter(2.0)
    calls: Variable = Variable(0)

    def forward(self, x: Any, *rest: Any, bias: Any = 0, **more: Any) -> tuple[Any, Self]:
        counted = self.replace(calls=Variable(self.calls.data + 1))
        return {"x": self.factor.data * x + bias, "rest": rest, "more": more}, counted


class Holds(Module):
    field: Any
    extra: Any = None

    def forward(self, child: Any, *args: Any, **kwargs: Any) -> tuple[Any, Self]:
        return self.call(child, *args, **kwargs)


def test_arguments_of_every_kind_arrive():
    result, after = Scale()(3, 4, 5, bias=1, name="n")
    assert float(result["x"]) == 7
    assert (result["rest"], result["more"]) == ((4, 5), {"name": "n"})
    assert int(after.calls.data) == 1
    for args, kwargs in (((X,), {}), ((), {"x": X}), ((X, None), {}), ((X,), {"rng": KEY})):
        y, same = linear(3, 2)(*args, **kwargs)
        assert y.shape == (4, 2)
        assert tree_equal(same, linear(3, 2))


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "Linear.forward(self, x, rng=None): missing a required argument: 'x'"),
        ((X, None, 3), {}, "Linear.forward(self, x, rng=None): too many positional arguments"),
        (
            (X,),
            {"rgn": KEY},
            "Linear.forward(self, x, rng=None): got an unexpected keyword argument 'rgn'",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_named(args, kwargs, message):
    for checks in (True, False):
        with mlax.runtime_checks(checks), pytest.raises(TypeError, match=f"^{re.escape(message)}"):
            linear()(*args, **kwargs)


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        (lambda self, x: x, "array"),
        (lambda self, x: None, "NoneType"),
        (lambda self, x: (x,), "(array)"),
        (lambda self, x: (x, x), "(array, array)"),
        (lambda self, x: (x, self, 1), "(array, Returns, int)"),
        (lambda self, x: (x, linear()), "(array, Linear)"),
        (lambda self, x: [x, self], "list"),
    ],
)
def test_forward_must_return_a_pair(result, kind):
    class Returns(Module):
        def forward(self, x: Any) -> Any:
            return result(self, x)

    for checks in (True, False):
        with mlax.runtime_checks(checks), pytest.raises(TypeError) as error:
            Returns()(X)
        assert str(error.value) == (
            f"Returns.forward must return (result, self), got {kind}.\n"
            f"  End it with `return result, self`; self may be a changed copy."
        )


def test_lazy_set_up_in_a_call():
    y, model = Linear(2)(X, KEY)
    assert y.shape == (4, 2)
    assert model.is_set_up
    assert not Linear(2).is_set_up
    again, same = model(X)
    assert tree_equal(y, again)
    assert same is model


def test_lazy_set_up_without_a_key_names_the_cure():
    with pytest.raises(ValueError, match="needs a key") as error:
        Linear(2)(X)
    assert str(error.value) == (
        "Linear is not set up (UNSET: kernel, bias), and its set_up needs a key.\n"
        "  Set up the model first, `model = mlax.set_up(model, x, rng=key)`, or call it with "
        "mlax.training(model, rng=key)."
    )


def test_lazy_set_up_in_jit_costs_one_more_trace():
    traces = 0

    @jax.jit
    def step(model: Linear, x: Array, key: Array) -> tuple[Array, Linear]:
        nonlocal traces
        traces += 1
        return model(x, key)

    model = Linear(2)
    for _ in range(3):
        _, model = step(model, X, KEY)
    assert traces == 2


def test_filtered_out_nodes_are_named():
    model = mlax.set_up(net(), X[0], rng=KEY)
    params, rest = model.partition()
    with pytest.raises(
        ValueError,
        match=r"^BatchNorm at norm cannot be called: nodes are filtered out \(data=None\): mean, var",
    ):
        params(X[0], inference_mode=True)
    with pytest.raises(
        ValueError,
        match=r"^Linear at layers\[0\] cannot be called: nodes are filtered out \(data=None\): kernel, bias",
    ):
        rest(X[0], inference_mode=True)
    params.combine(rest)(X[0], inference_mode=True)
    holder = Holds([Variable(None), {"a": Container((Parameter(None), Parameter(1.0)))}])
    with pytest.raises(ValueError, match=re.escape("field[0], field[1]['a'].states[0].\n")):
        holder(holder)


def test_a_module_without_a_set_up_says_so():
    class NoSetUp(Module):
        weight: Parameter = Parameter()

        def forward(self, x: Any) -> Any:
            return x, self

    with pytest.raises(TypeError, match=r"^NoSetUp has UNSET nodes \(weight\), but no set_up"):
        NoSetUp()(X)


class Custom:
    """A PyTree of one's own around States."""

    def __init__(self, inside: Any):
        self.inside = inside


jax.tree_util.register_pytree_with_keys(
    Custom,
    lambda c: (((jax.tree_util.GetAttrKey("inside"), c.inside),), None),
    lambda _, c: Custom(*c),
)


def test_is_set_up_sees_own_nodes_only():
    assert net().is_set_up
    assert not net().norm.is_set_up
    assert Holds([linear(), Linear(3)]).is_set_up
    for field in (Parameter(), [Parameter()], {"a": (Variable(), None)}, Container([Variable()])):
        assert not Holds(field).is_set_up, field
        assert not Holds([Container({"a": field})]).is_set_up, field
    assert not Holds(Container(Custom(Variable()))).is_set_up
    assert Holds(Container(Custom(Linear(2)))).is_set_up
    assert Holds(Container([Linear(3)]), Parameter(None)).is_set_up


PLACES = {
    "field": lambda child: child,
    "list": lambda child: [Scale(), child],
    "tuple": lambda child: (child, None),
    "dict": lambda child: {"a": Scale(), "b": child},
    "nested": lambda child: [{"a": (Scale(), child)}],
    "container": lambda child: Container([{"a": child}, Scale()]),
    "container in list": lambda child: [Container(child)],
    "deep": lambda child: Holds([Holds({"a": child})]),
    "very deep": lambda child: Holds(Container([Holds((Holds(child),))])),
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
def test_a_child_is_found_and_replaced_in_its_place(place):
    child = Scale(Parameter(3.0))
    module = Holds(place(child), [linear()])
    result, after = module(child, 2.0, name=1)
    assert float(result["x"]) == 6
    assert result["more"] == {"name": 1}
    changed = child.replace(calls=Variable(1))
    assert tree_equal(after, module.replace(field=place(changed)))
    assert after.extra[0] is module.extra[0]
    assert int(child.calls.data) == 0
    (inside, after_jit) = jax.jit(lambda module: module(the_child(module), 2.0))(module)
    assert float(inside["x"]) == 6
    assert tree_equal(after_jit, after)


def the_child(module: Holds) -> Scale:
    """Return the last Scale of the first field, which is the child in all places above but one."""
    found = jax.tree.leaves(module.field, is_leaf=lambda node: isinstance(node, Scale))
    order = [node for node in found if isinstance(node, Scale)]
    return order[0] if isinstance(module.field, Container) and len(order) == 2 else order[-1]


def test_a_child_that_is_not_there_or_there_twice():
    child, stranger = Scale(), Scale()
    holds = Holds(child)
    with pytest.raises(ValueError, match=r"^Holds\.call takes a module .*, got the Holds itself\."):
        holds.call(holds.forward, child)
    with pytest.raises(ValueError, match=r"^Holds\.call: this Scale object is not in the Holds\."):
        Holds([child])(stranger, 1)
    with pytest.raises(ValueError, match=re.escape(".field.field, .extra.field")):
        twice(child, Holds(Holds(Scale()), Holds(Scale()))).call(child, 1)
    _, changed = child(1)
    with pytest.raises(ValueError, match="put a changed copy there with replace first"):
        Holds(child)(changed, 1)
    for wrong in (None, X, 3, Parameter(1.0)):
        with pytest.raises(
            TypeError,
            match=r"^Holds\.call takes a module inside this Holds, or a method of one, got ",
        ):
            Holds(child)(wrong, 1)


class Shift(Module):
    """Has no nodes."""

    by: float = 1.0

    def forward(self, x: Any) -> tuple[Any, Self]:
        return x + self.by, self


def beside_itself(model: Any) -> Any:
    return Holds(model.field, model)


@pytest.mark.parametrize(
    "build",
    [
        lambda child: Holds({"a": child, "b": [child]}),
        lambda child: Holds((child, child)),
        lambda child: Holds(child, child),
        lambda child: Holds([child], Container({"a": child})),
        lambda child: Holds(None).replace(field=(child, child)),
        lambda child: Holds(Holds(child).replace(extra=child)),
        lambda child: Holds(child, Holds(child)),
        lambda child: Holds(Holds(child), (None, Holds(child))),
        lambda child: Holds(child, Container([Holds({"a": child})])),
        lambda child: Holds(Holds(None), child).replace(field=Holds(child)),
        lambda child: mlax.at(Holds(child, Holds(0)), lambda m: m.extra.field).set(child),
        lambda child: Container((child, child)),
        lambda child: Container({"a": child, "b": Holds(child)}),
        lambda child: beside_itself(jax.tree.map(jnp.asarray, Holds(child))),
        lambda child: beside_itself(Holds(Scale()).replace(field=child)),
        lambda child: beside_itself(pickle.loads(pickle.dumps(Holds(child)))),
    ],
)
def test_one_module_in_two_places(build):
    """With nodes it is refused; without any it is copied, so that calls find it and `jit` changes nothing."""
    with pytest.raises(
        ValueError,
        match=r"^(Holds|Container): \S+ and \S+ are the same Scale\.\n"
        r".*store it in one field and call that field in both places",
    ):
        build(Scale())
    with pytest.raises(ValueError, match="are the same Holds"):
        build(Holds(Scale()))
    model = build(Shift(2.0))
    assert tree_equal(model, jax.jit(lambda model: model)(model))
    shifts = [node for node in jax.tree.leaves(model, is_leaf=is_shift) if is_shift(node)]
    assert len(shifts) == len({id(shift) for shift in shifts}) == 2


def is_shift(node: Any) -> bool:
    return isinstance(node, Shift)


def twice(child: Any, model: Any) -> Any:
    """Return a model with the child in place of each module of its class, as no constructor would make it."""
    is_such = lambda node: isinstance(node, type(child))  # noqa: E731
    return jax.tree.map(lambda node: child if is_such(node) else node, model, is_leaf=is_such)


class Deep(Module):
    """Calls what is in its second field."""

    own: Any
    other: Any

    def forward(self, x: Any) -> tuple[Any, Self]:
        return self.call(self.other.field, x)


@pytest.mark.one_python
def test_the_module_at_the_place_that_was_called_runs():
    """Though the object stands elsewhere too, where calls would find it first."""
    drop = Dropout()
    for model in (
        Deep(drop, Holds(drop)),
        twice(drop, Deep(Dropout(), Holds(Dropout()))),
        jax.tree.map(jnp.asarray, Deep(drop, Holds(drop))),
    ):
        call = mlax.training(model, rng=KEY)
        there = mlax.training(Deep(Dropout(), Holds(Dropout())), rng=KEY)
        assert jnp.array_equal(call(XS)[0], there(XS)[0])
        assert jnp.array_equal(
            jax.jit(lambda m: mlax.training(m, rng=KEY)(XS)[0])(model), call(XS)[0]
        )
    outer = Holds(Scale())
    with pytest.raises(ValueError, match=r"^Holds: field and extra\.field are the same Scale"):
        beside_itself(outer.call(outer.field, 1)[1])
    with pytest.raises(ValueError, match=r"^Deep: own and other\.field are the same Scale"):
        twice(Scale(), Deep(Scale(), Holds(Scale())))(X)


@pytest.mark.one_python
def test_models_that_are_built_outwards_are_not_searched(monkeypatch):
    searched: list[Any] = []
    search = apart._are_apart
    monkeypatch.setattr(apart, "_are_apart", lambda found: searched.append(found) or search(found))
    model = Holds(Shift(), Scale())
    for _ in range(5):
        model = Holds(model, (Scale(), Shift()))
    model.replace(extra=(Shift(), None)).replace(field=None)
    assert not searched
    with pytest.raises(ValueError, match=r"field\.extra\[0\] and extra\[0\] are the same Scale"):
        model.replace(extra=model.field.extra)
    assert len(searched) == 1


@pytest.mark.one_python
def test_a_model_is_searched_in_its_first_outermost_call_only(monkeypatch):
    searched: list[Any] = []
    search = apart._are_apart
    monkeypatch.setattr(apart, "_are_apart", lambda found: searched.append(found) or search(found))
    model = Holds(Scale())
    for _ in range(3):
        model(model.field, X)
    assert len(searched) == 1
    copy = jax.tree.map(lambda leaf: leaf, model)
    copy(copy.field, X)
    assert len(searched) == 2


class Bare(Module):
    """Defines `__call__` only."""

    weight: Parameter
    pair: bool = False

    def __call__(self, x: Any) -> Any:
        return (x, x) if self.pair else x * self.weight.data


class Loose(Module):
    """Has a `__call__` of its own that returns something else than a pair."""

    result: str

    def forward(self, x: Any) -> tuple[Any, Self]:
        return x, self

    def __call__(self, x: Any) -> Any:
        return {"array": x, "pair": (x, x), "none": None, "triple": (x, self, x)}[self.result]


@pytest.mark.parametrize("pair", [False, True])
def test_a_child_without_forward_is_refused(pair):
    child = Bare(Parameter(3.0), pair)
    with pytest.raises(
        TypeError, match=r"^Holds\.call: Bare does not define forward\.\n.*Rename its __call__"
    ):
        Holds(child)(child, X)


@pytest.mark.parametrize("result", ["array", "pair", "none", "triple"])
def test_what_a_child_returns_is_checked_before_it_is_unpacked(result):
    child = Loose(result)
    with pytest.raises(
        TypeError, match=r"^Loose\.__call__ at field must return \(result, self\), got "
    ):
        Holds(child)(child, X)


def test_the_signature_of_a_model_is_that_of_its_forward():
    assert inspect.signature(Shift()) == inspect.signature(Shift().forward)
    assert list(inspect.signature(Shift).parameters) == ["by"]
    assert list(inspect.signature(net()).parameters) == list(
        inspect.signature(net().forward).parameters
    )

    class Switched(Module):
        def forward(self, x: Any, inference_mode: bool = False) -> tuple[Any, Self]:
            return (x if inference_mode else -x), self

    call = jax.jit(Switched(), static_argnames="inference_mode")
    assert float(call(2.0, True)[0]) == float(call(2.0, inference_mode=True)[0]) == 2
    assert float(call(2.0)[0]) == float(call(2.0, False)[0]) == -2


def test_one_field_used_twice_is_sharing():
    class Twice(Module):
        part: Scale

        def forward(self, x: Any) -> tuple[Any, Self]:
            y, self = self.call(self.part, x)
            z, self = self.call(self.part, y["x"])
            return z["x"], self

    result, after = Twice(Scale())(1.0)
    assert float(result) == 4
    assert int(after.part.calls.data) == 2


def test_forward_may_be_wrapped():
    class Wrapped(Module):
        norm: BatchNorm

        @jax.checkpoint
        def forward(self, x: Array) -> tuple[Array, Self]:
            return self.call(self.norm, x, inference_mode=True)

    class Jitted(Linear):
        forward = jax.jit(Linear.forward)

    model = mlax.set_up(Wrapped(BatchNorm()), X[0], rng=KEY)
    y, _ = model(X[0])
    assert y.shape == (3,)
    jitted, plain = mlax.set_up(Jitted(2), X, rng=KEY), mlax.set_up(Linear(2), X, rng=KEY)
    assert jnp.allclose(jitted(X)[0], plain(X)[0])


class Counts(Module):
    calls: Variable = Variable(0)

    def forward(self, x: Any) -> tuple[Any, Self]:
        return x, self.replace(calls=Variable(self.calls.data + 1))


class Around(Module):
    inner: Counts
    again: Any = None

    def forward(self, x: Any) -> tuple[Any, Self]:
        return self.call(self.inner, x)


def test_chain_calls_one_after_another():
    class Chains(Module):
        layers: tuple[Any, ...]

        def forward(self, x: Any) -> tuple[Any, Self]:
            return self.chain(x, *self.layers, self.layers[0])

    model = Chains((Counts(), Around(Counts()), linear(3, 2)))
    with pytest.raises(mlax.AnnotationMismatchError):
        Chains((linear(3, 2), linear(3, 2)))(X)
    y, model = model(X)
    assert y.shape == (4, 2)
    assert int(model.layers[0].calls.data) == 2
    assert int(model.layers[1].inner.calls.data) == 1


@pytest.mark.parametrize("order", [0, 1])
def test_chain_keeps_what_a_module_and_one_inside_it_return(order):
    class Chains(Module):
        block: Around

        def forward(self, x: Any) -> tuple[Any, Self]:
            children = (self.block, self.block.inner)
            return self.chain(x, *(children[::-1] if order else children))

    assert int(Chains(Around(Counts()))(1)[1].block.inner.calls.data) == 2


def test_chain_finds_all_children_before_the_first_call():
    class Chains(Module):
        counts: Counts

        def forward(self, x: Any) -> tuple[Any, Self]:
            return self.chain(x, self.counts, Counts())

    with pytest.raises(
        ValueError, match=r"^Chains\.chain: this Counts object is not in the Chains"
    ):
        Chains(Counts())(1)


def test_an_unchanged_child_leaves_the_module_as_it_is():
    class Same(Module):
        def forward(self, x: Any) -> tuple[Any, Self]:
            return x, self

    class Whole(Module):
        parts: tuple[Any, ...]

        def forward(self, x: Any) -> tuple[Any, Self]:
            before = self
            x, self = self.chain(x, *self.parts)
            assert self is before
            return self.call(self.parts[0], x)

    model = Whole((Same(), Same()))
    assert model(1)[1] is model


def test_endless_recursion_is_an_error_of_python():
    class Endless(Module):
        def forward(self, x: Any) -> Any:
            return self(x)

    with pytest.raises(RecursionError):
        Endless()(1)


def test_errors_say_where_the_module_stands():
    class Fails(Module):
        def forward(self, x: Any) -> Any:
            raise RuntimeError("num_heads must divide 3")

    class Block(Module):
        heads: Any

        def forward(self, x: Any) -> Any:
            return self.call(self.heads, x)

    class Direct(Module):
        blocks: Any

        def forward(self, x: Any) -> Any:
            return self.blocks["a"][1](x)[0], self

    model = Direct({"a": (None, Block(Fails()))})
    with pytest.raises(RuntimeError) as error:
        model(1)
    assert error.value.__notes__ == ["in Fails.forward at blocks['a'][1].heads"]
    with pytest.raises(
        mlax.AnnotationMismatchError, match=r"^Linear\.forward at blocks\['a'\]\[1\].heads: x"
    ):
        Direct({"a": (None, Block(linear(2, 2)))})(X)


@pytest.mark.one_python
@pytest.mark.filterwarnings("error")
def test_a_forward_runs_at_once():
    class Later(Module):
        async def forward(self, x: Any) -> Any:
            return x, self

    class Yields(Module):
        def forward(self, x: Any) -> Any:
            yield x, self

    class YieldsLater(Module):
        async def forward(self, x: Any) -> Any:
            yield x, self

    for model, message in (
        (
            Later(),
            r"Later\.forward must return \(result, self\), got coroutine\.\n.*cannot be async",
        ),
        (Yields(), r"Yields\.forward .*, got generator\.\n.*cannot `yield`: loop around"),
        (YieldsLater(), r"got async_generator\.\n.*cannot be async: await around"),
    ):
        for call in (model, mlax.inference(model)):
            with pytest.raises(TypeError, match=message):
                call(1)


def test_paths_are_named_scopes_while_tracing():
    class Block(Module):
        layers: tuple[Any, ...]

        def forward(self, x: Any) -> Any:
            return self.chain(x, *self.layers)

    model = Block((linear(3, 3), Block((linear(3, 3),))))
    text = jax.jit(lambda x: model(x)[0]).lower(X).as_text(debug_info=True)
    assert "layers[1]/layers[0]" in text

    class Direct(Module):
        inner: Any

        def forward(self, x: Any) -> Any:
            y, _ = self.inner(x)
            return self.inner.layers[0](y)[0], self

    direct = Direct(Block((linear(3, 3),)))
    text = jax.jit(lambda x: direct(x)[0]).lower(X).as_text(debug_info=True)
    assert "/inner/layers[0]/dot_general" in text
    assert "/inner.layers[0]/dot_general" in text


def test_a_function_among_modules_is_refused_with_the_cure():
    class Chains(Module):
        linear: Any

        def forward(self, x: Any) -> tuple[Any, Self]:
            return self.chain(x, self.linear, jax.nn.relu)

    with pytest.raises(TypeError, match=r"got the function relu\.\n.*: x = relu\(x\)$"):
        Chains(linear(3, 2))(X)
