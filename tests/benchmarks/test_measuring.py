"""The code of `make bench` runs: every area and every library, on trees so small that it takes seconds."""

import dataclasses
import inspect
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from rich.console import Console

from benchmarks import __main__ as command
from benchmarks import (
    calls,
    code,
    devices,
    imports,
    language,
    memory,
    modules,
    networks,
    page,
    peers,
    steps,
)
from benchmarks.agreement import DisagreementError
from benchmarks.algorithms import ADAM, ALGORITHMS, FEW, peer_of
from benchmarks.effort import FULL, QUICK, Effort
from benchmarks.networks.candidates import CONV_NET, LIBRARIES, MLP, Candidate, agree
from benchmarks.peers import PEERS, Peer
from benchmarks.results import Results
from benchmarks.timing import Progress
from benchmarks.trees import large_leaves, small_leaves, stacked_models, transformer
from mlax import optim
from mlax._module import calls as module_calls

pytestmark = pytest.mark.one_python

ROOT = Path(__file__).parents[2]
TINY = Effort(
    name="tiny",
    trees=(small_leaves(2), small_leaves(1).of("bfloat16")),
    rounds=2,
    builds=((2, 1),),
    turn=0,
    large=large_leaves(1),
    swept=stacked_models(2),
    triad=1,
    leaves=2,
    blocks=1,
    depths=(),
    few_and_many=(1,),
    first_calls=1,
    traces=1,
    imports=2,
    splits=(1, 2),
    algorithms=("Adam", "PolyakSGD"),
)

# The growth of a process is off by several MB, so that one leaf of 1 MB would say nothing.
MANY_LEAVES = large_leaves(48)


# The weights have 12,608 bytes. FSDP and ZeRO-1 reduce the gradients with the loss and gather the weights, and Muon
# the directions of the two matrices. The global norm of three sharded leaves and a whole one is three numbers, sent
# together.
SENT = {
    "FSDP, Muon": {"all-reduce": 1, "all-gather": 4 + 2, "bytes": 2 * 12_608 + 4 + 4 * 32 * 96},
    "tensor parallel, AdamW, clipped": {"all-reduce": 2, "bytes": 4 * 32 * 16 + 3 * 4},
    "ZeRO-1, Adam": {"all-reduce": 1, "all-gather": 4, "bytes": 2 * 12_608 + 4},
}


def quietly(text: str) -> None:
    """Use in place of a progress report; prints nothing."""


def empty() -> Results:
    """Return results without any."""
    return Results("tiny", "cpu", {"mlax": "0"})


@contextmanager
def without(*packages: str) -> Iterator[None]:
    """Let these packages fail to be imported, as if they were not installed.

    None in their place among the modules would do, but libraries that print arrays take it for the package.
    """

    class Finder(MetaPathFinder):
        def find_spec(self, fullname: str, *_: object) -> None:
            if fullname in packages:
                raise ModuleNotFoundError(f"No module named {fullname!r}")

    with pytest.MonkeyPatch.context() as patch:
        for package in packages:
            patch.delitem(sys.modules, package, raising=False)
        patch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
        yield


def peak_of_many_leaves(results: Results, effort: Effort, progress: Progress) -> None:
    """Measure the memory of a step on more leaves than the other areas."""
    memory.measure(results, dataclasses.replace(effort, large=MANY_LEAVES), progress)


