"""What the hub says about an agency to those who want to send it something."""

from typing import Annotated

from pydantic import Field

from schemas.addresses import Tier
from schemas.directory_file import State
from schemas.identifiers import AgencyCodeText
from schemas.wire import Instant, Version1, Wire, text


class Capabilities(Wire):
    """The answer to `GET /v1/agencies/{code}` of the hub.

    Attributes:
        v: Version of this format.
        code: Code of the agency.
        name: Name in Vietnamese.
        tier: Its tier today.
        state: Whether it takes part: `open`, `suspended`, `closed`.
        connected: Whether its mail has a queue; until then it waits.
        successors: Who took over, for a closed one.
        formats: Types of signed objects that may be sent to it.
        max_envelope_bytes: Largest signed object.
        max_parts: Most parts of a document.
        max_part_bytes: Largest part.
        silent_since: Since when documents wait for it while nothing was heard of it; absent while none wait.
    """

    v: Version1 = 1
    code: AgencyCodeText
    name: Annotated[str, text(300)]
    tier: Tier
    state: State
    connected: bool
    successors: Annotated[tuple[AgencyCodeText, ...], Field(max_length=50)] = ()
    formats: tuple[Annotated[str, text(100)], ...]
    max_envelope_bytes: int
    max_parts: int
    max_part_bytes: int
    silent_since: Instant | None = None
