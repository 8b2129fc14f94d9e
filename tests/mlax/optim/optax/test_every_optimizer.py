"""Every generated optimizer does what Optax requires of a gradient transformation.

Steps are only traced: a property of a jaxpr holds for all numbers.
"""

import inspect
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.extend.core import Literal

from mlax import optim
from mlax.optimizer import HELD, Optimizer
from mlax.optimizer._specified import specifications
from tests.mlax.generated_optimizers import (
    MODULES,
    arguments,
    close,
    every_case,
    every_optimizer,
    optimizer_class,
    rate_name,
    types,
)

pytestmark = pytest.mark.one_python

WEIGHTS: Any = {"a": jnp.ones((2, 3)), "none": None, "c": [jnp.linspace(0.1, 1.0, 4)]}
GRADIENTS: Any = jax.tree.map(lambda w: 0.1 * w, WEIGHTS)


def shape_of(tree: Any) -> Any:
    """Return what a loop needs to stay the same."""
    return jax.tree.structure(tree), types(tree)


@every_case
def test_the_adapter_is_the_optimizer(name: str, options: dict[str, Any]) -> None:
    """The same program as the native step, whatever else it is given; a state that loops can carry."""
    optimizer = optimizer_class(MODULES[name])(**options)
    transformation = optim.to_optax(optimizer)
    assert isinstance(transformation, optax.GradientTransformationExtraArgs)

    def native(gradients: Any, state: Any, weights: Any, given: Any) -> Any:
        return optimizer.step(gradients, state, weights, **given)  # type: ignore[attr-defined]

    def adapted(gradients: Any, state: Any, weights: Any, given: Any) -> Any:
        return transformation.update(gradients, state, weights, **given, unexpected=given)

    state = jax.jit(transformation.init)(WEIGHTS)
    everything = (GRADIENTS, state, WEIGHTS, arguments(name, GRADIENTS))
    traced, result = jax.make_jaxpr(adapted, return_shape=True)(*everything)
    assert str(traced) == str(jax.make_jaxpr(native)(*everything))
    assert shape_of(result) == shape_of((WEIGHTS, state))


@every_case
def test_optax_maps_a_state(name: str, options: dict[str, Any]) -> None:
    """`tree.map_params` runs `init` on a placeholder. It maps parts that are like the weights and leaves the
    others alone.
    """
    transformation = optim.to_optax(optimizer_class(MODULES[name])(**options))
    state: Any = jax.eval_shape(transformation.init, WEIGHTS)
    mapped: Any = optax.tree.map_params(
        transformation, lambda _: "slot", state, transform_non_params=lambda _: "scalar"
    )
    assert jax.tree.structure(mapped) == jax.tree.structure(state)
    scalars = {"step", "key"} | {
        field for field, value in state._asdict().items() if getattr(value, "shape", None) == ()
    }
    for field, value in mapped._asdict().items():
        expected = "scalar" if field in scalars else "slot"
        assert set(jax.tree.leaves(value)) <= {expected}, field


def needs_weights(name: str) -> bool:
    step = inspect.signature(MODULES[name].step)
    return step.parameters["weights"].default is inspect.Parameter.empty


@every_optimizer
def test_weights_are_asked_for_where_they_are_read(name: str) -> None:
    """And only there: Optax's `update(updates, state)` works where the algorithm does not read them."""
    transformation = optim.to_optax(optimizer_class(MODULES[name])())
    state = jax.eval_shape(transformation.init, WEIGHTS)

    def update() -> Any:
        return jax.eval_shape(
            lambda s: transformation.update(GRADIENTS, s, **arguments(name, GRADIENTS)), state
        )

    if (
        needs_weights(name) or name == "adafactor"
    ):  # adafactor: where an option reads them, by default
        with pytest.raises(ValueError, match="needs the weights"):
            update()
    else:
        assert shape_of(update()[1]) == shape_of(state)


def schedulable(cls: type[Optimizer]) -> list[str]:
    return [name for name, spec in specifications(cls).items() if spec.schedulable]


@every_optimizer
def test_injected_numbers_win(name: str) -> None:
    """Each schedulable hyperparameter that Optax injects is the one of the step, whatever the state held."""
    cls = optimizer_class(MODULES[name])
    defaults = {key: cls.__dataclass_fields__[key].default for key in schedulable(cls)}
    given = {key: 0.125 if value is None else 0.5 * value for key, value in defaults.items()}
    assert rate_name(name) in given

    def factory(numbers: dict[str, Any]) -> optax.GradientTransformation:
        return optim.to_optax(cls(**numbers))

    state = factory(dict.fromkeys(given, 0.25)).init(WEIGHTS)
    assert all(getattr(state.hyperparameters, key) is HELD for key in given)

    def numbers_of_the_step(numbers: Any) -> Any:  # what else is in the step, XLA leaves out
        _, after = factory(numbers).update(GRADIENTS, state, WEIGHTS, **arguments(name, GRADIENTS))
        return {key: getattr(after, key) for key in given}

    arrays = {key: jnp.float32(value) for key, value in given.items()}
    assert jax.jit(numbers_of_the_step)(arrays) == given
    # Python's numbers are not injected: the state's stay.
    assert jax.jit(lambda: numbers_of_the_step(given))() == dict.fromkeys(given, 0.25)


