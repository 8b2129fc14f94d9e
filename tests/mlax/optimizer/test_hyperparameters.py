"""Which values an optimizer's fields accept, how they store them, and which they refuse."""

import copy
import inspect
import pickle
from collections.abc import Callable
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from mlax import optim
from mlax.optimizer import Dtype, Number, Optimizer, integer, number, scheduled
from mlax.optimizer._hyperparameters import HELD


class Descent(Optimizer):
    """One field of each kind."""

    rate: Annotated[Number, scheduled(at_least=0)] = 0.1
    momentum: Annotated[Number | None, scheduled(at_least=0, below=1)] = None
    decay: Annotated[float, number(at_least=0, below=1)] = 0.9
    scale: Annotated[float, number(above=0, at_most=8)] = 1.0
    clip: Annotated[float | None, number(above=0, at_most=float("inf"))] = None
    every: Annotated[int, integer(at_least=1)] = 1
    nesterov: bool = False
    mode: Literal["sum", "mean"] = "sum"
    slot_dtype: Dtype | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(not self.nesterov or self.momentum is not None, "nesterov needs a momentum")


class Other(Optimizer):
    """Without fields."""


def schedule(step: jax.Array) -> jax.Array:
    return 0.1 / (step + 1)


@pytest.mark.parametrize(
    ("name", "given", "kept"),
    [
        ("rate", 1, 1.0),
        ("rate", np.float32(0.5), 0.5),
        ("rate", np.array(2), 2.0),
        ("rate", schedule, schedule),
        ("momentum", 0, 0.0),
        ("momentum", None, None),
        ("decay", 0, 0.0),
        ("decay", -0.0, 0.0),
        ("decay", np.int64(0), 0.0),
        ("decay", ml_dtypes.bfloat16(0.5), 0.5),
        ("scale", 8, 8.0),
        ("clip", float("inf"), float("inf")),
        ("clip", None, None),
        ("every", np.int32(3), 3),
        ("every", 1e4, 10_000),
        ("every", 2**31 - 1, 2**31 - 1),
        ("nesterov", np.False_, False),
        ("mode", "mean", "mean"),
        ("slot_dtype", "float32", np.dtype("float32")),
        ("slot_dtype", jnp.bfloat16, np.dtype(jnp.bfloat16)),
        ("slot_dtype", np.dtype("float16"), np.dtype("float16")),
    ],
)
def test_normal_forms(name: str, given: Any, kept: Any) -> None:
    value = getattr(Descent(**{name: given}), name)
    assert value == kept
    assert type(value) is type(kept)
    assert repr(value) == repr(kept)  # 0.0 is not -0.0


