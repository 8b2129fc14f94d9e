"""The warning about narrow slots: its text, the line it points to, and when there is none."""

import re
import warnings
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlax import optim
from mlax.optimizer import Optimizer, warn_if_narrow
from mlax_optimizers import adam
from tests.mlax.generated_optimizers import MODULES, analysis, step


class Mine(Optimizer):
    """Without hyperparameters."""


class State:
    """One slot, like the weights."""

    def __init__(self, slot: Any) -> None:
        self.v = slot
        self.hyperparameters = Mine()


def lines(slot: Any, **said: Any) -> list[str]:
    """Return the lines of the warning; none without one."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_if_narrow(State(slot), **said)
    return [line for warning in caught for line in str(warning.message).splitlines()]


def one(dtype: Any) -> Any:
    return {"w": jnp.ones(2, dtype)}


def test_the_whole_message() -> None:
    weights = [
        jnp.ones(2, jnp.float16),
        jnp.ones(2),
        jnp.ones(3, jnp.float16),
        jnp.ones(2, "bfloat16"),
    ]
    with pytest.warns(UserWarning, match="Adam") as caught:
        optim.adam.init(weights, b2=0.9999)
    assert [str(warning.message).splitlines() for warning in caught] == [
        [
            "Adam: the dtype of these slots is too narrow:",
            "  state.v[0] in float16 never decays at 0.9999 a step: each change is rounded away; and holds squares of "
            "gradients: gradients below 1.7e-02 add nothing, so that updates are divided by a root near 0 and become "
            "huge or infinite; squares of gradients above 256 are clipped",
            "  state.v[3] in bfloat16 never decays at 0.9999 a step: each change is rounded away",
            "  Pass slot_dtype=jnp.float32, or use decays of at most 0.996.",
        ]
    ]


@pytest.mark.parametrize(
    ("dtype", "kept", "stalls"),
    [
        ("bfloat16", 0.999, True),
        ("bfloat16", 0.997, True),
        ("bfloat16", 0.996, False),
        ("bfloat16", 0.9, False),
        ("bfloat16", 1.003, True),
        ("float16", 0.9996, True),
        ("float16", 0.9995, False),
        ("float32", 0.9999999, False),
        ("float32", 0.99999999, True),
        ("complex64", 0.99999999, True),
    ],
)
def test_the_rule_agrees_with_the_arithmetic(dtype: str, kept: float, stalls: bool) -> None:
    """A slot that only decays either stops at some number, or continues to decay."""
    verb = "grows" if kept > 1 else "decays"
    found = lines(one(dtype), kept={"v": kept})
    assert [f"never {verb} at {kept:.6g} a step" in line for line in found[1:2]] == [True] * stalls
    assert ("slot_dtype=jnp.float32" in "".join(found)) == (
        stalls and jnp.dtype(dtype).itemsize < 4
    )
    assert ("decays of at most" in "".join(found)) == (stalls and kept < 1)
    real = np.float32 if dtype == "complex64" else jnp.dtype(dtype)
    # Here the next numbers are farthest away, relative to x.
    x = np.nextafter(np.ones((), real), np.asarray(2, real))
    assert ((x.astype(np.float64) * kept).astype(real) == x) == stalls


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sums(dtype: str) -> None:
    """A sum is warned of with the part that is lost; in float32 it takes too long."""
    [_, line, cure] = lines(one(dtype), kept={"v": 1.0})
    part = {"bfloat16": 256, "float16": 2048}[dtype]
    assert line == f"  state.v['w'] in {dtype} ignores changes smaller than 1/{part} of its value"
    assert cure == "  Pass slot_dtype=jnp.float32."
    above = np.nextafter(np.ones((), jnp.dtype(dtype)), np.asarray(2, jnp.dtype(dtype))).astype(
        float
    )
    assert np.asarray(above * (1 + 0.9 / part)).astype(jnp.dtype(dtype)) == above
    assert lines(one("float32"), kept={"v": 1.0}) == []


def test_no_cure() -> None:
    """In float32, growth that is rounded away cannot be avoided: the message ends with the slot."""
    [_, line] = lines(one("float32"), kept={"v": 1.00000001})
    assert line.endswith("each change is rounded away")


def test_squares_and_scales() -> None:
    [_, line, _] = lines(one("float16"), scales={"v": 1e-6})
    assert line.endswith("begins with gradients times 1e-06: gradients below 3.0e-02 become 0")
    for dtype in ("bfloat16", "float32"):
        assert lines(one(dtype), scales={"v": 1e-6}, squares=["v"]) == []
    assert lines(one("float16"), scales={"v": 1e-3}) == []
    assert jnp.float16(1e-6) * jnp.float16(2.9e-2) == 0
    assert jnp.float16(1.6e-4) ** 2 == 0
    assert jnp.float16(1.8e-4) ** 2 > 0
    assert jnp.isfinite(jnp.float16(255.5) ** 2)
    assert jnp.isinf(jnp.float16(256) ** 2)
    [_, line, _] = lines(one("float16"), squares=["v"], kept={"v": 0.99}, scales={"v": 1e-2})
    assert "holds squares of gradients, at first times 0.01: gradients below 1.7e-01 " in line
    assert line.endswith("squares of gradients above 2.6e+04 are clipped")


# Where the bound of one gradient is not that of all steps; each with what else goes into the slot.
OTHER_BOUNDS = {
    "adabelief": "of the distance to the mean, 0.9 of the first gradient",
    "adagrad": "begins at 0.1",
    "adopt": "begins as the first square",
    "madgrad": "times the learning rate",
    "novograd": "begins as the first square",
    "yogi": "adds 1 - b2 of a square too, but keeps all",
}


@pytest.mark.one_python
@pytest.mark.parametrize("name", [name for name in MODULES if analysis(name).squares])
def test_the_bound_of_squares_agrees_with_the_arithmetic(name: str) -> None:
    """Just below it a slot stays zero; a tenth above it does not."""
    weights = [jnp.zeros((1,), jnp.float16), jnp.zeros((1, 1), jnp.float16)]
    with pytest.warns(UserWarning, match="add nothing") as caught:
        state = MODULES[name].init(weights)
    text = "\n".join(str(warning.message) for warning in caught)
    found = re.findall(r"state\.(\w+).*gradients below (\S+) add nothing", text)
    assert found
    for slot, bound in found:
        # v_max is the largest of v, and never more; CAME's others are of directions as long as for any gradient.
        if slot in {"v_max", "far_row", "far_column"}:
            continue
        zero = []
        for factor in (0.9, 1.1):
            gradients = [jnp.full(w.shape, factor * float(bound), w.dtype) for w in weights]
            after = state
            for _ in range(2):
                _, after = step(name, gradients, after, weights)
            zero.append(not any(jnp.any(x) for x in jax.tree.leaves(getattr(after, slot))))
        assert (zero == [True, False]) == (name not in OTHER_BOUNDS)


def schedule(step: jax.Array) -> float:
    return 0.999


def test_what_is_known() -> None:
    slot = one("bfloat16")
    for kept in (
        0.999,
        jnp.float32(0.999),
        np.float32(0.999),
        (0.9, 0.999),
        (None, jnp.float32(0.999)),
    ):
        assert len(lines(slot, kept={"v": kept})) == 3
    unknown: Any
    for unknown in (None, schedule, (0.9, None)):
        assert lines(slot, kept={"v": unknown}) == []
    said: list[list[str]] = []

    def traced(kept: Any) -> None:
        said.append(lines(slot, kept={"v": kept}))

    jax.jit(traced)(jnp.float32(0.999))
    assert said == [[]]


@pytest.mark.parametrize("slot", [None, {}, {"w": ()}, {"w": None}], ids=str)
def test_no_warning_about_empty_slots(slot: Any) -> None:
    assert lines(slot, kept={"v": 1.0}, squares=["v"], scales={"v": 1e-6}) == []


def test_cures_end_the_warning() -> None:
    weights = jnp.ones(2, jnp.bfloat16)
    with pytest.warns(UserWarning, match=r"state.v in bfloat16 never decays at 0\.999 a step"):
        adam.init(weights)
    adam.init(weights, slot_dtype=jnp.float32)
    adam.init(weights, b2=0.9)
    adam.init(weights, stochastic_rounding=True)
    for said, cure in (
        (
            {},
            "Pass slot_dtype=jnp.float32, or stochastic_rounding=True, or use decays of at most 0.996.",
        ),
        # Rounded away in float32, too, which stochastic rounding is computed in.
        ({"b2": 1 - 1e-9}, "Pass slot_dtype=jnp.float32, or use decays of at most 0.996."),
        ({"stochastic_rounding": True, "b2": 1 - 1e-9}, "Use decays of at most 0.9999."),
    ):
        with pytest.warns(UserWarning, match=f"\n  {re.escape(cure)}$"):
            adam.init(weights, **said)
    optim.sgd.init(weights, momentum=0.9)
    with pytest.warns(UserWarning, match=r"SGD: .*\n.*state.velocity in bfloat16"):
        optim.sgd.init(weights, momentum=jnp.float32(0.999))
    optim.rmsprop.init(weights, decay=0.9)  # what an option switches off
    with pytest.warns(UserWarning, match="state.v in bfloat16"):
        optim.adam.init(jnp.ones(2), slot_dtype=jnp.bfloat16)


USERS_OPTIMIZER = """
from typing import Any, NamedTuple
from mlax.optimizer import Optimizer, warn_if_narrow, zeros

