"""Every construct of the language becomes code that is laid out well and runs, with a stable state."""

import functools
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlax import LeafMismatchError
from mlax.tree import tree_equal
from mlax_codegen.cli import main
from tests.quickly import QUICKLY

ROOT = Path(__file__).parents[3]
SPECS = sorted((Path(__file__).parents[1] / "specs").glob("*.toml"))


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the modules of all specs here."""
    folder = tmp_path_factory.mktemp("constructs") / "constructs"
    assert main(["generate", *map(str, SPECS), "--output", str(folder)]) == 0
    sys.path.insert(0, str(folder.parent))
    yield folder
    sys.path.remove(str(folder.parent))


def test_all_have_the_layout_of_ruff(package: Path) -> None:
    config = ["--config", str(ROOT / "pyproject.toml"), "--no-cache", str(package)]
    for command in (["format", "--check", "--diff"], ["check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *config],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_a_spec_is_a_page(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= (
        80 if path.stem in {"careful", "phases", "rich"} else 60
    )


def described(tree: Any) -> Any:
    return jax.tree.map(lambda x: str(jax.typeof(x)), tree)


WEIGHTS = {
    "matrix": jnp.ones((4, 3)),
    "vector": jnp.ones(3),
    "scalar": jnp.ones(()),
    "kernel": jnp.ones((2, 3, 4), jnp.bfloat16),
    "empty": jnp.ones((0, 3)),
    "none": None,
}


@pytest.mark.one_python
@pytest.mark.filterwarnings(r"ignore:\w+. the dtype of these slots is too narrow")
@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
@pytest.mark.parametrize("weights", [WEIGHTS, {}], ids=["leaves", "no leaves"])
def test_steps_keep_the_state_as_it_is(path: Path, weights: Any) -> None:
    module: Any = importlib.import_module(f"constructs.{path.stem}")
    [optimizer_class] = [
        found
        for name, found in vars(module).items()
        if name[0].isupper() and getattr(found, "__module__", "") == module.__name__
        if name != "State"
    ]
    optimizer = optimizer_class()
    state = optimizer.init(weights)
    first = described((weights, state))
    trees = getattr(optimizer, "trees", ())
    names = {*getattr(optimizer, "arguments", ())} - {*trees}
    numbers = dict.fromkeys(names, jnp.ones(()))

    def step(carry: Any, scale: Any) -> Any:
        weights, state = carry
        gradients = jax.tree.map(lambda x: scale.astype(x.dtype) * (x + 1), weights)
        given = numbers | dict.fromkeys(trees, gradients)
        return optimizer.apply_gradients(gradients, state, weights, **given), None

    # The equations are compiled once: that is most of the time. A scan refuses a state that changes its types.
    run = jax.jit(
        lambda carry, scales: jax.lax.scan(step, carry, scales)[0], compiler_options=QUICKLY
    )
    for first_scale in (0.0, 1.0):
        after = run((weights, state), jnp.array([first_scale, 1.0, 1.0, 1.0]))
        assert described(after) == first
        assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(after[0]))
    given = numbers | dict.fromkeys(trees, weights)
    updates, _ = jax.eval_shape(functools.partial(optimizer.step, **given), weights, state, weights)
    assert described(updates) == described(weights)
    random = optimizer_class(stochastic_rounding=True)
    take_step = functools.partial(random.apply_gradients, **given)
    shapes = jax.eval_shape(take_step, weights, random.init(weights), weights)
    assert described(shapes) == described((weights, random.init(weights)))


@pytest.mark.one_python
@pytest.mark.usefixtures("package")
def test_work_of_some_steps_and_totals() -> None:
    from constructs import rich  # type: ignore[import-not-found]

    optimizer = rich.Rich()
    weights = {"a": jnp.full((2, 2), 2.0), "b": jnp.full(3, 2.0)}
    gradients = jax.tree.map(jnp.ones_like, weights)
    state = optimizer.init(weights)
    roots = []
    for _ in range(3):
        _, state = optimizer.step(gradients, state, weights, value=jnp.ones(()))
        roots.append(state.root["a"][0])
    assert (roots[0] == roots[1]).all()
    assert (roots[1] != roots[2]).any()
    moved = jax.tree.map(lambda w: w - 1.0, weights)
    _, state = optimizer.step(gradients, optimizer.init(weights), moved, value=jnp.ones(()))
    assert state.d == pytest.approx(7 / 7, rel=1e-4)  # sum of g (w0 - w) over sum of g²
    assert rich.start(state, weights)["b"].tolist() == pytest.approx([3.0] * 3, rel=1e-4)


@pytest.mark.one_python
@pytest.mark.usefixtures("package")
def test_floats_are_swept_and_differentiated() -> None:
    """As those of mlax's own optimizers: a spec says nothing about it."""
    from constructs import rich  # type: ignore[import-not-found]

    def total(numbers: Any) -> Any:
        optimizer = rich.Rich(**numbers)
        weights = {"a": jnp.arange(1.0, 7.0).reshape(2, 3), "b": jnp.full(3, 2.0)}
        state = optimizer.init(weights)
        for step in range(2):
            gradients = jax.tree.map(lambda w, n=step: jnp.cos(w + n), weights)
            given = gradients, state, weights
            weights, state = optimizer.apply_gradients(*given, value=jnp.ones(()))
        return sum(map(jnp.sum, jax.tree.leaves(weights)))

    pairs = [(0.1, 0.9, 1e-3), (0.2, 0.5, 1e-2)]
    each = [dict(zip(("learning_rate", "b2", "d0"), pair, strict=True)) for pair in pairs]
    swept = jax.tree.map(lambda *numbers: jnp.array(numbers), *each)
    run = jax.jit(jax.vmap(jax.value_and_grad(total)), compiler_options=QUICKLY)
    totals, slopes = run(swept)
    for number, numbers in enumerate(each):
        alone = jax.jit(lambda n=numbers: total(n), compiler_options=QUICKLY)()
        assert totals[number] == pytest.approx(float(alone), rel=1e-5)
    assert all(bool((jnp.isfinite(s) & (s != 0)).all()) for s in slopes.values())


