"""Fields, nodes and calls of modules."""

import dataclasses
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, Self, TypeVar, assert_type

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

import mlax
from mlax import UNSET, Container, ENode, Module, Parameter, Variable, optim

M = TypeVar("M", bound=Module)


class Dense(Module):
    width: int
    kernel: Parameter[Float[Array, "in out"]] = Parameter()

    def set_up(self, x: Array, rng: Array) -> Self:
        return self.replace(kernel=Parameter(jax.random.normal(rng, (x.shape[-1], self.width))))

    def forward(self, x: Float[Array, "*batch in"]) -> tuple[Float[Array, "*batch out"], Self]:
        return x @ self.kernel.data, self


class Dropout(Module):
    rate: float = 0.5

    def forward(self, x: Array, rng: Array | None = None, inference_mode: bool = False) -> tuple[Array, Self]:
        return x, self


class Relu(Module):
    """Has no fields."""

    def forward(self, x: Array) -> tuple[Array, Self]:
        return jnp.maximum(x, 0), self


class Net(Module):
    width: int
    first: Dense
    layers: tuple[Dense, ...] = ()
    heads: dict[str, Dense] = dataclasses.field(default_factory=dict[str, Dense])
    dropout: Dropout = Dropout()
    activation: Callable[[Array], Array] = jax.nn.relu
    count: Variable[Int[Array, ""]] = Variable(0)

    def forward(self, x: Array) -> tuple[Array, Self]:
        x, self = self.call(self.first, x)
        x, self = self.call(self.dropout, x)
        x, self = self.chain(x, *self.layers)
        return self.activation(x), self

    def encode(self, x: Array, scale: float) -> tuple[Array, Self]:
        return scale * x, self


class WithoutForward(Module):
    net: Net


class ByHand(Module):
    width: int
    kernel: Parameter

    def __init__(self, width: int, *, scale: float = 1.0) -> None:
        super().__init__(width=width, kernel=Parameter(scale * jnp.ones(width)))

    def forward(self, x: Array) -> tuple[Array, Self]:
        return self.kernel.data * x, self


class BelowByHand(ByHand):
    bias: Parameter

    def __init__(self) -> None:
        super().__init__(3)
        Module.__init__(self, bias=Parameter(self.kernel.data))


class BelowDense(Dense):
    name: str = ""

    def __init__(self, name: str) -> None:
        super().__init__(3)
        Module.__init__(self, name=name)


class KeywordOnly(Module, kw_only=True):
    width: int
    scale: float = 1.0


class Deeper(Dense):
    depth: int = 1


class Wrapped(Module, Generic[M]):
    inside: M

    def again(self) -> M:
        return self.inside


class BelowWrapped(Wrapped[Dense]):
    name: str

    def __init__(self, name: str) -> None:
        super().__init__(inside=Dense(3))
        Module.__init__(self, name=name)


class Pair(NamedTuple):
    left: Dense
    right: Dense


class Pairs(Module):
    pair: Pair
    optional: Dense | None = None
    options: tuple[str, ...] = ()


def constructed() -> None:
    assert_type(Dense(3), Dense)
    assert_type(Net(3, Dense(3), layers=(Dense(4), Dense(5)), heads={"a": Dense(3)}), Net)
    assert_type(Deeper(3, Parameter(), 2), Deeper)
    assert_type(KeywordOnly(width=3), KeywordOnly)
    assert_type(ByHand(3, scale=2.0), ByHand)


def constructed_below_other_classes() -> None:
    assert_type(BelowByHand().kernel.data, Array)
    assert_type(BelowDense("a").width, int)
    assert_type(BelowWrapped("a").again(), Dense)


def without_fields_or_forward(net: Net) -> None:
    Relu()
    WithoutForward(net)
    assert_type(Relu()(jnp.ones(3)), tuple[Array, Relu])


def fields(net: Net) -> None:
    assert_type(net.width, int)
    assert_type(net.layers[0].kernel.data, Array)
    assert_type(net.heads["a"].width, int)
    assert_type(net.count.data, Array)
    assert_type(net.first.kernel.frozen, bool)


def called(net: Net, x: Array) -> None:
    y, after = net(x)
    assert_type(y, Array)
    assert_type(after, Net)
    assert_type(net.encode(x, 2.0), tuple[Array, Net])


def called_with_options(net: Net, x: Array, key: Array) -> None:
    assert_type(mlax.training(net, rng=key)(x), tuple[Array, Net])
    assert_type(mlax.inference(net)(x), tuple[Array, Net])
    assert_type(net.dropout(x, rng=key, inference_mode=True), tuple[Array, Dropout])


def set_up(x: Array, key: Array) -> None:
    assert_type(mlax.set_up(Dense(3), x, rng=key), Dense)
    assert_type(Dense(3).is_set_up, bool)


def generic(dense: Dense) -> None:
    assert_type(Wrapped(dense).inside, Dense)
    assert_type(Wrapped(dense).again().width, int)


