"""`jax.export` writes functions of modules and states, and reads them back in another process."""

import dataclasses
import enum
import functools
import math
import operator
import subprocess
import sys
import traceback
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

import mlax
from mlax import Module, Parameter, Variable, optim
from mlax._module.static import tag
from tests.mlax.ecosystem.things import (
    ADAM,
    WRAPPED,
    Dense,
    Kind,
    Net,
    Scaled,
    X,
    net,
    train,
    trees,
)
from tests.mlax.generated_optimizers import MODULES
from tests.mlax.optim.transformations.examples import EXAMPLES

ROOT = Path(__file__).parents[3]
READ = """
import sys
import traceback
from pathlib import Path
import jax, jax.export, jax.numpy as jnp

def read(name):
    return jax.export.deserialize(bytearray((Path(sys.argv[1]) / name).read_bytes()))

try:
    read("forward")
except ValueError as error:
    print(str(error).split(".")[0])
import mlax
from tests.mlax.ecosystem.things import WRAPPED, X, net

model = net()
y, after = read("forward").call(model, jnp.ones((5, 3)))
assert mlax.tree_equal((y, after), jax.jit(lambda m, x: m(x))(model, jnp.ones((5, 3))))
step, state = read("train"), WRAPPED.init(model)
for _ in range(2):
    loss, model, state = step.call(model, state, X)
WRAPPED.step(model.filter(), state, model.filter())
print(f"{loss:.6f}", model.count.data, model.layers[1].function, state.step)
"""


class Holder(Module):
    value: Any
    node: Any


def exported(*trees: Any) -> jax.export.Exported:
    """Return a function of some trees that computes nothing, as `jax.export` makes it."""
    return jax.export.export(jax.jit(lambda *_: 0))(*trees)


def read_back(*trees: Any) -> Any:
    """Return the trees as they are read back; each leaf is 0."""
    args, _ = jax.tree.unflatten(structure_read(*trees), [0] * len(jax.tree.leaves(trees)))
    return args


def structure_read(*trees: Any) -> Any:
    return jax.export.deserialize(exported(*trees).serialize()).in_tree


@pytest.mark.one_python
def test_another_process_trains_on(tmp_path):
    """The batch is symbolic in `forward`; classes are found by name, once they are imported."""
    model, state = net(), WRAPPED.init(net())
    (batch,) = jax.export.symbolic_shape("batch")
    inputs = jax.ShapeDtypeStruct((batch, 3), X.dtype)
    forward = jax.export.export(jax.jit(lambda model, x: model(x)))(model, inputs)
    (tmp_path / "forward").write_bytes(forward.serialize())
    step = jax.jit(train)
    (tmp_path / "train").write_bytes(jax.export.export(step)(model, state, X).serialize())
    done = subprocess.run(
        [sys.executable, "-c", READ, tmp_path], cwd=ROOT, check=True, capture_output=True, text=True
    )
    for _ in range(2):
        loss, model, state = step(model, state, X)
    said, computed = done.stdout.splitlines()
    assert said.startswith("Cannot deserialize a PyTreeDef containing an unregistered type")
    assert computed == f"{loss:.6f} 2 Scaled(factor=0.5) 2"


def test_structures_come_back():
    """Models that are set up and not, states, optimizers and schedules as arguments."""
    everything = (
        trees(),
        Net(),
        net().filter(),
        Holder(1, Parameter(1.0)),
        optim.Lookahead(ADAM),
        optim.cosine_decay(1.0, 3),
    )
    assert structure_read(*everything) == jax.tree.structure((everything, {}))


@pytest.mark.one_python
def test_states_of_all_optimizers_come_back():
    weights = {"w": jnp.ones((2, 3))}
    states = {name: jax.eval_shape(module.init, weights) for name, module in MODULES.items()}
    assert structure_read(states) == jax.tree.structure(((states,), {}))


