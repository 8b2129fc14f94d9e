"""How a module is constructed, and that it is frozen afterwards."""

import copy
import pickle
import re
from collections.abc import Callable
from dataclasses import KW_ONLY, FrozenInstanceError, InitVar, dataclass
from typing import Any, ClassVar, Generic, TypeVar

import jax
import jax.numpy as jnp
import pytest

import mlax
from mlax import Module, Parameter, Variable, tree_equal
from tests.mlax.models import Linear, SeedNorm, net

A = TypeVar("A")
B = TypeVar("B")


class Plain(Module):
    size: int
    weight: Parameter = Parameter()
    tags: tuple[str, ...] = ()


class ByHand(Module):
    size: int
    weight: Parameter
    extra: Variable = Variable(0)
    parts: list[Any] = mlax.field(default_factory=list)

    def __init__(self, size: int, fail: bool = False):
        super().__init__()
        self.size = 1
        self.size = size
        if fail:
            raise RuntimeError("as asked")
        self.weight = Parameter(jnp.ones(size))


class Inherits(ByHand):
    """Without an `__init__` of its own, it gets one over all fields."""

    more: int = 3


class Extends(ByHand):
    more: int

    def __init__(self, more: int):
        super().__init__(2)
        self.more = more
        self.weight = Parameter(jnp.zeros(self.size))


class PostInit(Module):
    size: int
    scale: InitVar[float] = 1.0
    weight: Parameter = mlax.field(init=False)

    def __post_init__(self, scale: float):
        self.weight = Parameter(scale * jnp.ones(self.size))


class Pair(Module, Generic[A, B]):
    first: A
    second: B


def every_copy(module: Any) -> dict[str, Any]:
    leaves, treedef = jax.tree.flatten(module)
    return {
        "the module": module,
        "copy": copy.copy(module),
        "deepcopy": copy.deepcopy(module),
        "pickle": pickle.loads(pickle.dumps(module)),
        "unflatten": treedef.unflatten(leaves),
        "jit": jax.jit(lambda x: x)(module),
        "replace": module.replace(),
    }


MODULES: list[Callable[[], Module]] = [
    lambda: Plain(3),
    lambda: ByHand(3),
    lambda: Inherits(3, Parameter(1.0)),
    lambda: Extends(5),
    lambda: PostInit(2, 3.0),
    lambda: Pair(Plain(1), ByHand(2)),
    lambda: Pair[Plain, ByHand](Plain(1), ByHand(2)),
    lambda: SeedNorm(3),
    net,
]


@pytest.mark.parametrize("make", MODULES)
def test_every_copy_is_equal_and_frozen(make):
    for how, module in every_copy(make()).items():
        assert tree_equal(module, make()), how
        names = list(module.__dataclass_fields__)
        for name in (names[0], names[-1], "unknown", "_aux_data"):
            with pytest.raises(
                FrozenInstanceError, match=f"^cannot assign to {type(module).__name__}"
            ):
                setattr(module, name, 3)
            with pytest.raises(FrozenInstanceError, match="cannot delete"):
                delattr(module, name)
        with pytest.raises(FrozenInstanceError, match="was called before"):
            module.__init__()
        assert tree_equal(module, make()), how


def test_equality_is_identity():
    first, second = Plain(3), Plain(3)
    assert first != second
    assert first == first  # noqa: PLR0124
    assert len({first, second}) == 2


def test_a_module_stays_frozen_after_a_failed_init():
    broken = object.__new__(ByHand)
    with pytest.raises(RuntimeError, match="as asked"):
        broken.__init__(3, fail=True)
    assert broken.size == 3
    with pytest.raises(FrozenInstanceError):
        broken.size = 4
    assert "<not assigned>" in repr(broken)
    with pytest.raises(
        TypeError, match="this ByHand is not complete: its __init__ raised an error"
    ):
        jax.tree.leaves([broken, ByHand(3)])


