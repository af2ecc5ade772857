"""`truc demo`: a hub of its own, agencies of every tier, real documents; then what happened, and nothing left behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit, urlunsplit

import typer

from hub.cli.output import STATE_VI, TIERS_VI, Exit, fail, print_json, reporting, say

if TYPE_CHECKING:
    from rich.table import Table

    from hub.installation import Installation
    from hub.store.audit import AuditReport
    from hub.store.statistics import Exchange

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 30.0

_WAYS_VI = {"folder": "Thư mục", "rest": "Cổng REST", "client": "Python"}
_RECEIPTS_VI = {"received": "đã nhận", "failed": "tạm thời không nhận được", "refused": "từ chối"}
_STATUSES_VI = {"01": "đã đến", "03": "đã vào sổ", "15": "đồng ý thu hồi", "16": "từ chối thu hồi"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a demo has shown.

    Attributes:
        agencies: Agencies that took part, by tier.
        exchange: Documents and deliveries, from the ledger.
        report: The audit.
        nation: What the agencies themselves say.
        showcase: What came back for one document of each way of sending, and for the recall of one.
        seconds: Time from the first document to the last receipt.
    """

    agencies: Mapping[str, int]
    exchange: "Exchange"
    report: "AuditReport"
    nation: Mapping[str, Any]
    showcase: Mapping[str, Any]
    seconds: float


