"""The business status of a delivery, which never goes back.

```
          ┌────────────► 02 not accepted
nothing ──┼─► 01 arrived ─► 03 registered ─► 04 assigned ─► 05 in process ─► 06 finished     each may be skipped
13 asks for it back, until 06: asked ─► 15 agreed, the end   or   ─► 16 declined, and it goes on where it stood
```

Two things stand beside each other, because statuses of recipient and sender cross on their way: how far the recipient
has come, and whether the sender has asked for something. While asked, the recipient may still come further. A document
that recalls, updates or replaces another one asks by itself, so 15 and 16 answer it without a 13; they are about that
document. What does not fit is late or repeated: it is recorded and changes nothing.

Source: QCVN 102:2016/BTTTT for the codes; the order of them is ours. Not here: whether the agency may set the status
(`hub.core.settlement`). Nothing of this touches the state in which the hub's own work on a delivery stands.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, get_args

from schemas.envelope import Action
from schemas.receipt import StatusCode

Progress = Literal["01", "02", "03", "04", "05", "06"]
Request = Literal["asked", "agreed", "declined"]

ASKS_BACK: Final[StatusCode] = "13"
"""The only status that the sender of a document sets."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a delivery stands.

    Attributes:
        progress: How far the recipient has come with it; nothing before its first status.
        request: What became of the wish to have it back, or of the wish that the document itself is.
    """

    progress: Progress | None = None
    request: Request | None = None


NOTHING_YET: Final = Standing()


@dataclass(frozen=True, slots=True)
class Rung:
    """What a status does, and where it may be set.

    Attributes:
        progress: From where.
        request: And while which request stands.
        to: The attributes of the standing that are different afterwards.
    """

    progress: frozenset[Progress | None]
    request: frozenset[Request | None]
    to: Mapping[str, Any]


def _behind(*progress: Progress | None) -> frozenset[Progress | None]:
    return frozenset(progress)


_GOES_ON: Final[frozenset[Request | None]] = frozenset({None, "asked", "declined"})
_ANY_PROGRESS: Final[frozenset[Progress | None]] = frozenset({None, *get_args(Progress)})

RUNGS: Final[Mapping[StatusCode, Rung]] = {
    "01": Rung(_behind(None), _GOES_ON, {"progress": "01"}),
    # What is not accepted need not be given back any more.
    "02": Rung(_behind(None, "01"), _GOES_ON, {"progress": "02", "request": None}),
    "03": Rung(_behind(None, "01"), _GOES_ON, {"progress": "03"}),
    "04": Rung(_behind(None, "01", "03"), _GOES_ON, {"progress": "04"}),
    "05": Rung(_behind(None, "01", "03", "04"), _GOES_ON, {"progress": "05"}),
    "06": Rung(_behind(None, "01", "03", "04", "05"), _GOES_ON, {"progress": "06"}),
    "13": Rung(_behind(None, "01", "03", "04", "05"), frozenset({None, "declined"}), {"request": "asked"}),
    "15": Rung(_ANY_PROGRESS, frozenset({"asked"}), {"request": "agreed"}),
    "16": Rung(_ANY_PROGRESS, frozenset({"asked"}), {"request": "declined"}),
}


def first_standing(action: Action) -> Standing:
    """Say where the delivery of a new document stands, by what the document does to others."""
    return Standing(request=None if action == "new" else "asked")


def climb(standing: Standing, status: StatusCode) -> Standing | None:
    """Say where a delivery stands after a status; `None` when the status comes too late or again."""
    rung = RUNGS[status]
    if standing.progress not in rung.progress or standing.request not in rung.request:
        return None
    return replace(standing, **rung.to)
