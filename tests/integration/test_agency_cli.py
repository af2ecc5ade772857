"""`truc-agency` as its users run it, against a real broker; the tests play the hub."""

import asyncio
import base64
import hashlib
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pytest

from adapters.round_trip import PART, SUBJECT
from schemas.addresses import INTAKE, RECEIPTS, SUBMIT, agency_queue
from schemas.checks.directory import snapshot
from schemas.directory_file import DirectoryFile
from schemas.envelope import Envelope, read_envelope
from schemas.identifiers import delivery_id_of
from schemas.receipt import RECEIPT_TYP, Answer, Receipt
from schemas.signing import identity, sign
from tests.component.memory import MemoryBlobs, MemoryParts
from tests.hub_process import eventually
from tests.keys import agency_keys
from tests.parts_hub import serving
from tests.played_hub import PATIENCE_S, Axis, envelope, notice_to, now_s, open_axis, signed, status_to
from tests.services import Broker

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def axis(vhost: Broker, tmp_path: Path) -> AsyncIterator[Axis]:
    async with open_axis(vhost, tmp_path) as axis:
        yield axis


class Office:
    """The agency's machine: a folder with settings, key and certificate."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.folder = folder
        self.settings = settings

    def write(self) -> None:
        lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in self.settings.items())
        (self.folder / "truc-agency.toml").write_text(lines)

    @asynccontextmanager
    async def start(self, *arguments: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "adapters",
            *arguments,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def run(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        async with self.start(*arguments, **environment) as process, asyncio.timeout(PATIENCE_S * 2):
            out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()


@pytest.fixture
def office(axis: Axis, tmp_path: Path) -> Office:
    folder = tmp_path / "office"
    folder.mkdir()
    keys = agency_keys(axis.agency)
    (folder / "key.pem").write_bytes(keys.private_key_pem)
    (folder / "certificate.pem").write_text(keys.pem)
    settings = {
        "amqp_url": axis.url(axis.agency),
        "code": axis.agency,
        "key_file": "key.pem",
        "certificate_file": "certificate.pem",
        "directory_file": str(axis.directory_file),
    }
    office = Office(folder, settings)
    office.write()
    return office


@asynccontextmanager
async def parts_of(axis: Axis) -> AsyncIterator[tuple[str, Callable[[], list[bytes]]]]:
    """Serve the hub's parts to the agencies of the axis; gives where, and a look at what is stored."""
    now = datetime.now(UTC)
    directory = DirectoryFile.model_validate_json(axis.directory_file.read_bytes())
    blobs = MemoryBlobs(clock=lambda: datetime.now(UTC))
    who_is_who = snapshot(directory, epoch=1, as_of=now)
    async with serving(blobs, MemoryParts(), who_is_who=who_is_who) as hub:
        yield hub.url, lambda: [content for content, _ in blobs.objects.values()]


async def submitted(axis: Axis) -> Envelope:
    body = (await axis.take(INTAKE)).body
    payload = body.split(b".")[1]
    read = read_envelope(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))
    assert isinstance(read, Envelope)
    return read


async def test_send_prints_the_id_of_what_it_has_submitted(axis, office):
    code, out, err = await office.run(
        "send", "--to", axis.sender, "--subject", "Về việc …", "--signer", "Lê Thị B", "--number", "12"
    )

    assert (code, err) == (0, "")
    message = await axis.take(INTAKE)
    assert message.correlation_id == out.strip()


async def test_send_takes_the_description_of_the_readme(axis, office):
    readme = (ROOT / "adapters" / "README.md").read_text()
    (described,) = (block for block in re.findall(r"```toml\n(.*?)```", readme, re.DOTALL) if "[doc]" in block)
    (office.folder / "mo-ta.toml").write_text(described)

    code, _, err = await office.run("send", "mo-ta.toml")

    assert (code, err) == (0, "")
    sent = await submitted(axis)
    assert (sent.doc.printed_number, sent.doc.kind) == ("12/TB-VP", "Thông báo")


async def test_send_takes_a_description_and_the_options_overrule_it(axis, office):
    (office.folder / "phụ lục.pdf").write_bytes(b"%PDF-1.7")
    (office.folder / "document.toml").write_text(
        f'to = ["{axis.sender}"]\n[doc]\nkind = "Tờ trình"\nsubject = "Cũ"\n[doc.signer]\nname = "Lê Thị B"\n'
    )

    async with parts_of(axis) as (hub_url, stored):
        code, _, err = await office.run(
            "send", "document.toml", "--subject", "Mới", "--part", "phụ lục.pdf", TRUC_AGENCY_HUB_URL=hub_url
        )

    assert (code, err) == (0, "")
    assert stored() == [b"%PDF-1.7"]
    sent = await submitted(axis)
    assert (sent.doc.kind, sent.doc.subject, sent.to) == ("Tờ trình", "Mới", (axis.sender,))
    (part,) = sent.parts
    assert (part.name, part.media_type, part.length) == ("phụ lục.pdf", "application/pdf", 8)
    assert part.sha256 == hashlib.sha256(b"%PDF-1.7").hexdigest()