def injectable(name: str) -> tuple[Any, list[str]]:
    """Return a factory as `optax.inject_hyperparams` takes it, and which of its numbers have to be static."""
    cls = optimizer_class(MODULES[name])
    specs = specifications(cls)

    def factory(*args: Any, **kwargs: Any) -> optax.GradientTransformation:
        return optim.to_optax(cls(*args, **kwargs))

    signature = inspect.signature(cls)
    factory.__signature__ = signature  # type: ignore[attr-defined]
    numbers = {key: p.default for key, p in signature.parameters.items() if is_number(p.default)}
    static = [key for key in numbers if not (specs[key].arrays or specs[key].schedulable)]
    assert {key for key in static if isinstance(numbers[key], float)} <= {"eps"}
    return factory, static


@every_optimizer
def test_all_floats_are_injected(name: str) -> None:
    """Without `static_args` for any but those that a step branches on, and with a state that loops can carry."""
    factory, static = injectable(name)
    specs = specifications(optimizer_class(MODULES[name]))
    transformation = optax.inject_hyperparams(factory, static_args=static)()
    state: Any = jax.eval_shape(transformation.init, WEIGHTS)
    parameters = inspect.signature(factory).parameters.values()
    numbers = {p.name for p in parameters if is_number(p.default)}
    assert set(state.hyperparams) == numbers - set(static)

    def update(gradients: Any, state: Any, weights: Any, given: Any) -> Any:
        return transformation.update(gradients, state, weights, **given)

    everything = (GRADIENTS, state, WEIGHTS, arguments(name, GRADIENTS))
    traced, result = jax.make_jaxpr(update, return_shape=True)(*everything)
    assert shape_of(result) == shape_of((WEIGHTS, state))
    # Those that are injected are read, not those of the inner state.
    used = {v for e in traced.jaxpr.eqns for v in e.invars if not isinstance(v, Literal)}
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(everything)]
    read = {p for p, v in zip(paths, traced.jaxpr.invars, strict=True) if v in used}
    inner = "[1].inner_state."
    assert not read & {f"{inner}{part}{key}" for key in specs for part in ("", "hyperparameters.")}
    assert f"[1].hyperparams['{rate_name(name)}']" in read


@every_optimizer
def test_injected_numbers_are_those_of_the_optimizer(name: str) -> None:
    """With all floats injected and a schedule for one of them, updates and slots are those of the optimizer.

    In float64: in float32, 1 - b2 of an array differs from that of a number.
    """
    factory, static = injectable(name)
    given = {rate_name(name): optax.linear_schedule(0.1, 0.0, 4)}

    @jax.jit
    def both(weights: Any) -> Any:
        results: list[Any] = []
        for transformation in (
            factory(**given),
            optax.inject_hyperparams(factory, static_args=static)(**given),
        ):
            state = transformation.init(weights)
            options = arguments(name, weights)
            updates, state = transformation.update(weights, state, weights, **options)
            inner = getattr(state, "inner_state", state)
            results.append((updates, inner._replace(hyperparameters=None)))
        return results

    with jax.enable_x64(True):
        assert close(*both({"w": jnp.linspace(0.1, 1.0, 4)}), rtol=1e-12)


@every_optimizer
def test_states_keep_their_types_in_every_dtype(name: str) -> None:
    """In a branch, and with all floats injected."""
    factory, static = injectable(name)
    inject = optax.inject_hyperparams(factory, static, hyperparam_dtype=jnp.float32)
    transformation = inject()

    def update(weights: Any, state: Any, condition: Any) -> Any:
        return jax.lax.cond(
            condition,
            lambda: transformation.update(weights, state, weights, **arguments(name, weights)),
            lambda: (weights, state),
        )

    for dtype in ("float16", "bfloat16", "float64"):
        with jax.enable_x64(dtype == "float64"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*slots is too narrow", UserWarning)
            weights = {"w": jnp.ones(3, dtype)}
            state = jax.eval_shape(transformation.init, weights)
            assert shape_of(jax.eval_shape(update, weights, state, True)) == shape_of(
                (weights, state)
            )


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
