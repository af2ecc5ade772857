"""The directory as the checks see it: one immutable snapshot of who is who at a moment.

A snapshot is built from the entries in force and replaced as a whole, by one that may share with it what has not
changed; nothing ever changes inside one, so a batch is decided against a single directory. How old a snapshot may be
is for the loops to enforce; the checks only read it.
"""

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeVar

from schemas.addresses import Tier
from schemas.directory_file import (
    AgencyEntry,
    DirectoryFile,
    State,
    in_force,
    key_record,
)
from schemas.envelope import Action
from schemas.identifiers import AgencyCode
from schemas.refusal import Problem
from schemas.signing import KeyRecord

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

PLATFORM_TIER: Final[Tier] = "associate"
"""Platforms stand outside the administrative tiers; their notices travel by the exchange of the associates."""


@dataclass(frozen=True, slots=True)
class Agency:
    """An agency as it is at the moment of the snapshot."""

    code: AgencyCode
    name: str
    tier: Tier
    parent: AgencyCode | None
    endpoint: AgencyCode | None
    state: State
    successors: tuple[AgencyCode, ...] = ()


@dataclass(frozen=True, slots=True)
class Directory:
    """Who is who, at one moment.

    Attributes:
        epoch: Number of the last change that is in it; never falls.
        as_of: The moment it describes.
        agencies: By code, those with an entry in force.
        platforms: Names by code.
        mandates: Allowed actions by platform and agency.
        keys: Certificates by fingerprint, valid or not: a refusal should say why.
        children: Codes of the agencies directly below each agency.
    """

    epoch: int
    as_of: datetime
    agencies: Mapping[AgencyCode, Agency]
    platforms: Mapping[AgencyCode, str]
    mandates: Mapping[tuple[AgencyCode, AgencyCode], frozenset[Action]]
    keys: Mapping[str, KeyRecord]
    children: Mapping[AgencyCode, tuple[AgencyCode, ...]] = field(default_factory=dict)

    def knows(self, party: str) -> bool:
        """Tell whether a broker user, which bears the code of an agency or platform, is known."""
        return AgencyCode(party) in self.agencies or AgencyCode(party) in self.platforms

    def tier_of(self, party: AgencyCode) -> Tier | None:
        """Say by which tier's exchange mail for an agency or platform travels; `None` when it is unknown."""
        if party in self.platforms:
            return PLATFORM_TIER
        agency = self.agencies.get(party)
        return agency.tier if agency else None

    def endpoint_of(self, party: AgencyCode) -> AgencyCode | None:
        """Say whose queue mail for an agency or platform goes to; `None` while it is not connected."""
        if party in self.platforms:
            return party
        agency = self.agencies.get(party)
        return agency.endpoint if agency else None

    def allows(self, platform: AgencyCode, agency: AgencyCode, action: Action) -> bool:
        """Tell whether a mandate in force lets the platform do this for the agency."""
        return action in self.mandates.get((platform, agency), frozenset())

    def members_of(self, group: str) -> Iterable[Agency]:
        """List the open, connected agencies of a group: `tier:…`, `children:CODE` or `descendants:CODE`."""
        kind, _, name = group.partition(":")
        match kind:
            case "tier":
                candidates: Iterable[Agency] = (agency for agency in self.agencies.values() if agency.tier == name)
            case "children":
                candidates = self._below(AgencyCode(name), deep=False)
            case _:
                candidates = self._below(AgencyCode(name), deep=True)
        return (agency for agency in candidates if agency.state == "open" and agency.endpoint is not None)

    def _below(self, top: AgencyCode, *, deep: bool) -> Iterable[Agency]:
        waiting = list(self.children.get(top, ()))
        seen = {top}
        while waiting:
            code = waiting.pop()
            if code in seen:
                continue
            seen.add(code)
            yield self.agencies[code]
            if deep:
                waiting.extend(self.children.get(code, ()))


