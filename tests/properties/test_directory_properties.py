"""A snapshot that was changed again and again is the one that is built of everything."""

from collections import defaultdict
from dataclasses import replace
from datetime import timedelta
from functools import reduce
from operator import itemgetter

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.checks.directory import changed, snapshot
from schemas.directory_file import AgencyEntry, CertificateEntry, DirectoryFile, MandateEntry, PlatformEntry, start_of
from tests.keys import agency_keys, make_certificate

CODES = st.sampled_from(["H01", "H01.1", "H01.2", "H02"])
PLATFORMS = st.sampled_from(["lgsp-a", "lgsp-b"])
DAYS = st.sampled_from([f"2026-03-0{day}" for day in range(1, 8)])
PERIODS = {"valid_from": DAYS, "valid_to": st.none() | DAYS}
PEMS = [agency_keys("H01").pem, agency_keys("H02").pem, make_certificate("H02", "P-384").pem]  # the last may not sign

AGENCIES = st.builds(
    AgencyEntry,
    code=CODES,
    name=st.sampled_from(["Một", "Hai"]),
    tier=st.sampled_from(["commune", "department-district"]),
    parent=st.none() | CODES,
    endpoint=st.none() | CODES | PLATFORMS,
    state=st.sampled_from(["open", "closed"]),
    successors=st.just(()),
    **PERIODS,
)
ENTRIES = (
    AGENCIES
    | st.builds(PlatformEntry, code=PLATFORMS, name=st.sampled_from(["A", "B"]), **PERIODS)
    | st.builds(
        MandateEntry,
        platform=PLATFORMS,
        agency=CODES,
        actions=st.sampled_from([("new",), ("new", "revoke")]),
        **PERIODS,
    )
    | st.builds(
        CertificateEntry,
        owner=CODES,
        pem=st.sampled_from(PEMS),
        revoked_at=st.none() | st.just(1_772_000_000),
    )
)
IMPORTS = st.lists(ENTRIES, max_size=6)
MOMENTS = st.builds(lambda day, hours: start_of(day) + timedelta(hours=hours), DAYS, st.integers(0, 23))


def name_of(entry):
    """What stands for one thing in a snapshot, whatever the day."""
    match entry:
        case AgencyEntry() | PlatformEntry():
            return entry.code
        case MandateEntry():
            return entry.platform, entry.agency
        case CertificateEntry():
            return entry.pem


def turns(entry, earlier, later):
    """Whether an entry begins or ends between two moments."""
    days = (getattr(entry, "valid_from", None), getattr(entry, "valid_to", None))
    return any(earlier < start_of(day) <= later for day in days if day)


def file_of(entries):
    """As the tables give them: each kind by name, and by day."""
    by_kind = defaultdict(list)
    for entry in sorted(entries, key=lambda entry: (str(name_of(entry)), getattr(entry, "valid_from", ""))):
        by_kind[type(entry)].append(entry)
    return DirectoryFile(
        agencies=tuple(by_kind[AgencyEntry]),
        platforms=tuple(by_kind[PlatformEntry]),
        mandates=tuple(by_kind[MandateEntry]),
        certificates=tuple(by_kind[CertificateEntry]),
    )


@given(MOMENTS, st.lists(st.tuples(IMPORTS, MOMENTS), max_size=5))
def test_a_changed_snapshot_is_the_one_that_is_built_of_everything(moment, steps):
    entered, held = {}, snapshot(DirectoryFile(), epoch=0, as_of=moment)
    passed = [(held, held)]
    for epoch, (entries, now) in enumerate(steps, 1):
        entered |= {(type(entry), name_of(entry), getattr(entry, "valid_from", None)): entry for entry in entries}
        span = sorted((held.as_of, now))
        names = {(type(e), name_of(e)) for e in entered.values() if e in entries or turns(e, *span)}
        held = changed(
            held,
            file_of(entry for (kind, name, _), entry in entered.items() if (kind, name) in names),
            epoch=epoch,
            as_of=now,
        )
        passed.append((held, snapshot(file_of(entered.values()), epoch=epoch, as_of=now)))

    # Compared at the end: what somebody holds is still the same.
    assert list(map(itemgetter(0), passed)) == list(map(itemgetter(1), passed))


@settings(max_examples=40)
@given(IMPORTS, MOMENTS)
def test_a_snapshot_that_is_built_piece_by_piece_is_the_one_that_is_built_at_once(entries, now):
    pieces = defaultdict(list)
    for entry in entries:
        pieces[name_of(entry)].append(entry)
    nobody = snapshot(DirectoryFile(), epoch=1, as_of=now)

    built = reduce(lambda held, piece: changed(held, file_of(piece), epoch=1, as_of=now), pieces.values(), nobody)

    assert built == snapshot(file_of(entries), epoch=1, as_of=now)


@settings(max_examples=40)
@given(st.lists(AGENCIES, max_size=12), MOMENTS)
def test_children_are_those_who_name_their_parent(entries, now):
    directory = snapshot(file_of(entries), epoch=1, as_of=now)
    below = defaultdict(list)
    for agency in directory.agencies.values():
        below[agency.parent].append(agency.code)

    assert directory.children == {parent: tuple(sorted(codes)) for parent, codes in below.items() if parent}


@settings(max_examples=40)
@given(IMPORTS, MOMENTS)
def test_what_does_not_change_is_shared(entries, now):
    """A change of one kind copies nothing of the others, however many there are."""
    held = snapshot(file_of(entries), epoch=1, as_of=now)
    for kind in ("agencies", "platforms", "mandates", "certificates"):
        after = changed(held, file_of(entries).model_copy(update={kind: ()}), epoch=2, as_of=now)
        part = "keys" if kind == "certificates" else kind
        assert getattr(after, part) is getattr(held, part)
    assert changed(held, DirectoryFile(), epoch=2, as_of=now) == replace(held, epoch=2)