def test_states_of_transformations_come_back():
    weights = {"a": jnp.ones((2, 3)), "b": [jnp.ones(2)]}
    states = {name: jax.eval_shape(one.init, weights) for name, one in EXAMPLES.items()}
    assert structure_read(states) == jax.tree.structure(((states,), {}))


def test_packed_trees_come_back():
    packed = mlax.pack((net(), {"w": jnp.ones(3)}, Pair(jnp.ones(2), None)))
    (read,) = read_back(packed)
    assert read.layout is packed.layout
    assert jax.tree.structure(read) == jax.tree.structure(packed)


class Pair(NamedTuple):
    first: Any
    second: Any


class Flag(enum.IntFlag):
    A = 1
    B = 2


class Strict(enum.Flag):
    A = 1
    B = 2
    C = 8
    AC = 9


class Keeps(enum.Flag, boundary=enum.KEEP):
    A = 1


class Word(enum.StrEnum):
    A = "a"


class Level(enum.IntEnum):
    LOW = 1


class Loose(Pair):
    """A NamedTuple that can have attributes."""


class Name(str):
    __slots__ = ()


def with_attribute(value):
    value.note = "mine"
    return value


DTYPES = ["?", "i1", "q", "l", "f2", "f8", "g", "F", ">f4", "M8", "M8[ns]", "m8[25s]"]
DTYPES += [">U3", "U5", "U", "S3", "S", "V3", "O", "T"]
ML_DTYPES = ["bfloat16", "float8_e4m3fn", "float8_e5m2", "int4", "uint2", "float4_e2m1fn"]
UNCONSTRAINED: Any = PartitionSpec.UNCONSTRAINED
DEVICE = jax.devices()[0]
MESH = Mesh(np.array([DEVICE]), ("data",))


@dataclasses.dataclass(frozen=True)
class Remembers:
    x: int

    def __post_init__(self):
        object.__setattr__(self, "other", self.x)


@dataclasses.dataclass(frozen=True)
class Cached:
    x: int

    @functools.cached_property
    def twice(self):
        return 2 * self.x


def double(x):
    return 2 * x


class Maker:
    @classmethod
    def make(cls, x):
        return x

    @staticmethod
    def twice(x):
        return 2 * x


VALUES = [
    *(
        True,
        1,
        2**70,
        1.0,
        -0.0,
        math.inf,
        float.fromhex("0x1.91eb851eb851fp+1"),
        1 - 2j,
        "é\ud800",
        b"\x00",
        (),
    ),
    *(
        (1, (True, "a")),
        frozenset({1, "a"}),
        slice(1, None),
        range(3),
        Pair(1, (2,)),
        Kind.WIDE,
        Flag.A,
    ),
    *(
        Scaled(3.0),
        (Scaled(), Pair(Scaled(), None)),
        Cached(1),
        optim.cosine_decay(1.0, 3),
        ADAM,
        WRAPPED,
    ),
    *(
        jax.nn.relu,
        jax.nn.silu,
        jax.lax.stop_gradient,
        jnp.tanh,
        jnp.add,
        jnp.float32,
        np.tanh,
        math.sin,
        len,
    ),
    *(
        np.dtype("int8"),
        jnp.dtype("bfloat16"),
        np.float32(1.5),
        np.int8(3),
        int,
        Scaled,
        double,
        Maker.make,
        Maker.twice,
    ),
    *(
        functools.partial(double, x=3),
        functools.partial(jax.nn.gelu, approximate=False),
        mlax.nn.init.he_normal,
    ),
    *(
        Flag.A | Flag.B,
        Flag(0),
        Flag(9),
        ~Flag.A,
        Strict.A | Strict.B,
        Strict.AC,
        ~Strict.AC,
        Strict(0),
        Keeps(5),
        Keeps(4),
        Word.A,
        Level.LOW,
    ),
    *map(np.dtype, DTYPES),
    *map(jnp.dtype, ML_DTYPES),
    *(
        np.longlong(3),
        np.longdouble(1.5),
        np.datetime64("2020-01-01"),
        np.bool_(True),
        np.complex64(-0.0),
    ),
    *(jnp.bfloat16.dtype.type(1.5), jnp.float8_e4m3fn.dtype.type(-2.0), jnp.int4.dtype.type(-3)),
    *(
        PartitionSpec(),
        PartitionSpec("data", None, ("x", "y")),
        PartitionSpec(UNCONSTRAINED, "data"),
        PartitionSpec(None, "x", unreduced={"y"}, reduced={"z"}),
        UNCONSTRAINED,
        ("data", "model"),
        jax.lax.Precision.HIGHEST,
        jax.lax.DotAlgorithmPreset.BF16_BF16_F32,
        jax.lax.ConvDimensionNumbers((0, 1), (0, 1), (0, 1)),
        jax.checkpoint_policies.dots_saveable,
    ),
    *(Path("a/b"), Path(), PurePosixPath("/a"), PureWindowsPath("c:/a")),
    *(math.nan, -math.inf, complex(math.nan, -0.0), slice(None), range(5, 1, -2), frozenset()),
    *(..., NotImplemented, type(None), jax.nn.softmax, jax.nn.gelu, jnp.linalg.norm, operator.add),
    (frozenset({(1, 1.0)}), Pair(Scaled(((1j,),)), slice(1, (2, "é")))),
]