class Mine(Optimizer):
    def init(self, weights): return init(weights)

class State(NamedTuple):
    v: Any
    hyperparameters: Mine

def init(weights):
    state = State(zeros(weights, None), Mine())
    warn_if_narrow(state, squares=["v"])
    return state
"""


def test_warnings_point_at_the_users_line() -> None:
    """Also through JAX, and through an optimizer generated into a user's package."""
    package = ModuleType("mypackage.mine")
    exec(USERS_OPTIMIZER, vars(package))
    weights = jnp.ones(2, jnp.float16)
    for init in (
        adam.Adam().init,
        adam.init,
        jax.jit(adam.init),
        package.init,
        package.Mine().init,
        jax.jit(package.init),
    ):
        with pytest.warns(
            UserWarning, match=r"squares of .*\n  Pass slot_dtype=jnp.float32"
        ) as caught:
            init(weights)
        assert [w.filename for w in caught] == [__file__]


def test_warnings_in_a_script_that_is_an_optimizer() -> None:
    script: dict[str, Any] = {"__name__": "__main__", "weights": jnp.ones(2, jnp.float16)}
    with pytest.warns(UserWarning, match="squares") as caught:
        exec(compile(USERS_OPTIMIZER + "init(weights)", "script.py", "exec"), script)
    assert len(caught) == 1
