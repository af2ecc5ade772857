import random
from datetime import UTC, datetime

import pytest

from adapters.document_office import FAULTS, DocumentOffice
from hub.core.decide import decide
from hub.core.policy import Policy
from hub.core.submission import Submission
from hub.core.verdict import Accept
from schemas.checks.directory import snapshot
from schemas.directory_file import DirectoryFile
from schemas.envelope import Part
from schemas.identifiers import AgencyCode
from tests.keys import agency_keys

PLATFORM = AgencyCode("lgsp-h26")
BY_TIER = {
    "ministry-province": [AgencyCode("G22"), AgencyCode("H26")],
    "department-district": [AgencyCode("H26.01"), AgencyCode("H26.02")],
    "commune": [AgencyCode("H26.101")],
}
DIRECTORY = snapshot(
    DirectoryFile.model_validate(
        {
            "agencies": tuple(
                {"code": code, "name": code, "tier": tier, "endpoint": code, "valid_from": "2025-07-01"}
                for tier, codes in BY_TIER.items()
                for code in codes
            ),
            "platforms": ({"code": PLATFORM, "name": "LGSP", "valid_from": "2025-07-01"},),
            "mandates": ({"platform": PLATFORM, "agency": "H26.01", "actions": ("new",), "valid_from": "2025-07-01"},),
            "certificates": tuple(agency_keys(owner).entry(owner).model_dump() for owner in ("H26.01", PLATFORM)),
        }
    ),
    epoch=1,
    as_of=datetime.now(UTC),
)


FILES = [
    Part(name=f"Phụ lục {n} - Biểu tổng hợp số liệu.pdf", media_type="application/pdf", sha256=f"{n:064x}", length=2000)
    for n in range(12)
]


def office(via: AgencyCode | None = None, seed: int = 1) -> DocumentOffice:
    user = via or AgencyCode("H26.01")
    return DocumentOffice(AgencyCode("H26.01"), via, agency_keys(user).signer, random.Random(seed), BY_TIER, 3, FILES)


def verdict_on(token: bytes, user: str):
    now = datetime.now(UTC)
    return decide(Submission(token, user, f"document.{user}"), DIRECTORY, Policy(), now)


@pytest.mark.parametrize("via", [None, PLATFORM])
def test_right_documents_are_accepted_by_three_tiers(via):
    drafted = office(via).draft()

    verdict = verdict_on(drafted.token, via or "H26.01")

    assert isinstance(verdict, Accept), verdict
    assert {addressee.code for addressee in verdict.addressees} == set(drafted.to)
    assert {addressee.tier for addressee in verdict.addressees} == set(BY_TIER)


@pytest.mark.parametrize("via", [None, PLATFORM])
@pytest.mark.parametrize(("fault", "code"), FAULTS.items())
def test_every_fault_is_found_by_the_code_that_is_expected(fault, code, via):
    verdict = verdict_on(office(via).draft(fault).token, via or "H26.01")

    assert not isinstance(verdict, Accept)
    assert code in {problem.code for problem in verdict.problems}


def test_documents_have_the_size_of_real_envelopes():
    sizes = [len(office(seed=seed).draft().token) for seed in range(50)]

    assert 3000 < sum(sizes) / len(sizes) < 5000
    assert max(sizes) < 6000


def test_the_same_seed_chooses_the_same_recipients():
    assert office(seed=7).draft().to == office(seed=7).draft().to
