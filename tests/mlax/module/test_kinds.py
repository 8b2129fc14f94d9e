"""Construction and `replace` check every field: static values, and the classes of children."""

import enum
import functools
import operator
import pathlib
import sys
import typing
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import (
    Annotated,
    Any,
    ClassVar,
    Final,
    Generic,
    Literal,
    LiteralString,
    NamedTuple,
    Never,
    NewType,
    NoReturn,
    NotRequired,
    Optional,
    Protocol,
    Required,
    Self,
    TypedDict,
    TypeVar,
    TypeVarTuple,
    Union,
    Unpack,
    runtime_checkable,
)

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import typing_extensions
from jaxtyping import Array, ArrayLike, Float, PyTree
from typing_extensions import TypeAliasType

import mlax
from mlax import AnnotationMismatchError, Container, ENode, Module, Parameter, State, Variable
from mlax._checking.spelling import spelled
from tests.mlax.models import Linear, linear, squash

B = TypeVar("B", bound=Module)
C = TypeVar("C", int, str)
F = TypeVar("F")
Ts = TypeVarTuple("Ts")


def holder(annotation: Any) -> Any:
    return type("Layer", (Module,), {"__annotations__": {"x": annotation}, "__module__": __name__})


class Color(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    ONE = 1


class Size(NamedTuple):
    height: int
    names: tuple[str, ...] = ()


class Parts(NamedTuple):
    dense: Linear
    scale: Parameter


@dataclass(frozen=True)
class Config:
    rate: float


class Dense(Linear):
    pass


class Box(Module, Generic[F]):
    content: F

    def forward(self, x: Any) -> tuple[Any, Self]:
        return x, self


class HasForward(Protocol):
    def forward(self, x: Any) -> Any: ...


@runtime_checkable
class HasFeatures(Protocol):
    out_features: int


class Both(HasForward, HasFeatures, Protocol):
    pass


class Act(Protocol):
    def __call__(self, x: Any) -> Any: ...


class Measures(Protocol):
    def __len__(self) -> int: ...

    def __hash__(self) -> int: ...


class Pair(TypedDict):
    first: Linear
    second: "NotRequired[Box[int] | None]"


class Options(Pair, total=False):
    act: "Required[Parameter]"
    more: typing_extensions.ReadOnly[tuple[Linear, ...]]


class Item(TypedDict, Generic[F]):
    item: F


class Open(typing_extensions.TypedDict, extra_items=Any):
    first: Linear


class Words(str, Generic[F]):
    pass


class Delegates(Module):
    inner: Linear

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Layerlike(Module):
    """A base class whose instance checks are its own."""

    @classmethod
    def __subclasshook__(cls, other: type) -> bool:
        return hasattr(other, "forward")


M = TypeVar("M", bound="Linear")
N = TypeVar("N", "Linear", "int | str")
Json = Union[int, tuple["Json", ...]]  # noqa: UP007
Trees = Union["Linear", list["Trees"], dict[str, "Trees"]]

LINEAR = linear()
WIDTH = NewType("WIDTH", int)
Alias = TypeAliasType("Alias", tuple[Linear, ...] | None)
Many = TypeAliasType("Many", tuple[F, ...], type_params=(F,))
Unread = TypeAliasType("Unread", "list[Nowhere]")  # a string in an alias is not evaluated

GOOD: list[tuple[Any, list[Any]]] = [
    (int, [3, True, np.int64(3), np.prod((2, 3)), Level.ONE, 10**30]),
    (float, [3.0, 3, True, np.float32(1), np.float64(1), np.int32(1), Level.ONE]),
    (complex, [1j, 1.0, 1, np.complex64(1j)]),
    (bool, [True, np.bool_(False)]),
    (str, ["a", np.str_("a")]),
    (bytes, [b"a"]),
    (None, [None]),
    (Color, [Color.RED]),
    (pathlib.Path, [pathlib.Path("a")]),
    (Literal["a", 1, None], ["a", 1, None]),
    (Literal[Color.RED], [Color.RED]),
    (int | None, [None, 3]),
    (Optional[str], [None, "a"]),  # noqa: UP045
    (Union[int, tuple[int, int]], [3, (3, 4)]),  # noqa: UP007
    (float | Literal["auto"], [1, 1.0, "auto"]),
    (tuple, [(), (1, "a")]),
    (typing.Tuple, [(), (1, "a"), Size(1)]),  # noqa: UP006
    (tuple[int, ...], [(), (1, 2)]),
    (tuple[int, str], [(1, "a")]),
    (tuple[()], [()]),
    (tuple[()] | None, [(), None]),
    (tuple[int, *tuple[str, ...]], [(1,), (1, "a", "b")]),
    (tuple[int, Unpack[tuple[str, ...]], float], [(1, 2.0), (1, "a", "b", 2)]),  # noqa: UP044
    (tuple[*tuple[int, str], float], [(1, "a", 2.0)]),
    (tuple[*tuple[int, *tuple[str, ...]], float], [(1, 2.0), (1, "a", 2.0)]),
    (tuple[int, *Ts], [(1,), (1, "a", None)]),
    (LiteralString, ["a"]),
    (int, [1]),
    (Words[int], [Words("a")]),
    (Sequence[str], ["", "abc", ("a",)]),
    (Sequence[int], [b"ab", range(0), ()]),
    (Collection[str] | int, [frozenset({"a"}), 1]),
    (Iterable[str], [{"a": LINEAR}]),
    (type[jnp.floating], [jnp.bfloat16, np.float64, jnp.bfloat16.dtype.type]),
    (type[jnp.float32] | type[np.integer], [jnp.float32, np.float32, jnp.int8]),
    (type[np.generic], [jnp.bfloat16, np.str_]),
    (Json, [1, (), (1, (2, (3,)))]),
    (Trees, [LINEAR, [linear(), [LINEAR]], {"a": [linear(), {"b": LINEAR}]}]),
    (M, [LINEAR, Dense(3)]),
    (N | None, [LINEAR, 3, "a", None]),
    (tuple[M, ...], [(LINEAR,)]),
    (Pair, [{"first": LINEAR}, {"second": Box(3), "first": Dense(3)}]),
    (Pair | None, [{"first": LINEAR, "second": None}, None]),
    (Options, [{"first": LINEAR, "act": Parameter(1.0), "more": (linear(),)}]),
    (list[Pair], [[{"first": LINEAR}]]),
    (Item[Linear], [{"item": LINEAR}]),
    (Item, [{"item": Box(3)}]),
    (Open, [{"first": LINEAR, "other": Box(3)}]),
    (Mapping[str, Linear] | Pair, [{"first": LINEAR}]),
    (
        Act,
        [
            *(squash, jnp.tanh, jnp.add, jax.jit(squash), jax.vmap(squash), len, Linear, LINEAR),
            *(functools.partial(squash), "a".join, jax.custom_jvp(squash), Delegates(LINEAR)),
        ],
    ),
    (Act | None, [None, squash]),
    (Measures, ["abc", (), frozenset()]),
    (tuple[tuple[float, float], ...], [((1, 2.0),)]),
    (Sequence[int], [(1, 2), range(3)]),
    (Iterable[str], ["ab", ("a",)]),
    (Hashable, [1, "a", (1,)]),
    (frozenset[int], [frozenset({1})]),
    (Size, [Size(1), Size(1, ("a",))]),
    (Config, [Config(1.0)]),
    (WIDTH, [3]),
    (Final[int], [3]),
    (Annotated[int, "positive"], [3]),
    (type, [int, Linear, jnp.float32, Box]),
    (type[Module], [Linear, Module, Box[int]]),
    (type[Linear] | None, [Linear, Dense, None]),
    (type[np.floating], [np.float32, jnp.float32]),
    (type[Any], [int]),
    (jax.typing.DTypeLike, [jnp.float32, np.float32, np.dtype("int8"), "bfloat16", float]),
    (jax.typing.DTypeLike | None, [None, jnp.bfloat16]),
    (jnp.dtype, [jnp.float32, np.float32, np.dtype("int8"), jnp.dtype("bfloat16")]),
    (np.float32, [np.float32(1)]),
    (jnp.float32, [1.0, np.float32(1)]),
    (jax.typing.ArrayLike, [1.0, 1, np.float32(1)]),
    (Float[ArrayLike, ""], [1.0]),
    (PyTree, [1.0, (1, 2)]),
    (Callable, [squash, jnp.tanh, Linear]),
    (
        Callable[[Array], Array],
        [
            *(squash, jnp.tanh, jax.nn.relu, jnp.add, np.tanh, jax.jit(squash), jax.vmap(squash)),
            *(functools.partial(squash), functools.partial(jnp.clip, min=0), lambda x: x),
            *(len, abs, operator.neg, float, Config, "a".join, squash.__call__, LINEAR),
            *(jax.tree_util.Partial(squash), functools.lru_cache(squash), jax.checkpoint(squash)),
        ],
    ),
    (Callable[..., Any] | None, [None, squash]),
    (jax.nn.initializers.Initializer, [jax.nn.initializers.zeros, jax.nn.initializers.he_normal()]),
    (Any, [1, None, "a", LINEAR, [LINEAR], squash]),
    (object, [1, None, LINEAR]),
    (F, [1, "a", LINEAR]),
    (B, [LINEAR]),
    (C, [1, "a"]),
    ("B", [LINEAR]),
    (3, ["no type at all"]),
    (callable, [squash]),
    (Linear, [LINEAR, Dense(3), mlax.pack(LINEAR)]),
    (Module, [LINEAR, Box(3), mlax.pack(LINEAR)]),
    (mlax.Packed, [mlax.pack(LINEAR)]),
    (mlax.Packed[Linear], [mlax.pack(LINEAR)]),
    (Box, [Box(3)]),
    (Box[int], [Box(3), Box("unchecked")]),
    (State, [LINEAR, Parameter(1.0), Container(())]),
    (ENode, [Variable(1), Parameter()]),
    (ENode[Array] | None, [Variable(1), Parameter(), None]),
    (Parameter, [Parameter(1.0), Parameter(), Parameter(None), None]),
    (
        Parameter[Float[Array, "n"]],
        [Parameter(jax.ShapeDtypeStruct((3,), jnp.float32)), Parameter(jnp.ones(3)), None],
    ),
    (Parameter[Array] | Variable[Array] | float, [Parameter(1.0), Variable(1), 1.0]),
    (Parameter[Array] | bool, [False, Parameter(1.0)]),
    (tuple[Linear, ...], [(), (LINEAR, Dense(3))]),
    (tuple[Linear, Box], [(LINEAR, Box(3))]),
    (tuple[Linear, ...] | list[Linear], [(LINEAR,), [LINEAR]]),
    (list[Linear], [[], [LINEAR]]),
    (list[Parameter], [[Parameter(), None]]),
    (list, [[LINEAR]]),
    (Sequence[Linear], [[LINEAR], (LINEAR,)]),
    (dict[str, Linear], [{}, {"a": LINEAR}]),
    (Mapping[str, tuple[Linear, ...]], [{"a": (LINEAR,)}]),
    (dict[int, Linear | None], [{0: LINEAR, 1: None}]),
    (Parts, [Parts(LINEAR, Parameter(1.0))]),
    (Container, [Container([LINEAR])]),
    (Container[list[Linear]], [Container([LINEAR])]),
    (HasForward, [LINEAR, Box(3), Delegates(LINEAR), mlax.pack(LINEAR)]),
    (HasFeatures, [LINEAR, Delegates(LINEAR)]),
    (HasForward | None, [LINEAR, None]),
    (HasForward | tuple[HasForward, ...], [LINEAR, (LINEAR,)]),
    (Both, [LINEAR]),
    (tuple[HasForward, ...], [(LINEAR,)]),
    (Layerlike, [LINEAR]),
    (Alias, [None, (LINEAR,)]),
    (Many[Linear], [(LINEAR,)]),
    (Many[int] | None, [(1, 2), None]),
    (Unread, [3]),
    (tuple[Unread, ...] | None, [(1, 2), None]),
]
BAD: list[tuple[Any, list[Any]]] = [
    (int, ["3", 3.0, None, 1j, np.float32(3), (3,), squash, LINEAR]),
    (float, ["3", None, 1j, (1.0,)]),
    (complex, ["1j", None]),
    (bool, [1, "yes", None]),
    (str, [3, b"a", None]),
    (None, [3]),
    (Color, [1, "RED"]),
    (pathlib.Path, ["a"]),
    (Literal["a", 1], ["b", True, 1.0, None]),
    (Literal[Color.RED], [1]),
    (int | None, ["a", 3.0]),
    (Optional[str], [1]),  # noqa: UP045
    (Union[int, tuple[int, int]], ["a", (3, "b")]),  # noqa: UP007
    (tuple[int, ...], [3, (1, "a"), ((1,),), None]),
    (tuple[int, str], [(1,), (1, 2), (1, "a", "b")]),
    (Sequence[int], [3, ("a",), "abc", Words("abc")]),
    (Sequence[str], [b"abc", range(3), (1,)]),
    (Iterable[str], [{1: LINEAR}, (1,), range(1)]),
    (Collection[str] | None, [frozenset({1}), b"a"]),
    (tuple[()], [(1,), (1, 2), None]),
    (tuple[()] | None, [(1,)]),
    (tuple[int, *tuple[str, ...]], [(), ("a",), (1, 2), (1, "a", 2)]),
    (tuple[int, Unpack[tuple[str, ...]], float], [(1,), (1, "a"), (1, 2, 3.0)]),  # noqa: UP044
    (tuple[*tuple[int, str], float], [(1, 2.0), (1, 2, 3.0), (1, "a", 2.0, 3)]),
    (tuple[int, *Ts], [(), ("a",)]),
    (LiteralString, [1, b"a"]),
    (Never, [1, None]),
    (NoReturn, ["a"]),
    (type[jnp.floating], [jnp.int32, np.int8, int, jnp.complex64]),
    (type[jnp.float32], [jnp.int32, np.float64]),
    (Json, ["a", ("a",), (1, ("a",)), (1, (2, ("a",)))]),
    (Trees, [3, [LINEAR, [Box(3)]], {"a": {"b": [Box(3)]}}]),
    (M, [3, Box(LINEAR)]),
    (N | None, [3.0, Box(3)]),
    (tuple[M, ...], [(Box(3),)]),
    (
        Pair,
        [{}, {"second": None}, {"first": Box(3)}, {"first": LINEAR, "second": linear()}, [LINEAR]],
    ),
    (Pair | None, [{"first": LINEAR, "third": Box(3)}, (LINEAR,)]),
    (Options, [{"first": LINEAR}, {"act": Parameter()}, {"first": LINEAR, "act": linear()}]),
    (list[Pair], [[{"first": Box(3)}], [{}]]),
    (Item[Linear], [{"item": Box(3)}]),
    (Open, [{"other": LINEAR}]),
    (Act, ["relu", 3, (squash,), None, Parameter(1.0)]),
    (jax.nn.initializers.Initializer, ["zeros", 5]),
    (Measures, [3, [LINEAR]]),
    (frozenset[int], [frozenset({"a"}), (1,)]),
    (Size, [(1, 2), Size("1"), Size(1, (2,))]),
    (Config, [1.0]),
    (WIDTH, ["3"]),
    (Final[int], ["3"]),
    (Annotated[int, "positive"], ["3"]),
    (type, [3, LINEAR]),
    (type[Module], [int, LINEAR]),
    (type[Linear] | None, [Box]),
    (jax.typing.DTypeLike, [3, None]),
    (jnp.dtype, ["float32", 3, int]),
    (Float[Array, "n"], [1.0, Parameter(1.0)]),
    (Array, [1.0, "a"]),
    (Callable[[Array], Array], ["tanh", 3, None]),
    (B, [3, Parameter(1.0)]),
    (C, [1.0]),
    (Linear, [3.0, "a", None, Box(3), Parameter(1.0), (LINEAR,), squash, mlax.pack(Box(LINEAR))]),
    (Module, [3.0, Parameter(1.0), [LINEAR], Linear]),
    (mlax.Packed, [LINEAR]),
    (Box[int], [LINEAR]),
    (State, [3.0]),
    (Parameter, [3.0, Variable(1), LINEAR, (Parameter(),)]),
    (Parameter[Array] | Variable[Array] | float, ["a", LINEAR]),
    (tuple[Linear, ...], [[LINEAR], LINEAR, (Box(3),), (LINEAR, None)]),
    (tuple[Linear, Box], [(LINEAR,), (LINEAR, linear())]),
    (list[Linear], [(LINEAR,), [Box(3)]]),
    (dict[str, Linear], [[LINEAR], {"a": Box(3)}, {0: LINEAR}]),
    (Mapping[str, tuple[Linear, ...]], [{"a": LINEAR}, {"a": (Box(3),)}]),
    (Parts, [(LINEAR, Parameter(1.0)), Parts(Box(3), Parameter(1.0))]),
    (Container[list[Linear]], [Container([Box(3)]), Container(LINEAR)]),
    (HasForward, [3.0, "a", None, Parameter(1.0)]),
    (HasFeatures, [Box(3)]),
    (Both, [Box(3)]),
    (tuple[HasForward, ...], [(Parameter(1.0),)]),
    (Alias, [LINEAR, (Box(3),)]),
    (Many[Linear], [(Box(3),)]),
]


def spellings(cases: list[tuple[Any, list[Any]]]) -> list[str]:
    return [spelled(annotation) for annotation, _ in cases]


@pytest.mark.parametrize(("annotation", "values"), GOOD, ids=spellings(GOOD))
def test_values_that_fit(annotation, values):
    cls = holder(annotation)
    for value in values:
        for made in (cls(value), cls(values[0]).replace(x=value)):
            assert made.x == value or jax.tree.structure(made.x) == jax.tree.structure(value)


@pytest.mark.parametrize(("annotation", "values"), BAD, ids=spellings(BAD))
def test_values_that_do_not_fit(annotation, values):
    cls = holder(annotation)
    with mlax.runtime_checks(False):
        made = [cls(value) for value in values]
        other = cls("another value")
    for value, again in zip(values, made, strict=True):
        for make in (lambda v=value: cls(v), lambda v=value: other.replace(x=v)):
            with pytest.raises(AnnotationMismatchError, match=r"^Layer\.x.* must be .*, got "):
                make()
        assert jax.tree.structure(jax.jit(lambda m: m)(again)) == jax.tree.structure(again)


if sys.version_info >= (3, 12):  # which has type statements

    def test_type_statements():
        namespace: dict[str, Any] = {"Linear": Linear}
        statements = (
            "type Layers[T] = tuple[T, ...]",
            "type Late = list[Defined]",
            "type Nested = Linear | tuple[Nested, ...]",
            "type Bound[T: Linear] = tuple[T, ...]",
        )
        exec("\n".join(statements), namespace)
        holder(namespace["Nested"])((LINEAR, (Dense(3),)))
        with pytest.raises(AnnotationMismatchError, match=r"^Layer\.x\[1\]\[0\] must be"):
            holder(namespace["Nested"])((LINEAR, (Box(3),)))
        for annotation in (namespace["Layers"][Linear], namespace["Layers"][Linear] | None):
            holder(annotation)((LINEAR,))
            with pytest.raises(AnnotationMismatchError, match=r"^Layer\.x\[0\] must be Linear"):
                holder(annotation)((Box(3),))
        with pytest.warns(UserWarning, match="no Defined at run time"):
            holder(namespace["Late"])([LINEAR])


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (int, "3", "Layer.x must be int, got '3' (str)"),
        (int, 3.0, "Layer.x must be int, got 3.0 (float).\n  Pass 3."),
        (
            int,
            None,
            "Layer.x must be int, got None.\n  Annotate it with `int | None` if it may be None.",
        ),
        (
            Linear,
            Box(3),
            "Layer.x must be Linear, got Box(content=3) (Box).\n"
            "  If it may hold other modules, annotate it with a common base class, or with Module.",
        ),
        (
            tuple[Linear, ...] | None,
            (LINEAR, 3),
            "Layer.x = (Linear(out_features=3, kernel=Parameter(f32[2,3]), bias=... "
            "is not a valid field: it holds States, but [1] is 3 (int).\n"
            "  Wrap arrays in a Parameter or a Variable; move anything else to another field.",
        ),
        (tuple[int, ...] | None, (3, "a"), "Layer.x[1] must be int, got 'a' (str)"),
        (
            tuple[Linear, ...],
            [LINEAR],
            "Layer.x must be tuple[Linear, ...], got [Linear(out_features=3, kernel=Parameter(f32[2,3]), "
            "bias=... (FrozenList).\n  Pass a tuple.",
        ),
        (
            list[Box[int]],
            (Box(3),),
            "Layer.x must be list[Box[int]], got (Box(content=3),) (tuple).\n"
            "  Pass a list, or annotate it with tuple[...].",
        ),
        (
            Parameter[Array] | Variable[Array],
            3.0,
            "Layer.x must be Parameter[Array] | Variable[Array], got 3.0 (float).\n"
            "  Wrap it in a Parameter (trained) or a Variable (not trained).",
        ),
        (
            tuple[int, *tuple[str, ...]],
            (1, 2),
            "Layer.x[1] must be str, got 2 (int)",
        ),
        (
            tuple[int, *tuple[str, ...]],
            (),
            "Layer.x must be tuple[int, *tuple[str, ...]], got () (tuple)",
        ),
        (
            list[Pair],
            [{"second": None}],
            "Layer.x[0] must be Pair, got {'second': None} (FrozenDict).\n  The key 'first' is missing.",
        ),
        (
            Pair | None,
            {"first": LINEAR, "rest": None},
            "Layer.x must be Pair | None, got {'first': Linear(out_features=3, kernel=Parameter(f32[2,3... "
            "(FrozenDict).\n  It has no key 'rest': its keys are 'first', 'second'.",
        ),
        (
            Pair,
            {"first": Box(3)},
            "Layer.x['first'] must be Linear, got Box(content=3) (Box).\n"
            "  If it may hold other modules, annotate it with a common base class, or with Module.",
        ),
        (
            dict[str, list[Linear]],
            {"a": [Box(3)]},
            "Layer.x['a'][0] must be Linear, got Box(content=3) (Box).\n"
            "  If it may hold other modules, annotate it with a common base class, or with Module.",
        ),
    ],
    ids=lambda value: "",
)
def test_messages(annotation, value, message):
    cls = holder(annotation)
    with pytest.raises(TypeError) as error:
        cls(value)
    assert str(error.value) == message


