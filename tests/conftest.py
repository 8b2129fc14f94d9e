"""Settings for all tests."""

import gc

from hypothesis import settings

# JAX compiles when a function first sees a shape, so the time of one example says nothing. Whether the tests pass
# depends on the code alone; `pytest --hypothesis-profile=explore` tries examples that were not tried before.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile("repeatable")


def pytest_collection_finish() -> None:
    """Let Python look for garbage less often: it would search all that JAX has traced and compiled, again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
