"""Sending business statuses over REST; that they arrive is the journey's to show."""

import pytest

from tests.gateways import OTHER, PLATFORM, SENDER, open_counter

DOCUMENT = "0" * 64


def draft(**changes) -> dict:
    return {"document": DOCUMENT, "to": SENDER, "status": "03"} | changes


@pytest.mark.parametrize(
    ("changes", "code", "pointer"),
    [
        ({"status": "07"}, "E502", "/status"),
        ({"status": "02"}, "E502", ""),
        ({"document": "x"}, "E502", "/document"),
        ({"to": "h26"}, "E502", "/to"),
        ({"staff": {"name": ""}}, "E502", "/staff/name"),
        ({"from": OTHER}, "E401", "/from"),
        ({"at": 1}, "E502", "/at"),
    ],
)
async def test_what_is_wrong_with_a_status_is_said_at_once(tmp_path, changes, code, pointer):
    async with open_counter(tmp_path) as counter:
        answer = await counter.http.post("/v1/statuses", json=draft(**changes))

    assert answer.status_code == 422
    assert (answer.json()["code"], answer.json()["pointer"]) == (code, pointer)


async def test_a_platform_must_say_whose_status_it_is(tmp_path):
    async with open_counter(tmp_path, code=PLATFORM) as counter:
        answer = await counter.http.post("/v1/statuses", json=draft())

    assert (answer.status_code, answer.json()["pointer"]) == (422, "/from")


async def test_without_a_broker_it_is_to_be_sent_again(tmp_path):
    async with open_counter(tmp_path) as counter:
        answer = await counter.http.post("/v1/statuses", json=draft())

    assert (answer.status_code, answer.json()["code"]) == (503, "E901")
    assert answer.json()["retryable"]
