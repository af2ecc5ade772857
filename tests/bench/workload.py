"""The traffic of the national axis from 12 March to 30 September 2019, as documents to be sent.

The only public figures (seed article of 15 November 2019): 163,107 documents sent and 488,165 received, by tier of the
sender and of the recipient. 95 units of ministry and province rank, 60 of them through a platform and 35 directly, and
1,200 departments and districts below them, through the platforms; 10 units had traffic of communes. Everything else
here is chosen, plausible and repeatable: the same seed gives the same documents.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from schemas.addresses import Tier
from schemas.directory_file import AgencyEntry, DirectoryFile, MandateEntry, PlatformEntry
from schemas.identifiers import AgencyCode

SENT: Final[Mapping[Tier, int]] = {"ministry-province": 116_630, "department-district": 44_889, "commune": 1_588}
RECEIVED: Final[Mapping[Tier, int]] = {"ministry-province": 343_547, "department-district": 143_697, "commune": 921}

UNITS: Final = 95
MINISTRIES: Final = 32
PLATFORMS: Final = 60
DEPARTMENTS: Final = 1_200
COMMUNES: Final = 50
UNITS_WITH_COMMUNES: Final = 10
SINCE: Final = "2019-03-12"
DOCUMENTS: Final = sum(SENT.values())

_MOST_RECIPIENTS: Final = 40
_HOURS: Final = (0, 0, 0, 0, 0, 0, 0, 2, 9, 13, 14, 10, 2, 5, 11, 13, 13, 7, 1, 0, 0, 0, 0, 0)
"""Share of a working day's documents in each hour, percent; an office's day."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One document to be sent.

    Attributes:
        sender: From whom.
        recipients: To whom, each once.
        remark_characters: Length of what makes its envelope larger.
    """

    sender: AgencyCode
    recipients: tuple[AgencyCode, ...]
    remark_characters: int


@dataclass(frozen=True, slots=True)
class Nation2019:
    """Who was connected in 2019.

    Attributes:
        file: All of them as a directory.
        by_tier: Their codes.
    """

    file: DirectoryFile
    by_tier: Mapping[Tier, Sequence[AgencyCode]]


def nation() -> Nation2019:
    """Make the connected agencies of 2019: 95 endpoints, of which 60 are platforms for their own branch."""
    codes = [AgencyCode(f"{'G' if number < MINISTRIES else 'H'}{number:02}") for number in range(UNITS)]
    entries: list[AgencyEntry] = []
    platforms: list[PlatformEntry] = []
    for number, code in enumerate(codes):
        if number >= PLATFORMS:
            entries.append(_entry(code, None, code, "ministry-province"))
            continue
        platform = AgencyCode(f"lgsp-{code.lower()}")
        platforms.append(PlatformEntry(code=platform, name=f"Nền tảng LGSP của {code}", valid_from=SINCE))
        entries.append(_entry(code, None, platform, "ministry-province"))
        entries.extend(_below(code, platform, "department-district", 1, DEPARTMENTS // PLATFORMS))
        if number < UNITS_WITH_COMMUNES:
            entries.extend(_below(code, platform, "commune", 101, COMMUNES // UNITS_WITH_COMMUNES))
    mandates = tuple(
        MandateEntry(platform=entry.endpoint, agency=entry.code, actions=("new",), valid_from=SINCE)
        for entry in entries
        if entry.endpoint is not None and entry.endpoint != entry.code
    )
    by_tier: dict[Tier, list[AgencyCode]] = {tier: [] for tier in SENT}
    for entry in entries:
        by_tier[entry.tier].append(entry.code)
    file = DirectoryFile(agencies=tuple(entries), platforms=tuple(platforms), mandates=mandates)
    return Nation2019(file, by_tier)


def plan(nation2019: Nation2019, *, share: float = 1.0, seed: int = 2019) -> list[Planned]:
    """Plan the documents of the seven months, or a share of them.

    Args:
        nation2019: Who takes part.
        share: 1 for all of it; a smaller one keeps the proportions, rounded.
        seed: Where chance begins.

    Returns:
        Documents in the order in which they are sent; at `share` 1 exactly as many by tier as in 2019, on both sides.
    """
    chance = Random(seed)
    sent, received = _scaled(SENT, share), _scaled(RECEIVED, share)
    senders = [tier for tier, count in sent.items() for _ in range(count)]
    chance.shuffle(senders)
    sizes = _sizes(len(senders), sum(received.values()), chance)
    pool = Counter(received)
    return [
        _planned(chance.choice(nation2019.by_tier[tier]), _deal(pool, size, chance), nation2019, chance)
        for tier, size in zip(senders, sizes, strict=True)
    ]


def hours_of(documents: int) -> Iterator[float]:
    """Say when each of the documents of one working day is sent, hours since midnight, as in an office."""
    for hour, percent in enumerate(_HOURS):
        count = round(documents * percent / 100)
        yield from (hour + index / count for index in range(count))


def _below(unit: AgencyCode, endpoint: AgencyCode, tier: Tier, first: int, count: int) -> Iterator[AgencyEntry]:
    for number in range(first, first + count):
        yield _entry(AgencyCode(f"{unit}.{number:02}"), unit, endpoint, tier)


def _entry(code: AgencyCode, parent: AgencyCode | None, endpoint: AgencyCode, tier: Tier) -> AgencyEntry:
    return AgencyEntry(code=code, name=f"Đơn vị {code}", tier=tier, parent=parent, endpoint=endpoint, valid_from=SINCE)


def _scaled(figures: Mapping[Tier, int], share: float) -> dict[Tier, int]:
    return {tier: max(1, round(count * share)) for tier, count in figures.items()}


def _sizes(documents: int, recipients: int, chance: Random) -> list[int]:
    """Draw how many recipients each document has: most have one, few have many, the sum is exact."""
    sizes = [1 + min(_MOST_RECIPIENTS - 1, int(chance.paretovariate(1.2)) - 1) for _ in range(documents)]
    missing = recipients - sum(sizes)
    while missing:
        index = chance.randrange(documents)
        step = 1 if missing > 0 else -1
        if 1 <= sizes[index] + step <= _MOST_RECIPIENTS:
            sizes[index] += step
            missing -= step
    return sizes


def _deal(pool: Counter[Tier], size: int, chance: Random) -> Counter[Tier]:
    """Take recipients of a document out of what is left of all, each tier by its share."""
    dealt: Counter[Tier] = Counter()
    for _ in range(size):
        (tier,) = chance.choices(list(pool), weights=list(pool.values()))
        pool[tier] -= 1
        dealt[tier] += 1
    return dealt


def _planned(sender: AgencyCode, tiers: Counter[Tier], nation2019: Nation2019, chance: Random) -> Planned:
    chosen: list[AgencyCode] = []
    for tier, count in tiers.items():
        others = [code for code in chance.sample(nation2019.by_tier[tier], count + 1) if code != sender]
        chosen.extend(others[:count])
    return Planned(sender, tuple(sorted(chosen)), min(1_800, int(chance.lognormvariate(5.5, 0.8))))
