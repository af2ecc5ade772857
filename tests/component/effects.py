"""The one function that every effect of a loop passes, able to stop the process before or after it."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from random import Random
from types import TracebackType
from typing import Any


class ProcessDied(BaseException):
    """The process is gone. No `except Exception` of the code under test can notice it, as with kill -9."""


class Effects:
    """Counts the points at which a process can die, and dies at the chosen one.

    Attributes:
        points: What was passed so far, such as `before ledger.record`.
        die_at: Number of the point to die at; `None` for never.
        pauses: How long each effect takes, by chance, so that two turns of a loop get ahead of each other; `None` where
            there is one at a time.
    """

    def __init__(self, die_at: int | None = None, pauses: Random | None = None) -> None:
        self.points: list[str] = []
        self.die_at = die_at
        self.pauses = pauses
        self.dead = False

    @property
    def deaths(self) -> list[int]:
        """The points at which a death is a case of its own.

        Before an effect everything that lasts is as it was after the one before it, so a death there is the same.
        """
        return [
            index
            for index, name in enumerate(self.points)
            if index == 0 or not (name.startswith("before ") and self.points[index - 1].startswith("after "))
        ]

    def point(self, name: str) -> None:
        if self.dead:
            # What a dead process still had in flight, such as a thread that comes back, has no effect any more.
            raise ProcessDied(name)
        self.points.append(name)
        if self.die_at is not None and len(self.points) - 1 == self.die_at:
            self.dead = True
            raise ProcessDied(name)

    async def pause(self) -> None:
        """Let somebody else go on, when anybody is there."""
        for _ in range(self.pauses.randrange(6) if self.pauses else 0):
            await asyncio.sleep(0)


class Effectful:
    """Stands before a real thing and makes a point before and after each of its coroutine methods.

    Nothing is listed by hand: a loop that begins to use another method gets two more points by itself.
    """

    def __init__(self, thing: Any, name: str, effects: Effects) -> None:
        self._thing = thing
        self._name = name
        self._effects = effects

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(self._thing, attribute)
        if inspect.iscoroutinefunction(value):
            return self._guarded(value, f"{self._name}.{attribute}")
        if callable(value):

            def call(*args: Any, **kwargs: Any) -> Any:
                result = value(*args, **kwargs)
                if hasattr(result, "__aenter__"):
                    return _EffectfulContext(result, f"{self._name}.{attribute}", self._effects)
                return result

            return call
        return value

    def _guarded(self, method: Callable[..., Awaitable[Any]], name: str) -> Callable[..., Awaitable[Any]]:
        async def guarded(*args: Any, **kwargs: Any) -> Any:
            self._effects.point(f"before {name}")
            result = await method(*args, **kwargs)
            await self._effects.pause()
            self._effects.point(f"after {name}")
            return result

        return guarded


class _EffectfulContext:
    def __init__(self, context: Any, name: str, effects: Effects) -> None:
        self._context = context
        self._name = name
        self._effects = effects

    async def __aenter__(self) -> Any:
        self._effects.point(f"before {self._name}")
        value = await self._context.__aenter__()
        await self._effects.pause()
        self._effects.point(f"after {self._name}")
        return Effectful(value, self._name, self._effects)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Any:
        if kind is not None and issubclass(kind, ProcessDied):
            return await self._context.__aexit__(kind, error, trace)
        self._effects.point(f"before end of {self._name}")
        result = await self._context.__aexit__(kind, error, trace)
        await self._effects.pause()
        self._effects.point(f"after end of {self._name}")
        return result
