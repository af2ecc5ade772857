"""Files and packets over REST, as far as they are checked before the hub is asked; that they travel is the journey's."""

import hashlib
from pathlib import Path

import pytest

from schemas.envelope import Part
from schemas.publish import PUBLISHED
from tests.gateways import AGENCY, open_counter

PDF = b"%PDF-1.7"
DIGEST = hashlib.sha256(PDF).hexdigest()
EXAMPLES = PUBLISHED / "examples" / "edxml"


@pytest.fixture
async def counter(tmp_path):
    async with open_counter(tmp_path) as counter:
        yield counter


async def put(counter, content: bytes = PDF, digest: str = DIGEST, name: str = "văn bản.pdf", **headers: str):
    given = {"Content-Type": "application/pdf"} | headers
    return await counter.http.put(f"/v1/parts/{digest}", params={"name": name}, content=content, headers=given)


async def test_bytes_that_are_not_what_the_address_says_go_no_further(counter):
    answer = await put(counter, digest="0" * 64)

    assert (answer.status_code, answer.json()["code"], answer.json()["pointer"]) == (422, "E504", "/path/sha256")
    assert DIGEST in answer.json()["found"]["en"]


@pytest.mark.parametrize("name", ["../etc/passwd", "..", "a/b", "a\\b", "a\nb", "\u202efdp.exe"])
async def test_a_name_that_is_a_path_or_deceives_is_refused(counter, name):
    answer = await put(counter, name=name)

    assert (answer.status_code, answer.json()["code"], answer.json()["pointer"]) == (422, "A206", "/query/name")


async def test_a_part_that_is_too_large_is_refused_whether_it_says_so_or_not(counter):
    counter.office.max_part_bytes = 100_000

    async def endless():
        while True:
            yield b" " * 65536

    said = await put(counter, content=b" " * 100_001)
    unsaid = await put(counter, content=endless())

    assert [(answer.status_code, answer.json()["code"]) for answer in (said, unsaid)] == [(413, "A204")] * 2


async def test_nothing_stays_in_the_spool(counter):
    counter.office.max_part_bytes = 100_000
    await put(counter, digest="0" * 64)
    await put(counter, content=b" " * 100_001)
    await put(counter)

    assert not names_in(counter.office.spool)


async def test_without_hub_url_a_part_is_refused_with_what_is_missing(counter):
    answer = await put(counter)

    assert (answer.status_code, answer.json()["code"]) == (503, "A101")
    assert "not set" in answer.json()["en"]


async def test_without_hub_url_the_axis_cannot_be_asked(counter):
    answer = await counter.http.get(f"/v1/agencies/{AGENCY}/capabilities")

    assert (answer.status_code, answer.json()["code"]) == (503, "A101")


async def test_a_file_that_does_not_belong_to_a_delivery_is_not_found(counter):
    part = Part(name="a.pdf", media_type="application/pdf", sha256=DIGEST, length=len(PDF))
    kept = await counter.arrive(parts=(part,))
    unknown = [
        await counter.http.get(f"/v1/deliveries/{kept.delivery_id}/parts/{'0' * 64}"),
        await counter.http.get(f"/v1/deliveries/{'00000000-0000-8000-8000-000000000000'}/parts/{DIGEST}"),
        await counter.http.get("/v1/deliveries/00000000-0000-8000-8000-000000000000/packet"),
    ]
    known = await counter.http.get(f"/v1/deliveries/{kept.delivery_id}/parts/{DIGEST}")

    assert [answer.json()["code"] for answer in unknown] == ["A202"] * 3
    assert known.json()["code"] == "A101"  # it is the hub that is missing


# The others depend on directory and day, or only lower what stands behind the packet.
REFUSED = sorted(
    each for each in (EXAMPLES / "refused").glob("*.edxml") if each.stem[:4] in ("E508", "E510", "E511", "E513", "E514")
)


async def submit(counter, packet: bytes, key: str = "k1"):
    headers = {"Idempotency-Key": key, "Content-Type": "application/edxml+xml"}
    return await counter.http.post("/v1/documents", content=packet, headers=headers)


@pytest.mark.parametrize("file", REFUSED, ids=lambda file: file.stem)
async def test_a_packet_that_is_wrong_is_refused_and_nothing_is_kept(counter, file):
    answer = await submit(counter, file.read_bytes())

    assert answer.status_code == 422
    assert answer.json()["code"] == file.stem[:4]
    assert await counter.office.mailbox.claim("k1") is None


@pytest.mark.parametrize(
    "packet", [b"", b"<x/>", b"not xml", "<?xml version='1.0' encoding='UTF-16'?><a/>".encode("utf-16")]
)
async def test_what_is_no_packet_is_refused(counter, packet):
    answer = await submit(counter, packet)

    assert (answer.status_code, answer.json()["code"]) == (422, "E510")


async def test_a_status_packet_is_no_document(counter):
    answer = await submit(counter, (EXAMPLES / "valid" / "status-03.edxml").read_bytes())

    assert (answer.status_code, answer.json()["code"]) == (422, "E512")


async def test_a_packet_from_somebody_else_is_refused_with_its_place(counter):
    answer = await submit(counter, (EXAMPLES / "valid" / "document-new.edxml").read_bytes())

    assert answer.status_code == 422
    told = {(each["code"], each["pointer"]) for each in answer.json()["problems"]}
    assert ("E401", "/edXML/edXMLEnvelope/edXMLHeader/MessageHeader/From/OrganId") in told or any(
        code == "E401" and pointer.startswith("/edXML/") for code, pointer in told
    )


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]
