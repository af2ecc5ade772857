"""When each document and each delivery passed, as the agencies' side saw it: written down as it happens, read afterwards.

A file, so that the memory of the process that writes does not grow with the length of the run. One moment on each line,
seconds of the monotonic clock, which all processes of a machine share:

    sent DOCUMENT at
    confirmed DOCUMENT at
    arrived DELIVERY at sent_at
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO


@dataclass(frozen=True, slots=True)
class Moments:
    """A file of moments that is being written."""

    file: TextIO

    def sent(self, document: str, at: float) -> None:
        """Write down when a document was, or was to be, submitted."""
        self.file.write(f"sent {document} {at:.6f}\n")

    def confirmed(self, document: str, at: float) -> None:
        """Write down when the broker had confirmed a document."""
        self.file.write(f"confirmed {document} {at:.6f}\n")

    def arrived(self, delivery: str, at: float, sent_at: float) -> None:
        """Write down when a delivery came, and when its document was sent."""
        self.file.write(f"arrived {delivery} {at:.6f} {sent_at:.6f}\n")


@contextmanager
def writing(path: Path) -> Iterator[Moments]:
    """Begin a file of moments; it is complete at the end."""
    with path.open("w") as file:
        yield Moments(file)


def read(path: Path, began: float, to_wall: float) -> dict[str, Any]:
    """Read what one process saw.

    Args:
        path: The file.
        began: When its first document was due, by the monotonic clock.
        to_wall: What makes seconds since 1970 of that clock's, which the hub's ledger goes by.

    Returns:
        `sent_at` and `confirmed_at` of each document and `arrived_at` of each delivery, seconds since 1970; `arrivals`,
        seconds since the beginning and the delay of each; `received`, how many different deliveries came, and `twice`,
        how many more than that.
    """
    passed: Mapping[str, dict[str, float]] = {"sent": {}, "confirmed": {}, "arrived": {}}
    arrivals = []
    with path.open() as lines:
        for line in lines:
            kind, identity, at, *sent_at = line.split()
            passed[kind][identity] = float(at) + to_wall
            if sent_at:
                arrivals.append((float(at) - began, float(at) - float(sent_at[0])))
    received = len(passed["arrived"])
    return {
        **{f"{kind}_at": moments for kind, moments in passed.items()},
        "arrivals": arrivals,
        "received": received,
        "twice": len(arrivals) - received,
    }
