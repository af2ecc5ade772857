"""What root's private clusters leave in /var/tmp, where the checkout cannot be entered by their user."""

import os
from pathlib import Path

from hub.dev import postgresql


def cluster(elsewhere: Path, name: str, link: Path) -> Path:
    directory = elsewhere / f"truc-postgresql-{name}"
    directory.mkdir()
    (directory / "link").write_text(str(link))
    return directory


def test_clusters_whose_checkout_is_gone_are_removed_and_no_others(tmp_path, monkeypatch):
    monkeypatch.setattr(postgresql, "_ELSEWHERE", tmp_path)
    kept = cluster(tmp_path, "kept", tmp_path / "checkout")
    (tmp_path / "checkout").symlink_to(kept)
    forgotten = cluster(tmp_path, "forgotten", tmp_path / "deleted-checkout")
    replaced = cluster(tmp_path, "replaced", tmp_path / "checkout")
    being_made = tmp_path / "truc-postgresql-new"
    being_made.mkdir()

    postgresql._remove_forgotten((os.getuid(), os.getgid()))

    assert [path.exists() for path in (kept, forgotten, replaced, being_made)] == [True, False, False, True]


def test_clusters_of_other_users_are_let_be(tmp_path, monkeypatch):
    monkeypatch.setattr(postgresql, "_ELSEWHERE", tmp_path)
    forgotten = cluster(tmp_path, "forgotten", tmp_path / "deleted-checkout")

    postgresql._remove_forgotten((os.getuid() + 1, os.getgid()))

    assert forgotten.exists()