def demo(
    documents: Annotated[int, typer.Option(min=1, max=10_000, help="Documents that each agency sends.")] = 5,
    wrong: Annotated[float, typer.Option(min=0, max=1, help="Share of documents that are wrong on purpose.")] = 0.1,
    seed: Annotated[int, typer.Option(help="The same seed sends the same documents.")] = 2019,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Send real documents through a hub of its own, show what happened, leave nothing running."""
    from hub.dev.processes import free_ports
    from hub.dev.servers import Servers, run_directory
    from hub.installation import install_demo
    from hub.settings import load_settings

    began = time.monotonic()
    with reporting(), ExitStack() as ending:
        load_settings()  # what is wrong with them is told before servers are started
        folder = ending.enter_context(run_directory("files"))
        say("Khởi động RabbitMQ và PostgreSQL riêng, trừ máy chủ đã cho …")
        servers = ending.enter_context(Servers(purpose="demo"))
        _refuse_ledger_in_use(servers.database_url)
        say("Tạo sổ cái, nạp danh mục, cấp chứng thư, tạo hàng đợi …")
        (port,) = free_ports(1)
        installation = asyncio.run(install_demo(servers, folder / "installation", f"http://127.0.0.1:{port}"))
        say("Khởi động trục …")
        ending.enter_context(_hub(installation, folder, port))
        config = _nation(installation, folder, documents, wrong, seed)
        say(f"{len(config['agencies'])} đơn vị gửi văn bản cho nhau, mỗi đơn vị {documents} văn bản …")
        nation = _run_agencies("nation", config, folder)
        say(
            "Ba đơn vị gửi gói edXML có tệp PDF qua thư mục, qua cổng REST và bằng chương trình Python; một văn bản bị thu hồi …"
        )
        showcase = _run_agencies("showcase", _showcase(installation, folder), folder)
        outcome = asyncio.run(_look(installation, config, nation, showcase))
    if as_json:
        print_json(_as_json(outcome, time.monotonic() - began))
    else:
        _show(outcome, time.monotonic() - began)
    nation_went_well = not (nation["unanswered"] or nation["unexpected"] or nation["handed_over_twice"])
    if not (outcome.report.holds and nation_went_well and showcase["complete"]):
        raise fail(Exit.NEGATIVE, "the demo did not go as it should; the summary says what is missing")


def _refuse_ledger_in_use(database_url: str) -> None:
    """Keep off a given database that has a ledger: the demo would enter its own country, and set new passwords."""
    from hub.store.migrations.runner import status

    if asyncio.run(status(database_url)).applied:
        raise fail(
            Exit.USAGE,
            "TRUC_DATABASE_URL names a database that already has a ledger; the demo would write into it. Give an empty "
            "one, or unset TRUC_AMQP_URL and TRUC_DATABASE_URL: the demo then starts servers of its own",
        )


@contextmanager
def _hub(installation: "Installation", folder: Path, port: int) -> Iterator[None]:
    """The hub as a process of its own, with short deadlines."""
    from hub.dev.processes import Process

    environment = {
        **os.environ,
        **installation.environment,
        "TRUC_HTTP_PORT": str(port),
        "TRUC_LOG_FORMAT": "json",
        "TRUC_RECEIPT_DEADLINE_S": "20",
    }
    hub = Process("hub", folder, grace_s=_STOP_TIMEOUT_S)
    try:
        hub.start([sys.executable, "-m", "hub", "run"], {**environment, "PYTHONPATH": _root()})
        hub.wait_until(lambda: _is_ready(port), timeout_s=_START_TIMEOUT_S)
        yield
    finally:
        hub.stop()


def _is_ready(port: int) -> bool:
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _nation(installation: "Installation", folder: Path, documents: int, wrong: float, seed: int) -> dict[str, Any]:
    from schemas.identifiers import AgencyCode

    members = []
    passwords = {code: urlsplit(account.amqp_url).password for code, account in installation.accounts.items()}
    for agency in sorted(installation.directory.agencies.values(), key=lambda item: item.code):
        if agency.endpoint is None or agency.state != "open":
            continue
        account = installation.accounts[agency.endpoint]
        members.append(
            {
                "code": agency.code,
                "user": agency.endpoint,
                "password": passwords[agency.endpoint],
                "key_file": str(account.key_file),
                "cert_file": str(account.certificate_file),
                "guard_file": str((folder / f"{agency.endpoint}.guard").absolute()),
            }
        )
    parts = urlsplit(installation.settings["amqp_url"])
    host = parts.netloc.rpartition("@")[2]
    (hub_url,) = {account.hub_url for account in installation.accounts.values()}
    return {
        "hub_url": hub_url,
        "amqp_url": urlunsplit(parts._replace(netloc=f"{{user}}:{{password}}@{host}")),
        "directory_file": str(installation.directory_file.absolute()),
        "agencies": members,
        # Of three different tiers for each document; the single member outside them would get most of all mail.
        "recipients": [
            member["code"]
            for member in members
            if installation.directory.tier_of(AgencyCode(str(member["code"]))) != "associate"
        ],
        "documents_per_agency": documents,
        "wrong_share": wrong,
        "seed": seed,
        "timeout_s": 120 + documents,
    }


def _showcase(installation: "Installation", folder: Path) -> dict[str, Any]:
    """Choose who shows the ways of sending: each endpoint plays one part, since only one may take from its queue."""
    work = folder / "showcase"
    work.mkdir()
    agencies = sorted(installation.directory.agencies.values(), key=lambda item: item.code)
    connected = [each for each in agencies if each.state == "open" and each.endpoint is not None]
    by_tier: dict[str, list[str]] = {tier: [] for tier in TIERS_VI}
    for agency in connected:
        if agency.endpoint == agency.code:
            by_tier[agency.tier].append(agency.code)
    carried = next(each for each in connected if each.endpoint != each.code)
    return {
        "agencies": str((installation.environment_file.parent / "agencies").absolute()),
        "work": str(work.absolute()),
        "folder_sender": by_tier["ministry-province"][0],
        "platform": carried.endpoint,
        "rest_sender": carried.code,
        "client_sender": by_tier["commune"][0],
        "recipients": [codes[-1] for codes in by_tier.values()],
        "timeout_s": 60,
    }


def _run_agencies(program: str, config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Run agencies in a process of their own, as real agencies would be, and read what they say at the end."""
    from hub.dev.processes import DevError, interrupts_held

    file = folder / f"{program}.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps(config))
    process = None
    try:
        with interrupts_held():
            process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-m", f"adapters.{program}", "--config", str(file)],
                stdout=subprocess.PIPE,
                stdin=subprocess.DEVNULL,
                cwd=_root(),
                start_new_session=True,
            )
        output, _ = process.communicate()
    finally:
        if process is not None:
            _end(process)
    lines = output.decode().splitlines()
    if not lines:
        raise DevError(f"The simulated agencies ({program}) ended without a summary.")
    return dict(json.loads(lines[-1]))


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process in order, and whatever it has started and could not end itself."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_TIMEOUT_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # its session; nobody is left there as a rule
    process.wait()


async def _look(
    installation: "Installation", config: Mapping[str, Any], nation: Mapping[str, Any], showcase: Mapping[str, Any]
) -> Outcome:
    from hub.store.audit import audit
    from hub.store.pool import open_pool
    from hub.store.statistics import exchange

    agencies: dict[str, int] = {}
    for member in config["agencies"]:
        tier = installation.directory.agencies[member["code"]].tier
        agencies[tier] = agencies.get(tier, 0) + 1
    async with open_pool(installation.settings["database_url"]) as pool:
        figures = await exchange(pool, datetime(2000, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC))
        report = await audit(pool, identities=None)
    return Outcome(agencies, figures, report, nation, showcase, nation["duration_s"])