async def test_send_with_a_part_needs_to_know_the_hub(axis, office):
    (office.folder / "a.pdf").write_bytes(b"%PDF-1.7")

    code, out, err = await office.run("send", "--to", axis.sender, "--subject", "…", "--signer", "B", "--part", "a.pdf")

    assert (code, out, "A101" in err, "hub_url" in err) == (3, "", True, True)


async def test_send_says_what_is_wrong_with_a_description(axis, office):
    code, out, err = await office.run("send", "--to", "không có", "--subject", "…", "--signer", "Lê Thị B")

    assert (code, out) == (2, "")
    assert "LỖI E502" in err
    assert "/to/0" in err


async def test_send_waits_for_the_receipt_and_leaves_documents_alone(axis, office):
    waiting = signed(envelope(axis.sender, axis.agency))
    await axis.deliver(waiting, axis.agency)
    arguments = ("send", "--to", axis.sender, "--subject", "…", "--signer", "Lê Thị B", "--wait", "received")
    async with office.start(*arguments) as process:
        token = (await axis.take(INTAKE)).body
        delivery_id = delivery_id_of(identity(token), axis.sender)
        answer = Answer(delivery=str(delivery_id), outcome="received", at=now_s())
        receipt = Receipt(from_=axis.sender, to=axis.agency, answers=(answer,)).to_json()
        signer = agency_keys(axis.sender).signer
        await axis.deliver(sign(receipt, typ=RECEIPT_TYP, signer=signer, now_s=now_s()), axis.agency)
        _, err = await process.communicate()

    assert process.returncode == 0, err
    assert f"đã nhận {axis.sender}" in err.decode()
    await asyncio.sleep(0.2)
    assert (await axis.take(agency_queue(axis.agency))).body == waiting


async def test_send_gives_up_waiting(axis, office):
    code, out, err = await office.run(
        "--lang",
        "en",
        "send",
        "--to",
        axis.sender,
        "--subject",
        "…",
        "--signer",
        "B",
        "--wait",
        "received",
        "--timeout",
        "0.5",
    )

    assert code == 1
    assert len(out.strip()) == 64
    assert f"No receipt yet from: {axis.sender}" in err


async def test_what_could_not_be_sent_is_kept_and_sent_again_as_the_same_document(axis, office):
    good_url = office.settings["amqp_url"]
    office.settings["amqp_url"] = f"amqp://{axis.agency}:x@127.0.0.1:1/"
    office.write()
    arguments = ("send", "--to", axis.sender, "--subject", "…", "--signer", "B")
    code, out, err = await office.run(*arguments, TRUC_AGENCY_PUBLISH_TIMEOUT_S="0.5")
    assert (code, out) == (4, "")
    assert "LỖI E901" in err

    (kept,) = office.folder.glob("*.jws")
    office.settings["amqp_url"] = good_url
    office.write()
    code, out, _ = await office.run("send", "--token", kept.name)

    assert (code, out.strip()) == (0, kept.stem)
    assert (await axis.take(INTAKE)).body == kept.read_bytes()


async def test_listen_answers_prints_and_keeps_what_arrives(axis, office):
    token = signed(envelope(axis.sender, axis.agency))
    await axis.deliver(token, axis.agency)
    await axis.deliver(notice_to(axis.agency), axis.agency)
    (office.folder / "in").mkdir()

    code, out, err = await office.run("listen", "--count", "2", "--json", "--into", "in")

    assert (code, err) == (0, "")
    document, notice = (json.loads(line) for line in out.splitlines())
    assert (document["arrival"], document["from"], document["to"]) == ("document", axis.sender, axis.agency)
    assert (notice["arrival"], notice["codes"]) == ("notice", ["E404"])
    assert (office.folder / "in" / f"{document['delivery']}.jws").read_bytes() == token
    assert json.loads((office.folder / "in" / f"{document['delivery']}.json").read_text())["from"] == axis.sender
    assert len(list((office.folder / "in").iterdir())) == 4
    assert (await axis.take_receipt()).answers[0].outcome == "received"


