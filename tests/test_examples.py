"""The examples do what they promise, and the first is the one that the README shows."""

import dataclasses
import functools
import importlib
import itertools
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import mlax

pytestmark = pytest.mark.one_python

ROOT = Path(__file__).parents[1]


def training_script() -> str:
    """Return what `make train` runs."""
    recipe = (ROOT / "Makefile").read_text().partition("\ntrain:")[2].partition("\n\n")[0]
    (script,) = re.findall(r"\$\(bin\)/python (\S+)", recipe)
    return str(script)


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The first process that trains keeps what it has compiled for those that follow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
        yield


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """What `make train` leaves and prints in an empty folder."""
    folder = tmp_path_factory.mktemp("whole")
    command = [sys.executable, str(ROOT / training_script())]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.mark.optimized
def test_training_reaches_its_accuracy_and_leaves_a_picture(
    whole: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    """As `make train` runs it, but for the folder."""
    folder, done = whole
    result, last = done.stdout.splitlines()[-2:]
    accuracy, path = result.removeprefix("Test accuracy: ").split("%. Model: ")
    assert float(accuracy) >= 97
    model, path = path.split(". Picture: ")
    assert (folder / path).read_bytes().startswith(b"\x89PNG")
    assert "inner.hidden.layers.0.kernel" in safetensors.numpy.load_file(folder / model)
    assert last.startswith("Next: open ")
    assert "loss=" in done.stderr, "no progress bar"
    assert "test_accuracy=" in done.stderr


@pytest.mark.optimized
def test_interrupted_training_ends_with_the_same_weights(
    whole: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """Ctrl-C after a few epochs, then to the end: the same model and picture, bit by bit.

    What a kill leaves of a file is tested in tests/mlax/saving/test_interrupted.py.
    """
    expected, done = whole
    assert "Resuming" not in done.stdout
    checkpoint = tmp_path / "out/checkpoint.safetensors"
    status, printed = 0, ""
    for _ in range(5):
        before = checkpoint.exists()
        status, printed = interrupted(tmp_path, checkpoint)
        assert ("Resuming from out/checkpoint.safetensors" in printed) == before
        if status != 0:  # on a busy machine training may end before the signal comes
            break
    assert status == 1, printed
    assert "The next run resumes here" in printed
    assert "Traceback" not in printed
    last = subprocess.run(
        [sys.executable, ROOT / training_script()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert last.returncode == 0, last.stderr
    assert "Resuming from out/checkpoint.safetensors" in last.stdout
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files == ["digits.png", "digits.safetensors"], "the checkpoint is still there"
    for name in files:
        assert (tmp_path / "out" / name).read_bytes() == (expected / "out" / name).read_bytes()


def interrupted(folder: Path, checkpoint: Path) -> tuple[int, str]:
    """Run the training, press Ctrl-C at some moment after a few epochs; return exit status and what was printed."""
    rng = random.Random()
    # What was started in the background ignores Ctrl-C, and so would all that it starts.
    ignoring = signal.signal(signal.SIGINT, signal.default_int_handler)
    printed = (
        folder / "printed.txt"
    )  # a pipe would be full before it is read: XLA may warn at length
    with printed.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-u", ROOT / training_script()],
            cwd=folder,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    signal.signal(signal.SIGINT, ignoring)
    with process:
        seen = {version(checkpoint)}
        epochs = 1 + rng.randint(1, 8)  # the first version may be one of an earlier run, or none
        while len(seen) <= epochs and process.poll() is None:
            time.sleep(0.002)
            seen.add(version(checkpoint))
        time.sleep(rng.uniform(0, 0.03))  # an epoch takes that long
        process.send_signal(signal.SIGINT)
    return process.returncode, printed.read_text()


def version(path: Path) -> int:
    """Return what changes with each version of a file."""
    return path.stat().st_mtime_ns if path.exists() else 0


def test_bfloat16_learns_like_float32_where_it_is_rounded_stochastically(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The example of half precision in short: one task, fewer steps and seeds.

    Of 5 seeds and 3,000 steps docs/training.md shows the whole. After 600 steps the losses of float32 and of stochastic
    rounding differ by 0.2 %; nearest rounding has four times that loss.
    """
    monkeypatch.syspath_prepend(ROOT / "examples")
    example = importlib.import_module("half_precision")
    for name, value in {
        "TASKS": ("Digits",),
        "STEPS": 600,
        "STEPS_PER_CALL": 100,
        "SEEDS": 2,
    }.items():
        monkeypatch.setattr(example, name, value)
    example.main(tmp_path / "new" / "picture.png")
    table = re.findall(
        r"^Digits +(\S+(?:, \S+)?) +(\d+) +(\S+) \(.*\) +(\S+)%", capsys.readouterr().out, re.M
    )
    assert [(label, int(stored)) for label, stored, *_ in table] == [
        ("float32", 12),
        ("bfloat16, nearest", 6),
        ("bfloat16, stochastic", 6),
    ]
    (wide, accuracy), (nearest, worse), (stochastic, as_good) = [
        (float(loss), float(percent)) for *_, loss, percent in table
    ]
    assert abs(stochastic - wide) < 0.03 * wide
    assert abs(as_good - accuracy) < 1
    assert nearest > 3 * wide
    assert worse < accuracy - 20
    assert (tmp_path / "new" / "picture.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Import an example, in an empty folder."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    return importlib.import_module


def test_slots_in_eight_bits_learn_as_in_float32(
    example: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In short: two tasks, each with an optimizer of its own, two seeds, few steps."""
    eight_bits, text = example("eight_bits"), example("eight_bits_text")
    half_precision, language = example("half_precision"), example("language_model")
    digits, _, writing = eight_bits.TASKS.values()
    adam, _, lion, *_ = digits.optimizers.items()
    short = {
        "Digits": dataclasses.replace(digits, optimizers=dict([adam]), steps=(200, 100)),
        "Language model": dataclasses.replace(writing, optimizers=dict([lion]), steps=(20, 10)),
    }
    monkeypatch.setattr(eight_bits, "TASKS", short)
    for module in (eight_bits, text, half_precision):
        monkeypatch.setattr(module, "SEEDS", 2)
    for module, steps in ((half_precision, 100), (text, 10)):
        monkeypatch.setattr(module, "STEPS_PER_CALL", steps)
    monkeypatch.setattr(language, "LENGTH", 16)
    small = functools.partial(language.language_model, features=16)
    monkeypatch.setattr(text, "language_model", small)
    eight_bits.main(Path("new/picture.png"))
    printed = capsys.readouterr()
    assert "Language model, Lion, bfloat16" in printed.err, "no progress bar"
    rows = re.findall(r"\| (\w+) \| +([\d.]+) \| (\S+) .*\| +([\d.]+) \| (\S+) ±", printed.out)
    sizes = [(kind, float(wide), float(narrow)) for kind, wide, _, narrow, _ in rows]
    assert sizes[0] == ("Adam", 12.0, 4.07)
    assert [(kind, wide) for kind, wide, _ in sizes[1:]] == [("Lion", 8.0)]
    for *_, wide, _, narrow in rows:
        assert abs(float(narrow) - float(wide)) < 0.03 * float(wide)
    assert Path("new/picture.png").read_bytes().startswith(b"\x89PNG")


def test_a_sweep_trains_all_pairs_in_one_call(
    example: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In short: six pairs, few steps. The first rate is too small, the last too large."""
    sweep = example("sweep")
    monkeypatch.setattr(sweep, "LEARNING_RATES", jnp.array([1e-5, 1e-2, 10.0]))
    monkeypatch.setattr(sweep, "B2S", jnp.array([0.9, 0.999]))
    accuracy_of = Mock(wraps=sweep.accuracy_of)
    monkeypatch.setattr(sweep, "accuracy_of", accuracy_of)
    slow, right, fast = sweep.main(Path("new/picture.png"), steps=20).T
    assert right.min() > 0.8
    assert max(slow.max(), fast.max()) < 0.5
    assert re.search(r"^  0\.99900 .*%\n6 models, 20 steps each", capsys.readouterr().out, re.M)
    accuracy_of.assert_called_once()  # traced for all pairs at once
    assert Path("new/picture.png").read_bytes().startswith(b"\x89PNG")


def test_convolutional_net_learns_and_draws(
    example: Callable[[str], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """In short: few channels and epochs. Of 20 epochs and 32 channels examples/README.md says what comes out."""
    example("convolution").main(epochs=4, channels=8)
    printed = capsys.readouterr()
    accuracy, path = re.findall(r"Test accuracy: (\S+)%. Picture: (\S+)", printed.out)[0]
    assert float(accuracy) > 85
    assert Path(path).read_bytes().startswith(b"\x89PNG")
    assert "test_accuracy=" in printed.err, "no progress bar"


def test_recurrent_net_forecasts_better_than_the_last_value(
    example: Callable[[str], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """In short: a small net that has learnt little."""
    net, last, periodic = example("time_series").main(steps=60, features=16).values()
    assert net.mean() < 0.9 * last.mean()
    assert net.mean() < 0.9 * periodic.mean()
    assert Path("out/time_series.png").read_bytes().startswith(b"\x89PNG")
    assert "loss=" in capsys.readouterr().err, "no progress bar"


def test_language_model_writes_resumes_and_is_fine_tuned(
    example: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In short: a small model that has learnt little, interrupted and resumed, then adapted to other texts."""
    language, tuning = example("language_model"), example("fine_tuning")
    for module in (language, tuning):
        monkeypatch.setattr(module, "LENGTH", 32)
    small = functools.partial(language.language_model, features=16, depth=2)
    whole = language.train(small(), steps=40, every=20, batch=4)
    printed = capsys.readouterr()
    assert re.findall(r"After (\d+) steps, loss .*\n    The ", printed.out) == ["20", "40"]
    assert "steps" in printed.err, "no progress bar"

    text = language.encoded("The answer is ")
    decode: Any = jax.jit(language.LanguageModel.decode)
    at_once: Any = jax.jit(language.LanguageModel.__call__)
    (first, caches), _ = decode(whole, text[:5], whole.blocks.block.attention.cache(len(text)))
    (rest, _), _ = decode(whole, text[5:], caches)
    np.testing.assert_allclose(jnp.concatenate([first, rest]), at_once(whole, text)[0], atol=1e-5)

    train = functools.partial(language.train, steps=40, every=20, batch=4)
    monkeypatch.setattr(language, "language_model", small)
    monkeypatch.setattr(language, "train", train)
    with monkeypatch.context() as patch:
        patch.setattr(language, "windows", interrupting(language.windows, call=30))
        with pytest.raises(SystemExit, match="The next run resumes here"):
            language.main()
    language.main()
    assert "Resuming from out/language_model.checkpoint.safetensors" in capsys.readouterr().out
    assert not language.CHECKPOINT.exists()
    resumed = mlax.load(language.MODEL, like=whole)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, resumed, whole))

    monkeypatch.setattr(tuning, "language_model", small)
    tuning.main(steps=20)
    before, after = re.findall(r"loss (\S+) for new names", capsys.readouterr().out)
    assert float(after) < float(before) - 0.2
    tuned = mlax.load(tuning.TUNED, like=whole)
    same = jax.tree.map(jnp.array_equal, tuned, whole)
    assert same.norm.scale.data
    assert not same.blocks.block.attention.query.data


def test_a_run_of_two_processes_goes_on_in_one_as_if_it_had_never_been_stopped(
    example: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In short: a small model, two steps in two processes with two devices each, then two on one device."""
    small = {"LENGTH": 16, "FEATURES": 16, "DEPTH": 1, "STEPS": 4, "EVERY": 2}
    distributed, processes = example("distributed"), example("processes")
    for name, value in small.items():
        monkeypatch.setattr(distributed, name, value)
    whole = distributed.train(4)
    assert "0%|" in capsys.readouterr().err, "no progress bar"
    shutil.rmtree(distributed.FOLDER)
    code = f"import distributed; vars(distributed).update({small}); distributed.main()"
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "examples"), prepend=os.pathsep)
    processes.run(2, ["-c", code, "--devices", "2", "--until", "2"], seconds=120)
    resumed = distributed.train(4)
    assert abs(resumed - whole) < 1e-6
    printed = capsys.readouterr().out
    assert "Resuming after 2 steps from out/distributed" in printed
    assert re.search(r"^embedding.kernel .*P\('data',\) .*\(128, 16\)$", printed, re.M)
    with pytest.raises(RuntimeError, match=r"the processes ended with .*1"):
        processes.run(
            2, ["-c", "import sys, time; time.sleep(60 * int(sys.argv[-1])); sys.exit(1)"]
        )
    with pytest.raises(TimeoutError, match="not at the end after 0 s"):
        processes.run(2, ["-c", "import time; time.sleep(60)"], seconds=0)


def interrupting(function: Callable[..., Any], call: int) -> Callable[..., Any]:
    """Return a function that raises KeyboardInterrupt in place of its call with this number."""
    count = itertools.count(1)

    def called(*args: Any) -> Any:
        if next(count) == call:
            raise KeyboardInterrupt
        return function(*args)

    return called


def test_tutorial_is_the_example() -> None:
    """Each of the tutorial's large blocks stands in the example as it is."""
    example = (ROOT / "examples/digits.py").read_text()
    tutorial = (ROOT / "README.md").read_text().partition("## Tutorial")[2].partition("\n## ")[0]
    blocks = [part.partition("```")[0] for part in tutorial.split("```python\n")[1:]]
    definitions = [block for block in blocks if "class " in block or "def " in block]
    assert len(definitions) == 2
    for block in definitions:
        assert block.strip() in example
    code = [line for line in example.splitlines() if line.strip() and not line.startswith("#")]
    assert len(code) <= 76