@pytest.mark.parametrize(
    ("hyperparameters", "error", "message"),
    [
        ({"rate": -1.0}, ValueError, "rate must be >= 0, got -1.0"),
        ({"rate": float("nan")}, ValueError, "rate must be a finite number, got nan"),
        ({"rate": float("inf")}, ValueError, "rate must be a finite number, got inf"),
        (
            {"rate": 1e39},
            ValueError,
            "rate must be at most 3.4e+38 in magnitude, the largest number of float32, got 1e+39",
        ),
        ({"clip": 1e300}, ValueError, "clip must be at most 3.4e+38 in magnitude, the largest"),
        (
            {"rate": 10**400},
            ValueError,
            "rate must be a finite number, got an integer of 1329 bits",
        ),
        (
            {"decay": -(10**5000)},
            ValueError,
            "decay must be a finite number, got an integer of 166",
        ),
        (
            {"every": 10**400},
            ValueError,
            "every must be an integer of 32 bits, got an integer of 1",
        ),
        ({"every": 2**31}, ValueError, "every must be an integer of 32 bits, got 2147483648"),
        ({"rate": None}, TypeError, "rate must be a number, an array or a schedule, got None"),
        ({"rate": "1"}, TypeError, "rate must be a number, an array or a schedule, got '1' (str)"),
        ({"rate": True}, TypeError, "rate must be a number, an array or a schedule, got True"),
        (
            {"rate": 1j},
            TypeError,
            "rate must be a number, an array or a schedule, got 1j (complex)",
        ),
        (
            {"rate": jnp.ones(2)},
            TypeError,
            "rate must be a number, a floating-point array of shape () or a schedule, got float32[2]",
        ),
        (
            {"rate": jnp.int32(1)},
            TypeError,
            "rate must be a number, a floating-point array of shape () or a schedule, got 1 (int32[])",
        ),
        (
            {"rate": np.ones(2)},
            TypeError,
            "rate must be a number, a floating-point array of shape () or a schedule, got float64[2]",
        ),
        ({"rate": jnp.float32(-1)}, ValueError, "rate must be >= 0, got -1.0 (float32[])"),
        (
            {"rate": jnp.float32(jnp.nan)},
            ValueError,
            "rate must be a finite number, got nan (float32[])",
        ),
        ({"momentum": 1.0}, ValueError, "momentum must be >= 0 and < 1, got 1.0"),
        (
            {"momentum": jnp.float32(2)},
            ValueError,
            "momentum must be >= 0 and < 1, got 2.0 (float32[])",
        ),
        ({"decay": 1}, ValueError, "decay must be >= 0 and < 1, got 1"),
        ({"decay": True}, TypeError, "decay must be a number, got True"),
        ({"decay": np.True_}, TypeError, "decay must be a number, got True (bool[])"),
        ({"decay": None}, TypeError, "decay must be a number, got None"),
        (
            {"decay": jnp.float32(0.5)},
            TypeError,
            "decay must be a number, got 0.5 (float32[]); "
            "the step branches on it or computes a shape from it, so it is compiled in",
        ),
        (
            {"decay": np.ones(2)},
            TypeError,
            "decay must be a number, got float64[2]; the step branches",
        ),
        ({"scale": 0}, ValueError, "scale must be > 0 and <= 8, got 0"),
        ({"scale": float("inf")}, ValueError, "scale must be a finite number, got inf"),
        ({"clip": float("nan")}, ValueError, "clip must be a finite number, got nan"),
        ({"every": 0}, ValueError, "every must be >= 1, got 0"),
        ({"every": 1.5}, TypeError, "every must be an integer, got 1.5"),
        ({"every": float("nan")}, TypeError, "every must be an integer, got nan"),
        ({"every": True}, TypeError, "every must be an integer, got True"),
        ({"nesterov": 1}, TypeError, "nesterov must be True or False, got 1"),
        ({"nesterov": True}, ValueError, "nesterov needs a momentum"),
        ({"mode": "max"}, ValueError, "mode must be one of 'sum', 'mean', got 'max' (str)"),
        ({"mode": ["sum"]}, ValueError, "mode must be one of 'sum', 'mean', got ['sum'] (list)"),
        (
            {"slot_dtype": "int32"},
            TypeError,
            "slot_dtype must be a floating-point dtype or None, got 'int32'",
        ),
        ({"slot_dtype": 3}, TypeError, "slot_dtype must be a floating-point dtype or None, got 3"),
        (
            {"slot_dtype": "float64"},
            ValueError,
            "slot_dtype must be a dtype that JAX has without jax_enable_x64",
        ),
    ],
)
def test_refusals(hyperparameters: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        Descent(**hyperparameters)
    assert str(caught.value).startswith(f"Descent: {message}")
    assert "\n" not in str(caught.value)


def test_a_schedule_where_none_is_possible() -> None:
    with pytest.raises(TypeError, match="only rate, momentum can be schedules"):
        Descent(decay=schedule)  # pyright: ignore


def test_tracers_are_accepted_and_not_looked_at() -> None:
    jax.make_jaxpr(lambda rate: Descent(rate=rate).rate)(-1.0)
    jax.vmap(lambda rate: Descent(rate=rate).rate)(jnp.ones(3))
    with pytest.raises(TypeError, match=r"got float32\[3\]"):
        jax.jit(lambda rate: Descent(rate=rate).rate)(jnp.ones(3))


def test_positions_and_keywords() -> None:
    assert Descent(0.5, 0.1) == Descent(rate=0.5, momentum=0.1)
    with pytest.raises(
        TypeError, match=r"^Descent: there is no argument 'ratte'.\n  Is rate meant\?$"
    ):
        Descent(ratte=1)  # pyright: ignore


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: optim.Adam(lr=0.1),
            "Adam: there is no argument 'lr'.\n  Here it is learning_rate.",
        ),  # type: ignore
        (
            lambda: optim.adam.init(jnp.ones(2), lr=0.1),
            "adam.init: there is no argument 'lr'.\n  Here it is learning",
        ),  # type: ignore
        (
            lambda: optim.AdamW(betas=(0.9, 0.99)),
            "AdamW: there is no argument 'betas'.\n  Here it is b1 and b2.",
        ),  # type: ignore
        (
            lambda: optim.SGD(decay=0.1),
            "SGD: there is no argument 'decay'.\n  Is momentum or weight_decay meant?",
        ),  # type: ignore
        (
            lambda: optim.RMSprop(alpha=0.9),
            "RMSprop: there is no argument 'alpha'.\n  Here it is decay.",
        ),  # type: ignore
        (
            lambda: optim.SGD(fused=True),
            "SGD: there is no argument 'fused'.\n  The arguments are learning_rate, mom",
        ),  # type: ignore
        (
            lambda: optim.cosine_decay(0.1, 9, ned=0),
            "cosine_decay: there is no argument 'ned'.\n  Is end meant?",
        ),  # type: ignore
    ],
)
def test_names_of_other_libraries_are_answered(make: Any, message: str) -> None:
    with pytest.raises(TypeError) as error:
        make()
    assert str(error.value).startswith(message)