class Tree(Module):
    """Refers to itself in every way."""

    left: Self | None = None
    right: "Tree | None" = None
    rest: "tuple[Self, ...]" = ()


class Leaf(Tree):
    pass


def test_nodes_in_a_typed_dict_are_checked_by_shape():
    class Weights(TypedDict):
        kernel: Parameter[Float[Array, "in out"]]
        bias: "NotRequired[Parameter[Float[Array, 'out']] | None]"

    class Dense(Module):
        weights: Weights
        rest: Weights | None = None

        def forward(self, x: Float[Array, "in"]) -> tuple[Float[Array, "out"], Self]:
            return x @ self.weights["kernel"].data, self

    kernel, bias = Parameter(jnp.ones((2, 3))), Parameter(jnp.ones(3))
    model = Dense({"kernel": kernel, "bias": bias}, {"kernel": kernel})
    assert jax.jit(lambda m, x: m(x)[0])(model, jnp.ones(2)).shape == (3,)
    with pytest.raises(AnnotationMismatchError, match=r"^Dense\.forward: x does not match"):
        model(jnp.ones(3))
    for place in ("weights", "rest"):
        with pytest.raises(
            AnnotationMismatchError, match=rf"Dense: {place}\['bias'\] does not match"
        ):
            Dense(
                **{
                    "weights": model.weights,
                    place: {"kernel": kernel, "bias": Parameter(jnp.ones(4))},
                }
            )


