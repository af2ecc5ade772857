"""To whom: groups expanded from the directory, every recipient known, open and named once."""

from hub.core.directory import Agency, Directory
from hub.core.policy import Policy
from hub.core.verdict import Addressee
from schemas.envelope import Envelope
from schemas.identifiers import AgencyCode
from schemas.refusal import Problem


def address(
    envelope: Envelope, directory: Directory, policy: Policy
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
        named.add(recipient)
        if ":" in recipient:
            members = [agency for agency in directory.members_of(recipient) if agency.code != envelope.from_]
            found.update((agency.code, agency) for agency in members)
            if not members:
                problems.append(Problem("E404", pointer, f"{recipient} has no members", f"{recipient} không có đơn vị"))
            continue
        agency = directory.agencies.get(AgencyCode(recipient))
        problem = _check_recipient(recipient, agency, pointer)
        if problem is not None:
            problems.append(problem)
        elif agency is not None:
            found[agency.code] = agency
    if len(found) > policy.max_recipients:
        problems.append(
            Problem("E406", "/to", f"{len(found)} recipients", f"{len(found)} đơn vị nhận"),
        )
    return tuple(Addressee(code, found[code].tier) for code in sorted(found)), tuple(problems)


def _check_recipient(recipient: str, agency: Agency | None, pointer: str) -> Problem | None:
    if agency is None:
        return Problem("E404", pointer, recipient, recipient)
    match agency.state:
        case "open":
            return None
        case "suspended":
            return Problem("E405", pointer, recipient, recipient)
        case "closed":
            heirs = ", ".join(agency.successors) or "—"
            return Problem("E408", pointer, f"successor: {heirs}", f"đơn vị kế thừa: {heirs}")
