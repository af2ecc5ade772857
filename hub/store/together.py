"""Several statements that do not see each other's work, sent to the database as one.

Each way there and back costs both sides more than a row does, and most transactions have few of those.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from hub.store.pool import Connection

_PARAMETER: Final = re.compile(r"\$(\d+)")


class Together:
    """Statements to run as one, all by the same snapshot; what each returns can be named by those behind it.

    In which order they run is the database's affair, but for those that name the rows of others: so at most one of them may
    wait for another transaction.
    """

    def __init__(self) -> None:
        self._statements: list[tuple[str, str, int]] = []
        self._answers: list[tuple[str, str, int]] = []
        self._arguments: list[Any] = []

    def add(self, name: str, statement: str, *arguments: Any) -> None:
        """Add a statement, which counts its parameters from `$1`.

        Args:
            name: What others call its rows.
            statement: One that changes no row that another one of these changes: the second change would be lost.
            arguments: Of its parameters.
        """
        self._statements.append((name, statement, len(self._arguments)))
        self._arguments.extend(arguments)

    def answer(self, name: str, expression: str, *arguments: Any) -> None:
        """Ask for a value, or call a function, by an expression that counts its parameters from `$1`."""
        self._answers.append((name, expression, len(self._arguments)))
        self._arguments.extend(arguments)

    async def run(self, connection: Connection) -> Mapping[str, Any]:
        """Run all of them, if there are any; returns the answers by name."""
        if not self._statements and not self._answers:
            return {}
        row = await connection.fetchrow(_text(tuple(self._statements), tuple(self._answers)), *self._arguments)
        return dict(row or {})


@lru_cache(maxsize=64)
def _text(statements: Sequence[tuple[str, str, int]], answers: Sequence[tuple[str, str, int]]) -> str:
    parts = ",".join(f"{name} AS ({_behind(statement, before)})" for name, statement, before in statements)
    asked = ", ".join(f"{_behind(expression, before)} AS {name}" for name, expression, before in answers)
    return f"{'WITH ' if parts else ''}{parts} SELECT {asked}"


def _behind(statement: str, before: int) -> str:
    """Count the parameters of a statement behind those of others."""
    return _PARAMETER.sub(lambda found: f"${int(found[1]) + before}", statement)
