"""`truc-agency init`: five questions, one settings file."""

import os
import sys
import tempfile
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from adapters.cli.output import Exit, Misused, Session, run_plain, say

if TYPE_CHECKING:
    from adapters.enrolment import Way

T = TypeVar("T")


def init(
    context: typer.Context,
    *,
    code: Annotated[str | None, typer.Option(help="1: code of the agency or platform.")] = None,
    broker: Annotated[
        str | None, typer.Option(help="2: the broker: HOST, HOST:PORT or amqps://HOST/VHOST; may hold the password.")
    ] = None,
    password_file: Annotated[Path | None, typer.Option(help="2: file with the password of the account.")] = None,
    hub: Annotated[str | None, typer.Option(help="3: the hub's HTTP address; - for none.")] = None,
    papers: Annotated[
        Path | None, typer.Option(help="4: folder with private key, certificate (PEM) and directory file (JSON).")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="4: the private key, instead.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="4: its certificate, instead.")] = None,
    directory: Annotated[Path | None, typer.Option(help="4: the directory file, instead.")] = None,
    way: Annotated[str | None, typer.Option(help="5: what carries documents: folder, gateway or none.")] = None,
    folder: Annotated[Path | None, typer.Option(help="5: the folder, with outbox and inbox in it.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder for what must outlast restarts; by default du-lieu beside the settings.")
    ] = None,
    from_: Annotated[
        Path | None, typer.Option("--from", help="Settings (TOML) handed over by the operator: answers in advance.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: defaults where nothing is given.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite settings that are there.")] = False,
) -> None:
    """Ask five questions and write the one settings file that all commands read; make the folders that it names.

    It is written to --config, or to truc-agency.toml here. Exit codes: 0 written; 2 an answer is missing or cannot be used,
    or the file is there already; 3 key, certificate or directory file cannot be used.
    """
    session: Session = context.obj
    given = _Given(code, broker, password_file, hub, papers, key, certificate, directory, way, folder, data)

    def command() -> Exit:
        from adapters.settings import FILE_NAME

        target = (session.config or Path(FILE_NAME)).absolute()
        if target.exists() and not force:
            raise Misused(target, "is there already; --force overwrites it", "đã có; dùng --force để ghi đè")
        interview = _Interview(session, given, _handed_over(from_), asks=not yes)
        values = interview.hold(target.parent)
        _make_folders(values)
        _write(target, values, session, force=force)
        _tell(session, target, values)
        return Exit.DONE

    run_plain(session, command)


@dataclass(frozen=True, slots=True)
class _Given:
    """The options, as they were given."""

    code: str | None
    broker: str | None
    password_file: Path | None
    hub: str | None
    papers: Path | None
    key: Path | None
    certificate: Path | None
    directory: Path | None
    way: str | None
    folder: Path | None
    data: Path | None


@dataclass(frozen=True, slots=True)
class _Interview:
    """The five questions; what an option or the handed over settings say is the answer, or the default of one.

    Attributes:
        session: For the language.
        given: Options.
        known: Settings that were handed over.
        asks: Whether there is somebody to ask.
    """

    session: Session
    given: _Given
    known: dict[str, Any]
    asks: bool

    def hold(self, home: Path) -> dict[str, Any]:
        """Ask; returns the settings.

        Raises:
            Misused: When an answer is missing or cannot be used, and there is nobody to ask.
            typer.Abort: When the person has had enough.
        """
        from adapters.enrolment import read_code

        if self.asks and not sys.stdin.isatty():
            raise Misused(
                "stdin",
                "no terminal to ask at; use --yes and options",
                "không có bàn phím để hỏi; dùng --yes và các tùy chọn",
            )
        code = self._ask(
            "1/5", "--code", "Mã định danh của đơn vị (hoặc nền tảng)", "Code of the agency (or platform)",
            given=self.given.code, default=self.known.get("code"), read=read_code,
        )  # fmt: skip
        broker = self._broker(code)
        hub = self._hub(broker)
        papers = self._papers(code)
        data = (self.given.data or home / "du-lieu").absolute()
        values = {**self.known, "code": code, "amqp_url": broker, **papers}
        values.pop("hub_url", None)
        if hub is not None:
            values["hub_url"] = hub
        values.setdefault("guard_file", str(data / "guard.db"))
        return values | self._way(home, data)

    def _broker(self, code: str) -> str:
        from adapters.enrolment import needs_password, read_broker, with_password

        url = self._ask(
            "2/5", "--broker", "Máy chủ chuyển tin (tên máy, hoặc amqps://…)", "The broker (host, or amqps://…)",
            given=self.given.broker, default=self.known.get("amqp_url"), shown=_without_password(self.known.get("amqp_url")),
            read=lambda text: read_broker(text, code),
        )  # fmt: skip
        if self.given.password_file is not None:
            return with_password(url, _read_secret(self.given.password_file))
        if not needs_password(url):
            return url
        if not self.asks:
            return with_password(url, "")
        text = self.session.choose(
            "     Mật khẩu của tài khoản (bỏ trống nếu dùng chứng thư kết nối)",
            "     Password (empty with a client certificate)",
        )
        return with_password(url, typer.prompt(text, default="", hide_input=True, show_default=False, err=True))

    def _hub(self, broker: str) -> str | None:
        from adapters.enrolment import likely_hub, read_hub

        return self._ask(
            "3/5", "--hub", "Địa chỉ HTTP của trục (- nếu không có)", "The hub's HTTP address (- for none)",
            given=self.given.hub, default=self.known.get("hub_url", likely_hub(broker)), read=read_hub,
        )  # fmt: skip

    def _papers(self, code: str) -> dict[str, str]:
        """Find the three files; those that are named are taken as they are."""
        from adapters.enrolment import find_papers

        named = {
            "key_file": self.given.key,
            "certificate_file": self.given.certificate,
            "directory_file": self.given.directory,
        }
        files = {name: str(path.absolute()) for name, path in named.items() if path is not None}
        handed = {name: self.known[name] for name in named if name in self.known} if self.given.papers is None else {}
        files = handed | files
        if len(files) == len(named):
            return files
        secret = self.known.get("key_password") or os.environ.get("TRUC_AGENCY_KEY_PASSWORD")
        password = secret.encode() if secret else None

        def read(text: str) -> dict[str, str]:
            found = find_papers(Path(text).expanduser().absolute(), code, password=password)
            return {
                "key_file": str(found.key),
                "certificate_file": str(found.certificate),
                "directory_file": str(found.directory),
            }

        found = self._ask(
            "4/5", "--papers", "Thư mục có khóa, chứng thư, tệp danh mục", "Folder with key, certificate, directory file",
            given=str(self.given.papers) if self.given.papers else None, default=str(Path.cwd()), read=read,
        )  # fmt: skip
        return found | files

    def _way(self, home: Path, data: Path) -> dict[str, str]:
        from adapters.enrolment import read_way

        default = "gateway" if "mailbox_file" in self.known and "folder" not in self.known else "folder"
        way: Way = self._ask(
            "5/5", "--way", "Văn bản ra vào bằng: folder (thư mục), gateway (cổng REST), none", "Documents pass by: folder, gateway, none",
            given=self.given.way or ("folder" if self.given.folder else None), default=default, read=read_way,
        )  # fmt: skip
        if way == "gateway":
            return {"mailbox_file": self.known.get("mailbox_file", str(data / "mailbox.db"))}
        if way == "none":
            return {}
        if self.given.folder is not None:
            folder = str(self.given.folder.absolute())
        else:
            folder = self.known.get("folder", str(home / "van-ban"))
            if self.asks:
                folder = typer.prompt(self.session.choose("     Thư mục", "     Folder"), default=folder, err=True)
        folder = str(Path(folder).expanduser().absolute())
        return {"folder": folder, "folder_journal_file": self.known.get("folder_journal_file", str(data / "folder.db"))}

    def _ask(
        self,
        number: str,
        option: str,
        vi: str,
        en: str,
        *,
        given: str | None,
        default: str | None,
        read: Callable[[str], T],
        shown: str | None = None,
    ) -> T:
        """Ask until the answer can be used; an option that cannot be used is not asked about again."""
        from adapters.enrolment import Wrong

        if given is not None or not self.asks:
            answer = given if given is not None else default
            if answer is None:
                raise Misused(option, "must be given", "phải cho biết")
            try:
                return read(answer)
            except Wrong as wrong:
                raise Misused(option, wrong.en, wrong.vi) from wrong
        while True:
            question = f"{number}  {self.session.choose(vi, en)}"
            if shown is not None:
                question += f" [{shown}]"
            answer = typer.prompt(question, default=default, show_default=shown is None, err=True)
            try:
                return read(answer)
            except Wrong as wrong:
                say(f"     {self.session.choose(wrong.vi, wrong.en)}")


def _handed_over(file: Path | None) -> dict[str, Any]:
    """Read settings that were handed over; its paths begin where it lies."""
    from adapters.settings import placed

    if file is None:
        return {}
    try:
        values = tomllib.loads(file.read_text())
    except OSError as error:
        raise Misused(file, error.strerror or "cannot be read", f"không đọc được tệp ({error.strerror})") from error
    except ValueError as error:
        raise Misused(file, f"not TOML: {error}", f"sai cú pháp TOML: {error}") from error
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in placed(values, file.absolute().parent).items()
    }


