"""Whatever a spec says, it is either refused as a spec or becomes code that takes a step."""

import random
import re
import signal
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from mlax_codegen.errors import SpecError
from mlax_codegen.render import built_in_specs, render_module
from mlax_codegen.spec import Spec, read_spec

from .bad_constructs import RICH
from .bad_specs import GOOD

WORDS = [
    *re.findall(r"\w+", RICH),
    "g",
    "w",
    "t",
    "None",
    "is",
    "not",
    "if",
    "else",
    "and",
    "where",
    "(",
    ")",
    "**",
    "1e-3",
    "'''",
]
WORDS += ['"', "{", "}", "[", "]", "=", "\\", "é", "0"]


def mutated(good: str, choose: random.Random) -> str:
    """Return a good spec with one to three tokens deleted, replaced, inserted, swapped or repeated."""
    tokens = re.findall(r"\s+|\w+|.", good)
    for _ in range(choose.choice([1, 1, 2, 3])):
        at, other = choose.randrange(len(tokens)), choose.randrange(len(tokens))
        match choose.randrange(5):
            case 0:
                del tokens[at]
            case 1:
                tokens[at] = choose.choice(WORDS)
            case 2:
                tokens.insert(at, choose.choice(WORDS))
            case 3:
                tokens[at], tokens[other] = tokens[other], tokens[at]
            case _:
                tokens[at:at] = tokens[at : at + choose.randint(1, 12)]
    return "".join(tokens)


def reworded(good: str, choose: random.Random) -> str:
    """Return a good spec with one or two words of its equations replaced by others, which mostly parse."""
    blocks = re.finditer(r"(?:leaf|scalars) = '''(.*?)'''|shape = \"(.*?)\"", good, re.DOTALL)
    spans = [found.span(found.lastindex or 0) for found in blocks]
    words = [
        (start + word.start(), start + word.end())
        for start, end in spans
        for word in re.finditer(r"\w+|[-+*/]", good[start:end])
    ]
    others = [good[start:end] for start, end in words]
    others += ["g", "w", "t", "0", "2", "7", "1.5", "ndim", "shape[0]", "mean(g, 0)", "norm(g)"]
    for start, end in sorted(choose.sample(words, choose.choice([1, 1, 2])), reverse=True):
        operator = good[start:end] in "+-*/"
        choices = [word for word in others if (word in "+-*/") == operator]
        good = good[:start] + choose.choice(choices) + good[end:]
    return good


WEIGHTS = {
    "matrix": jnp.ones((4, 3)),
    "vector": jnp.ones(3),
    "scalar": jnp.ones(()),
    "kernel": jnp.ones((2, 3, 4)),
    "empty": jnp.ones((0, 3)),
}


@contextmanager
def seconds(limit: int) -> Iterator[None]:
    """Stop what takes longer."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"more than {limit} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(limit)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def take_a_step(spec: Spec, code: str) -> None:
    """Trace what a user calls: what a spec can do wrong is done before anything is compiled."""
    module = types.ModuleType("probe")
    exec(compile(code, "probe.py", "exec"), vars(module))
    optimizer: Any = getattr(module, spec.class_name)()
    arguments = {argument.name: jnp.ones(()) for argument in spec.arguments}
    state = jax.eval_shape(optimizer.init, WEIGHTS)

    def step(state: Any, weights: Any) -> Any:
        return optimizer.apply_gradients(weights, state, weights, **arguments)

    weights, state = jax.eval_shape(step, state, WEIGHTS)
    for function in spec.functions:
        jax.eval_shape(getattr(optimizer, function.name), state, weights)


BUILT_IN = [
    path.read_text().replace(f'name = "{path.stem}"', 'name = "probe"')
    for path in built_in_specs()
    if path.stem in {"adafactor", "muon", "shampoo", "sm3"}
]
STEPS = 4  # taken for each seed; a step of each would take minutes


@pytest.mark.filterwarnings("ignore:a slot in")
@pytest.mark.parametrize("mutate", [mutated, reworded])
@pytest.mark.parametrize("seed", range(4))
def test_a_mutated_spec_is_refused_or_works(mutate: Any, seed: int, tmp_path: Path) -> None:
    choose = random.Random(seed)
    path = tmp_path / "probe.toml"
    refused: list[str] = []
    accepted: list[tuple[Spec, str]] = []
    for good in [GOOD, RICH] * 50 + BUILT_IN * 10:
        path.write_text(mutate(good, choose))
        try:
            with seconds(10):
                spec = read_spec(path)
                accepted.append((spec, render_module(spec)))
        except SpecError as error:
            refused.append(str(error))
    for _, code in accepted:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            compile(code, "probe.py", "exec")
    for spec, code in choose.sample(accepted, min(STEPS, len(accepted))):
        with seconds(20):
            take_a_step(spec, code)
    assert refused
    assert len(accepted) >= STEPS
    assert all(text.startswith(f"{path}:") for text in refused)
