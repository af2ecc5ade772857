"""The contract on a directory and on S3, played by moto's server."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hub.blobs.store import BlobStore
from hub.core.trouble import Unavailable
from hub.settings import SettingsError
from tests.contract.blobs_contract import BlobsContract, keys
from tests.s3 import S3, some_s3


class TestDirectory(BlobsContract):
    @pytest.fixture
    def blobs(self, tmp_path: Path) -> BlobStore:
        return BlobStore((tmp_path / "kho tệp").as_uri())

    async def test_file_that_a_dead_process_was_writing_is_removed_after_its_time(
        self, blobs: BlobStore, tmp_path: Path
    ):
        await blobs.put("parts/ab/whole", b"abc")
        staged = tmp_path / "kho tệp" / "parts" / "ab" / "half#7"
        staged.write_bytes(b"half")
        now = datetime.now(UTC)
        assert await blobs.remove_staged(now - timedelta(minutes=1)) == 0
        assert await keys(blobs) == ["parts/ab/whole"]
        assert staged.exists()
        assert await blobs.remove_staged(now + timedelta(minutes=1)) == 1
        assert not staged.exists()
        assert await keys(blobs) == ["parts/ab/whole"]

    async def test_directories_of_uploads_do_not_pile_up(self, blobs: BlobStore, tmp_path: Path):
        await blobs.put("uploads/x/H26/0-1", b"x")
        await blobs.delete(["uploads/x/H26/0-1"])
        assert not (tmp_path / "kho tệp" / "uploads").exists()

    async def test_directory_that_cannot_be_made_is_told(self, tmp_path: Path):
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(SettingsError, match="TRUC_BLOBS_URL"):
            BlobStore((tmp_path / "file" / "below").as_uri())

    async def test_directory_that_is_not_there_any_more_is_unavailable(self, blobs: BlobStore, tmp_path: Path):
        await blobs.ready()
        (tmp_path / "kho tệp").rmdir()
        with pytest.raises(Unavailable, match=r"^blobs: "):
            await blobs.ready()


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with some_s3() as s3:
        yield s3


class TestS3(BlobsContract):
    @pytest.fixture
    def blobs(self, s3: S3, monkeypatch: pytest.MonkeyPatch) -> BlobStore:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        return BlobStore(s3.fresh_url())

    async def test_store_that_does_not_answer_is_unavailable(self, monkeypatch: pytest.MonkeyPatch, s3: S3):
        for name, value in (s3.environment | {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(Unavailable, match=r"^blobs: "):
            await BlobStore("s3://bucket/prefix").ready()

    async def test_bucket_that_is_not_there_is_unavailable(self, monkeypatch: pytest.MonkeyPatch, s3: S3):
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(Unavailable, match=r"^blobs: "):
            await BlobStore("s3://no-such-bucket").ready()
