"""What a million deliveries that wait cost those that do not; prints one JSON object last.

`python -m tests.bench.pending`: two ledgers on one server, with as many deliveries of as many documents. In one of them all
are received, in the other they wait:

| share | for                                  | how                               |
|-------|--------------------------------------|-----------------------------------|
| 40 %  | 40 recipients                        | held                              |
| 30 %  | 40 recipients                        | pending, to be tried again later  |
| 30 %  | one recipient, whose queue is slow   | pending and due                   |

Then, in turns so that a machine that is busy otherwise disturbs both alike, intake takes documents for 50 others in and
dispatch hands them over. The result is the ratio of what an item costs, and of how long the 50 wait for all of theirs:
the middle of all pairs. A third ledger, with nothing in it, says what the size of a ledger alone costs.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from statistics import median
from typing import Any, Final

from adapters.signer import load_signer
from hub.installation import install
from schemas.directory_file import AgencyEntry, DirectoryFile
from schemas.envelope import ENVELOPE_TYP, DocumentFacts, Signer, new_envelope
from schemas.identifiers import AgencyCode
from schemas.signing import KeySigner, sign
from tests.bench.full_path import NOWHERE
from tests.bench.loop_by_loop import Bench
from tests.bench.stage import Stage, stage
from tests.services import ask_sql, run_sql, with_path

SENDER, SLOW = AgencyCode("G22"), AgencyCode("H26")
OTHERS = [AgencyCode(f"H{number}") for number in range(30, 80)]
LEDGERS: Final = ("empty", "finished", "waiting")

_RECIPIENTS: Final = 40
_SHARES: Final = {"held": 0.4, "later": 0.3, "slow": 0.3}
_STATES: Final = {
    "finished": ("'received'", "NULL"),
    "held": ("'held'", "NULL"),
    "later": ("'pending'", "now() + interval '1 day'"),
    "slow": ("'pending'", "now() - interval '1 hour' + number * interval '1 ms'"),
}
# Deliveries of documents that were stored an hour ago: each document goes to all recipients of its kind.
_BACKLOG: Final = """
INSERT INTO signed_objects (object_id, typ, token, stored_at)
SELECT sha256(convert_to('{kind} ' || number, 'UTF8')), 'truc.document.v1', convert_to(repeat('backlog.', 200), 'UTF8'),
    date_trunc('hour', now()) - interval '1 hour'
FROM generate_series(0, {documents} - 1) AS number;
INSERT INTO deliveries (delivery_id, object_id, typ, sender, recipient, recipient_tier, expires_at, state, created_at,
    changed_at, next_attempt_at, warn_at, stored_at)
SELECT gen_random_uuid(), sha256(convert_to('{kind} ' || number % {documents}, 'UTF8')), 'truc.document.v1', '{sender}',
    {recipient}, 'ministry-province', now() + interval '6 days', {state}, now() - interval '1 hour',
    now() - interval '1 hour', {next_attempt_at}, now() + interval '5 days', date_trunc('hour', now()) - interval '1 hour'
