"""Whatever a spec says, it is either refused or becomes code that takes a step."""

import contextlib
import functools
import inspect
import io
import random
import re
import signal
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import pytest
from hypothesis import Phase, event, given, settings
from hypothesis import strategies as st

from mlax_codegen.cli import main
from mlax_codegen.reading.spec import Spec, read_spec
from mlax_codegen.resources import built_in_specs
from tests.codegen.checking.bad_careful import CAREFUL
from tests.codegen.checking.bad_constructs import RICH
from tests.codegen.checking.bad_labels import LABELS
from tests.codegen.checking.bad_lists import LISTS
from tests.codegen.checking.bad_matrices import MATRICES
from tests.codegen.checking.bad_phases import PHASES
from tests.codegen.checking.bad_specs import GOOD
from tests.codegen.checking.bad_starts import STARTS

pytestmark = pytest.mark.one_python

Mutation: TypeAlias = Callable[[str, random.Random], str]

WORDS = [
    *re.findall(r"\w+", RICH + PHASES + STARTS + LISTS + LABELS + MATRICES + CAREFUL),
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
    """Return a good spec with a few tokens deleted, replaced, inserted, swapped or repeated."""
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
    """Return a good spec with one or two words of its equations replaced; most of these parse."""
    blocks = re.finditer(
        r"(?:leaf|scalars) = '''(.*?)'''|(?:shape|init|each|unless|skip) = \"(.*?)\"",
        good,
        re.DOTALL,
    )
    spans = [found.span(found.lastindex or 0) for found in blocks]
    words = [
        (start + word.start(), start + word.end())
        for start, end in spans
        for word in re.finditer(r"\w+|[-+*/@]", good[start:end])
    ]
    others = [good[start:end] for start, end in words]
    others += [
        "g",
        "w",
        "t",
        "0",
        "2",
        "7",
        "1.5",
        "ndim",
        "shape[0]",
        "mean(g, 0)",
        "norm(g, but=1)",
        "g[:, :2]",
        "transpose(g)",
    ]
    others += ["norm(g)", "(g > 0)", "(not t > 2)", "count"]
    for start, end in sorted(choose.sample(words, choose.choice([1, 1, 2])), reverse=True):
        operator = good[start:end] in "+-*/@"
        choices = [word for word in others if (word in "+-*/@") == operator]
        good = good[:start] + choose.choice(choices) + good[end:]
    return good


WEIGHTS = {
    "matrix": jnp.ones((4, 3)),
    "vector": jnp.ones(3),
    "scalar": jnp.ones(()),
    "kernel": jnp.ones((2, 3, 4)),
    "empty": jnp.ones((0, 3)),
}


@contextlib.contextmanager
def seconds(limit: int) -> Iterator[None]:
    """Stop what takes longer, by this process's clock: other programs may be busy too."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"more than {limit} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def take_a_step(spec: Spec, code: str) -> None:
    """Trace what a user calls: what a spec can do wrong is done before anything is compiled."""
    module = types.ModuleType("probe")
    exec(compile(code, "probe.py", "exec"), vars(module))
    optimizer: Any = getattr(module, spec.class_name)()
    arguments = {a.name: WEIGHTS if a.is_tree else jnp.ones(()) for a in spec.arguments}
    state = jax.eval_shape(optimizer.init, WEIGHTS)

    def given(method: Any) -> Any:
        """Return a method with those arguments that it takes."""
        names = inspect.signature(method).parameters.keys() & arguments.keys()
        return functools.partial(method, **{name: arguments[name] for name in names})

    def step(state: Any, weights: Any) -> Any:
        return given(optimizer.apply_gradients)(weights, state, weights)

    weights, state = jax.eval_shape(step, state, WEIGHTS)
    for function in spec.functions:
        jax.eval_shape(given(getattr(optimizer, function.name)), state, weights)


# Of Adafactor and Muon, shorter specs: the built-in Muon has 1,024 combinations of options and takes 40 times as long.
HERE = Path(__file__).parents[1] / "specs"
FILES = [path for path in built_in_specs() if path.stem in {"galore", "shampoo", "sm3"}]
FILES += [HERE / "adafactor.toml", HERE / "muon.toml", HERE / "conditions.toml"]
WHOLE = [path.read_text().replace(f'name = "{path.stem}"', 'name = "probe"') for path in FILES]
SPECS = [GOOD, RICH, PHASES, STARTS, LISTS, LABELS, MATRICES, CAREFUL, *WHOLE]


@pytest.mark.filterwarnings("ignore:a slot in")
@given(
    good=st.sampled_from(SPECS),
    mutate=st.sampled_from([mutated, reworded]),
    choose=st.randoms(use_true_random=False),
    steps=st.integers(0, 9).map(lambda number: number == 0),  # of each it would take minutes
)
@settings(max_examples=600, deadline=None, derandomize=True, phases=[Phase.generate])
def test_a_mutated_spec_is_refused_or_works(
    good: str, mutate: Mutation, choose: random.Random, steps: bool
) -> None:
    """What is refused writes nothing, and what is accepted writes a whole module."""
    with TemporaryDirectory() as folder:
        path, package = Path(folder) / "probe.toml", Path(folder) / "package"
        path.write_text(mutate(good, choose))
        output = io.StringIO()
        with seconds(10), contextlib.redirect_stderr(output), contextlib.redirect_stdout(output):
            code = main(["generate", str(path), "--output", str(package)])
        event("refused" if code else "accepted")
        if code:
            assert code == 2
            assert output.getvalue().startswith(f"{path}:"), output.getvalue()
            assert not package.exists()
            return
        assert sorted(file.name for file in package.iterdir()) == [
            "__init__.py",
            "probe.py",
            "py.typed",
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            compile((package / "probe.py").read_text(), "probe.py", "exec")
        if steps:
            with seconds(20):
                take_a_step(read_spec(path), (package / "probe.py").read_text())
