"""The pure core by itself, on one core and without a service: what each check costs, and whether the directory matters.

`python -m tests.bench.core`: the same documents and receipts are decided with directories of three sizes. Senders and
recipients are drawn from the whole of each directory, every endpoint has a key of its own, and no two signatures have the
same header, so that nothing is answered from a cache that would be cold in a country. Every figure is CPU time, the least
of several rounds, as whatever else happens on the machine only ever adds to it. The parts of a decision add up to less
than the whole: one check alone, over and over, finds its code and data in the processor's caches. Prints a table, and one
line of JSON last.
"""

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, Final, Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from hub.core.decide import decide, decide_answer
from hub.core.policy import Policy
from hub.core.submission import Submission
from hub.core.verdict import Accept, Answered
from hub.dev.country import country, shipped
from schemas.addresses import Lane, submit_key
from schemas.checks.address import address
from schemas.checks.authorise import authorise
from schemas.checks.directory import Directory, changed, endpoints_of, snapshot
from schemas.directory_file import DirectoryFile
from schemas.envelope import ENVELOPE_TYP, DocumentFacts, Envelope, Signer, new_envelope, read_envelope
from schemas.identifiers import AgencyCode, delivery_id_of
from schemas.receipt import RECEIPT_TYP, Answer, Receipt, read_receipt
from schemas.signing import KeyRecord, KeySigner, PrivateKey, Verified, identity, sign, verify

NOW: Final = datetime.now(UTC)
COUNTRIES: Final[Mapping[str, Mapping[str, int]]] = {
    "first level": {"departments_per_unit": 0, "communes_per_province": 0},
    "as in 2019": {
        "departments_per_unit": 8,
        "units_per_department": 1,
        "communes_per_province": 2,
        "units_per_commune": 0,
    },
    "whole country": {},
}
"""The real first level, about as many as exchanged documents in 2019, and all that exist today."""

_NOW_S: Final = int(NOW.timestamp())
_RECIPIENTS: Final = 3
_ANSWERS: Final = 20
_POLICY: Final = Policy()
_ES256: Final = ec.ECDSA(hashes.SHA256())
_HOUR_S: Final = 3600

Work = Callable[[], object]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--documents", type=int, default=1500, help="decided in each round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--snapshot", metavar="FILE", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.snapshot:
        print(json.dumps(_snapshot_costs(options.snapshot)))
        return 0
    report = measure(options.documents, options.rounds)
    _show(report)
    print(json.dumps(report))
    return 0


def measure(documents: int, rounds: int) -> dict[str, Any]:
    """Decide with every directory in turn, several rounds, and say what each step takes."""
    benches = {name: _Bench(*equipped(name), documents) for name in COUNTRIES}
    gc.collect()
    gc.freeze()  # as in the running hub, where the snapshot lives long: no collection of this goes through it
    taken: dict[str, dict[str, list[float]]] = {name: {} for name in benches}
    for _ in range(rounds):
        for name, bench in benches.items():
            for step, work, items in bench.steps():
                taken[name].setdefault(step, []).append(_cpu_us(work) / items)
    us = {name: {step: round(min(all_of), 2) for step, all_of in steps.items()} for name, steps in taken.items()}
    (smallest, *_, largest) = benches
    return {
        "agencies": {name: len(bench.directory.agencies) for name, bench in benches.items()},
        "keys": {name: len(bench.directory.keys) for name, bench in benches.items()},
        "us": us,
        "documents_per_s": round(1e6 / us[largest]["document"]),
        "receipts_per_s": round(1e6 / us[largest]["receipt"]),
        "answers_per_s": round(1e6 / us[largest][f"receipt of {_ANSWERS}"] * _ANSWERS),
        "growth": {step: _ratio(taken[largest][step], taken[smallest][step]) for step in us[largest]},
        "snapshot": {name: _in_a_process_of_its_own(name) for name in benches},
    }


def equipped(name: str) -> tuple[Directory, dict[AgencyCode, KeySigner]]:
    """Grow one of the countries; its snapshot, with a key for each endpoint, and what they sign with."""
    bare = snapshot(_file(name), epoch=1, as_of=NOW)
    keys = {code: _key(code, ec.generate_private_key(ec.SECP256R1())) for code in endpoints_of(bare)}
    directory = replace(bare, keys={record.fingerprint: record for record, _ in keys.values()})
    return directory, {code: signer for code, (_, signer) in keys.items()}


def _file(name: str) -> DirectoryFile:
    return country(shipped(), **COUNTRIES[name])


def _key(owner: AgencyCode, key: PrivateKey) -> tuple[KeyRecord, KeySigner]:
    fingerprint = f"{owner}-{id(key):x}".ljust(43, "_")
    signer = KeySigner(key, fingerprint)
    return KeyRecord(fingerprint, owner, signer.alg, key.public_key(), 0, 2**40), signer


