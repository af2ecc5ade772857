"""A month leaves the ledger for a file: not too early, whole, over every interruption; what stays is enough."""

import asyncio
import gzip
import json
import shutil
import subprocess
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
from typer.testing import CliRunner

from hub.cli import app
from hub.core.catch_up import CatchUpLimits
from hub.core.diagnosis import diagnose_document
from hub.core.selection import Selection
from hub.core.trouble import Conflict, Trouble, Unavailable
from hub.store import archive as archiving
from hub.store import dead_letters, replay_orders
from hub.store.archive import Archive, Damaged, Hindered, archive, archives
from hub.store.archive_file import check, manifest_of, read_manifest
from hub.store.archive_plan import months
from hub.store.audit import AuditReport, audit
from hub.store.catch_up_requests import PostgresCatchUpRequests
from hub.store.pool import open_pool
from hub.store.statistics import exchange
from hub.store.trace import find
from schemas.catch_up import CatchUp
from schemas.identifiers import AgencyCode, DeliveryId
from schemas.receipt import NOTICE_TYP
from schemas.refusal import Problem
from tests import builders as a
from tests.replay_stage import RECIPIENTS, Stage
from tests.services import ask_sql, run_sql

ALL = Selection()


@dataclass(slots=True)
class Month:
    """The first month of a ledger, and what was in it.

    Attributes:
        received: A document that two recipients have received.
        dead: A delivery that its recipient refused, and a person dismissed.
        after: A moment at which the month may leave.
    """

    day: date
    folder: Path
    url: str
    stage: Stage
    received: a.Accept
    dead: DeliveryId
    after: datetime

    @property
    def name(self) -> str:
        return f"{self.day:%Y-%m}"

    @property
    def file(self) -> Path:
        return self.folder / f"truc-{self.name}.sql.gz"

    async def archive(self, at: datetime | None = None) -> Archive:
        order = {"reason": "một năm đã qua", "actor": "an"}
        return await archive(self.url, self.day, self.folder, now=at or self.after, **order)

    async def is_there(self) -> bool:
        return self.name in {each.month for each in await months(self.stage.pool, self.after)}

    async def why_not(self, at: datetime | None = None) -> dict[str, int]:
        [found] = await months(self.stage.pool, at or self.after, self.day)
        return {hindrance.code: hindrance.count for hindrance in found.hindrances}

    async def audit(self) -> AuditReport:
        report = await audit(self.stage.pool, identities=None)
        assert report.violations == ()
        assert report.holds
        return report


@pytest.fixture
async def stage(database_url):
    """A hub in the last days of the first month of its ledger."""
    async with open_pool(database_url) as pool:
        [row] = await ask_sql(database_url, "SELECT min(until) AS until FROM months")
        yield Stage(pool, now=row["until"] - timedelta(days=4))


@pytest.fixture
async def month(stage, database_url, tmp_path):
    """A first month in which everything has come to its end."""
    [row] = await ask_sql(database_url, "SELECT min(month) AS day FROM months")
    [received] = await stage.accepted(1, RECIPIENTS[:2])
    await stage.exchange()
    [dead] = await stage.dead(1, RECIPIENTS[:1])
    await stage.ledger.record([a.decided(a.refuse(), stage.now)], stage.now)
    await stage.exchange()
    await dead_letters.dismiss(
        stage.pool, ALL, "gửi lại bằng văn bản khác", actor="an", now=stage.now + timedelta(days=1)
    )
    after = stage.now + timedelta(days=40)
    return Month(row["day"], tmp_path, database_url, stage, received, dead, after)