async def test_listen_hands_over_once_across_runs(axis, office):
    await axis.deliver(signed(envelope(axis.sender, axis.agency)), axis.agency, times=2)

    first = await office.run("listen", "--for", "3")
    second = await office.run("listen", "--for", "2")

    assert (first[0], len(first[1].splitlines())) == (0, 1)
    assert (second[0], second[1]) == (0, "")
    assert await axis.waiting(RECEIPTS) >= 1
    assert await axis.is_empty(agency_queue(axis.agency))


async def test_one_line_stays_one_line_whatever_the_subject_holds(axis, office):
    facts = envelope(axis.sender, axis.agency).doc.model_copy(update={"subject": "hai\ndòng\tvà \u202eđảo"})
    await axis.deliver(signed(envelope(axis.sender, axis.agency, doc=facts)), axis.agency)

    code, out, _ = await office.run("listen", "--count", "1")

    assert code == 0
    (line,) = out.splitlines()
    assert "hai dòng và  đảo" in line


async def test_listen_ends_in_order_at_sigterm(axis, office):
    await axis.deliver(signed(envelope(axis.sender, axis.agency)), axis.agency)
    async with office.start("listen") as process:
        assert process.stdout is not None
        await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)
        process.send_signal(signal.SIGTERM)
        _, err = await process.communicate()

    assert (process.returncode, err) == (0, b"")
    assert await axis.is_empty(agency_queue(axis.agency))


async def test_listen_ends_quietly_at_ctrl_c(axis, office):
    await axis.deliver(signed(envelope(axis.sender, axis.agency)), axis.agency)
    async with office.start("listen") as process:
        assert process.stdout is not None
        await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()

    assert (process.returncode, err) == (130, b"")


async def test_what_is_not_signed_is_not_sent_as_a_token(axis, office):
    (office.folder / "document.toml").write_text(f'to = ["{axis.sender}"]')

    code, out, err = await office.run("send", "--token", "document.toml")

    assert (code, out) == (2, "")
    assert "LỖI E102" in err
    assert await axis.waiting(INTAKE) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("send", "gone.toml"),
        ("send", "--token", "gone.jws"),
        ("send", "--to", "H17", "--subject", "…", "--signer", "B", "--part", "gone.pdf"),
        ("send", "broken.toml"),
        ("send", "list.json"),
        ("listen", "--into", "gone"),
    ],
    ids=" ".join,
)
async def test_a_wrong_path_is_no_wrong_setting(office, arguments):
    (office.folder / "broken.toml").write_text("to = [")
    (office.folder / "list.json").write_text("[]")

    code, out, err = await office.run(*arguments)

    assert (code, out) == (2, "")
    assert err.startswith(f"{arguments[-1]}: ")
    assert "truc-agency.toml" not in err


@pytest.mark.parametrize("url", ["axis.example", "amqp://H26:x@127.0.0.1:port/", "amqp://H26:x@[::1/", "http://x/"])
async def test_address_that_is_none_is_a_wrong_setting(office, url):
    office.settings["amqp_url"] = url
    office.write()

    code, out, err = await office.run("listen", "--for", "1")
    assert (code, out) == (3, "")
    assert "amqps://MÃ:MẬT-KHẨU@MÁY/" in err
    code, out, err = await office.run("doctor")
    assert (code, err) == (1, "")
    assert "HỎNG     thiết lập" in out


async def test_each_kind_of_trouble_has_its_exit_code(axis, office):
    good_url = office.settings["amqp_url"]
    office.settings["amqp_url"] = axis.url(axis.agency, "sai")
    office.write()
    code, _, err = await office.run("listen", "--for", "5")
    assert (code, "LỖI E403" in err) == (5, True)

    office.settings["amqp_url"] = good_url
    office.write()
    await axis.channel.queue_delete(agency_queue(axis.agency))
    code, _, err = await office.run("--lang", "en", "listen", "--for", "5")
    assert (code, "ERROR A105" in err) == (6, True)

    code, _, err = await office.run("listen", TRUC_AGENCY_PREFECH="5")
    assert (code, "TRUC_AGENCY_PREFECH" in err) == (3, True)

    (office.folder / "truc-agency.toml").write_text("amqp_ulr = 1")
    code, _, err = await office.run("listen")
    assert (code, "amqp_ulr" in err, "code: thiếu" in err) == (3, True, True)

    code, _, _ = await office.run("listen", "--nonsense")
    assert code == 2


