"""Whatever a spec says, it is either refused as a spec or becomes code that compiles."""

import random
import re
import warnings
from pathlib import Path

import pytest

from mlax_codegen.errors import SpecError
from mlax_codegen.render import render_module
from mlax_codegen.spec import read_spec

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


@pytest.mark.parametrize("good", [GOOD, RICH], ids=["common", "rare"])
@pytest.mark.parametrize("seed", range(8))
def test_a_mutated_spec_is_refused_or_works(good: str, seed: int, tmp_path: Path) -> None:
    choose = random.Random(seed)
    path = tmp_path / "probe.toml"
    refused: list[str] = []
    for _ in range(100):
        path.write_text(mutated(good, choose))
        try:
            code = render_module(read_spec(path))
        except SpecError as error:
            refused.append(str(error))
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            compile(code, "probe.py", "exec")
    assert 0 < len(refused) < 100
    assert all(text.startswith(f"{path}:") for text in refused)