def test_static_values_come_back():
    """Equal, of the same type, and with the same hash."""
    holders = [Holder(value, Variable(0)) for value in VALUES]
    (read,) = read_back(holders)
    for holder, again in zip(holders, read, strict=True):
        assert jax.tree.structure(again) == jax.tree.structure(holder), holder
        assert type(again.value) is type(holder.value)
        assert tag(again.value) == tag(holder.value)
        assert hash(tag(again.value)) == hash(tag(holder.value))
    assert "_src" not in str(exported(Holder(jax.nn.relu, Variable(0))).serialize())


def closure(factor):
    return lambda x: factor * x


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            lambda x: x,
            r"^Holder\.value is <function <lambda>.*another process.*\n  Use a function defined",
        ),
        (closure(2), r"^Holder\.value is <function closure"),
        (jax.vmap(double), r"^Holder\.value is <function double"),
        (Scaled(3).__call__, r"^Holder\.value is <bound method"),
        (
            (1, Pair(2, Scaled(closure(1)))),
            r"^Holder\.value\[1\]\.second\.factor is <function closure",
        ),
        (functools.partial(closure(2), 3), r"^Holder\.value\.func is"),
        (
            Remembers(1),
            r"^Holder\.value: Remembers\.other is not a field.*\n  Declare it as a field",
        ),
        (
            with_attribute(Loose(1, 2)),
            r"^Holder\.value: Loose\.note is not a field.*\n  Declare it as a field",
        ),
        (
            with_attribute(functools.partial(double)),
            r"^Holder\.value: partial\.note is not a field",
        ),
        *(
            (
                value,
                r"^Holder\.value is .*no text of it could be read back\.\n  Keep what it is made of",
            )
            for value in (
                object(),
                Name("a"),
                np.str_("a"),
                np.bytes_(b"a\0"),
                np.void(b"a"),
                np.dtype([("a", "f4")]),
                np.dtype([("a", jnp.bfloat16)]),
                np.dtype(("f4", (2,))),
                np.dtype("f4", metadata={"a": 1}),
                np.dtypes.StringDType(na_object=None),
                jax.random.key(0).dtype,
                operator.itemgetter(1),
            )
        ),
        *(
            (
                value,
                r"^Holder\.value is .*the devices of this process\.\n  Keep names of axes or a Part",
            )
            for value in (
                NamedSharding(MESH, PartitionSpec("data")),
                SingleDeviceSharding(DEVICE),
                MESH,
                AbstractMesh((1,), ("data",)),
                DEVICE,
            )
        ),
    ],
)
def test_what_cannot_be_written_is_refused(value, message):
    with pytest.raises(TypeError, match=message) as caught:
        exported(Holder(value, Variable(0))).serialize()
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert not any(frame.filename.startswith(str(Path(mlax.__file__).parent)) for frame in frames)


