"""To whom: groups expanded from the directory, every recipient known, open and named once."""

from dataclasses import dataclass
from typing import Final

from schemas.addresses import Tier
from schemas.checks.directory import Agency, Directory
from schemas.envelope import Envelope
from schemas.identifiers import AgencyCode
from schemas.refusal import Problem

_MAX_HEIRS: Final = 3
"""Successors that a problem names; the directory has them all."""


@dataclass(frozen=True, slots=True)
class Addressee:
    """A recipient as the directory had it at acceptance; its tier then is the one that figures count."""

    code: AgencyCode
    tier: Tier


def address(
    envelope: Envelope, directory: Directory, max_recipients: int
) -> tuple[tuple[Addressee, ...], tuple[Problem, ...]]:
    """Find the addressees of an envelope.

    A group stands for its open, connected members without the sender; an agency that a group and a name both reach
    gets one delivery. A recipient that is known but not connected yet is addressed: its mail waits.

    Returns:
        The addressees sorted by code, and every problem found; nothing may be delivered when there is one.
    """
    problems: list[Problem] = []
    found: dict[AgencyCode, Agency] = {}
    named: set[str] = set()
    for index, recipient in enumerate(envelope.to):
        pointer = f"/to/{index}"
        if recipient in named:
            problems.append(Problem("E406", pointer, f"{recipient} is named twice", f"{recipient} ghi hai lần"))
            continue  # a thousand times the same group must not cost a thousand expansions
        named.add(recipient)
        if ":" in recipient:
            members = [agency for agency in directory.members_of(recipient) if agency.code != envelope.from_]
            found.update((agency.code, agency) for agency in members)
            if not members:
                problems.append(Problem("E404", pointer, f"{recipient} has no members", f"{recipient} không có đơn vị"))
            continue
        agency = directory.agencies.get(AgencyCode(recipient))
        if agency is None:
            problems.append(Problem("E404", pointer, recipient, recipient))
        elif agency.state == "open":
            found[agency.code] = agency
        else:
            problems.append(_not_open(agency, pointer))
    if len(found) > max_recipients:
        problems.append(
            Problem("E406", "/to", f"{len(found)} recipients", f"{len(found)} đơn vị nhận"),
        )
    return tuple(Addressee(code, found[code].tier) for code in sorted(found)), tuple(problems)


def _not_open(agency: Agency, pointer: str) -> Problem:
    if agency.state == "suspended":
        return Problem("E405", pointer, agency.code, agency.code)
    heirs = ", ".join(agency.successors[:_MAX_HEIRS]) or "—"
    return Problem("E408", pointer, f"successor: {heirs}", f"đơn vị kế thừa: {heirs}")
