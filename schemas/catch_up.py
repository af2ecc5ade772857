"""What the hub says to an agency that lost what it had about its getting everything again."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.identifiers import AgencyCodeText
from schemas.wire import Instant, Version1, Wire

CatchUpState = Literal["running", "suspended", "paused", "stopped", "cancelled", "done"]


class CatchUp(Wire):
    """The answer to `POST` and `GET /v1/agencies/{code}/catch-up` of the hub.

    Attributes:
        v: Version of this format.
        number: Number of the replay, by which the operator finds it.
        agency: Whose deliveries are handed out again.
        since: From when on.
        state: Where it stands; only the operator pauses or cancels it. Suspended while the directory suspends the agency:
            it goes on by itself when the agency is open again.
        size: Deliveries that are to be handed out again.
        handed_out: How many of them are in the queue again.
        not_handed_out: How many will not come: cancelled, or not taken by the queue for a day.
        per_minute: Most deliveries a minute.
    """

    v: Version1 = 1
    number: int
    agency: AgencyCodeText
    since: Instant
    state: CatchUpState
    size: Annotated[int, Field(ge=0)]
    handed_out: Annotated[int, Field(ge=0)]
    not_handed_out: Annotated[int, Field(ge=0)]
    per_minute: Annotated[int, Field(ge=1)]