@pytest.fixture(scope="module", autouse=True)
def other_tests_keep_what_they_have_compiled() -> Iterator[None]:
    """Benchmarks begin with empty caches; the tests that run next in this process would have to fill them again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "clear_caches", lambda: None)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with the files that the command writes, and its output. PyTorch is made to look missing."""
    folder = tmp_path_factory.mktemp("benchmarks")
    console = Console(width=200, record=True, file=io.StringIO())
    with pytest.MonkeyPatch.context() as patch, without("torch"):
        patch.setattr(command, "QUICK", TINY)
        patch.setattr(command, "Console", lambda **_: console)
        patch.setattr(modules, "MODULES", 2)
        patch.setattr(networks, "MLP", MLP.of(hidden=8))
        patch.setattr(networks, "CONV_NET", CONV_NET.of(width=2))
        one_block = networks.transformer(1).of(time=4, features=8)
        patch.setattr(networks, "transformer", lambda _: one_block)
        patch.setattr(devices, "CASES", {case: devices.CASES[case] for case in SENT})
        patch.setattr(calls, "FEW", 1)
        patch.setattr(calls, "MANY", 2)
        patch.setattr(imports, "MODULES", ("mlax", "json"))
        patch.setattr(imports, "_importing", lambda module: lambda: None)
        only_mlax = {"mlax": PEERS["mlax"]}, dict[str, str]()
        patch.setattr(memory, "available", lambda: only_mlax)
        patch.setitem(command.AREAS, "memory", peak_of_many_leaves)
        patch.chdir(ROOT)  # where `python -m benchmarks.memory` is found
        status = command.main(["--quick", "--output", str(folder)])
        assert status == 0, console.export_text()
    return folder, console.export_text()


def test_everything_is_measured_and_kept(whole: tuple[Path, str]) -> None:
    """The JSON has every figure of every round, and can be read again."""
    folder, _ = whole
    read = json.loads((folder / "tiny.json").read_text())
    assert set(read) == {field.name for field in dataclasses.fields(Results)}
    assert {"mlax", "jax", "optax", "equinox", "flax", "mlx"} <= set(read["versions"])
    results = Results.load(folder / "tiny.json")
    assert dataclasses.asdict(results) == {
        **read,
        "measurements": [{**one, "rounds": tuple(one["rounds"])} for one in read["measurements"]],
    }
    assert not jax.config.jax_enable_compilation_cache
    areas = {one.area for one in results.measurements}
    assert areas == {"half precision" if area == "half" else area for area in command.AREAS}
    assert all(np.isfinite(one.rounds).all() for one in results.measurements)
    assert all(min(one.rounds) > 0 for one in results.measurements if one.unit in ("s", "lines"))

    for tree in TINY.trees:
        there = [name for name, peer in PEERS.items() if peer.package != "torch"]
        assert results.candidates("steps", tree.case) == [*there, steps.IDENTITY]
        for name in results.candidates("steps", tree.case):
            step = results.find("steps", tree.case, name, "step")
            assert step is not None
            assert len(step.rounds) == TINY.rounds
            assert results.find("steps", tree.case, name, "first call") is not None
            planned = results.find("steps", tree.case, name, "memory")
            assert (planned is None) == (name == "MLX")
            if planned is not None and name != steps.IDENTITY:  # weights, gradients, two moments
                assert planned.rounds[0] >= 4 * tree.nbytes
                if tree.dtype == "float32":  # and nothing twice, also not the gradients
                    assert planned.rounds[0] < 4.7 * tree.nbytes
                instructions = results.find("steps", tree.case, name, "instructions")
                assert instructions is not None
                assert instructions.rounds[0] > 10
    kept = {
        one.candidate: one.rounds[0]
        for one in results.measurements
        if one.quantity == "kept for each weight"
    }
    assert kept["float32"] == pytest.approx(12, abs=0.01)
    assert kept["bfloat16, stochastic"] == pytest.approx(6, abs=0.01)
    (grown,) = [one.rounds[0] for one in results.measurements if one.area == "memory"]
    assert grown >= 3.5 * MANY_LEAVES.nbytes

    for case in (MLP.case, CONV_NET.case):
        assert results.candidates("networks", case) == list(LIBRARIES)
        for quantity in ("first call", "trace", "step"):
            assert results.find("networks", case, "mlax", quantity) is not None
    assert results.candidates("networks", networks.DEPTHS) == ["1 blocks"]


def test_a_step_sends_no_more_than_optax(whole: tuple[Path, str]) -> None:
    """Collectives of each kind, and bytes, of programs on eight devices."""
    results = Results.load(whole[0] / "tiny.json")
    for case, expected in SENT.items():
        ours, theirs = (
            {
                quantity: one.rounds[0]
                for quantity in ("bytes", "collectives", *devices.KINDS)
                if (one := results.find("devices", case, library, quantity))
            }
            for library in ("mlax", "Optax")
        )
        assert {k: n for k, n in ours.items() if k != "collectives"} == expected
        assert ours["collectives"] <= theirs["collectives"]
        assert ours["bytes"] <= theirs["bytes"]


