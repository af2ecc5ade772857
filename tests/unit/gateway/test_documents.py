"""Handing documents in over REST: keys, checks beforehand, and what is said when it goes wrong."""

import asyncio

import pytest

from adapters.gateway import loops
from schemas.envelope import ENVELOPE_TYP, read_envelope
from schemas.refusal import CATALOGUE
from schemas.signing import Verified, identity, verify
from tests.gateways import AGENCY, OTHER, PLATFORM, SENDER, draft, now, open_counter
from tests.played_hub import now_s


@pytest.fixture
async def counter(tmp_path):
    async with open_counter(tmp_path) as counter:
        yield counter


def codes(answer) -> list[tuple[str, str]]:
    body = answer.json()
    return [(each["code"], each["pointer"]) for each in body.get("problems", [body])]


async def test_a_document_is_signed_and_written_down_before_the_answer(counter):
    answer = await counter.submit(draft(), key="công-văn-1".encode("ascii", "ignore").decode())

    assert answer.status_code == 202
    body = answer.json()
    assert (body["from"], body["state"]) == (AGENCY, "waiting")
    assert [each["code"] for each in body["recipients"]] == [SENDER]
    ((document_id, token),) = await counter.office.mailbox.waiting(10)
    assert document_id == body["document"] == identity(token)
    keys = counter.office.index.today().view.keys
    verified = verify(token, typ=ENVELOPE_TYP, keys=keys, now_s=now_s())
    assert isinstance(verified, Verified)
    envelope = read_envelope(verified.payload)
    assert (envelope.from_, envelope.via, envelope.to) == (AGENCY, None, (SENDER,))


async def test_the_same_key_with_the_same_request_is_the_same_document(counter):
    first = await counter.submit(draft(), key="k1")
    again = await counter.submit(draft(action="new"), key="k1")  # the default, written out

    assert (again.status_code, again.json()) == (202, first.json())
    assert len(await counter.office.mailbox.waiting(10)) == 1


async def test_the_same_key_at_the_same_moment_is_the_same_document(counter):
    answers = await asyncio.gather(*(counter.submit(draft(), key="k1") for _ in range(20)))

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["document"] for answer in answers}) == 1


async def test_the_same_key_with_another_request_is_refused(counter):
    await counter.submit(draft(), key="k1")
    answer = await counter.submit(draft(lifetime_s=3600), key="k1")

    assert answer.status_code == 409
    assert codes(answer) == [("A207", "/header/idempotency-key")]


async def test_after_a_restart_a_key_is_known_and_what_waits_is_the_same_bytes(tmp_path):
    async with open_counter(tmp_path) as counter:
        first = (await counter.submit(draft(), key="k1")).json()
        waiting = await counter.office.mailbox.waiting(10)

    async with open_counter(tmp_path) as counter:
        assert (await counter.submit(draft(), key="k1")).json() == first
        assert await counter.office.mailbox.waiting(10) == waiting


async def test_while_the_broker_is_away_documents_are_taken_and_wait(counter):
    sending = asyncio.create_task(loops.send_documents(counter.office))
    answer = await counter.submit(draft())
    await asyncio.sleep(0.3)
    sending.cancel()

    state = await counter.http.get(f"/v1/documents/{answer.json()['document']}")
    assert state.json()["state"] == "waiting"


async def test_more_than_may_wait_are_refused_for_now(tmp_path):
    async with open_counter(tmp_path, max_waiting=1) as counter:
        await counter.submit(draft(), key="k1")
        answer = await counter.submit(draft(), key="k2")
        again = await counter.submit(draft(), key="k1")

    assert (answer.status_code, codes(answer)) == (503, [("A210", "")])
    assert answer.json()["retryable"]
    assert "retry-after" in answer.headers
    assert again.status_code == 202


async def test_a_platform_sends_in_the_name_of_its_agency(tmp_path):
    async with open_counter(tmp_path, code=PLATFORM) as counter:
        answer = await counter.submit(draft(**{"from": OTHER}))
        ((_, token),) = await counter.office.mailbox.waiting(10)

    assert answer.json()["from"] == OTHER
    keys = counter.office.index.today().view.keys
    verified = verify(token, typ=ENVELOPE_TYP, keys=keys, now_s=now_s())
    assert read_envelope(verified.payload).via == PLATFORM


