"""How people say which dead letters they mean."""

from datetime import UTC, datetime, timedelta

import pytest

from hub.core.selection import Selection, read_selection, side_of
from schemas.identifiers import AgencyCode, DocumentId

NOW = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)


def test_filters_are_read() -> None:
    terms = ["code=E807", "side=recipient", "agency=H26", "sender=G22", "tier=commune", "kind=delivery", "since=2h"]
    assert read_selection([*terms, f"document={'AB' * 32}", "until=2026-11-24T08:00", "state=dismissed"], NOW) == (
        Selection(
            standing="dismissed",
            code="E807",
            side="recipient",
            agency=AgencyCode("H26"),
            sender=AgencyCode("G22"),
            tier="commune",
            document=DocumentId("ab" * 32),
            kind="delivery",
            since=NOW - timedelta(hours=2),
            until=datetime(2026, 11, 24, 1, 0, tzinfo=UTC),
        )
    )


def test_group_and_letters_are_named_as_the_lists_show_them() -> None:
    assert read_selection(["E807@H26"], NOW) == Selection(code="E807", agency=AgencyCode("H26"))
    letters = ("ab" * 32, "00000000-0000-8000-8000-000000000000")
    assert read_selection([*letters], NOW).ids == letters


@pytest.mark.parametrize(
    "terms",
    [
        ["colour=red"],
        ["code="],
        ["code=E000"],
        ["H26"],
        ["since=yesterday"],
        ["tier=village"],
        ["document=ab"],
        ["code=E807", "E808@H26"],
        ["--all"],
    ],
    ids=" ".join,
)
def test_what_is_no_filter_is_refused(terms: list[str]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_selection(terms, NOW)


def test_day_begins_at_midnight_in_vietnam() -> None:
    assert read_selection(["since=2026-11-24"], NOW).since == datetime(2026, 11, 23, 17, 0, tzinfo=UTC)


def test_side_stands_for_its_codes() -> None:
    assert Selection().codes is None
    assert Selection(code="E807").codes == ["E807"]
    assert Selection(code="E807", side="sender").codes == []
    assert "E807" in (Selection(side="recipient").codes or [])
    assert side_of("E000") == "operator"


def test_nothing_asked_for_is_everything() -> None:
    assert Selection(standing="dismissed").takes_everything
    assert not Selection(kind="delivery").takes_everything
    assert Selection(code="E807", agency=AgencyCode("H26")).is_of_whole_groups
    assert not Selection(since=NOW).is_of_whole_groups
    assert Selection(code="E807", since=NOW).facts() == {
        "standing": "open",
        "code": "E807",
        "since": "2026-11-24T02:00:00+00:00",
    }