def test_values_are_equal_hashable_and_frozen() -> None:
    assert Descent(0.5) == Descent(np.float32(0.5)) != Descent(0.25)
    assert hash(Descent(0.5)) == hash(Descent(0.5))
    assert Descent(rate=schedule) == Descent(rate=schedule)
    assert Descent() != Other()
    with pytest.raises(AttributeError):
        Descent().rate = 1.0  # type: ignore
    with pytest.raises(
        TypeError, match="Descent cannot be hashed because rate is an array; pass a number"
    ):
        hash(Descent(rate=jnp.float32(1)))


def test_repr() -> None:
    assert repr(Other()) == "Other()"
    assert repr(Descent(rate=0.5).held()).startswith(
        "Descent(rate=<in the state>, momentum=None, decay=0.9"
    )


def test_an_optimizer_is_static() -> None:
    assert jax.tree.leaves(Descent()) == []
    assert jax.tree.leaves(Descent().held()) == []
    traces: list[int] = []

    @jax.jit
    def f(h: Descent, x: jax.Array) -> jax.Array:
        traces.append(1)
        return x * h.decay

    f(Descent(), 1.0)
    f(Descent(), 2.0)
    f(Descent(decay=0.5), 2.0)
    assert len(traces) == 2


def test_held_replaces_numbers_in_the_state() -> None:
    held = Descent(rate=0.3, momentum=jnp.float32(0.5)).held()
    assert held.rate is HELD
    assert held.momentum is HELD
    assert held.decay == 0.9
    assert held == Descent(rate=jnp.float32(0.7), momentum=0.1).held()
    assert hash(held) == hash(Descent(rate=1.0, momentum=0.1).held())
    assert Descent(rate=schedule).held().rate is schedule
    assert Descent(rate=1.0).held().momentum is None
    assert held.held() == held


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_copies(copied: Callable[[Any], Any]) -> None:
    assert copied(HELD) is HELD
    for h in (Descent(rate=0.3, slot_dtype="float32"), Descent(momentum=0.5, nesterov=True).held()):
        assert copied(h) == h
        assert hash(copied(h)) == hash(h)
        assert repr(copied(h)) == repr(h)