class TestWhetherItMayLeave:
    """What speaks against it."""

    async def test_month_in_which_all_is_final_and_all_lifetimes_are_over_may_leave(self, month):
        assert await month.why_not() == {}

    async def test_month_that_is_not_over_stays(self, month):
        assert await month.why_not(month.stage.now) == {"not-over": 1}

    async def test_lifetime_of_a_letter_keeps_the_month(self, month):
        """The broker may still give back two passed on receipts, a status and a notice, which would be sent again."""
        assert await month.why_not(month.after - timedelta(days=12)) == {"alive": 4}

    async def test_delivery_that_is_not_final_keeps_the_month(self, month):
        await month.stage.accepted(1, RECIPIENTS[:2])
        assert await month.why_not() == {"unfinished": 2}
        with pytest.raises(Hindered, match=rf"{month.name} stays: unfinished \(2: "):
            await month.archive()

    async def test_routed_delivery_without_a_receipt_keeps_the_month(self, month):
        month.stage.answer = lambda *_: None
        await month.stage.accepted(1, RECIPIENTS[:1])
        await month.stage.exchange()
        assert await month.why_not() == {"unfinished": 1}

    async def test_open_dead_letter_keeps_the_month(self, month):
        dismissed = Selection(standing="dismissed")
        await dead_letters.restore(month.stage.pool, dismissed, "xem lại", actor="an", now=month.after)
        assert await month.why_not() == {"dead-letters": 1}

    async def test_submission_put_aside_keeps_the_month(self, month):
        await month.stage.ledger.record([a.decided(a.park(), month.stage.now)], month.stage.now)
        assert await month.why_not() == {"dead-letters": 1}

    async def test_open_replay_keeps_the_month(self, month):
        order = {"per_minute": 60, "reason": "hỏng đĩa", "actor": "an", "now": month.after}
        began = month.stage.now - timedelta(days=1)
        await replay_orders.catch_up(month.stage.pool, AgencyCode(RECIPIENTS[0]), began, **order)
        assert await month.why_not() == {"replays": 1}

    async def test_later_month_stays_until_the_earlier_one_has_left(self, month):
        second = (await months(month.stage.pool, month.after))[1]
        later = month.after + timedelta(days=40)
        [seen] = [each for each in await months(month.stage.pool, later) if each.month == second.month]
        assert [(each.code, each.ids) for each in seen.hindrances] == [("earlier-month", (month.name,))]

    async def test_month_that_is_not_in_the_ledger_is_a_conflict(self, month):
        with pytest.raises(Conflict, match="there is no month 1999-01"):
            await archive(month.url, date(1999, 1, 1), month.folder, reason="x", actor="an", now=month.after)