def test_an_unfinished_module_cannot_be_flattened():
    class Leaks(Module):
        size: int

        def __init__(self, leak: bool):
            self.size = 3
            if leak:
                jax.tree.leaves(self)

    assert jax.tree.leaves(Leaks(False)) == []
    with pytest.raises(
        TypeError, match="this Leaks is not complete: its __init__ has not finished"
    ):
        Leaks(True)


def test_a_mutable_moment_ends_with_the_outermost_init():
    module = Extends(5)
    assert (module.size, module.more, float(module.weight.data.sum())) == (2, 5, 0)
    assert Inherits(1, Parameter(2.0)).more == 3
    with pytest.raises(TypeError, match=": weight is missing"):
        Inherits(1)


def test_assigning_what_is_not_declared_says_how_to_declare_it():
    class Mine(Module):
        kind: ClassVar[str] = "a"

        def __init__(self, name: str, value: Any):
            setattr(self, name, value)

    with pytest.raises(TypeError) as error:
        Mine("kernel", Parameter(1.0))
    assert str(error.value) == (
        "Mine.kernel is assigned in __init__, but is not a field of the class.\n"
        "  Declare it in the body of Mine: `kernel: Parameter`"
    )
    with pytest.raises(TypeError, match="is not a field of the class"):
        Mine("kind", "b")


def test_init_may_pass_fields_to_that_of_module():
    class Mine(Module):
        size: int
        weight: Parameter

        def __init__(self, size: int, more: dict[str, Any]):
            super().__init__(size=size, weight=Parameter(float(size)), **more)

    module = Mine(3, {})
    assert (module.size, float(module.weight.data)) == (3, 3.0)
    with pytest.raises(TypeError, match="is not a field of the class"):
        Mine(3, {"other": 4})
    with pytest.raises(TypeError, match="size must be int"):
        Mine("3", {})


class Layer(Module):
    """A base class without fields."""


class Sized(Module, Generic[A]):
    size: int
    kind: A
    double: int = mlax.field(init=False)

    def __post_init__(self):
        events.append(f"post {self.size}")
        self.double = 2 * self.size

    def __check__(self):
        events.append(f"check {self.double}")


class Scaled(Module):
    scale: float = mlax.field(converter=float, kw_only=True)


events: list[str] = []


class BelowLayer(Layer):
    size: int

    def __init__(self, size: int):
        super().__init__(size=size)


class BelowSized(Sized[str]):
    more: int = mlax.field(converter=int)
    width: int

    def __init__(self, size: int):
        super().__init__(size, "kind", more="5")
        self.width = self.double + 1


class Below(BelowSized):
    last: int

    def __init__(self):
        super().__init__(3)
        Module.__init__(self, last=self.width)

    def __check__(self):
        events.append(f"check {self.last}")


class Mixed(Scaled, Sized[int]):
    size: int = mlax.field(converter=int)  # whatever the base says
    more: int

    def __init__(self, more: int):
        Sized.__init__(self, "1", kind=2, more=more)
        super().__init__(scale="2")


@pytest.mark.parametrize(
    ("make", "values", "happened"),
    [
        (lambda: BelowLayer(3), {"size": 3}, []),
        (
            lambda: BelowSized(3),
            {"size": 3, "kind": "kind", "double": 6, "more": 5, "width": 7},
            ["post 3", "check 6"],
        ),
        (
            Below,
            {"size": 3, "kind": "kind", "double": 6, "more": 5, "width": 7, "last": 7},
            ["post 3", "check 6", "check 7"],
        ),
        (
            lambda: Mixed(7),
            {"size": 1, "kind": 2, "double": 2, "scale": 2.0, "more": 7},
            ["post 1", "check 2"],
        ),
    ],
    ids=["base without fields", "base with fields", "two levels", "two bases"],
)
def test_init_may_pass_fields_to_that_of_any_base(make, values, happened):
    events.clear()
    module = make()
    assert {name: getattr(module, name) for name in module._names} == values
    assert events == happened
    assert tree_equal(module.replace(), module)
    with pytest.raises(FrozenInstanceError):
        module.size = 3


