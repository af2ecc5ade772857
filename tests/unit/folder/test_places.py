"""Which files are taken, and how names are made of any bytes that a file system holds."""

import os
import time
from pathlib import Path

import pytest

from adapters.errors import FileUnusable, Unusable
from adapters.folder.places import FOLDERS, Places, plain_name, read_whole

LIMITS = {"most": 100, "most_bytes": 1000}


@pytest.fixture
def places(tmp_path: Path) -> Places:
    opened = Places(tmp_path)
    opened.open()
    return opened


def put(places: Places, name: str, data: bytes = b"x", *, age_s: float = 100) -> Path:
    path = places.outbox / name
    path.write_bytes(data)
    moment = time.time() - age_s
    os.utime(path, (moment, moment))
    return path


def taken(places: Places, settle_s: float = 2, **limits: int) -> list[str]:
    return [each.path.name for each in places.take(settle_s=settle_s, **LIMITS | limits)]


def test_all_folders_are_made(places, tmp_path):
    assert {path.name for path in tmp_path.iterdir()} == {*FOLDERS, ".spool"}


def test_a_place_that_is_a_file_is_told(tmp_path):
    (tmp_path / "outbox").write_bytes(b"")

    with pytest.raises(Unusable, match="A101"):
        Places(tmp_path).open()


def test_files_are_taken_oldest_first_and_lie_in_sending_then(places):
    put(places, "b", age_s=10)
    put(places, "a", age_s=20)
    put(places, "c", age_s=30)

    assert taken(places) == ["c", "a", "b"]
    assert sorted(path.name for path in places.sending.iterdir()) == ["a", "b", "c"]
    assert not list(places.outbox.iterdir())


@pytest.mark.parametrize("name", [".hidden", "half.tmp", "HALF.PART", ".~lock.edxml#"])
def test_unfinished_files_are_left(places, name):
    put(places, name)

    assert taken(places) == []


def test_folders_and_links_are_left(places, tmp_path):
    (places.outbox / "folder").mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (places.outbox / "link").symlink_to(tmp_path / "secret")

    assert taken(places, 0) == []


def test_a_file_that_is_still_being_written_is_left_until_it_has_settled(places):
    path = put(places, "a", age_s=1)
    assert taken(places, settle_s=2) == []

    os.utime(path, (time.time() - 2, time.time() - 2))
    assert taken(places, settle_s=2) == ["a"]


def test_a_file_from_the_future_is_taken_when_it_has_not_changed_for_a_while(places, monkeypatch):
    put(places, "a", age_s=-1000)
    assert taken(places) == []
    assert taken(places) == []

    later = time.monotonic() + 3
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert taken(places) == ["a"]


def test_what_an_earlier_process_left_comes_first_and_another_file_of_its_name_waits(places):
    put(places, "a", b"first")
    taken(places)
    put(places, "a", b"second", age_s=200)
    put(places, "b")

    assert taken(places) == ["a", "b"]
    assert (places.sending / "a").read_bytes() == b"first"
    assert (places.outbox / "a").read_bytes() == b"second"


def test_no_more_is_taken_than_fits_into_memory_but_always_one(places):
    for name in "abc":
        put(places, name, bytes(600))
    assert taken(places) == ["a"]
    assert taken(places, most_bytes=1200) == ["a", "b"]
    assert taken(places, most=1) == ["a"]


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("Văn bản 7.edxml", "Văn bản 7.edxml"),
        (os.fsdecode(b"\xff\xfe.edxml"), "??.edxml"),
        ("a\nb\x1b[31m.edxml", "a_b_[31m.edxml"),
        ("a\u202elmxde.exe", "a_lmxde.exe"),
        ("ă" * 127 + ".edxml", "ă" * 77 + ".edxml"),
        ("x." + "y" * 200, "x." + "y" * 158),
    ],
)
def test_a_name_is_made_that_can_be_written_down(name, plain):
    assert plain_name(name) == plain
    assert len(plain_name(name).encode()) <= 160


def test_a_link_is_not_read(places, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "link").symlink_to(tmp_path / "secret")

    with pytest.raises(FileUnusable):
        read_whole(tmp_path / "link", 100)


def test_a_file_is_written_as_a_whole_or_not_at_all(places, monkeypatch):
    places.write(places.inbox / "a", b"old")
    monkeypatch.setattr(os, "fsync", _full)

    with pytest.raises(FileUnusable, match="No space left"):
        places.write(places.inbox / "a", b"new")
    assert [path.name for path in places.inbox.iterdir()] == ["a"]
    assert (places.inbox / "a").read_bytes() == b"old"


def _full(_: int) -> None:
    raise OSError(28, "No space left on device")


def test_moving_what_was_moved_already_changes_nothing(places):
    put(places, "a")
    for _ in range(2):
        places.move(places.outbox / "a", places.sent / "a")

    assert (places.sent / "a").read_bytes() == b"x"


def test_a_name_in_failed_belongs_to_the_bytes_that_failed_under_it(places):
    assert places.name_in_failed("a.edxml", "11") == "a.edxml"
    places.write_json(places.failed / "a.edxml.reason.json", {"sha256": "11"})

    assert places.name_in_failed("a.edxml", "11") == "a.edxml"
    assert places.name_in_failed("a.edxml", "22") == "a-2.edxml"


def test_a_name_whose_reason_nobody_can_read_is_left_alone(places):
    (places.failed / "a.edxml.reason.json").write_bytes(b"{")
    (places.failed / "a-2.edxml").write_bytes(b"without a reason")

    assert places.name_in_failed("a.edxml", "11") == "a-3.edxml"