def test_a_bound_that_is_defined_nowhere_warns_once():
    absent = TypeVar("absent", bound="Absent")
    cls = holder(tuple[absent, ...])
    with pytest.warns(UserWarning, match=r"^Layer: the annotation of x, .*no Absent at run time"):
        cls((1,))
    assert cls((1,)).x == (1,)  # a second warning would be an error

    class Bounded(Module, Generic[absent]):
        pass

    with pytest.raises(AnnotationMismatchError):  # without arguments, the bound says nothing
        holder(Bounded)(3)


def test_self_is_the_class_that_declares_the_field():
    tree = Tree(Leaf(Tree()), Leaf(), (Tree(), Leaf()))
    assert Leaf(tree, tree).left is not None
    for wrong in ({"left": LINEAR}, {"right": LINEAR}, {"rest": (LINEAR,)}):
        with pytest.raises(AnnotationMismatchError, match=rf"^Leaf\.{next(iter(wrong))}"):
            Leaf(**wrong)


class Careless(Module):
    """Its default says more than its annotation."""

    size: int = None
    bias: Parameter[Float[Array, "n"]] = None
    inner: Linear = None
    kind: ClassVar[str] = 3
    _: str = "a field, and not the marker of keyword-only ones"


def test_a_default_of_none_means_that_the_field_may_be_none():
    model = Careless()
    assert model.replace(size=3).replace(size=None, inner=None).size is None
    with pytest.raises(AnnotationMismatchError, match=r"^Careless\.size must be int"):
        Careless("3")