def test_what_was_measured_is_printed_and_drawn(whole: tuple[Path, str]) -> None:
    """A table for each area, the targets, and the libraries that are left out."""
    folder, printed = whole
    for title in (
        "Limit of the memory",
        "Adam, 2 x 1 kB, float32",
        "Number formats",
        "Loss and gradient, MLP",
        "First call in processor time",
        "Code that users write",
        "What one training step sends",
        "eager call of one module",
        "Targets",
    ):
        assert title in printed
    for name, peer in PEERS.items():
        if peer.package == "torch":
            assert f"{name} is left out: torch cannot be imported" in printed
        else:
            assert f" {name} " in printed
    assert "not measured" in printed, "there were no trees of 1,000 leaves"
    assert (folder / "tiny.png").read_bytes().startswith(b"\x89PNG")


def different(**changes: Any) -> Peer:
    """Return mlax with other hyperparameters."""
    algorithm = dataclasses.replace(ADAM, mlax=dataclasses.replace(ADAM.mlax, **changes))
    return dataclasses.replace(
        PEERS["mlax"], start=lambda tree, _: PEERS["mlax"].start(tree, algorithm)
    )


@pytest.mark.parametrize(
    ("changes", "dtype"),
    [
        ({"learning_rate": 1.01e-3}, "float32"),
        ({"b1": 0.91}, "float32"),
        ({"b2": 0.99}, "float32"),
        ({"bias_correction": False}, "float32"),
        ({"b1": 0.5}, "bfloat16"),
    ],
)
def test_different_results_are_found_before_timing(changes: dict[str, Any], dtype: str) -> None:
    """If results differ, nothing is timed."""
    results = empty()
    both = {"Optax": PEERS["Optax"], "another": different(**changes)}
    with pytest.raises(
        DisagreementError, match=rf"1 x 1 kB, {dtype}: not the same.*another differs by"
    ):
        steps.measure_tree(results, small_leaves(1).of(dtype), both, TINY, quietly)
    assert not results.measurements


def test_a_language_model_that_computes_something_else_is_found() -> None:
    """All libraries compute the same logits, before their traces are timed."""
    models = language.forwards(language.LIBRARIES, 1)
    assert list(models) == ["mlax", "Equinox", "flax.nnx"]
    language.agree(models)
    function, weights = models["flax.nnx"]
    for factor in (1.001, np.nan):
        other = language.Forward(lambda w, x, factor=factor: factor * function(w, x), weights)
        with pytest.raises(DisagreementError, match=r"flax\.nnx's logits differ"):
            language.agree({**models, "flax.nnx": other})


@pytest.mark.parametrize("factors", [(1.001, 1.0), (1.0, 1.001), (np.nan, 1.0)])
def test_a_network_that_computes_something_else_is_found(factors: tuple[float, float]) -> None:
    """A loss or a gradient that differs, before anything is timed."""
    w, (of_loss, of_gradient) = np.ones(3, np.float32), factors
    one = Candidate(lambda w: (w.sum(), 2 * w, None), (w,))
    other = Candidate(lambda w: (of_loss * w.sum(), of_gradient * 2 * w, None), (w,))
    agree(MLP, {"mlax": one, "Equinox": one})
    with pytest.raises(DisagreementError, match="MLP: not the same work: Equinox's loss"):
        agree(MLP, {"mlax": one, "Equinox": other})


def test_code_is_counted_without_docstring_and_blank_lines(tmp_path: Path) -> None:
    """What is counted are lines with something on them, and characters without the indentation."""
    file = tmp_path / "model.py"
    file.write_text('"""A model.\n\nOf two lines."""\n\nimport jax\n\n\ndef f():\n    return jax\n')
    assert code.user_code(file) == ["import jax", "def f():", "    return jax"]
    results = empty()
    code.measure(results, TINY, quietly)
    assert results.cases("code") == list(code.FILES)
    assert all(one.rounds[0] > 5 for one in results.measurements)