def snapshot(file: DirectoryFile, *, epoch: int, as_of: datetime, keys: Iterable[KeyRecord] | None = None) -> Directory:
    """Build the directory of a moment from dated entries.

    Args:
        file: All entries; those not in force at `as_of` are left out.
        epoch: Number of the last change in it.
        as_of: The moment.
        keys: Certificates that were read before, so that an unchanged one is not parsed again; by default those of
            the file, without the ones that may not sign.
    """
    nobody = Directory(epoch=epoch, as_of=as_of, agencies={}, platforms={}, mandates={}, keys={})
    return changed(nobody, file, epoch=epoch, as_of=as_of, keys=keys)


def changed(
    before: Directory, file: DirectoryFile, *, epoch: int, as_of: datetime, keys: Iterable[KeyRecord] | None = None
) -> Directory:
    """Build the directory of another moment from one that is held, which stays as it is.

    A mapping in which something changes is copied, the others are shared: a small change costs milliseconds in the
    largest directory.

    Args:
        before: The directory that is held.
        file: What has changed since, by an import or with the day. Of an agency, platform or mandate that it names, all
            entries: one of them may have taken the place of another.
        epoch: Number of the last change.
        as_of: The moment.
        keys: The certificates of the file, where they were read before; see `snapshot`.
    """
    if keys is None:
        read = (key_record(entry) for entry in file.certificates)
        keys = [key for key in read if not isinstance(key, Problem)]
    named = {entry.code for entry in file.agencies}
    agencies = {entry.code: _agency(entry) for entry in file.agencies if in_force(entry, as_of)}
    families = _families(before, named, agencies)
    return Directory(
        epoch=epoch,
        as_of=as_of,
        agencies=_replaced(before.agencies, named, agencies),
        platforms=_replaced(
            before.platforms,
            {entry.code for entry in file.platforms},
            {entry.code: entry.name for entry in file.platforms if in_force(entry, as_of)},
        ),
        mandates=_replaced(
            before.mandates,
            {(entry.platform, entry.agency) for entry in file.mandates},
            {
                (entry.platform, entry.agency): frozenset(entry.actions)
                for entry in file.mandates
                if in_force(entry, as_of)
            },
        ),
        keys=_replaced(before.keys, (), {key.fingerprint: key for key in keys}),
        children=_replaced(
            before.children, families, {parent: tuple(sorted(codes)) for parent, codes in families.items() if codes}
        ),
    )


def endpoints_of(directory: Directory) -> list[AgencyCode]:
    """List everybody who connects: each endpoint of an agency, and each platform."""
    endpoints = {agency.endpoint for agency in directory.agencies.values() if agency.endpoint is not None}
    return sorted(endpoints | set(directory.platforms))


def _agency(entry: AgencyEntry) -> Agency:
    return Agency(
        code=entry.code,
        name=entry.name,
        tier=entry.tier,
        parent=entry.parent,
        endpoint=entry.endpoint,
        state=entry.state,
        successors=entry.successors,
    )


def _replaced(before: Mapping[Key, Value], named: Collection[Key], now: Mapping[Key, Value]) -> Mapping[Key, Value]:
    """Copy a mapping with what some keys stand for now; those that stand for nothing are left out."""
    if not named and not now:
        return before
    after = {**before, **now}
    for key in named:
        if key not in now:
            after.pop(key, None)
    return after


def _families(
    before: Directory, named: Iterable[AgencyCode], agencies: Mapping[AgencyCode, Agency]
) -> dict[AgencyCode, set[AgencyCode]]:
    """Say who is now directly below each agency that loses or wins one."""
    left = _by_parent(before.agencies[code] for code in named if code in before.agencies)
    joined = _by_parent(agencies.values())
    return {
        parent: {*before.children.get(parent, ())} - left[parent] | joined[parent]
        for parent in {*left, *joined}
        if left[parent] != joined[parent]
    }


def _by_parent(agencies: Iterable[Agency]) -> dict[AgencyCode, set[AgencyCode]]:
    below: dict[AgencyCode, set[AgencyCode]] = defaultdict(set)
    for agency in agencies:
        if agency.parent is not None:
            below[agency.parent].add(agency.code)
    return below