async def test_a_platform_must_say_for_whom(tmp_path):
    async with open_counter(tmp_path, code=PLATFORM) as counter:
        answer = await counter.submit(draft())

    assert (answer.status_code, codes(answer)) == (422, [("E502", "/from")])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"to": ["Z99.KHONGCO"]}, [("E404", "/to/0")]),
        ({"to": [SENDER, SENDER]}, [("E406", "/to/1")]),
        ({"to": []}, [("E502", "/to")]),
        ({"to": ["h26"]}, [("E502", "/to/0")]),
        ({"from": OTHER}, [("E401", "/from"), ("E403", "")]),
        ({"action": "revoke"}, [("E502", "/ref")]),
        ({"lifetime_s": 31 * 86400}, [("E502", "/lifetime_s")]),
        ({"subject": "chưa đúng chỗ"}, [("E502", "/subject")]),
        ({"doc": {"kind": "Công văn"}}, [("E502", f"/doc/{name}") for name in ("subject", "issued_on")]),
    ],
)
async def test_what_is_wrong_with_a_draft_is_said_at_once_and_nothing_is_kept(counter, changes, expected):
    answer = await counter.submit(draft(**changes))

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert codes(answer) == expected
    assert await counter.office.mailbox.waiting(10) == []


async def test_a_refusal_tells_meaning_side_and_both_languages(counter):
    answer = (await counter.submit(draft("Z99.KHONGCO"))).json()

    assert answer["title"] == CATALOGUE["E404"].name
    assert (answer["side"], answer["retryable"], answer["status"]) == ("sender", False, 422)
    assert CATALOGUE["E404"].vi in answer["vi"]
    assert CATALOGUE["E404"].fix_en in answer["en"] == answer["detail"]
    assert answer["found"] == {"en": "Z99.KHONGCO", "vi": "Z99.KHONGCO"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "E501"),
        (b"{", "E501"),
        (b'{"to":[],"to":[]}', "E501"),
        ('{"to": "é"}'.encode("latin-1"), "E501"),
        (b"[" * 100 + b"]" * 100, "E501"),
        (b"[]", "E502"),
        (b"null", "E502"),
    ],
)
async def test_a_body_that_is_no_draft_is_refused(counter, body, code):
    headers = {"Idempotency-Key": "k", "Content-Type": "application/json"}
    answer = await counter.http.post("/v1/documents", content=body, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (422, code)


async def test_a_draft_that_is_too_large_is_refused_whether_it_says_so_or_not(counter):
    async def endless():
        for _ in range(1000):
            yield b" " * 65536

    headers = {"Idempotency-Key": "k", "Content-Type": "application/json"}
    said = await counter.http.post("/v1/documents", content=b" " * 300_000, headers=headers)
    unsaid = await counter.http.post("/v1/documents", content=endless(), headers=headers)

    assert [(answer.status_code, answer.json()["code"]) for answer in (said, unsaid)] == [(413, "A204")] * 2


async def test_a_draft_whose_token_would_be_too_large_is_refused(counter):
    part = {"name": "ệ" * 180, "media_type": "ệ" * 127, "sha256": "0" * 64, "length": 1}
    answer = await counter.submit(draft(parts=[part] * 200))

    assert (answer.status_code, answer.json()["code"]) == (413, "E101")


@pytest.mark.parametrize("media_type", ["", "text/plain", "application/xml", "multipart/form-data; boundary=x"])
async def test_another_media_type_is_refused(counter, media_type):
    answer = await counter.submit(draft(), **{"Content-Type": media_type})

    assert (answer.status_code, codes(answer)) == (415, [("A205", "/header/content-type")])


async def test_a_packed_body_is_refused(counter):
    answer = await counter.submit(draft(), **{"Content-Encoding": "gzip"})

    assert (answer.status_code, codes(answer)) == (415, [("A205", "/header/content-encoding")])


@pytest.mark.parametrize("key", ["", "a b", "x" * 201, None])
async def test_a_key_that_is_missing_or_unusable_is_refused(counter, key):
    headers = {"Content-Type": "application/json"} | ({} if key is None else {"Idempotency-Key": key})
    answer = await counter.http.post("/v1/documents", content=b"{}", headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (422, "A206")
    assert answer.json()["pointer"].lower() == "/header/idempotency-key"


@pytest.mark.parametrize(("document", "status"), [("0" * 64, 404), ("abc", 422), ("A" * 64, 422)])
async def test_a_document_that_was_not_handed_in_here_is_not_found(counter, document, status):
    answer = await counter.http.get(f"/v1/documents/{document}")

    assert answer.status_code == status
    assert answer.json()["code"] == {404: "A202", 422: "A206"}[status]


async def test_nothing_is_taken_while_the_mailbox_cannot_be_used(counter):
    counter.office.mailbox.close()
    answer = await counter.submit(draft())

    assert (answer.status_code, answer.json()["code"]) == (503, "A106")
    assert answer.json()["retryable"]


async def test_forgetting_frees_a_key(counter):
    await counter.submit(draft(), key="k1")
    ((document_id, _),) = await counter.office.mailbox.waiting(10)
    await counter.office.mailbox.mark_confirmed([document_id], now())
    await counter.office.mailbox.forget(now().replace(year=now().year + 1))

    assert (await counter.submit(draft(lifetime_s=60), key="k1")).status_code == 202