@pytest.mark.parametrize("blocks", [1, 2])
def test_a_block_of_the_language_model_makes_twelve_calls(
    blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the rest makes four, so that 24 blocks make 292. Checks are off in the candidate without them."""
    checked, run = list[bool](), module_calls._run

    def counted(*args: Any) -> Any:
        checked.append(module_calls.checks_enabled())
        return run(*args)

    monkeypatch.setattr(module_calls, "_run", counted)
    (candidates,) = calls.traces({}, blocks).values()
    for name in ("mlax", "mlax, without checks"):
        candidates[name].function()
    count = 12 * blocks + 4
    assert checked == [*[True] * count, *[False] * count]


def test_not_a_number_is_a_difference() -> None:
    """It compares as smaller than nothing, and as larger."""
    from benchmarks.agreement import agree

    tree = small_leaves(2)
    moved = {name: w + 1 for name, w in tree.weights().items()}
    broken = {**moved, "layer1.bias": np.full(256, np.nan, np.float32)}
    agree(tree, {"one": moved, "same": moved})
    with pytest.raises(DisagreementError, match="other differs by nan"):
        agree(tree, {"one": moved, "other": broken})
    with pytest.raises(DisagreementError, match="one has not moved"):
        agree(tree, {"one": tree.weights(), "other": tree.weights()})


def test_a_weight_that_is_rounded_to_its_neighbour_is_no_difference() -> None:
    """Of steps of few distances between weights, as those of LARS are; if half of the weights are, it is one."""
    from benchmarks.agreement import agree

    tree = small_leaves(2)
    moved = {name: w + np.float32(4e-8) for name, w in tree.weights().items()}
    neighbours = {name: np.nextafter(w, np.float32(1)) for name, w in moved.items()}
    one = {
        name: np.where(np.arange(w.size).reshape(w.shape) > 0, moved[name], w)
        for name, w in neighbours.items()
    }
    half = {
        name: np.where(np.arange(w.size).reshape(w.shape) % 2, moved[name], w)
        for name, w in neighbours.items()
    }
    agree(tree, {"one": moved, "other": one})
    with pytest.raises(DisagreementError, match="other differs by"):
        agree(tree, {"one": moved, "other": half})


def test_sizes_of_large_trees() -> None:
    """1 kB and 1 MB in float32; the transformer has the leaves of one."""
    assert small_leaves(1_000).nbytes == 1_000 * 2**10
    assert large_leaves().nbytes == 64 * 2**20
    tree = transformer()
    assert tree.leaves == 2 + 12 * 16 + 2
    assert 11e6 < tree.size < 13e6
    assert tree.of("bfloat16").nbytes == tree.nbytes // 2
    names = {tree.case for tree in FULL.trees}
    assert len(names) == len(FULL.trees)
    for effort in (FULL, QUICK):
        assert all(effort.builds_of(tree) >= 1 for tree in effort.trees)


def test_page_keeps_its_text(
    whole: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the text between the marks is replaced, and only areas that were measured."""
    results = Results.load(whole[0] / "tiny.json")
    real = (ROOT / page.PAGE).read_text()
    monkeypatch.chdir(tmp_path)
    page.PAGE.parent.mkdir()
    page.PAGE.write_text("before\n" + page.BEGIN + "\nold\n" + page.END + "\nafter\n")
    page.write(results)
    written = page.PAGE.read_text()
    assert written.startswith(
        f"before\n{page.BEGIN}\n\n[area]: # (limits)\n\nMeasured on {results.date[:10]}, "
    )
    assert written.endswith(page.END + "\nafter\n")
    assert "old" not in written
    assert "| Optax |" in written
    assert page.PICTURE.exists()
    page.PICTURE.unlink()
    some = [one for one in results.measurements if one.area == "limits"]
    page.write(dataclasses.replace(results, date="2000-01-01", measurements=some))
    _, limits, others = page.PAGE.read_text().split("[area]: # (", 2)
    assert "Measured on 2000-01-01, " in limits
    assert others == written.split("[area]: # (", 2)[2]
    assert not page.PICTURE.exists()
    page.PAGE.write_text("no marks")
    with pytest.raises(ValueError, match=r"expected \[begin tables"):
        page.write(results)
    assert real.count(page.BEGIN) == real.count(page.END) == 1


def test_command_refuses_unknown_names(capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is measured."""
    with pytest.raises(SystemExit, match="2"):
        command.main(["--only", "everything"])
    assert "invalid choice: 'everything'" in capsys.readouterr().err


def test_command_looks_first_where_results_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run of many minutes does not end in an error that could be seen before."""
    monkeypatch.setattr(command, "run", None)
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(SystemExit, match="2"):
        command.main(["--output", str(file / "in it")])
    assert f"Not a directory: '{file}" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        command.main(["--docs"])
    assert "docs/benchmarks.md is not there" in capsys.readouterr().err
    page.PAGE.parent.mkdir()
    page.PAGE.write_text("no marks")
    with pytest.raises(SystemExit, match="2"):
        command.main(["--docs"])
    assert "expected [begin tables]" in capsys.readouterr().err


def test_results_survive_a_later_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An area that fails, and Ctrl-C; a part of a run does not take the place of a whole one."""

    def fail(*_: object) -> None:
        raise RuntimeError("no luck\nat all")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "QUICK", TINY)
    monkeypatch.setattr(command, "AREAS", {**command.AREAS, "half": fail, "memory": interrupt})
    (tmp_path / "tiny.json").write_text("whole")
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    arguments = ["--quick", "--output", str(tmp_path), "--only", "half", "--only", "limits"]
    assert command.main(arguments) == 1
    assert "half is incomplete: it failed with RuntimeError: no luck\n" in capsys.readouterr().out
    results = Results.load(tmp_path / "tiny-half-limits.json")
    assert {one.area for one in results.measurements} == {"limits"}
    assert results.environment["OMP_WAIT_POLICY"] == "passive"
    assert results.commit is None or len(results.commit.removesuffix("-dirty")) == 40

    assert command.main([*arguments[:3], "--only", "limits", "--only", "memory"]) == 130
    kept = tmp_path / "tiny-limits-memory.unfinished.json"
    assert kept.name in capsys.readouterr().out.replace("\n", "")
    assert Results.load(kept).cases("limits")
    assert (tmp_path / "tiny.json").read_text() == "whole"
    assert {path.suffix for path in tmp_path.iterdir()} == {".json"}


def test_libraries_that_cannot_be_imported_are_left_out() -> None:
    """Each one separately, with a line that says so."""
    with without("flax.nnx", "equinox", "mlx.core"):
        there, missing = peers.available()
        assert {"flax.nnx", "Equinox", "MLX"} <= set(missing)
        assert {"mlax", "Optax"} <= set(there)
        assert missing["flax.nnx"].startswith("flax.nnx is left out: flax.nnx cannot be imported")
        compared = {name for case in modules.cases().values() for name in case}
        assert compared == {"mlax", "mlax, out of jit", "plain class", "tuples"}
        called = calls.cases(there) | calls.traces(there, 1)
        compared = {name for case in called.values() for name in case}
        assert compared == {"mlax", "mlax, without checks", "mlax, of 100"}


def test_blocked_imports_are_not_needed_to_start() -> None:
    """In a process that has imported nothing yet."""
    code = (
        "import sys; sys.modules['flax'] = sys.modules['equinox'] = None\n"
        "import benchmarks.__main__ as command, benchmarks.peers as peers\n"
        "print(sorted({'Equinox', 'flax.nnx'} & set(peers.available()[1])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert done.stdout == "['Equinox', 'flax.nnx']\n"


def test_algorithms_do_the_same_with_defaults_of_both() -> None:
    """What the tables call Adam is Adam with no option set."""
    assert ADAM.mlax == optim.Adam()


def test_all_algorithms_of_both_libraries_are_timed_with_the_same_numbers() -> None:
    """Found by name; 39 today. Hyperparameters of one name have one default."""
    assert len(ALGORITHMS) >= 39
    assert list(ALGORITHMS)[: len(FEW)] == list(FEW)
    for algorithm in ALGORITHMS.values():
        optimizer: Any = algorithm.mlax
        peer: Any = peer_of(type(optimizer))
        for name, parameter in inspect.signature(peer).parameters.items():
            theirs = parameter.default
            if isinstance(theirs, int | float) and hasattr(optimizer, name):
                assert getattr(optimizer, name) in (theirs, theirs or None), (algorithm.name, name)
