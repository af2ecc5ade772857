"""Why a packet did not get where it should, for the clerk who put it there and for the software that made it.

The clerk reads a text: what is wrong, at which field by its name in Vietnamese, what to do. The software reads JSON with
the same, by code and path.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, Literal

from adapters.errors import OWN_CODES, entry_of
from schemas.directory_file import VIETNAM
from schemas.receipt import NoticeProblem
from schemas.refusal import CATALOGUE, Problem

Language = Literal["vi", "en"]

_ACTORS: Final[Mapping[str, tuple[str, str]]] = {
    "sender": ("đơn vị của bạn", "your agency"),
    "recipient": ("đơn vị nhận", "the recipient"),
    "hub": ("trục", "the axis"),
    "operator": ("đơn vị vận hành trục", "the operator of the axis"),
    "nobody": ("không ai", "nobody"),
}

_FIELDS: Final[Mapping[str, str]] = {
    "From": "bên gửi",
    "To": "bên nhận",
    "OrganId": "mã định danh",
    "Code": "số, ký hiệu",
    "CodeNumber": "số văn bản",
    "CodeNotation": "ký hiệu văn bản",
    "PromulgationDate": "ngày ban hành",
    "DocumentType": "loại văn bản",
    "TypeName": "tên loại văn bản",
    "Subject": "trích yếu",
    "SignerInfo": "người ký",
    "DueDate": "hạn trả lời",
    "Priority": "độ khẩn",
    "SphereOfPromulgation": "phạm vi lưu hành",
    "ResponseFor": "văn bản được trả lời",
    "DocumentId": "mã văn bản",
    "Bussiness": "nghiệp vụ",
    "BussinessDocType": "loại nghiệp vụ",
    "Signature": "chữ ký số",
    "Reference": "danh mục tệp đính kèm",
    "Attachment": "tệp đính kèm",
    "AttachmentName": "tên tệp đính kèm",
    "ContentTransferEncoded": "nội dung tệp đính kèm",
    "StatusCode": "mã trạng thái",
    "Description": "lý do, ghi chú",
}
_STEP: Final = re.compile(r"([A-Za-z]+)(?:\[([0-9]+)\])?")

_HEADINGS: Final[Mapping[Language, tuple[str, str]]] = {
    "vi": ("CHƯA GỬI ĐƯỢC", "CHƯA TỚI ĐƯỢC {}"),
    "en": ("NOT SENT", "HAS NOT GOT TO {}"),
}


@dataclass(frozen=True, slots=True)
class Told:
    """One problem as people and software are told it.

    Attributes:
        code: Key of the catalogue.
        place: Path in the packet, or a pointer into its envelope; empty for the whole.
        vi: What it means and what was found, in Vietnamese.
        en: The same in English.
    """

    code: str
    place: str
    vi: str
    en: str

    def as_json(self) -> dict[str, str]:
        """Give the members as in JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a packet did not get where it should.

    Attributes:
        file: Its name.
        lies_in: The folder that it lies in now.
        sha256: Digest of its bytes.
        at: When that was known.
        problems: Everything that stands against it.
        document: Its identity on the axis, where it got one.
        recipient: Whom it did not get to; absent when it got to nobody.
    """

    file: str
    lies_in: str
    sha256: str
    at: datetime
    problems: Sequence[Told]
    document: str | None = None
    recipient: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Write it for software."""
        facts = {
            "file": self.file,
            "lies_in": self.lies_in,
            "sha256": self.sha256,
            "at": self.at.astimezone(VIETNAM).isoformat(timespec="seconds"),
            "document": self.document,
            "recipient": self.recipient,
        }
        return {
            **{name: value for name, value in facts.items() if value is not None},
            "problems": [_problem_as_json(problem) for problem in self.problems],
        }

    def as_text(self, language: Language) -> str:
        """Write it for a clerk."""
        heading, heading_to = _HEADINGS[language]
        at = self.at.astimezone(VIETNAM).strftime("%H:%M:%S %d/%m/%Y")
        lines = [
            heading if self.recipient is None else heading_to.format(self.recipient),
            "",
            f"{'Tệp' if language == 'vi' else 'File'}: {self.lies_in}/{self.file}",
            f"{'Lúc' if language == 'vi' else 'At'}: {at}",
        ]
        if self.document is not None:
            lines.append(f"{'Mã trên trục' if language == 'vi' else 'Identity on the axis'}: {self.document}")
        for number, problem in enumerate(self.problems, 1):
            lines += ["", f"{number}. {_where(problem.place, language)}", *_explained(problem, language)]
        return "\n".join([*lines, ""])