def named_tuples(dense: Dense) -> None:
    pairs = Pairs(Pair(dense, dense), options=("a", "b"))
    assert_type(pairs.pair.left.width, int)
    assert_type(pairs.optional, Dense | None)


def nodes(x: Array) -> None:
    assert_type(Parameter(x).data, Array)
    assert_type(Parameter(3.0).data, Array)
    assert_type(Parameter(np.ones(3)).data, Array)
    assert_type(Variable(3, ).data, Array)
    assert_type(Parameter().data, Array)
    assert_type(Parameter(x, frozen=True).frozen, bool)
    Parameter(None)
    Parameter(UNSET)
    Variable(jax.random.key(0))


def nodes_of_trees(x: Array) -> None:
    assert_type(Parameter({"w": x, "b": x}).data, dict[str, Array])
    assert_type(Parameter((x, x)).data, tuple[Array, Array])
    assert_type(Variable([x]).data, list[Array])


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Quantized:
    values: Array
    scale: Array


@jax.tree_util.register_pytree_node_class
class Sparse:
    def __init__(self, values: Array) -> None:
        self.values = values

    def tree_flatten(self) -> tuple[tuple[Array], None]:
        return (self.values,), None

    @classmethod
    def tree_unflatten(cls, aux_data: None, children: tuple[Array]) -> Self:
        return cls(*children)


def nodes_of_other_classes(x: Array) -> None:
    assert_type(Parameter(Quantized(x, x)).data, Quantized)
    assert_type(Variable(Sparse(x)).data, Sparse)


def nodes_to_be_made() -> None:
    Parameter(init=jax.nn.initializers.zeros, dtype=jnp.bfloat16)
    Variable(init=jax.nn.initializers.zeros)
    Parameter(frozen=True, init=jax.nn.initializers.he_normal())


def containers(dense: Dense, x: Array) -> None:
    assert_type(Container(dense).states, Dense)
    assert_type(Container({"a": dense, "b": dense}).states["a"], Dense)
    assert_type(Container((dense, Parameter(x))).states[1].data, Array)
    Container([dense, dense])
    Container({"a": {"b": (dense, None)}})
    Container(None)


def parts(net: Net) -> None:
    assert_type(net.filter(), Net)
    assert_type(net.filter(mlax.is_variable), Net)
    assert_type(net.filter().combine(net), Net)
    assert_type(net.filter_with_path(lambda path, node: mlax.is_parameter(node)), Net)


def replaced(net: Net) -> None:
    assert_type(net.replace(width=3), Net)
    assert_type(net.replace(first=Dense(4), layers=()), Net)


def over_leaves(net: Net) -> None:
    doubled: Net = jax.tree.map(jnp.negative, net)
    print(doubled.width)
    assert_type(dataclasses.fields(net), tuple[dataclasses.Field[Any], ...])


def loaded(net: Net) -> None:
    assert_type(mlax.load("file.safetensors", like=net), Net)
    assert_type(mlax.load("file.safetensors", like=(net, 0)), tuple[Net, int])
    assert_type(mlax.load("file.safetensors", like={"net": net, "more": net}), dict[str, Net])
    state = optim.adam.init(net)
    assert_type(mlax.load("file.safetensors", like=(net, state, 0)), tuple[Net, optim.adam.State[Net], int])
    key = jax.random.key(0)
    assert_type(mlax.load("file.safetensors", like=(net, state, key, 0)), tuple[Net, optim.adam.State[Net], Array, int])
    assert_type(mlax.load("file.safetensors", like=(net, state, key, key, 0)), tuple[Net, optim.adam.State[Net], Array, Array, int])
    assert_type(mlax.load("file.safetensors", like=(net, 0, state)), tuple[Net, int, optim.adam.State[Net]])  # false alarm: ty
    assert_type(mlax.load("file.safetensors", like=(0, net)), tuple[int, Net])  # false alarm: ty
    assert_type(mlax.load("file.safetensors", like=(net, True)), tuple[Net, bool])
    assert_type(mlax.load("file.safetensors", like=(net, 0.5)), tuple[Net, float])  # false alarm: ty
    assert_type(mlax.unflatten({}, like=(net, state, 0)), tuple[Net, optim.adam.State[Net], int])
    assert_type(mlax.unflatten({}, like=state), optim.adam.State[Net])
    assert_type(mlax.unflatten({}, like={"net": net}), dict[str, Net])
    assert_type(mlax.load("file.safetensors", like=state), optim.adam.State[Net])
    assert_type(mlax.load("file.safetensors", like=optim.Frozen().init(net)).step, Array)
    model, step = mlax.load("file.safetensors", like=(net, 0))
    print(model.width, step + 1)


def any_module(module: Module, x: Any) -> Any:
    y, module = module(x)
    print(dataclasses.fields(module), module.filter())
    return y


def matched(module: Module) -> int:
    match module:
        case Dense(width):
            return width
        case Net(first=Dense(width)):
            return width
        case _:
            return 0