async def test_doctor_finds_nothing_wrong_and_leaves_no_trace(axis, office):
    await axis.deliver(signed(envelope(axis.sender, axis.agency)), axis.agency)
    (office.folder / "key.pem").chmod(0o600)
    before = set(office.folder.iterdir())

    async with parts_of(axis) as (hub_url, stored):
        given = {"TRUC_AGENCY_HUB_URL": hub_url, "TRUC_AGENCY_FOLDER": str(office.folder / "van-ban")}
        code, out, err = await office.run("doctor", "--json", **given)
        assert stored() == []

    findings = json.loads(out)
    assert (code, err) == (0, "")
    assert [(finding["check"], finding["state"]) for finding in findings] == [
        (check, "pass")
        for check in (
            "settings", "key", "directory", "own-entry", "own-certificate",
            "broker-name", "broker-port", "broker-tls", "login", "publish", "read",
            "hub-name", "hub-port", "hub-tls", "hub", "clock", "store",
            "guard", "folder", "journal", "disk",
        )
    ]  # fmt: skip
    assert set(office.folder.iterdir()) == before
    assert await axis.waiting(INTAKE) == 0
    assert not (await axis.take(agency_queue(axis.agency))).redelivered


async def test_doctor_tells_missing_permissions_apart(axis, office):
    place = f"{quote(axis.broker.vhost, safe='')}/{quote(axis.agency)}"
    topic = {"exchange": SUBMIT, "write": "^$", "read": "^$"}
    await asyncio.to_thread(axis.broker.manage, "PUT", f"/topic-permissions/{place}", topic)

    code, out, _ = await office.run("doctor", "--json")

    states = {finding["check"]: finding for finding in json.loads(out)}
    assert code == 1
    assert (states["publish"]["state"], states["read"]["state"]) == ("fail", "pass")
    assert "access to topic" in states["publish"]["evidence"]


async def test_doctor_finds_a_certificate_that_is_not_registered_and_a_dead_network(axis, office):
    stranger = agency_keys("Z99.STRANGER")
    (office.folder / "key.pem").write_bytes(stranger.private_key_pem)
    (office.folder / "certificate.pem").write_text(stranger.pem)
    office.settings["amqp_url"] = f"amqp://{axis.agency}:x@127.0.0.1:1/"
    office.write()

    code, out, _ = await office.run("doctor")

    assert code == 1
    assert "HỎNG     chứng thư trong danh mục" in out
    assert "HỎNG     cổng máy chủ chuyển tin (TCP)" in out
    assert "BỎ QUA   quyền gửi" in out
    assert "BỎ QUA   giao diện HTTP của trục: chưa đặt hub_url" in out


async def test_doctor_and_test_tell_a_wrong_password_and_a_hub_that_is_down(axis, office):
    office.settings["amqp_url"] = axis.url(axis.agency, "sai")
    office.settings["hub_url"] = "http://127.0.0.1:1"
    office.write()

    code, out, _ = await office.run("doctor", "--json")

    states = {finding["check"]: finding["state"] for finding in json.loads(out)}
    assert (code, states["login"], states["publish"]) == (1, "fail", "skip")
    assert (states["hub-port"], states["hub"], states["store"], states["clock"]) == ("fail", "skip", "skip", "pass")
    code, _, err = await office.run("test", "--to", axis.sender)
    assert (code, "LỖI E403" in err) == (5, True)
    office.settings["amqp_url"] = axis.url(axis.agency)
    office.write()
    code, _, err = await office.run("test", "--to", axis.sender, TRUC_AGENCY_PART_TIMEOUT_S="0.5")
    assert (code, "LỖI E901" in err) == (4, True)


async def test_test_leaves_everything_else_in_the_queue_and_nothing_on_the_disk(axis, office):
    """The answers come in the order of a hub in trouble, between letters that an adapter will want to have."""
    waiting = [signed(envelope(axis.sender, axis.agency)), notice_to(axis.agency)]
    for token in waiting:
        await axis.deliver(token, axis.agency)
    before = set(office.folder.iterdir())
    async with office.start("test", "--to", axis.sender, "--json") as process:
        token = (await axis.take(INTAKE)).body
        other = delivery_id_of(identity(waiting[0]), axis.sender)
        ours = Answer(delivery=str(delivery_id_of(identity(token), axis.sender)), outcome="received", at=now_s())
        both = Receipt(
            from_=axis.sender, to=axis.agency, answers=(ours, ours.model_copy(update={"delivery": str(other)}))
        )
        signer = agency_keys(axis.sender).signer
        receipt = sign(both.to_json(), typ=RECEIPT_TYP, signer=signer, now_s=now_s())
        await axis.deliver(status_to(axis.agency, axis.sender, "03", document=identity(token)), axis.agency)
        await axis.deliver(receipt, axis.agency)
        await axis.deliver(status_to(axis.agency, axis.sender, "01", document=identity(token)), axis.agency)
        out, err = await process.communicate()

    assert (process.returncode, err) == (0, b""), out
    told = json.loads(out)
    assert (told["document"], told["complete"], told["missing"]) == (identity(token), True, [])
    assert set(office.folder.iterdir()) == before
    await asyncio.sleep(0.2)
    left = [(await axis.take(agency_queue(axis.agency))).body for _ in range(3)]
    assert sorted(left) == sorted([*waiting, receipt])
    assert await axis.is_empty(agency_queue(axis.agency))