def _as_json(outcome: Outcome, total_s: float) -> dict[str, Any]:
    figures = outcome.exchange
    return {
        "version": 1,
        "agencies": dict(outcome.agencies),
        "sent_by_tier": dict(figures.sent),
        "received_by_tier": {tier: figures.received(tier) for tier in outcome.agencies},
        "deliveries": dict(outcome.report.by_state),
        "refused": dict(figures.refused),
        "parked": dict(figures.parked),
        "audit": outcome.report.holds,
        "nation": dict(outcome.nation),
        "showcase": dict(outcome.showcase),
        "exchange_s": outcome.seconds,
        "documents_per_s": round(outcome.nation["sent"] / outcome.seconds, 1),
        "deliveries_per_s": round(outcome.nation["receipts"].get("received", 0) / outcome.seconds, 1),
        "total_s": round(total_s, 1),
    }


def _show(outcome: Outcome, total_s: float) -> None:
    from rich.console import Console
    from rich.table import Table

    from schemas.refusal import CATALOGUE

    console = Console(highlight=False)
    figures = outcome.exchange
    table = Table(
        "Cấp", "Đơn vị", "Văn bản gửi", "Lượt nhận có biên nhận", title="Văn bản theo cấp", title_justify="left"
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for tier, name in TIERS_VI.items():
        if tier in outcome.agencies:
            row = (outcome.agencies[tier], figures.sent.get(tier, 0), figures.received(tier))
            table.add_row(name, *map(str, row))
    received = sum(figures.received(tier) for tier in outcome.agencies)
    table.add_section()
    table.add_row("Cộng", str(sum(outcome.agencies.values())), str(sum(figures.sent.values())), str(received))
    console.print()
    console.print(table)

    states = ", ".join(f"{STATE_VI[state]}: {count}" for state, count in outcome.report.by_state.items() if count)
    console.print(f"\nLượt chuyển: {outcome.report.owed} ({states})")

    turned_down = {**figures.refused, **figures.parked}
    if turned_down:
        refusals = Table("Mã", "Số lượt", "Lý do", title="Bị trục từ chối hoặc để riêng", title_justify="left")
        for code in sorted(turned_down):
            refusals.add_row(code, str(figures.refused.get(code, 0) + figures.parked.get(code, 0)), CATALOGUE[code].vi)
        console.print()
        console.print(refusals)

    console.print()
    console.print(_showcase_table(outcome.showcase))

    latency = outcome.nation["latency_ms"].get("receipt")
    if latency:
        console.print(
            f"\nTừ lúc gửi đến khi bên gửi có biên nhận: một nửa dưới {latency['p50']:.0f} ms, "
            f"95 % dưới {latency['p95']:.0f} ms"
        )
    console.print(f"Trao đổi trong {outcome.seconds:.1f} giây; cả buổi chạy thử {total_s:.0f} giây.")
    holds = outcome.report.holds
    console.print("[green]Sổ cái khớp: không mất, không trùng.[/green]" if holds else "[red]Sổ cái KHÔNG khớp.[/red]")


def _showcase_table(showcase: Mapping[str, Any]) -> "Table":
    from rich.table import Table

    table = Table(
        "Gửi bằng",
        "Văn bản",
        "Bên gửi",
        "Bên nhận",
        "Biên nhận",
        "Trạng thái",
        title="Gói edXML có tệp PDF, ba cách gửi, một văn bản bị thu hồi",
        title_justify="left",
        caption="Trạng thái: " + ", ".join(f"{code} {name}" for code, name in _STATUSES_VI.items()),
        caption_justify="left",
    )
    for document in showcase["documents"]:
        recalled = document["recalls"]
        heading = (
            _WAYS_VI[document["way"]],
            document["number"] if recalled is None else f"{document['number']}, thu hồi {recalled}",
            document["sender"],
        )
        for recipient, answered in document["recipients"].items():
            receipt = _RECEIPTS_VI.get(answered["receipt"], "[red]chưa có[/red]")
            table.add_row(*heading, recipient, receipt, ", ".join(answered["statuses"]) or "[red]chưa có[/red]")
            heading = ("", "", "")
        table.add_section()
    return table


def _root() -> str:
    """Where the packages are, for child processes that work elsewhere."""
    return str(Path(__file__).parents[2])
