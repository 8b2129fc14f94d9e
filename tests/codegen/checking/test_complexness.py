"""What is complex where leaves are is neither compared nor squared; magnitudes are."""

import types
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from mlax_codegen.checking.analysis import analyse
from mlax_codegen.reading.mistakes import SpecError
from mlax_codegen.reading.spec import Spec, read_spec
from mlax_codegen.writing.render import render_module

SPEC = """
name = "probe"
summary = "Probe: something of complex gradients."
references = ["Doe 2020"]

[hyperparameters]
learning_rate = { default = 0.5, schedulable = true, doc = "Step size." }

[slots]
m = { init = "zeros", doc = "Mean." }
v = { init = "zeros", doc = "Second." }

[[step]]
leaf = '''
CODE
'''
"""


def spec(code: str, folder: Path, top: str = "") -> Spec:
    lines = [*code.split("; "), "update = -learning_rate * (m + g * abs(v))"]
    lines = ["m = 0.5 * m + g", *lines] if "\nm = " not in "\n" + "\n".join(lines) else lines
    lines = ["v = 0.5 * v + abs2(g)", *lines] if "\nv = " not in "\n" + "\n".join(lines) else lines
    text = SPEC.replace("CODE", "\n".join(lines)).replace("\n[hyper", f"{top}\n[hyper", 1)
    (folder / "probe.toml").write_text(text)
    return read_spec(folder / "probe.toml")


REFUSED = [
    ("m = where(g > 0, g, m)", "g > 0", "complex numbers have no order"),
    ("m = where(m * g >= 0.0, g, m)", "m * g >= 0.0", "complex numbers have no order"),
    ("v = where(0.1 < m, v, 0.5)", "0.1 < m", "complex numbers have no order"),
    ("v = maximum(v, w)", "maximum(v, w)", "complex numbers have no order"),
    ("m = clip(g, -1.0, 1.0)", "clip(g, -1.0, 1.0)", "complex numbers have no order"),
    ("m = m / max(g)", "max(g)", "complex numbers have no order"),
    ("m = g - floor(g)", "floor(g)", "complex numbers have no order"),
    ("m = m + g % 2.0", "g % 2.0", "a complex number is not divided with a remainder"),
    ("v = v + g**2", "g**2", "'g' is complex"),
    ("v = v + (g - m) * (g - m)", "(g - m) * (g - m)", "'g - m' is complex"),
    ("v = v + m**4", "m**4", "'m' is complex"),
    ("v = 0.5 * v + g; m = g / (sqrt(v) + 1)", "sqrt(v)", "'v' is complex"),
    ("m = g / cbrt(g)", "cbrt(g)", "a complex number has three cube roots"),
    ("d = g; m = where(d < 0, g, m)", "d < 0", "complex numbers have no order"),
]


@pytest.mark.parametrize(("code", "place", "message"), REFUSED)
def test_what_complex_numbers_have_not_is_refused(
    code: str, place: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(SpecError) as caught:
        analyse(spec(code, tmp_path))
    [mistake] = caught.value.mistakes
    marked = mistake.text[mistake.column - 1 :][: mistake.length]
    assert (marked, mistake.message[: len(message)]) == (place, message)
    assert "complex" in mistake.message
    analyse(spec(code, tmp_path, 'complex = "no"'))  # which is the other cure


@pytest.mark.parametrize(
    "code",
    [
        "v = maximum(v, abs2(g))",
        "v = 0.5 * v + abs2(g); m = g / (sqrt(v) + 1)",
        "v = 0.5 * v + g * conj(g); m = g / (v**0.5 + 1)",
        "d = real(conj(m) * g); m = where(d > 0, m, g)",
        "m = where(abs(g) > 0.1, g, m) / (1 + sum(abs(g)))",
        "m = sign(g) * norm(g) / (1 + rms(m)) * max(abs(g))",
        "v = every(2, abs2(m), v); m = g / (1 + v) ** 2",
        "m = g * conj(g) * w / (1 + abs2(w))",
        "d = abs(g); m = g * d * d / (1 + d**3)",
        "d = isfinite(g) and abs(g) > 0.1; m = where(d, g, m) * where(sum(d) > 1, 1.0, 0.5) / mean(d)",
    ],
)
def test_magnitudes_are_real_and_turn_nothing(code: str, tmp_path: Path) -> None:
    """Gradients and weights that are turned by a phase give updates that are."""
    module = types.ModuleType("probe")
    exec(compile(render_module(spec(code, tmp_path)), "probe.py", "exec"), vars(module))
    optimizer: Any = vars(module)["Probe"]()
    first = jnp.array([0.3 + 0.4j, -0.2j, 1.0, 0.5 - 1j], jnp.complex64)
    turn = jnp.complex64(np.exp(1.1j))

    def moved(w: Any) -> Any:
        state = optimizer.init(w)
        for _ in range(2):
            updates, state = optimizer.step(w * 2, state, w)
        return updates

    np.testing.assert_allclose(moved(first) * turn, moved(first * turn), rtol=1e-3, atol=1e-6)


def test_a_choice_of_two_numbers_is_real(tmp_path: Path) -> None:
    """Specs that count signs may be about real weights without saying so."""
    analyse(
        spec("m = m + g * mean(where(g > 0, 1.0, 0.0)) / sum(where(m * w > 0, 1.0, 2.0))", tmp_path)
    )