def _read_secret(file: Path) -> str:
    try:
        return file.read_text().rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise Misused(file, str(error), f"không đọc được tệp ({error})") from error


def _make_folders(values: dict[str, Any]) -> None:
    """Make what the settings name, as the adapters would; nothing happens to what is there."""
    from adapters.folder.places import Places

    files = [Path(values[name]) for name in ("guard_file", "folder_journal_file", "mailbox_file") if name in values]
    for folder in {file.parent for file in files}:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        except OSError as error:
            raise Misused(
                folder, error.strerror or "cannot be made", f"không tạo được thư mục ({error.strerror})"
            ) from error
    if "folder" in values:
        Places(Path(values["folder"])).open()


def _write(target: Path, values: dict[str, Any], session: Session, *, force: bool) -> None:
    """Write the file beside its place, read it as every command will, and only then give it its name."""
    from adapters.cli.wiring import signer_of
    from adapters.enrolment import write_toml
    from adapters.errors import AgencyError
    from adapters.trust import Trust

    heading = (
        session.choose(
            "Thiết lập cho mọi lệnh truc-agency. Có mật khẩu: giữ kín tệp này.",
            "Settings for all truc-agency commands. It holds a password: keep it private.",
        ),
        session.choose("Mọi thiết lập khác: adapters/settings.py.", "All other settings: adapters/settings.py."),
    )
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)  # mode 0600
    except OSError as error:
        raise Misused(target, error.strerror or "cannot be written", f"không ghi được ({error.strerror})") from error
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(write_toml(values, heading))
            file.flush()
            os.fsync(file.fileno())
        try:
            settings = Session(draft, session.lang).settings()
            signer_of(settings)
            Trust(settings.directory_file).view()
        except AgencyError as error:
            error.place = error.place.replace(str(draft), str(target))
            raise
        if force:
            draft.replace(target)
        else:
            target.hardlink_to(draft)  # unlike a rename it refuses to overwrite what somebody has written meanwhile
    except OSError as error:
        raise Misused(target, error.strerror or "cannot be written", f"không ghi được ({error.strerror})") from error
    finally:
        draft.unlink(missing_ok=True)


def _tell(session: Session, target: Path, values: dict[str, Any]) -> None:
    print(target)
    if "folder" in values:
        say(session.choose(f"Thư mục văn bản: {values['folder']}", f"Folder: {values['folder']}"))
    config = "" if target == Path("truc-agency.toml").absolute() else f"--config {target} "
    say(
        session.choose(
            f"Đã ghi thiết lập. Lệnh tiếp theo:  truc-agency {config}doctor",
            f"Settings are written. Next:  truc-agency {config}doctor",
        )
    )


def _without_password(url: str | None) -> str | None:
    """Show an address without what must not be seen on a screen."""
    from urllib.parse import urlsplit, urlunsplit

    if url is None:
        return None
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