def lies_apart(problems: Sequence[Told], language: Language) -> str:
    """Write for a clerk why a document that was received lies apart, as files of its own."""
    heading = (
        "ĐÃ NHẬN, nhưng không ghi thành gói edXML được; các tệp của văn bản nằm trong thư mục này."
        if language == "vi"
        else "RECEIVED, but no edXML packet can hold it; the files of the document lie in this folder."
    )
    lines = [heading]
    for number, problem in enumerate(problems, 1):
        text = problem.vi if language == "vi" else problem.en
        lines += ["", f"{number}. {problem.code} {problem.place}".rstrip(), f"   {text}"]
    return "\n".join([*lines, ""])


def told(problems: Iterable[Problem]) -> tuple[Told, ...]:
    """Tell problems that were found here."""
    return tuple(
        Told(
            problem.code,
            problem.pointer,
            _sentence(entry_of(problem.code).vi, problem.vi),
            _sentence(entry_of(problem.code).en, problem.en),
        )
        for problem in problems
    )


def told_by_hub(problems: Iterable[NoticeProblem]) -> tuple[Told, ...]:
    """Tell problems that the hub has found; it says in the same sentence what to do."""
    return tuple(Told(problem.code, problem.pointer, problem.vi, problem.en) for problem in problems)


def _sentence(meaning: str, found: str) -> str:
    return f"{meaning} ({found})" if found else meaning


def _problem_as_json(problem: Told) -> dict[str, str]:
    facts = problem.as_json()
    if problem.code in OWN_CODES or problem.code in CATALOGUE:
        entry = entry_of(problem.code)
        facts |= {"name": entry.name, "acts": entry.acts, "fix_vi": entry.fix_vi, "fix_en": entry.fix_en}
    return facts


def _explained(problem: Told, language: Language) -> list[str]:
    vietnamese = language == "vi"
    text = problem.vi if vietnamese else problem.en
    lines = [f"   {problem.code}: {text}"]
    if problem.code not in OWN_CODES and problem.code not in CATALOGUE:
        return lines
    entry = entry_of(problem.code)
    fix = entry.fix_vi if vietnamese else entry.fix_en
    if fix not in text:
        lines.append(f"   {'Cách xử lý' if vietnamese else 'What to do'}: {fix}")
    who = _ACTORS[entry.acts][0 if vietnamese else 1]
    return [*lines, f"   {'Người xử lý' if vietnamese else 'Who acts'}: {who}"]


def _where(place: str, language: Language) -> str:
    """Name a place as the clerk knows it, with the path for whoever looks into the file."""
    if not place:
        return "Cả tệp" if language == "vi" else "The whole file"
    if language != "vi":
        return place
    steps = [found for found in map(_STEP.fullmatch, place.split("/")) if found is not None]
    names = [f"{_FIELDS[step[1]]}{f' thứ {step[2]}' if step[2] else ''}" for step in steps if step[1] in _FIELDS]
    if not names:
        return place
    shown = ", ".join(reversed(names))
    return f"{shown[0].upper()}{shown[1:]} ({place})"


def json_bytes(reason: Reason) -> bytes:
    """Write the JSON file of a reason."""
    return (json.dumps(reason.as_json(), ensure_ascii=False, indent=2) + "\n").encode()