def abstract(x: Array) -> None:
    Module()  # wrong
    ENode(x)  # wrong
    ENode()  # wrong


def wrong_construction(dense: Dense) -> None:
    Dense()  # wrong
    Dense("3")  # wrong
    Dense(3, widht=4)  # wrong
    Dense(3, 4)  # wrong
    Net(3)  # wrong
    Net(3, Relu())  # wrong
    Net(3, dense, layers=[dense])  # wrong
    Net(3, dense, layers=(dense, 3))  # wrong
    Net(3, dense, heads={"a": 3})  # wrong
    Relu(3)  # wrong
    KeywordOnly(3)  # wrong
    ByHand(3, kernel=Parameter())  # wrong
    BelowDense(3)  # wrong
    BelowByHand(3)  # wrong
    ByHand(scale=2.0)  # wrong
    Deeper(3, depth="2")  # wrong
    Pairs((dense, dense))  # wrong
    Wrapped(3)  # wrong


def wrong_nodes(dense: Dense, x: Array) -> None:
    Parameter("abc")  # wrong
    Variable("abc")  # wrong
    Parameter(dense)  # wrong: unseen by mypy, ty
    Parameter(Parameter(x))  # wrong
    Parameter(x, frozen="yes")  # wrong
    Parameter(x, frosen=True)  # wrong
    Parameter(init="zeros")  # wrong
    Variable(x, frozen=True)  # wrong
    Parameter(jax.nn.relu)  # wrong
    Container({"a": x})  # wrong
    Container("abc")  # wrong
    Container(3)  # wrong
    Container((dense, x))  # wrong
    Container()  # wrong


def wrong_fields(net: Net) -> None:
    net.widht  # wrong
    net.layers[0].kernal  # wrong
    net.layers.width  # wrong
    net.heads["a"].wdth  # wrong
    net.heads.a  # wrong
    net.first.kernel.dat  # wrong
    net.first.kernel.data.shap  # wrong
    net.dropout.rate.data  # wrong
    Wrapped(net.first).inside.layers  # wrong
    Container(net).states.widht  # wrong
    ByHand(3).scale  # wrong


def wrong_changes(net: Net, x: Array) -> None:
    net.width = 3  # wrong
    net.first.kernel = Parameter(x)  # wrong
    net.first.kernel.data = x  # wrong
    net.first.kernel.frozen = True  # wrong
    net.new = 3  # wrong: unseen by pyrefly
    ByHand(3).width = 4  # wrong
    del net.width  # wrong: unseen by mypy
    net.layers[0] = net.first  # wrong
    net.layers.append(net.first)  # wrong
    net.heads["a"] = net.first  # wrong: unseen by pyright, mypy, pyrefly, ty
    net.count.data += 1  # wrong
    Container(net).states = net  # wrong


def wrong_calls(net: Net, x: Array, key: Array) -> None:
    net()  # wrong
    net(x, x)  # wrong
    net("x")  # wrong
    net(x, inference=True)  # wrong
    net(x)[2]  # wrong
    a, b, c = net(x)  # wrong
    net.encode(x, "2")  # wrong
    net.call(net.first)  # wrong
    net.call(net.first, x, x)  # wrong
    net.call(net.encode, x)  # wrong
    net.call(net.width, x)  # wrong
    net.chain(x, net.encode)  # wrong
    net.chain(x, 3)  # wrong
    mlax.training(net, key)(x)  # wrong
    mlax.training(net, rng=key)(x, x)  # wrong
    mlax.inference(net)()  # wrong
    mlax.inference(3)  # wrong
    net.dropout(x, rnd=key)  # wrong
    WithoutForward(net)(x).shape  # wrong


def wrong_methods(net: Net, dense: Dense, x: Array) -> None:
    net.replce(width=3)  # wrong
    net.filter(3)  # wrong
    net.filter(lambda path, node: True)  # wrong
    net.combine(dense)  # wrong: unseen by ty
    net.combine(3)  # wrong
    net.is_set_up()  # wrong
    mlax.set_up(3, x)  # wrong
    mlax.is_variabel(net)  # wrong
    mlax.load("file.safetensors", like=net).wdth  # wrong
    mlax.load("file.safetensors", like=(net, 0))[2]  # wrong
    mlax.load(like=net)  # wrong
    mlax.load("file.safetensors", lik=net)  # wrong
    mlax.save("file.safetensors")  # wrong


class WrongForward(Module):
    width: int

    def forward(self, x: Array) -> tuple[Array, Self]:
        return x  # wrong

    def other(self, x: Array) -> tuple[Array, Self]:
        return x, self.width  # wrong

    def third(self, x: Array) -> tuple[Array, Self]:
        self.width = 3  # wrong
        return x * self.wdth, self  # wrong


def wrong_defaults() -> None:
    class Order(Module):
        rate: float = 0.5
        width: int  # wrong

    class Default(Module):
        width: int = "3"  # wrong

    print(Order, Default)