class TestWhatStays:
    """After the month has left."""

    async def test_numbers_add_up_as_before(self, month):
        stage = month.stage
        stage.now = month.after
        await stage.accepted(2)
        await stage.exchange()
        period = stage.pool, month.stage.now - timedelta(days=90), month.after + timedelta(days=1)
        before, figures = await month.audit(), await exchange(*period)
        done = await month.archive()
        after = await month.audit()
        assert (after.documents, after.owed, after.by_state) == (before.documents, before.owed, before.by_state)
        assert (before.archived_months, after.archived_months) == (0, 1)
        assert await exchange(*period) == figures
        assert done.manifest.documents_by_tier == {"ministry-province": 2}
        assert done.manifest.deliveries_by_tier == {
            "commune": {"received": 1},
            "department-district": {"dead": 1, "received": 1},
        }
        assert done.manifest.letters_by_state == {"routed": 4}
        assert done.manifest.owed == done.manifest.deliveries == 3

    async def test_its_tables_are_gone_and_the_ledger_says_who_did_it(self, month):
        done = await month.archive()
        assert not await month.is_there()
        [event] = await ask_sql(month.url, "SELECT at, actor, detail FROM ledger WHERE event = 'month.archived'")
        assert (event["at"], event["actor"]) == (month.after, "an")
        assert json.loads(event["detail"]) == {
            "month": month.name,
            "file": str(month.file),
            "sha256": done.sha256,
            "rows": {"signed_objects": 6, "ledger": done.manifest.tables["ledger"].rows},
            "why": "một năm đã qua",
        }
        assert await archives(month.stage.pool) == [done]

    async def test_trace_shows_what_remains_and_where_the_rest_is(self, month):
        await month.archive()
        [found] = await find(month.stage.pool, month.received.document_id)
        assert (found.archived.month, found.archived.file) == (month.name, str(month.file))
        assert {item.delivery.state for item in found.deliveries} == {"received"}
        assert found.events == ()
        assert "Tất cả 2 đơn vị nhận đã nhận." in diagnose_document(found, month.after).vi

    async def test_dead_letter_says_where_its_bytes_are(self, month):
        await month.archive()
        opened = await dead_letters.show(month.stage.pool, str(month.dead))
        assert (opened.body, opened.archived) == (b"", str(month.file))

    async def test_late_receipt_and_status_are_recorded_and_passed_on(self, month):
        await month.archive()
        stage, document = month.stage, month.received
        stage.now = month.after
        settling = a.Settling(stage.policy, a.agency_keys("hub").signer, stage.now)
        late = a.receipt(document.delivery_id(document.addressees[0]), from_=RECIPIENTS[0], now=stage.now, signed=False)
        received = a.receipt(month.dead, from_=RECIPIENTS[0], now=stage.now, signed=False)
        status = a.status(document.document_id, "03", from_=RECIPIENTS[0], now=stage.now)
        await stage.ledger.record_answers([late, received, status], settling, stage.now)
        assert await stage.exchange() == 3  # passed on to the sender
        report = await month.audit()
        assert (report.by_state["received"], report.by_state["dead"]) == (3, 0)
        [found] = await find(stage.pool, document.document_id)
        assert [event.event for item in found.deliveries for event in item.events] == ["receipt.late", "status.moved"]

    async def test_document_sent_again_is_known(self, month):
        await month.archive()
        await month.stage.ledger.record([a.decided(month.received)], month.after)
        await month.audit()

    async def test_refused_document_sent_again_is_answered_anew(self, month):
        await month.archive()
        month.stage.now = month.after
        await month.stage.ledger.record([a.decided(a.refuse(), month.after)], month.after)
        assert await month.stage.exchange() == 1
        count = f"SELECT count(*) FROM deliveries WHERE typ = '{NOTICE_TYP}'"
        assert [row["count"] for row in await ask_sql(month.url, count)] == [2]
        await month.audit()

    async def test_replay_leaves_out_what_is_archived(self, month):
        await month.archive()
        month.stage.now = month.after
        dismissed = Selection(standing="dismissed")
        await dead_letters.restore(month.stage.pool, dismissed, "xem lại", actor="an", now=month.after)
        view = await month.stage.view(await month.stage.plan(Selection(until=month.after)))
        assert view.reasons == {"archived": 1}

    async def test_redirect_says_that_it_is_archived(self, month):
        await month.archive()
        heirs = [(month.dead, AgencyCode(RECIPIENTS[1]), "commune")]
        with pytest.raises(Conflict, match=f"archived: the bytes of {month.dead} are in a file"):
            await replay_orders.redirect(month.stage.pool, heirs, reason="x", actor="an", now=month.after)

    async def test_catch_up_of_the_operator_leaves_out_what_is_archived(self, month):
        await month.archive()
        stage = month.stage
        stage.now = month.after
        await stage.accepted(1, RECIPIENTS[:1])
        await stage.exchange()
        order = {"per_minute": 60, "reason": "hỏng đĩa", "actor": "an", "now": stage.now + timedelta(minutes=1)}
        began = month.after - timedelta(days=90)
        view = await stage.view(await replay_orders.catch_up(stage.pool, AgencyCode(RECIPIENTS[0]), began, **order))
        assert (view.size, view.reasons) == (1, {"archived": 1})

    async def test_agency_catches_up_on_what_is_not_archived(self, month):
        done = await month.archive()
        limits = CatchUpLimits(max_age_s=90 * 86_400)
        asking = PostgresCatchUpRequests(month.stage.pool, limits)
        who = AgencyCode(RECIPIENTS[0])
        began = month.after - timedelta(days=80)
        answer = await asking.begin(who, began, signer=who, now=month.after)
        assert isinstance(answer, Problem)
        assert (answer.code, answer.en[:13]) == ("E424", "possible from")
        answer = await asking.begin(who, done.manifest.until, signer=who, now=month.after)
        assert isinstance(answer, CatchUp)

    async def test_events_of_the_next_month_about_an_archived_document_are_checked_all_the_same(self, month):
        await month.archive()
        await run_sql(
            month.url, f"UPDATE deliveries SET state = 'dead', changed_at = '{month.after}' WHERE state = 'received'"
        )
        violations = {each.rule for each in (await audit(month.stage.pool)).violations}
        assert "every delivery is in the state of its last event" in violations

    async def test_second_month_follows(self, month):
        await month.archive()
        stage = month.stage
        await stage.ledger.make_months(month.after)
        stage.now = month.after - timedelta(days=20)
        await stage.accepted(1)
        await stage.exchange()
        [second] = (await months(stage.pool, month.after))[:1]
        day = date.fromisoformat(f"{second.month}-01")
        order = {"reason": "x", "actor": "an", "now": month.after + timedelta(days=60)}
        done = await archive(month.url, day, month.folder, **order)
        assert (done.manifest.since, done.manifest.documents) == (second.since, 1)
        assert (await month.audit()).archived_months == 2
        [found] = await find(stage.pool, month.received.document_id)
        assert found.archived.month == month.name