async def test_test_does_not_run_beside_an_adapter_of_this_machine_or_of_another(axis, office):
    arguments = ("--lang", "en", "test", "--to", axis.sender)
    async with office.start("listen", "--for", "60") as process:
        await eventually(lambda: has_reader(axis), PATIENCE_S)
        code, out, err = await office.run(*arguments)
        assert (code, out, "ERROR A108" in err, "in use by another process" in err) == (3, "", True, True)
        code, out, err = await office.run(*arguments, TRUC_AGENCY_GUARD_FILE="other.db")
        assert (code, out, "ERROR A108" in err, agency_queue(axis.agency) in err) == (3, "", True, True)
        process.send_signal(signal.SIGTERM)
        await process.wait()
    assert await axis.waiting(INTAKE) == 0


async def test_test_says_at_the_time_limit_what_is_missing_and_whose_turn_it_is(axis, office):
    async with parts_of(axis) as (hub_url, stored):
        given = {"TRUC_AGENCY_HUB_URL": hub_url}
        code, out, _ = await office.run("test", "--to", axis.other, "--timeout", "1", "--json", **given)
        assert stored() == [PART]

    told = json.loads(out)
    assert (code, told["complete"], told["missing"], told["acts"]) == (1, False, ["receipt", "01", "03"], "operator")
    assert [step["step"] for step in told["steps"]] == ["uploaded", "confirmed"]
    assert (await submitted(axis)).doc.subject == SUBJECT


async def has_reader(axis):
    queue = await axis.channel.declare_queue(agency_queue(axis.agency), passive=True)
    return queue.declaration_result.consumer_count == 1


async def test_status_is_set_from_the_command_line(axis, office):
    code, out, err = await office.run(
        "status", "ab" * 32, "02", "--to", axis.sender, "--detail", "Gửi nhầm", "--name", "Lê Thị B"
    )

    assert (code, out, err) == (0, "", "")
    status = await axis.take_status()
    assert (status.from_, status.to, status.status, status.detail) == (axis.agency, axis.sender, "02", "Gửi nhầm")
    assert status.staff is not None
    assert status.staff.name == "Lê Thị B"


async def test_status_that_does_not_fit_is_explained_and_not_sent(axis, office):
    code, _, err = await office.run("status", "x", "02", "--to", axis.sender)

    assert code == 2
    assert "E502" in err
    assert "/document" in err
    assert await axis.waiting(RECEIPTS) == 0


async def test_listen_prints_and_keeps_statuses(axis, office):
    await axis.deliver(status_to(axis.agency, axis.sender, "02"), axis.agency)
    (office.folder / "in").mkdir()

    code, out, err = await office.run("listen", "--count", "1", "--into", "in")

    assert (code, err) == (0, "")
    assert "02 từ chối tiếp nhận" in out
    assert "Lý do" in out
    (kept,) = (office.folder / "in").glob("*.json")
    assert json.loads(kept.read_text())["status"] == "02"


async def test_send_recalls_an_earlier_document_by_option_or_description(axis, office):
    (office.folder / "thu-hoi.toml").write_text(
        f'to = ["{axis.sender}"]\naction = "revoke"\nref = ["{"ab" * 32}"]\n[doc]\nsubject = "Thu hồi"\n'
        'signer = { name = "Lê Thị B" }\n'
    )
    options = ("--to", axis.sender, "--subject", "Thu hồi", "--signer", "Lê Thị B", "--action", "revoke")
    for arguments in (("thu-hoi.toml",), (*options, "--ref", "ab" * 32)):
        code, _, err = await office.run("send", *arguments)
        assert (code, err) == (0, "")
        sent = await submitted(axis)
        assert (sent.action, sent.ref) == ("revoke", ("ab" * 32,))