@pytest.mark.usefixtures("package")
def test_arguments_are_asked_for_where_an_option_needs_them() -> None:
    from constructs import phases  # type: ignore[import-not-found]

    weights, loss = {"a": jnp.ones(2)}, jnp.ones(())
    optimizer = phases.Phases()
    state = optimizer.init(weights)
    step = functools.partial(optimizer.step, weights, state, weights)
    with pytest.raises(TypeError, match=r"step needs `hessian`.\n  Pass step"):
        step(before=weights, loss=loss)
    with pytest.raises(TypeError, match=r"step needs `before` \(exact is True\).\n  Pass step"):
        step(hessian=weights, loss=loss)
    with pytest.raises(LeafMismatchError, match=r"phases.step: .*`weights`.*\n  before\['a'\]"):
        step(hessian=weights, before={"a": jnp.ones(2, jnp.bfloat16)}, loss=loss)
    other = phases.Phases(exact=False)
    other.step(weights, other.init(weights), weights, hessian=weights)


@pytest.mark.one_python
@pytest.mark.usefixtures("package")
def test_work_of_some_steps_and_functions_that_change_the_state() -> None:
    from constructs import phases

    w = {"a": jnp.array([1.0, -2.0])}
    one, optimizer = jax.tree.map(jnp.ones_like, w), phases.Phases(0.5, b2=0.5, exact=False)
    state = optimizer.init(w)
    curvatures, ways = [], []
    for _ in range(3):
        w, state = optimizer.apply_gradients(one, state, w, hessian={"a": jnp.full(2, 3.0)})
        curvatures.append(float(state.curvature["a"][0]))
        ways.append(float(optimizer.distance(state, w)))
        assert (state.step == 2) == bool((state.d["a"] == 0).all())
    assert curvatures == [2.0, 2.0, 2.5]  # new at steps 1 and 3
    assert (ways[0] > 0, ways[1], ways[2] > 0) == (True, 0.0, True)  # back to `last` at step 2
    after = optimizer.refresh(state, w, hessian={"a": jnp.full(2, 3.5)})
    assert after.curvature["a"].tolist() == [3.0, 3.0]
    assert tree_equal(after._replace(curvature=state.curvature), state)
    with pytest.raises(LeafMismatchError, match=r"phases.refresh: .*\n  hessian\['a'\]"):
        phases.refresh(state, w, hessian={"a": jnp.ones(3)})


def test_what_several_functions_need_is_written_once(package: Path) -> None:
    adafactor = (package / "adafactor.py").read_text()
    assert adafactor.count("return two_largest_axes(") == 1
    assert adafactor.count("axes = _axes_of(h, ") == 4
    soap = (package / "soap.py").read_text()
    assert soap.count("_shape(h: SOAP") == 1
    assert soap.count("Annotated[Entries, _left_and_basis_shape]") == 2


@pytest.mark.usefixtures("package")
def test_complex_weights_are_refused_with_the_reason() -> None:
    from constructs import soap  # type: ignore[import-not-found]

    with pytest.raises(TypeError, match="SOAP: complex leaves are not supported: the eigenbases"):
        soap.init({"w": jnp.ones(2, jnp.complex64)})