class TestTheFile:
    """It is enough to have the month again, and what is wrong with it is noticed."""

    async def test_it_is_sound_and_only_its_owner_reads_it(self, month):
        done = await month.archive()
        manifest = read_manifest(month.file)
        assert manifest == done.manifest
        assert check(month.folder, manifest) == []
        assert {path.name: path.stat().st_mode & 0o777 for path in month.folder.iterdir()} == {
            month.file.name: 0o600,
            f"truc-{month.name}.json": 0o600,
        }

    async def test_psql_makes_the_month_of_it_again(self, month):
        if shutil.which("psql") is None:
            pytest.skip("no psql")
        before = await ask_sql(month.url, "SELECT * FROM ledger ORDER BY event_id")
        tokens = {(row["object_id"], row["token"]) for row in await ask_sql(month.url, "SELECT * FROM signed_objects")}
        await month.archive()
        script = gzip.decompress(month.file.read_bytes())
        command = ["psql", "--quiet", "--set=ON_ERROR_STOP=1", month.url]
        loaded = await asyncio.to_thread(subprocess.run, command, input=script, capture_output=True, check=False)
        assert (loaded.returncode, loaded.stderr) == (0, b"")
        schema = f"truc_{month.day:%Y_%m}"
        after = await ask_sql(
            month.url,
            f"""
            SELECT event_id, at, event, actor, decode(document_id, 'hex') AS document_id, delivery_id, code, state, detail
            FROM {schema}.ledger ORDER BY event_id
            """,
        )
        assert [dict(row) for row in after] == [dict(row) for row in before]
        rows = await ask_sql(month.url, f"SELECT decode(object_id, 'hex') AS id, token FROM {schema}.signed_objects")
        assert {(row["id"], row["token"].encode()) for row in rows} == tokens

    async def test_bytes_that_are_no_plain_text_come_back_too(self, month):
        """None is ever accepted; the file must not depend on it."""
        token = bytes(range(256)) + rb"\x \\ \t.signature"
        digest = f"decode('{a.identity(token)}', 'hex')"
        insert = (
            f"INSERT INTO signed_objects VALUES ({digest}, 'x', decode('{token.hex()}', 'hex'), '{month.stage.now}')"
        )
        await run_sql(month.url, insert)
        await month.archive()
        assert check(month.folder, read_manifest(month.file)) == []

    @pytest.mark.parametrize(
        ("spoil", "faults"),
        [
            pytest.param(lambda content: content[:-30], {"unreadable"}, id="cut off"),
            pytest.param(lambda content: content + b"\0", {"bytes", "sha256"}, id="something behind it"),
            pytest.param(lambda _: b"", {"unreadable", "rows"}, id="empty"),
        ],
    )
    async def test_file_that_is_damaged_is_noticed(self, month, spoil, faults):
        await month.archive()
        month.file.write_bytes(spoil(month.file.read_bytes()))
        found = {finding.fault for finding in check(month.folder, read_manifest(month.file))}
        assert found & faults

    async def test_byte_that_has_changed_is_noticed_wherever_it_is(self, month):
        """Before the checksum at its end is read, such a file may give rows that are none."""
        await month.archive()
        manifest, content = read_manifest(month.file), month.file.read_bytes()
        for place in range(len(content)):
            spoiled = bytearray(content)
            spoiled[place] ^= 1 << place % 8
            month.file.write_bytes(spoiled)
            assert check(month.folder, manifest), place

    @pytest.mark.parametrize(
        ("old", "new", "fault"),
        [
            pytest.param(b"\tan\t", b"\tbinh\t", "content", id="an actor"),
            pytest.param(b"\ttruc.document.v1\tey", b"\ttruc.document.v1\tEY", "identity", id="a signed object"),
            pytest.param(b"\n1\t", b"\n1000000\t", "events", id="the number of an event"),
        ],
    )
    async def test_file_that_was_written_anew_with_something_else_is_noticed(self, month, old, new, fault):
        await month.archive()
        content = gzip.decompress(month.file.read_bytes())
        assert old in content
        month.file.write_bytes(gzip.compress(content.replace(old, new, 1)))
        assert fault in {finding.fault for finding in check(month.folder, read_manifest(month.file))}

    async def test_missing_file_and_missing_manifest_are_noticed(self, month):
        await month.archive()
        manifest = read_manifest(month.file)
        month.file.unlink()
        assert [finding.fault for finding in check(month.folder, manifest)] == ["missing"]
        manifest_of(month.file).write_text("{}")
        assert read_manifest(month.file) is None