class _Bench:
    """The documents and receipts for one directory, taken apart as far as each step needs."""

    def __init__(self, directory: Directory, signers: Mapping[AgencyCode, KeySigner], documents: int) -> None:
        self.directory = directory
        self._signers = signers
        chance = Random(2019)
        connected = [agency for agency in directory.agencies.values() if agency.endpoint in self._signers]
        others = [code for code, agency in directory.agencies.items() if agency.state == "open"]
        senders = [chance.choice(connected) for _ in range(documents)]
        self.documents = [
            self._document(number, sender.code, sender.endpoint or sender.code, chance.sample(others, _RECIPIENTS))
            for number, sender in enumerate(senders)
        ]
        self.single = [self._receipt(number, chance.choice(connected).code, 1) for number in range(documents)]
        few = max(1, documents // 10)
        self.many = [self._receipt(number, chance.choice(connected).code, _ANSWERS) for number in range(few)]
        self.verified = [self._prove(item, ENVELOPE_TYP) for item in self.documents]
        self.proven_receipts = [self._prove(item, RECEIPT_TYP) for item in self.single]
        self.envelopes = [_read(item) for item in self.verified]
        self.signatures = [_Signature.of(item, signers) for item in self.verified]
        rsa_key = _key(AgencyCode("G01"), rsa.generate_private_key(65537, 2048))
        self.ps256, signer = {rsa_key[0].fingerprint: rsa_key[0]}, rsa_key[1]
        payloads = [item.payload for item in self.verified[:few]]
        self.ps256_tokens = [sign(payload, typ=ENVELOPE_TYP, signer=signer, now_s=_NOW_S) for payload in payloads]

    def steps(self) -> Iterator[tuple[str, Work, int]]:
        """Name each step, with what to do and for how many that is."""
        directory, proven = self.directory, list(zip(self.documents, self.verified, self.envelopes, strict=True))

        def step(name: str, check: Callable[[Any], object], items: Sequence[Any]) -> tuple[str, Work, int]:
            return name, lambda: deque(map(check, items), maxlen=0), len(items)  # keeps no result, like a small batch

        yield step("document", lambda item: decide(item, directory, _POLICY, NOW), self.documents)
        yield step("document/verify", lambda item: self._prove(item, ENVELOPE_TYP), self.documents)
        yield step("document/verify/ECDSA", _Signature.fits, self.signatures)
        yield step("document/read", lambda item: read_envelope(item.payload), self.verified)
        yield step("document/authorise", lambda item: _authorise(*item, directory), proven)
        yield step("document/address", lambda item: address(item[2], directory, _POLICY.max_recipients), proven)
        yield step("receipt", lambda item: decide_answer(item, directory, NOW), self.single)
        yield step("receipt/verify", lambda item: self._prove(item, RECEIPT_TYP), self.single)
        yield step("receipt/read", lambda item: read_receipt(item.payload), self.proven_receipts)
        yield step(f"receipt of {_ANSWERS}", lambda item: decide_answer(item, directory, NOW), self.many)
        yield step("verify PS256", self._prove_ps256, self.ps256_tokens)

    def _prove(self, submission: Submission, typ: str) -> Verified:
        verified = verify(submission.body, typ=typ, keys=self.directory.keys, now_s=_NOW_S)
        assert isinstance(verified, Verified)
        return verified

    def _prove_ps256(self, token: bytes) -> None:
        assert isinstance(verify(token, typ=ENVELOPE_TYP, keys=self.ps256, now_s=_NOW_S), Verified)

    def _document(self, number: int, sender: AgencyCode, endpoint: AgencyCode, to: Sequence[AgencyCode]) -> Submission:
        created_s = _NOW_S - number % _HOUR_S
        envelope = new_envelope(
            from_=sender,
            via=None if sender == endpoint else endpoint,
            to=[code for code in to if code != sender],
            now_s=created_s,
            doc=DocumentFacts(
                number=str(number + 1),
                notation="UBND-VP",
                kind="Công văn",
                subject="Về việc triển khai kết nối, liên thông văn bản điện tử " + "x" * 250,
                issued_on=NOW.date().isoformat(),
                signer=Signer(name="Nguyễn Văn An", position="Chánh Văn phòng"),
            ),
        )
        submission = self._signed(envelope.to_json(), ENVELOPE_TYP, "document", endpoint, created_s)
        assert isinstance(decide(submission, self.directory, _POLICY, NOW), Accept)
        return submission

    def _receipt(self, number: int, recipient: AgencyCode, answers: int) -> Submission:
        at, endpoint = _NOW_S - number % _HOUR_S, self.directory.endpoint_of(recipient) or recipient
        receipt = Receipt(
            from_=recipient,
            via=None if endpoint == recipient else endpoint,
            to=AgencyCode("G01"),
            answers=tuple(
                Answer(
                    delivery=str(delivery_id_of(identity(f"{number} {index}".encode()), recipient)),
                    outcome="received",
                    at=at,
                )
                for index in range(answers)
            ),
        )
        submission = self._signed(receipt.to_json(), RECEIPT_TYP, "receipt", endpoint, at)
        assert isinstance(decide_answer(submission, self.directory, NOW), Answered)
        return submission

    def _signed(self, payload: bytes, typ: str, lane: Lane, endpoint: AgencyCode, at_s: int) -> Submission:
        token = sign(payload, typ=typ, signer=self._signers[endpoint], now_s=at_s)
        return Submission(token, endpoint, submit_key(lane, endpoint))


def _read(proven: Verified) -> Envelope:
    envelope = read_envelope(proven.payload)
    assert isinstance(envelope, Envelope)
    return envelope


def _authorise(submission: Submission, proven: Verified, envelope: Envelope, directory: Directory) -> None:
    authorise(
        envelope,
        signer=proven.key.owner,
        user=submission.user,
        routing_key=submission.routing_key,
        directory=directory,
    )


@dataclass(frozen=True, slots=True)
class _Signature:
    """What the library that computes is given in the end; nothing of ours is left in its time."""

    key: ec.EllipticCurvePublicKey
    der: bytes
    signing_input: bytes

    @classmethod
    def of(cls, proven: Verified, signers: Mapping[AgencyCode, KeySigner]) -> Self:
        assert isinstance(proven.key.public_key, ec.EllipticCurvePublicKey)
        signing_input, _, _ = proven.token.rpartition(b".")
        # Any signature of the same bytes costs the same to verify, so a fresh one saves taking the token apart.
        raw = signers[proven.key.owner].sign(signing_input)
        der = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
        return cls(proven.key.public_key, der, signing_input)

    def fits(self) -> None:
        self.key.verify(self.der, self.signing_input, _ES256)


def _cpu_us(work: Work) -> float:
    began = time.process_time_ns()
    work()
    return (time.process_time_ns() - began) / 1000


def _ratio(of: Sequence[float], to: Sequence[float]) -> float:
    """The median of pairs that were measured one after the other."""
    return round(median(one / other for one, other in zip(of, to, strict=True)), 3)


def _in_a_process_of_its_own(name: str) -> Any:
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(_file(name).to_json())
        file.flush()
        command = [sys.executable, "-m", "tests.bench.core", "--snapshot", file.name]
        return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def _snapshot_costs(path: Path) -> dict[str, Any]:
    """Say how long a snapshot takes to build and what it occupies; without its keys, which are the endpoints' only.

    Memory is what this process grows by when all entries are read at once and made a snapshot, once at its greatest and
    once when the entries are gone; the hub reads them in pieces. A change is a new name for one agency.
    """
    written = path.read_bytes()
    before, began = _memory_mib("VmRSS"), time.process_time()
    file = DirectoryFile.model_validate_json(written)
    read = time.process_time()
    directory = snapshot(file, epoch=1, as_of=NOW)
    built = time.process_time()
    change = DirectoryFile(agencies=(file.agencies[-1].model_copy(update={"name": "Đơn vị đổi tên"}),))
    del file
    gc.collect()
    peak_mib, kept_mib = _memory_mib("VmHWM") - before, _memory_mib("VmRSS") - before
    change_us = min(_cpu_us(lambda: changed(directory, change, epoch=2, as_of=NOW)) for _ in range(20))
    return {
        "agencies": len(directory.agencies),
        "read_s": round(read - began, 2),
        "build_s": round(built - read, 2),
        "change_ms": round(change_us / 1000, 2),
        "peak_mib": round(peak_mib, 1),
        "kept_mib": round(kept_mib, 1),
    }


def _memory_mib(which: str) -> float:
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(which)]
    return int(line.split()[1]) / 1024


def _show(report: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    names = list(report["us"])
    table = Table("µs of CPU", *(f"{report['agencies'][name]:,} agencies" for name in names), "largest : smallest")
    for step, growth in report["growth"].items():
        name = "  " * step.count("/") + step.rpartition("/")[2]
        table.add_row(name, *(f"{us[step]:.1f}" for us in report["us"].values()), f"{growth:.2f}")
    table.add_section()
    for figure in ("read_s", "build_s", "change_ms", "peak_mib", "kept_mib"):
        table.add_row(f"snapshot {figure}", *(str(report["snapshot"][name][figure]) for name in names))
    Console(highlight=False, width=110).print(table)


if __name__ == "__main__":
    sys.exit(main())
