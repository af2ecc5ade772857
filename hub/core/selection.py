"""Which dead letters: the same filters for listing, grouping, dismissing and replaying."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal, get_args

from schemas.addresses import Tier
from schemas.directory_file import VIETNAM
from schemas.identifiers import AgencyCode, DocumentId
from schemas.refusal import CATALOGUE, Actor

Kind = Literal["delivery", "submission"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

LetterState = Literal["open", "dismissed"]
"""Whether a person has closed a dead letter without sending it again."""

Side = Literal["sender", "recipient", "hub", "operator"]
"""Whose turn it is."""
SIDES: Final[tuple[Side, ...]] = get_args(Side)


@dataclass(frozen=True, slots=True)
class Selection:
    """A filter; what is `None` or empty takes everything.

    Attributes:
        standing: Open ones or dismissed ones.
        ids: Only these letters.
        code: Only those with this code.
        side: Only those whose turn it is.
        agency: Only this recipient, or this broker user.
        sender: Only deliveries from this agency.
        tier: Only recipients that were of this tier at acceptance.
        document: Only this document.
        kind: Only deliveries, or only submissions.
        since: Only those that died at this moment or later.
        until: Only those that died before.
    """

    standing: LetterState = "open"
    ids: tuple[str, ...] = ()
    code: str | None = None
    side: Side | None = None
    agency: AgencyCode | None = None
    sender: AgencyCode | None = None
    tier: Tier | None = None
    document: DocumentId | None = None
    kind: Kind | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def codes(self) -> list[str] | None:
        """The codes that are asked for; `None` for all."""
        if self.code is not None:
            return [self.code] if self.side in (None, side_of(self.code)) else []
        if self.side is None:
            return None
        return [code for code in CATALOGUE if side_of(code) == self.side]

    @property
    def takes_everything(self) -> bool:
        """Whether nothing is asked for."""
        return all(value in (None, ()) for name, value in asdict(self).items() if name != "standing")

    @property
    def is_of_whole_groups(self) -> bool:
        """Whether the groups it touches lie in it with all their letters of that standing."""
        finer = (self.sender, self.tier, self.document, self.since, self.until)
        return not self.ids and all(value is None for value in finer)

    def facts(self) -> dict[str, Any]:
        """Write down what was asked for, for the ledger."""
        asked = {name: value for name, value in asdict(self).items() if value not in (None, ())}
        return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in asked.items()}


def side_of(code: str) -> Actor:
    """Say who must act on a code; a code that left the catalogue is for the operator."""
    return CATALOGUE[code].acts if code in CATALOGUE else "operator"


GRAMMAR: Final = (
    "code=E807 side=sender|recipient|hub|operator agency=H26 sender=G22 tier=commune document=ID kind=delivery|submission"
    " since=2026-11-23|2026-11-23T09:05|2h|7d until=… state=open|dismissed, a group such as E807@H26, or the id of a letter"
)
"""How people write a selection, the same in every command."""

_AGO: Final = re.compile(r"([0-9]{1,5})([mhd])")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}
_GROUP: Final = re.compile(r"([EN][0-9]{3})@(\S*)")
_LETTER: Final = re.compile(r"[0-9a-f]{64}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def read_selection(terms: Sequence[str], now: datetime) -> Selection:
    """Read what a person wrote.

    Args:
        terms: As `GRAMMAR` says.
        now: The present, from which `2h` counts back.

    Raises:
        ValueError: When a term is none of these; the message says which and what would be.
    """
    asked: dict[str, Any] = {}
    for term in terms:
        name, equals, value = term.partition("=")
        if equals and value and name in _READERS:
            _ask(asked, _FIELDS.get(name, name), _READERS[name](value, now))
        elif group := _GROUP.fullmatch(term):
            _ask(asked, "code", group[1])
            _ask(asked, "agency", AgencyCode(group[2]))
        elif _LETTER.fullmatch(term.lower()):
            asked["ids"] = (*asked.get("ids", ()), term.lower())
        else:
            raise ValueError(f"{term}: no filter. Filters are {GRAMMAR}")
    return Selection(**asked)


def read_moment(text: str, now: datetime) -> datetime:
    """Read `2026-11-23`, `2026-11-23T09:05`, both in the time of Vietnam, or `30m`, `2h`, `7d` ago.

    Raises:
        ValueError: When it is none of these.
    """
    if ago := _AGO.fullmatch(text):
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text}: no moment such as 2026-11-23, 2026-11-23T09:05, 30m, 2h or 7d") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=VIETNAM)


def _ask(asked: dict[str, Any], field: str, value: Any) -> None:
    if field in asked:
        raise ValueError(f"{field} is asked for twice")
    asked[field] = value


def _one_of(*allowed: str) -> Callable[[str, datetime], str]:
    def read(text: str, _now: datetime) -> str:
        if text not in allowed:
            raise ValueError(f"{text}: none of {', '.join(allowed)}")
        return text

    return read


def _document(text: str, _now: datetime) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", text.lower()):
        raise ValueError(f"{text}: no document id, which has 64 hexadecimal digits")
    return text.lower()


def _plain(text: str, _now: datetime) -> str:
    return text


_READERS: Final[Mapping[str, Callable[[str, datetime], Any]]] = {
    "code": _one_of(*CATALOGUE),
    "side": _one_of(*SIDES),
    "agency": _plain,
    "sender": _plain,
    "tier": _one_of(*get_args(Tier)),
    "document": _document,
    "kind": _one_of(*KINDS),
    "since": read_moment,
    "until": read_moment,
    "state": _one_of(*get_args(LetterState)),
}
_FIELDS: Final = {"state": "standing"}