class TestInterruptions:
    """Nothing is dropped before file and manifest are on the disk; running it again goes on."""

    @pytest.mark.parametrize("where", ["_figures", "_check", "write_manifest", "_drop", "_seize"])
    async def test_interrupted_anywhere_nothing_is_dropped_and_the_next_run_ends_it(self, month, monkeypatch, where):
        class Killed(BaseException):
            pass

        def die(*_arguments, **_options):
            raise Killed

        monkeypatch.setattr(archiving, where, die)
        with pytest.raises(Killed):
            await month.archive()
        monkeypatch.undo()
        assert await month.is_there()
        assert await archives(month.stage.pool) == []
        await month.audit()
        done = await month.archive()
        assert not await month.is_there()
        assert check(month.folder, done.manifest) == []
        await month.audit()

    async def test_file_that_is_complete_is_not_written_again(self, month, monkeypatch):
        monkeypatch.setattr(archiving, "_LOCK_WAITS_S", ())
        async with month.stage.pool.reading() as connection:
            await connection.fetchval("SELECT count(*) FROM ledger")
            with pytest.raises(Unavailable, match="somebody reads all months"):
                await month.archive()
        written = month.file.stat().st_mtime_ns
        await month.archive()
        assert month.file.stat().st_mtime_ns == written

    async def test_run_again_when_it_is_done_says_so(self, month):
        assert await month.archive() == await month.archive(month.after + timedelta(days=1))

    async def test_complete_file_that_was_damaged_meanwhile_drops_nothing(self, month, monkeypatch):
        monkeypatch.setattr(archiving, "_drop", None)
        with pytest.raises(TypeError):
            await month.archive()
        monkeypatch.undo()
        month.file.write_bytes(month.file.read_bytes()[:-1])
        with pytest.raises(Damaged, match="unreadable"):
            await month.archive()
        assert await month.is_there()

    async def test_rows_that_came_after_the_export_are_not_lost(self, month, monkeypatch):
        monkeypatch.setattr(archiving, "_drop", None)
        with pytest.raises(TypeError):
            await month.archive()
        monkeypatch.undo()
        event = f"INSERT INTO ledger (at, event, actor) VALUES ('{month.stage.now}', 'x', 'x')"
        await run_sql(month.url, event)
        with pytest.raises(Conflict, match="remove it and run again"):
            await month.archive()
        assert await month.is_there()

    async def test_what_was_taken_up_during_the_export_keeps_the_month(self, month, monkeypatch):
        original = archiving._check

        async def taken_up_meanwhile(*arguments):
            await original(*arguments)
            order = {"per_minute": 60, "reason": "hỏng đĩa", "actor": "an", "now": month.after}
            began = month.stage.now - timedelta(days=1)
            await replay_orders.catch_up(month.stage.pool, AgencyCode(RECIPIENTS[0]), began, **order)

        monkeypatch.setattr(archiving, "_check", taken_up_meanwhile)
        with pytest.raises(Hindered, match="replays"):
            await month.archive()
        assert await month.is_there()

    async def test_two_runs_at_once_do_not_mix(self, month):
        connection = await asyncpg.connect(month.url)
        try:
            await connection.fetchval(archiving._ONE_AT_A_TIME)
            with pytest.raises(Conflict, match="another archiving goes on"):
                await month.archive()
        finally:
            await connection.close()

    async def test_folder_that_takes_no_file_is_said_and_nothing_is_dropped(self, month):
        month.folder = month.folder / "none"
        with pytest.raises(Trouble, match="cannot be written: No such file or directory"):
            await month.archive()
        assert await month.is_there()

    async def test_hub_goes_on_while_a_month_is_written_and_read_back(self, month, monkeypatch):
        """Only the last moment keeps others from the tables."""
        original = archiving._check

        async def others_work(*arguments):
            await original(*arguments)
            month.stage.now = month.after
            await month.stage.accepted(1)
            assert await month.stage.exchange() == 6

        monkeypatch.setattr(archiving, "_check", others_work)
        await month.archive(month.after + timedelta(hours=1))
        assert (await month.audit()).archived_months == 1