def test_only_what_is_replaced_is_checked():
    with mlax.runtime_checks(False):
        model = Dense("3")
    assert model.replace(kernel=Parameter(None)).out_features == "3"
    assert mlax.tree_equal(jax.tree.map(lambda leaf: leaf, model), model)
    with pytest.raises(AnnotationMismatchError, match=r"^Dense\.out_features must be int, got '4'"):
        model.replace(out_features="4")


def test_transformations_put_anything_anywhere():
    class Block(Module):
        layers: tuple[Linear, ...]
        scale: Parameter[Float[Array, "n"]]

        def forward(self, x: Array) -> tuple[Array, Self]:
            return x, self.replace(layers=self.layers)

    block = Block((LINEAR,), Parameter(jnp.ones(3)))
    for tree in (
        jax.tree.map(lambda _: None, block),
        jax.tree.map(lambda _: True, block, is_leaf=lambda node: isinstance(node, ENode)),
        jax.tree.map(str, block),
        block.filter(),
        jax.eval_shape(lambda: block),
    ):
        assert type(tree) is Block
        assert tree.replace(scale=tree.scale).layers[0].out_features == 3
    for way in (jax.jit, jax.vmap, jax.eval_shape):
        if way is jax.eval_shape:
            jax.eval_shape(lambda model, x: model(x), block, jnp.ones(3))
        elif way is jax.vmap:
            jax.vmap(lambda model: model(jnp.ones(3)), axis_size=2, in_axes=None)(block)
        else:
            jax.jit(lambda model: model(jnp.ones(3)))(block)
    assert Box(block).content is block


def test_symbolic_dimensions_are_numbers():
    (size,) = jax.export.symbolic_shape("size")
    assert Dense(size).out_features is size


def test_classes_with_wild_instance_checks_do_not_get_in_the_way():
    class Raises(type):
        def __instancecheck__(cls, value: object) -> bool:
            raise RuntimeError("not now")

    class Wild(metaclass=Raises):
        pass

    assert holder(Wild)(3).x == 3