def test_flags_that_do_not_exist_here_are_named(monkeypatch):
    blob = exported(Holder(Strict.A | Strict.B, Variable(0))).serialize()
    fewer = enum.Flag("Strict", {"A": 1}, module=__name__)
    monkeypatch.setitem(globals(), "Strict", fewer)
    with pytest.raises(ValueError, match=r"^Holder\.value is Strict\.B, which does not exist here"):
        jax.export.deserialize(blob)


def test_schedules_without_a_name_are_refused_by_hyperparameter():
    state = optim.Adam(lambda step: 1.0 / (step + 1)).init({"w": jnp.ones(2)})
    with pytest.raises(TypeError, match=r"^Adam\.learning_rate is <function"):
        exported(state).serialize()


def test_initializers_of_unset_nodes_are_written_by_name():
    with pytest.raises(TypeError, match=r"^init is <function test_initializers"):
        exported(Holder(1, Parameter(init=lambda *_: jnp.ones(2)))).serialize()


def redefined(**fields):
    """Return a class of the name of another, with other fields."""
    return type("Changes", (Module,), {"__annotations__": fields, "__module__": __name__})


def test_a_class_that_has_changed_since_is_named():
    before = redefined(a=int, node=Variable)(3, Variable(1))
    blob = exported(before).serialize()
    redefined(a=int, node=Variable, more=int)
    message = (
        r"^Changes: the file has no more, but Changes has the fields a, node, more\.\n  Export"
    )
    with pytest.raises(ValueError, match=message):
        jax.export.deserialize(blob)
    redefined(node=Variable)
    with pytest.raises(
        ValueError, match=r"^Changes: the file has a, but Changes has the fields node\."
    ):
        jax.export.deserialize(blob)


def test_of_classes_with_one_name_the_newest_is_read():
    old, new = redefined(a=int), redefined(a=int)
    blobs = [exported(cls(3)).serialize() for cls in (old, new)]
    for blob in blobs:
        (args, _) = jax.tree.unflatten(jax.export.deserialize(blob).in_tree, [])
        assert type(args[0]) is new
        assert args[0].a == 3


def test_what_is_not_found_is_named(monkeypatch):
    blob = exported(Holder(double, Variable(0))).serialize()
    monkeypatch.delitem(globals(), "double")
    with pytest.raises(
        ValueError, match=rf"^Holder\.value is {__name__}\.double, but {__name__} has no double"
    ):
        jax.export.deserialize(blob)
    monkeypatch.delitem(sys.modules, __name__)
    with pytest.raises(
        ValueError, match=r"^Holder\.value is .*double, and .* is not imported\.\n  Import it first"
    ):
        jax.export.deserialize(blob)


def test_a_model_with_other_static_fields_is_told_apart():
    model = Dense(2, kernel=Parameter(jnp.ones((3, 2))), bias=Parameter(jnp.ones(2)))
    forward = jax.export.export(jax.jit(lambda model, x: model(x)[0]))(model, X)
    read = jax.export.deserialize(forward.serialize())
    assert read.call(model, X).shape == (2, 2)
    with pytest.raises(ValueError, match=r"width=2, function=.*when exported"):
        read.call(model.replace(function=jnp.tanh), X)


@pytest.mark.one_python
def test_without_flatbuffers_jax_says_what_to_install():
    code = (
        "import sys; sys.modules['flatbuffers'] = None; import jax, jax.export, mlax\n"
        "try: jax.export.export(jax.jit(lambda x: x))(mlax.Parameter(1.0)).serialize()\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "install 'flatbuffers'" in done.stdout