class TestTheCommand:
    """`truc archive`, and what other commands say afterwards."""

    @pytest.fixture
    def truc(self, month, monkeypatch):
        monkeypatch.setattr("hub.cli.archive.now", lambda: month.after)
        monkeypatch.setenv("TRUC_DATABASE_URL", month.url)

        async def run(*arguments, expect=0):
            done = await asyncio.to_thread(CliRunner().invoke, app, arguments)
            assert done.exit_code == expect, done.output
            return done

        return run

    async def test_plan_run_and_check(self, month, truc):
        planned = json.loads((await truc("archive", "plan", month.name, "--json")).stdout)
        assert [(each["month"], each["hindrances"]) for each in planned["months"]] == [(month.name, [])]
        order = ("archive", "run", month.name, "--into", str(month.folder), "--reason", "hết năm", "--as", "an")
        done = json.loads((await truc(*order, "--json")).stdout)
        assert (done["file"], done["actor"], done["manifest"]["documents"]) == (str(month.file), "an", 2)
        planned = json.loads((await truc("archive", "plan", month.name, "--json")).stdout)
        assert (planned["months"], [each["file"] for each in planned["archives"]]) == ([], [str(month.file)])
        assert "Tệp khớp với bản kê." in (await truc("archive", "check", str(month.file))).stdout
        month.file.write_bytes(b"")
        assert "SAI sha256" in (await truc("archive", "check", str(manifest_of(month.file)), expect=1)).stdout

    async def test_month_that_stays_says_why_in_both_languages(self, month, truc):
        await month.stage.accepted(1, RECIPIENTS[:2])
        order = ("archive", "run", month.name, "--into", str(month.folder), "--reason", "x")
        refused = await truc(*order, expect=7)
        assert f"truc: {month.name} stays: unfinished (2: " in refused.stderr
        assert "unfinished: lượt chuyển chưa kết thúc: 2 (" in refused.stderr
        assert "unfinished: lượt chuyển chưa kết thúc: 2 (" in (await truc("archive", "plan")).stdout
        assert list(month.folder.iterdir()) == []

    async def test_what_is_no_month_or_not_there_is_said(self, month, truc):
        assert "no month such as 2026-11" in (await truc("archive", "plan", "2026-13", expect=2)).stderr
        assert "no month 1999-01" in (await truc("archive", "plan", "1999-01", expect=6)).stderr
        (month.folder / "truc-1999-01.sql.gz").write_bytes(b"")
        missing = await truc("archive", "check", str(month.folder / "truc-1999-01.sql.gz"), expect=1)
        assert "SAI manifest: không có bản kê đọc được" in missing.stdout

    async def test_trace_audit_and_dead_say_that_it_is_archived(self, month, truc):
        await month.archive()
        seen = (await truc("trace", month.received.document_id, "--lang", "vi")).stdout
        assert f"nội dung văn bản và diễn biến trong tháng {month.name} ở tệp {month.file}" in seen.replace("\n", " ")
        assert "the signed bytes, and what happened in" in (await truc("trace", str(month.dead), "--lang", "en")).stdout
        assert "Tháng đã lưu trữ" in (await truc("audit")).stdout
        assert f"đã lưu trữ ở {month.file}" in (await truc("dead", "show", str(month.dead))).stdout
        assert (
            f"archived: the bytes are in {month.file}"
            in (await truc("dead", "show", str(month.dead), "--body", expect=6)).stderr
        )