class Later(Optimizer):
    """Annotated with strings, and with a name that is defined below."""

    rate: "Annotated[Number | None, BOUNDED]" = None
    nesterov: "bool" = False


BOUNDED = scheduled(at_least=0)


def test_annotations_may_be_strings() -> None:
    assert Later(0.5, nesterov=True).held().rate is HELD
    assert Later().rate is None
    with pytest.raises(ValueError, match=r"^Later: rate must be >= 0, got -1$"):
        Later(-1)
    with pytest.raises(TypeError, match=r"^Later: nesterov must be True or False, got 1$"):
        Later(nesterov=1)  # type: ignore[arg-type]


def test_signatures_show_the_bounds() -> None:
    signature = str(inspect.signature(Descent))
    assert "Annotated[float, number(at_least=0, below=1)] = 0.9" in signature
    assert "Annotated[int, integer(at_least=1)] = 1" in signature


def test_subclasses_are_optimizers_too() -> None:
    class Faster(Descent):
        boost: Annotated[float, number(above=0)] = 2.0

    assert Faster().boost == 2
    assert Faster(boost=3).held().boost == 3
    with pytest.raises(ValueError, match="Faster: boost must be > 0, got 0"):
        Faster(boost=0)
    assert jax.tree.leaves(Faster()) == []


class State:
    def __init__(self, hyperparameters: object) -> None:
        self.hyperparameters = hyperparameters


def test_own_accepts_its_own() -> None:
    h = Descent(rate=0.1, decay=0.5)
    for state in (State(h.held()), State(Descent(rate=0.7, decay=0.5).held())):
        assert h.own(state) is state


def test_own_names_every_difference() -> None:
    h = Descent(rate=0.1, decay=0.5, every=2, slot_dtype="float16")
    with pytest.raises(ValueError) as error:  # noqa: PT011
        h.own(State(Descent(momentum=0.1).held()))
    assert str(error.value) == (
        "Descent.step: the state has different hyperparameters: "
        "momentum is a number in the state, None in the optimizer; "
        "decay is 0.9 in the state, 0.5 in the optimizer; "
        "every is 1 in the state, 2 in the optimizer; "
        "slot_dtype is None in the state, float16 in the optimizer.\n"
        "  Use the optimizer that made the state, or move the state: optim.migrate(state, optimizer, weights)."
    )


def test_what_a_schedule_begins_with_is_held_to_the_bounds() -> None:
    for wrong, shown in ((lambda step: -1.0, "-1.0"), (lambda step: step / 0.0, "nan")):
        h = Descent(rate=wrong)
        expected = ">= 0" if shown == "-1.0" else "a finite number"
        with pytest.raises(ValueError, match=r"^Descent: ") as error:
            h.held()
        assert str(error.value) == (
            f"Descent: rate must be {expected}, got {shown} from its schedule at step 0"
        )
    traced = jax.jit(lambda rate: Descent(rate=lambda step: rate).held() and rate)
    assert traced(-1.0) == -1.0  # not known yet
    Descent(rate=schedule).held()


def test_own_refuses_schedules_that_differ() -> None:
    with pytest.raises(ValueError, match="rate is a number in the state, <function schedule"):
        Descent(rate=schedule).own(State(Descent().held()))


def test_own_refuses_states_of_others() -> None:
    with pytest.raises(TypeError, match=r"^Descent.step: the state belongs to Other$"):
        Descent().own(State(Other()))
    with pytest.raises(
        TypeError, match=r"^Descent.step: expected a state from Descent.init, got 3 \(int\)$"
    ):
        Descent().own(3)