def test_init_of_a_base_takes_only_fields():
    class Mine(Sized[str]):
        more: int

        def __init__(self, *args: Any, **fields: Any):
            super().__init__(*args, **fields)

    with pytest.raises(TypeError, match="unexpected keyword argument 'mroe'"):
        Mine(1, "a", mroe=2)
    with pytest.raises(TypeError, match="unexpected keyword argument 'double'"):
        Mine(1, "a", more=2, double=2)
    with pytest.raises(TypeError, match="takes 3 positional arguments but 4"):
        Mine(1, "a", 2)
    with pytest.raises(TypeError, match="did not assign the field 'more'"):
        Mine(1, "a")
    with pytest.raises(TypeError, match="more must be int"):
        Mine(1, "a", more="2")
    with pytest.raises(TypeError, match="Sized: there is no argument 'more'"):
        Sized(1, "a", more=2)


def test_a_field_that_gets_no_value_is_named():
    class Mine(Module):
        size: int

        def __init__(self):
            pass

        def __post_init__(self):
            self.size = 3

    with pytest.raises(TypeError) as error:
        Mine()
    assert str(error.value) == (
        "Mine.__init__ did not assign the field 'size'.\n"
        "  Assign it there, or give it a default. A __post_init__ runs in a generated __init__, not after one of "
        "your own."
    )


def test_defaults_factories_and_init_vars():
    module = ByHand(3)
    assert module.parts == []
    assert module.parts is not ByHand(3).parts
    assert float(PostInit(2, scale=3.0).weight.data.sum()) == 6
    with pytest.raises(TypeError, match="all instances would share the default list"):
        type("Mine", (Module,), {"__annotations__": {"layers": list}, "layers": []})


def test_each_module_has_arrays_of_its_own_for_a_default():
    class Counter(Module):
        count: Variable = Variable(0)
        key: Variable = Variable(jax.random.key(0))
        weight: Parameter = Parameter()
        inner: Plain = Plain(1, Parameter(1.0))

    first, second = Counter(), Counter()
    assert tree_equal(first, second)
    ids = [id(leaf) for leaf in jax.tree.leaves((first, second))]
    assert len(set(ids)) == 6
    assert first.weight is second.weight
    kept = first.replace(weight=Parameter(2.0))
    assert kept.count is first.count
    model = mlax.Container([kept, second.replace(weight=Parameter(3.0))])
    mlax.value_and_grad(lambda m: (m.states[0].weight.data * 1.0, m))(model)


def test_keyword_only_and_field_options():
    class Mine(Module):
        a: int
        _: KW_ONLY
        b: int = 1
        c: int = mlax.field(default=2, repr=False)

    assert repr(Mine(3)) == "Mine(a=3, b=1)"
    with pytest.raises(TypeError, match=r"Mine takes a by position, got 3, 4.\n.*: b, c"):
        Mine(3, 4)
    assert Linear(3, kernel=Parameter(jnp.ones((2, 3)))).out_features == 3


def test_replace():
    module = ByHand(3)
    other = module.replace(size=4, extra=None)
    assert (other.size, other.extra, module.size) == (4, None, 3)
    assert other.weight is module.weight
    with pytest.raises(
        TypeError, match=re.escape("ByHand.replace: no field 'wieght', did you mean 'weight'?")
    ):
        module.replace(wieght=3)
    with pytest.raises(
        TypeError, match="no field 'zzz', the fields are size, weight, extra, parts"
    ):
        module.replace(zzz=3)
    post = PostInit(2, 3.0)
    assert post.replace(size=5).weight is post.weight
    if hasattr(copy, "replace"):  # Python 3.13
        assert copy.replace(module, size=7).size == 7


def test_the_dataclass_decorator_is_refused():
    for decorator in (dataclass, dataclass(frozen=True)):
        mine = decorator(type("Mine", (Module,), {"__annotations__": {"size": int}}))
        with pytest.raises(
            TypeError, match=r"^Mine is decorated with @dataclass; remove the decorator"
        ):
            mine(3)


def test_fields_are_plain_attributes():
    for cls in (Plain, ByHand, SeedNorm, Parameter, Variable, mlax.Container):
        assert cls.__getattribute__ is object.__getattribute__
        assert not hasattr(cls, "__getattr__")
