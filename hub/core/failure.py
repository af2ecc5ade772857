"""The class of a failure: whether sending the same delivery again can help.

It follows from the catalogue, which says for each code whether the same bytes can succeed later:

- *permanent*: they cannot. Nothing is retried; a person must act.
- *passing*: they can, by themselves. Retried as long as the document lives.
- *unknown*: only the recipient knows, or it says something that nobody else understands. Retried with a cap.
"""

from typing import Final, Literal

from schemas.refusal import CATALOGUE

FailureClass = Literal["permanent", "passing", "unknown"]

_KNOWN_TO_THE_RECIPIENT_ALONE: Final = frozenset({"E805", "E807"})
"""Given back without a word; could not be processed, without a reason that has a code."""

_BY_THE_DIRECTORY: Final = ("E2", "E4")
"""Keys and rights. The hub has found them right, so the recipient's copy of the directory is another one, and that may
change by itself."""


def class_of(code: str) -> FailureClass:
    """Say of which class a failure is, by its own code or by the one that the recipient gives for it."""
    known = CATALOGUE.get(code)
    if known is None or code in _KNOWN_TO_THE_RECIPIENT_ALONE:
        return "unknown"
    if known.retry:
        return "passing"
    return "unknown" if code.startswith(_BY_THE_DIRECTORY) else "permanent"
