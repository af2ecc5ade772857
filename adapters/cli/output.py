"""How every command speaks: data on stdout, everything else on stderr, one exit code for each kind of ending."""

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

if TYPE_CHECKING:
    from adapters.errors import AgencyError
    from adapters.settings import AgencySettings
    from schemas.refusal import Code, Problem


class Exit(IntEnum):
    """Exit codes of `truc-agency`."""

    DONE = 0
    NEGATIVE = 1
    USAGE = 2
    CONFIGURATION = 3
    UNREACHABLE = 4
    NOT_PERMITTED = 5
    NOT_FOUND = 6
    INTERRUPTED = 130


class Language(StrEnum):
    """Language of texts for people."""

    VI = "vi"
    EN = "en"


ACTORS: Final = {
    Language.VI: {
        "sender": "Đơn vị của bạn.",
        "recipient": "Đơn vị nhận.",
        "hub": "Trục.",
        "operator": "Đơn vị vận hành trục.",
        "nobody": "Không ai.",
    },
    Language.EN: {
        "sender": "Your agency.",
        "recipient": "The recipient.",
        "hub": "The axis.",
        "operator": "The operator of the axis.",
        "nobody": "Nobody.",
    },
}
_LABELS: Final = {
    Language.VI: ("LỖI", "Nơi:", "Thấy:", "Ai xử lý:", "Cách sửa:", "Gửi lại đúng các byte này có thể thành công."),
    Language.EN: ("ERROR", "Place:", "Found:", "Who acts:", "What to do:", "The same bytes can succeed later."),
}

OUTCOMES_VI: Final = {"received": "đã nhận", "failed": "chưa xử lý được", "refused": "từ chối"}
STATUSES_VI: Final = {
    "01": "đã đến",
    "02": "từ chối tiếp nhận",
    "03": "đã tiếp nhận",
    "04": "phân công xử lý",
    "05": "đang xử lý",
    "06": "hoàn thành",
    "13": "yêu cầu lấy lại",
    "15": "đồng ý cập nhật, lấy lại",
    "16": "từ chối cập nhật, lấy lại",
}


class Misused(Exception):  # noqa: N818 - as in adapters.errors
    """The command line names a file or a folder that cannot be used; nothing is wrong with the settings.

    Attributes:
        en: What was found.
        vi: The same in Vietnamese.
    """

    def __init__(self, place: object, en: str, vi: str) -> None:
        self.en = f"{place}: {en}"
        self.vi = f"{place}: {vi}"
        super().__init__(self.en)


@dataclass(frozen=True, slots=True)
class Session:
    """What the options before the command say."""

    config: Path | None
    lang: Language | None

    def settings(self, **overrides: object) -> "AgencySettings":
        """Read the settings; raises `Unusable`."""
        from adapters.settings import PREFIX, load_settings

        if self.config is not None:
            from adapters.errors import Unusable

            if not self.config.is_file():
                raise Unusable("there is no such file", "không có tệp này", place=str(self.config))
            os.environ[f"{PREFIX}CONFIG"] = str(self.config)
        return load_settings(language=self.lang, **overrides)

    @property
    def language(self) -> Language:
        """Language before the settings are known."""
        if self.lang is not None:
            return self.lang
        return Language.EN if os.environ.get("TRUC_AGENCY_LANGUAGE") == "en" else Language.VI

    def choose(self, vi: str, en: str) -> str:
        """Choose the text of the language in use."""
        return vi if self.language is Language.VI else en


def run(session: Session, command: Callable[[], Coroutine[Any, Any, Exit]]) -> None:
    """Run a command to its exit code; errors look alike everywhere.

    Raises:
        typer.Exit: Always.
    """
    run_plain(session, lambda: asyncio.run(command()))


def run_plain(session: Session, command: Callable[[], Exit]) -> None:
    """Run a command that waits for a person: inside a loop, Ctrl-C would not get through to the question.

    Raises:
        typer.Exit: Always.
    """
    from adapters.errors import AgencyError

    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    for library in ("aiormq", "aio_pika"):  # they report as errors what is tried again here
        logging.getLogger(library).setLevel(logging.CRITICAL)
    try:
        code = command()
    except AgencyError as error:
        say(explain_error(error, session.language))
        code = exit_of(error)
    except Misused as error:
        say(session.choose(error.vi, error.en))
        code = Exit.USAGE
    except (KeyboardInterrupt, typer.Abort):
        code = Exit.INTERRUPTED
    raise typer.Exit(code)


def say(text: str) -> None:
    """Tell the person at the terminal something that is not data."""
    print(text, file=sys.stderr)


def explain_error(error: "AgencyError", language: Language) -> str:
    """Write an error as people are told it: what, where, who acts, what to do."""
    found = error.vi if language is Language.VI else error.en
    return _explain(error.code, [(error.place, found)], language)


def explain_problem(problem: "Problem", language: Language) -> str:
    """Write a problem of a document in the same way."""
    from adapters.errors import entry_of

    found = problem.vi if language is Language.VI else problem.en
    return _explain(entry_of(problem.code), [(problem.pointer, found)], language)


def explain_problems(problems: Iterable["Problem"], language: Language) -> str:
    """Write problems of a document, those of one code together: what it means and what to do stand there once."""
    from adapters.errors import entry_of

    found: dict[str, list[tuple[str, str]]] = {}
    for problem in problems:
        text = problem.vi if language is Language.VI else problem.en
        found.setdefault(problem.code, []).append((problem.pointer, text))
    return "\n".join(_explain(entry_of(code), places, language) for code, places in found.items())


def exit_of(error: "AgencyError") -> Exit:
    """Give the exit code of an error."""
    from adapters.errors import BrokerError, HubError, NoQueue, PartError, RefusedByBroker

    match error:
        case RefusedByBroker():
            return Exit.NOT_PERMITTED
        case NoQueue():
            return Exit.NOT_FOUND
        case BrokerError():
            return Exit.UNREACHABLE
        case PartError() | HubError() if error.code.code == "E901":
            return Exit.UNREACHABLE
        case _:
            return Exit.CONFIGURATION


def _explain(code: "Code", places: Sequence[tuple[str, str]], language: Language) -> str:
    vietnamese = language is Language.VI
    title, place_label, found_label, acts_label, fix_label, retry = _LABELS[language]
    acts = ACTORS[language][code.acts] + (f" {retry}" if code.retry else "")
    rows = (
        *(row for place, found in places for row in ((place_label, place), (found_label, found))),
        (acts_label, acts),
        (fix_label, code.fix_vi if vietnamese else code.fix_en),
    )
    lines = [f"  {label:<12}{text}" for label, text in rows if text]
    return "\n".join([f"{title} {code.code}  {code.vi if vietnamese else code.en}", *lines])
