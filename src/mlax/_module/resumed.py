"""What runs after the function that made it has returned: coroutines and generators, with the options of its call."""

import types
from collections.abc import AsyncGenerator, Generator
from contextlib import AbstractContextManager
from typing import Any, cast

from mlax._module.frames import StaticOptions, with_static_options

__all__ = ["resumed_with"]


def resumed_with(options: StaticOptions, result: Any) -> Any:
    """Return the result of a call so that it runs with the static options of that call, whenever it is resumed.

    Args:
        options: The options.
        result: Anything. A coroutine, a generator, an asynchronous generator, a `map` or a `filter`
            is wrapped; all else is returned as it is.
    """
    if isinstance(result, types.CoroutineType):
        return _coroutine(options, result)
    if isinstance(result, types.AsyncGeneratorType):
        return _async_generator(options, result)
    if isinstance(result, types.GeneratorType):
        return _generator(options, result)
    if isinstance(result, (map, filter)):
        return _generator(options, (item for item in cast("map[Any]", result)))
    return result


class _Steps(Generator[Any, Any, Any]):
    """A generator or coroutine of which each step runs with static options. None is held between the steps."""

    def __init__(self, options: StaticOptions, inner: Any) -> None:
        self._options = options
        self._inner = inner

    def _context(self) -> AbstractContextManager[None]:
        return with_static_options(self._options)

    def send(self, value: Any) -> Any:
        with self._context():
            return self._inner.send(value)

    def throw(self, *error: Any) -> Any:
        with self._context():
            return self._inner.throw(*error)

    def close(self) -> None:
        with self._context():
            self._inner.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self


# Generators of Python around them, as `inspect` and asyncio expect.


def _generator(options: StaticOptions, inner: Any) -> Generator[Any, Any, Any]:
    return (yield from _Steps(options, inner))


async def _coroutine(options: StaticOptions, inner: Any) -> Any:
    return await _Steps(options, inner)


async def _async_generator(options: StaticOptions, inner: Any) -> AsyncGenerator[Any, Any]:
    step: Any = inner.asend(None)
    while True:
        try:
            item = await _Steps(options, step)
        except StopAsyncIteration:
            return
        try:
            step = inner.asend((yield item))
        except GeneratorExit:
            await _Steps(options, inner.aclose())
            raise
        except BaseException as error:
            step = inner.athrow(error)