@pytest.mark.one_python
@pytest.mark.usefixtures("package")
def test_slots_start_from_the_first_gradient_noise_and_arithmetic() -> None:
    from constructs import starts  # type: ignore[import-not-found]

    b1, b2, w = 0.9, 0.5, jnp.array([1.0, 2.0, 3.0])
    g = jnp.array([1.0, -2.0, 4.0])
    optimizer = starts.Starts(b1=b1, b2=b2, interval=9)
    states = [optimizer.init([w])]
    for gradient in (g, 3 * g):
        states.append(optimizer.step([gradient], states[-1], [w])[1])
    start, once, twice = ({k: v[0] for k, v in x._asdict().items() if k in READ} for x in states)
    for name in ("m", "slow", "first"):
        assert (start[name] == 0).all()
    np.testing.assert_allclose(once["m"], g, rtol=1e-6)  # as it is before `g` changes
    np.testing.assert_allclose(twice["m"], b1 * g + (1 - b1) * 3 * g, rtol=1e-6)
    np.testing.assert_allclose(once["slow"], g + 0.1 * w, rtol=1e-6)  # and after that
    np.testing.assert_allclose(twice["slow"], b2 * once["slow"] + b2 * (3 * g + 0.1 * w), rtol=1e-6)
    np.testing.assert_allclose(twice["first"], g + 0.1 * w, rtol=1e-6)
    np.testing.assert_allclose(start["v"], 1 - b1**2, rtol=1e-6)
    assert states[0].scale == pytest.approx(1 - b1)
    wide = optimizer.init([jnp.zeros((50, 60)), jnp.zeros((50, 60))])
    np.testing.assert_allclose([x.std() for x in wide.noise], 0.1 / 1.1, rtol=0.1)
    assert [x.shape for x in wide.rows] == [(50, 1), (50, 1)]
    assert (wide.noise[0] != wide.noise[1]).all()


READ = ["m", "slow", "first", "v"]


@pytest.mark.one_python
@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.complex64])
def test_a_step_that_is_skipped_changes_nothing(dtype: Any) -> None:
    """The next step is what it would have been: the key, the schedule and the count are as they were."""
    from constructs import careful  # type: ignore[import-not-found]

    optimizer = careful.Careful(learning_rate=lambda step: 0.1 / (1 + step))
    weights = {"a": jnp.arange(1.0, 5.0).astype(dtype), "b": jnp.full((2, 2), 2.0, dtype)}
    step = jax.jit(optimizer.apply_gradients, compiler_options=QUICKLY)
    state = optimizer.init(weights)
    for _ in range(3):
        weights, state = step(weights, state, weights)
    spoilt = weights | {"b": weights["b"].at[0, 0].set(jnp.nan)}
    same, skipped = step(spoilt, state, weights)
    assert tree_equal(same, weights)
    assert tree_equal(skipped._replace(learning_rate=state.learning_rate), state)
    updates, _ = optimizer.step(spoilt, state, weights)
    assert tree_equal(updates, jax.tree.map(jnp.zeros_like, weights))
    assert tree_equal(step(weights, skipped, weights), step(weights, state, weights))


@pytest.mark.one_python
@pytest.mark.usefixtures("package")
def test_a_leaf_may_be_left_out() -> None:
    from constructs import careful

    optimizer = careful.Careful(limit=None, interval=9)
    weights = {"a": jnp.arange(1.0, 5.0), "b": jnp.full((2, 2), 2.0)}
    first, state = optimizer.apply_gradients(weights, optimizer.init(weights), weights)
    assert tree_equal(first, weights)  # waits = 1
    assert (state.step, state.count_of["a"]) == (1, 0)
    assert state.m["a"][3] == pytest.approx(0.1 * 1.001 * 4)
    large = weights | {"b": jnp.full((2, 2), 1e8)}
    updates, state = optimizer.step(large, state, weights)
    assert (updates["a"] != 0).all()
    assert (updates["b"] == 0).all()
    assert (state.count_of["a"], state.count_of["b"]) == (1, 0)


@pytest.mark.usefixtures("package")
def test_noise_differs_by_leaf_and_step() -> None:
    from constructs import noisy_sgd  # type: ignore[import-not-found]

    weights = {"a": jnp.zeros(3), "b": jnp.zeros(3)}
    state = noisy_sgd.init(weights, seed=1)
    first, state = noisy_sgd.step(weights, state)
    second, _ = noisy_sgd.step(weights, state)
    draws = {tuple(leaf.tolist()) for leaf in jax.tree.leaves((first, second))}
    assert len(draws) == 4


@pytest.mark.usefixtures("package")
def test_keys_of_equal_seeds_give_noises_of_their_own() -> None:
    from constructs import two_keys

    weights = jnp.zeros(8)
    updates, _ = two_keys.step(weights, two_keys.init(weights))
    assert (jnp.abs(updates) > 1e-5).all()  # of equal noises, what is left is rounding