FROM generate_series(0, {deliveries} - 1) AS number;
"""
_TAKEN_IN: Final = "SELECT count(*) FROM documents WHERE accepted_at >= $1::text::timestamptz"
# A receipt is due a quarter of an hour after the handing over; by that the index finds this round's alone.
_ALL_HANDED_OVER: Final = """
SELECT count(*) FROM deliveries WHERE receipt_due_at >= $1::text::timestamptz + interval '15 minutes'
"""
_HANDED_OVER: Final = f"{_ALL_HANDED_OVER} AND stored_at >= $1::text::timestamptz"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backlog", type=int, default=1_000_000, help="deliveries that wait")
    parser.add_argument("--documents", type=int, default=5000, help="documents of each round, to three recipients each")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    print(json.dumps(measure(options.backlog, options.documents, options.rounds)))
    return 0


def measure(backlog: int, documents: int, rounds: int) -> dict[str, Any]:
    """Give each ledger the same work in turn, and compare what it cost."""
    with stage(_country()) as on:
        benches = {name: _bench(on, name, backlog) for name in LEDGERS}
        numbers = count(1)
        found: dict[str, list[Mapping[str, Any]]] = {name: [] for name in LEDGERS}
        for number in range(rounds):
            # Each is the first of the three as often as the others.
            for name in [*LEDGERS[number % 3 :], *LEDGERS[: number % 3]]:
                found[name].append(_round(benches[name], documents, numbers))
                print(f"round {number + 1}, {name}: {json.dumps(found[name][-1])}", file=sys.stderr)
    return {
        "backlog": backlog,
        "documents": documents,
        "rounds": rounds,
        "waiting_to_finished": _ratios(found["waiting"], found["finished"]),
        "finished_to_empty": _ratios(found["finished"], found["empty"]),
        "cpu_us": {name: {loop: _middle(found[name], loop) for loop in ("intake", "dispatch")} for name in LEDGERS},
    }


def _country() -> DirectoryFile:
    agencies = tuple(
        AgencyEntry(code=code, name=f"Đơn vị {code}", tier="ministry-province", endpoint=code, valid_from="2025-07-01")
        for code in (SENDER, SLOW, *OTHERS)
    )
    return DirectoryFile(agencies=agencies)


def _bench(on: Stage, name: str, backlog: int) -> Bench:
    """Set a ledger of its own up for the same broker, and fill it."""
    database_url = with_path(on.servers.database_url, name)
    began = time.monotonic()

    async def made() -> Bench:
        await run_sql(on.servers.database_url, f"CREATE DATABASE {name}")
        installation = await install(
            amqp_url=on.servers.amqp_url,
            management_url=on.servers.management_url,
            database_url=database_url,
            hub_url=NOWHERE,
            folder=on.folder / "installation",
            country=_country(),
        )
        if name != "empty":
            await run_sql(database_url, *(_backlog(kind, name, backlog) for kind in _SHARES))
        await run_sql(database_url, "VACUUM (ANALYZE)", "CHECKPOINT")
        return Bench(installation, on.folder)

    bench = asyncio.run(made())
    print(f"{name}: set up in {time.monotonic() - began:.0f} s", file=sys.stderr)
    return bench


def _backlog(kind: str, ledger: str, backlog: int) -> str:
    state, next_attempt_at = _STATES[kind if ledger == "waiting" else "finished"]
    deliveries = round(backlog * _SHARES[kind])
    documents = deliveries if kind == "slow" else deliveries // _RECIPIENTS
    recipient = f"'{SLOW}'" if kind == "slow" else f"'H9{len(kind)}.' || (number / {documents})"
    return _BACKLOG.format(
        kind=kind,
        documents=documents,
        deliveries=deliveries,
        sender=SENDER,
        recipient=recipient,
        state=state,
        next_attempt_at=next_attempt_at,
    )


def _round(bench: Bench, documents: int, numbers: "count[int]") -> dict[str, Any]:
    account = bench.installation.accounts[SENDER]
    signer = load_signer(account.key_file, account.certificate_file)
    since = datetime.now(UTC) - timedelta(milliseconds=1)
    bench.publish("document", [(SENDER, _document(next(numbers), signer)) for _ in range(documents)])
    found = {
        "intake": bench.phase("intake", documents, _TAKEN_IN, since.isoformat()),
        "dispatch": bench.phase("dispatch", documents * 3, _HANDED_OVER, since.isoformat()),
    }
    [row] = asyncio.run(ask_sql(bench.installation.settings["database_url"], _ALL_HANDED_OVER, since.isoformat()))
    # What went to the slow one meanwhile was work as well.
    share = documents * 3 / row["count"]
    costs = {name: round(us * share) for name, us in found["dispatch"]["cpu_us"].items()}
    return found | {"dispatch": found["dispatch"] | {"cpu_us": costs, "beside": row["count"] - documents * 3}}


def _document(number: int, signer: KeySigner) -> bytes:
    now_s = int(time.time())
    facts = DocumentFacts(
        number=str(number),
        notation="VPCP-TTĐT",
        kind="Công văn",
        subject="Về việc kết nối, liên thông các hệ thống quản lý văn bản và điều hành",
        issued_on=time.strftime("%Y-%m-%d", time.gmtime(now_s)),
        signer=Signer(name="Nguyễn Văn An"),
    )
    to = [OTHERS[(number * 3 + each) % len(OTHERS)] for each in range(3)]
    envelope = new_envelope(from_=SENDER, to=to, doc=facts, now_s=now_s)
    return sign(envelope.to_json(), typ=ENVELOPE_TYP, signer=signer, now_s=now_s)


def _ratios(ours: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The middle of all pairs: of what an item costs in CPU time of all processes, and of how long it takes."""
    return {
        loop: {
            "cpu": _ratio([_cpu_us(each, loop) for each in ours], [_cpu_us(each, loop) for each in others]),
            "postgresql": _ratio(
                [each[loop]["cpu_us"]["postgresql"] for each in ours],
                [each[loop]["cpu_us"]["postgresql"] for each in others],
            ),
            "time": _ratio([1 / each[loop]["per_s"] for each in ours], [1 / each[loop]["per_s"] for each in others]),
        }
        for loop in ("intake", "dispatch")
    }


def _ratio(ours: Sequence[float], others: Sequence[float]) -> float:
    return round(median(mine / its for mine, its in zip(ours, others, strict=True)), 3)


def _cpu_us(found: Mapping[str, Any], loop: str) -> int:
    return sum(found[loop]["cpu_us"].values())


def _middle(rounds: Sequence[Mapping[str, Any]], loop: str) -> dict[str, int]:
    names = {name for each in rounds for name in each[loop]["cpu_us"]}
    return {name: round(median(each[loop]["cpu_us"].get(name, 0) for each in rounds)) for name in sorted(names)}


if __name__ == "__main__":
    sys.exit(main())
