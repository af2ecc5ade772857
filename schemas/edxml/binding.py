"""Between a tree and the records of `packet`, both ways, by the paths that the records' fields bear.

Reading takes any order and any prefix. An element that no field bears, and a text where only elements belong, is named
in `unmapped`. An element that may stand once and stands twice is refused: two readers could choose differently.
"""

import binascii
import dataclasses
import re
import types
import typing
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Final, TypeVar

from lxml import etree

from schemas.directory_file import VIETNAM
from schemas.edxml.packet import NAMESPACE, SIGNATURES, XLINK
from schemas.edxml.parsing import local_name
from schemas.refusal import Problem

Record = TypeVar("Record")

_DAY: Final = re.compile(r"(?:([0-9]{4})[/-]([0-9]{1,2})[/-]([0-9]{1,2})|([0-9]{1,2})[/-]([0-9]{1,2})[/-]([0-9]{4}))")
_CLOCK: Final = re.compile(r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?(?:\.[0-9]+)?")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/\s]*+(?:=\s*){0,2}")
_RUINED: Final = "\ufffd".encode()

_PREFIXES: Final = {"edXML": NAMESPACE}
_PREFIXED: Final = frozenset({"edXMLEnvelope", "ContentTransferEncoded"})
"""Where the prefix begins: common software looks for `edXML:StatusCode`, and for an `AttachmentEncoded` without one."""


@dataclass(frozen=True, slots=True)
class _Node:
    """An element that is known at a place.

    Attributes:
        field_name: The field that it fills; absent for one that only groups others.
        kind: `str`, `date`, `datetime`, `bytes`, or a record.
        many: May stand several times.
        needed: The field has no default.
        lenient: See `packet`.
        children: Elements below, in the order of the standard.
        attributes: Field by attribute.
    """

    field_name: str | None = None
    kind: Any = None
    many: bool = False
    needed: bool = False
    lenient: bool = False
    children: dict[str, "_Node"] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Findings:
    """What reading has found out so far."""

    problems: list[Problem] = field(default_factory=list)
    unmapped: list[str] = field(default_factory=list)

    def wrong(self, place: str, english: str, vietnamese: str) -> None:
        """Note that a field is missing or wrong."""
        self.problems.append(Problem("E512", place, english, vietnamese))


def read(record: type[Record], element: etree._Element, place: str, findings: Findings) -> Record | None:
    """Fill a record from an element; `None` when a field is missing, or when it is empty altogether."""
    node = _structure_of(record)
    values: dict[str, Any] = {}
    before = len(findings.problems)
    _fill(node, element, place, values, findings)
    if not values and len(findings.problems) == before:
        return None  # an empty element says no more than an absent one
    _note_missing(node, place, values, findings)
    return record(**values) if len(findings.problems) == before else None


def write(record: object, element: etree._Element) -> None:
    """Write the fields of a record below an element, in the order of the standard, leaving out what has no value."""
    _write_node(_structure_of(type(record)), record, element)


def _structure_of(record: type[Any]) -> _Node:
    if record not in _STRUCTURES:
        _STRUCTURES[record] = _structure(record)
    return _STRUCTURES[record]


_STRUCTURES: Final[dict[type[Any], _Node]] = {}
"""Made once for each kind of record; nothing else goes in."""


def _structure(record: type[Any]) -> _Node:
    top = _Node()
    hints = typing.get_type_hints(record)
    for each in dataclasses.fields(record):
        if "path" not in each.metadata:
            continue
        *groups, last = each.metadata["path"].split("/")
        node = top
        for group in groups:
            node = node.children.setdefault(group, _Node())
        if last.startswith("@"):
            prefix, _, name = last[1:].rpartition(":")
            node.attributes[f"{{{XLINK}}}{name}" if prefix else name] = each.name
            continue
        kind, many = _kind_of(hints[each.name])
        node.children[last] = _Node(
            field_name=each.name,
            kind=kind,
            many=many,
            needed=each.default is dataclasses.MISSING,
            lenient=each.metadata["lenient"],
        )
    return top


def _kind_of(hint: Any) -> tuple[Any, bool]:
    if typing.get_origin(hint) is tuple:
        return typing.get_args(hint)[0], True
    if isinstance(hint, types.UnionType):
        return next(each for each in typing.get_args(hint) if each is not types.NoneType), False
    return hint, False


def _fill(node: _Node, element: etree._Element, place: str, values: dict[str, Any], findings: Findings) -> None:
    for attribute, text in element.attrib.items():
        name = node.attributes.get(str(attribute))
        if name is None:
            findings.unmapped.append(f"{place}/@{str(attribute).rpartition('}')[2]}")
        elif (value := clean(str(text))) is not None:
            values[name] = value
    if _has_loose_text(element):
        findings.unmapped.append(f"{place}/text()")
    seen: Counter[str] = Counter()
    for child in element:
        name = local_name(child)
        seen[name] += 1
        known = node.children.get(name)
        numbered = f"[{seen[name]}]" if seen[name] > 1 or (known is not None and known.many) else ""
        _fill_child(known, child, f"{place}/{name}{numbered}", values, findings, again=seen[name] > 1)


def _fill_child(
    known: _Node | None,
    child: etree._Element,
    place: str,
    values: dict[str, Any],
    findings: Findings,
    *,
    again: bool,
) -> None:
    if known is None:
        if local_name(child) not in SIGNATURES:
            findings.unmapped.append(place)
        return
    if again and not known.many:
        findings.wrong(place, "stands twice", "xuất hiện hai lần")
        return
    if known.field_name is None:
        _fill(known, child, place, values, findings)
        return
    value = _value(known, child, place, findings)
    if value is None:
        return
    if known.many:
        values[known.field_name] = (*values.get(known.field_name, ()), value)
    else:
        values[known.field_name] = value


def _value(known: _Node, element: etree._Element, place: str, findings: Findings) -> Any:
    if dataclasses.is_dataclass(known.kind):
        return read(typing.cast("type[Any]", known.kind), element, place, findings)
    if len(element):
        findings.wrong(place, "holds elements where a text belongs", "chứa phần tử con, phải là chữ")
        return None
    findings.unmapped.extend(f"{place}/@{str(name).rpartition('}')[2]}" for name in element.attrib)
    text = clean(element.text or "")
    if text is None:
        return None
    value, reason = _READERS[known.kind](text)
    if reason is None:
        return value
    if known.lenient:
        findings.unmapped.append(place)
    else:
        findings.wrong(place, *reason)
    return None


def _note_missing(node: _Node, place: str, values: Mapping[str, Any], findings: Findings) -> None:
    """Name needed fields without a value, unless a problem tells already what is wrong with them."""
    for name, child in node.children.items():
        here = f"{place}/{name}"
        if child.field_name is None:
            _note_missing(child, here, values, findings)
        elif child.needed and child.field_name not in values and not _told(here, findings):
            findings.wrong(here, "missing or empty", "thiếu hoặc để trống")


def _told(place: str, findings: Findings) -> bool:
    return any(
        problem.pointer == place or problem.pointer.startswith((f"{place}/", f"{place}["))
        for problem in findings.problems
    )


def _has_loose_text(element: etree._Element) -> bool:
    texts = [element.text, *(child.tail for child in element)]
    return any(text and not text.isspace() for text in texts)


def clean(text: str) -> str | None:
    """Strip white space; an empty text, and the `null` of some software, is no text."""
    stripped = text.strip()
    return stripped if stripped and stripped != "null" else None


_Reason = tuple[str, str]


def _read_text(text: str) -> tuple[str, _Reason | None]:
    return text, None


def _read_day(text: str) -> tuple[date | None, _Reason | None]:
    found = _DAY.match(text)
    if found is not None and _is_clock(text[found.end() :].strip(" T")):
        year, month, day = found[1] or found[6], found[2] or found[5], found[3] or found[4]
        try:
            value = date(int(year), int(month), int(day))
        except ValueError:
            return None, (f"{text[:40]} is no day of the calendar", f"{text[:40]} không phải ngày có thật")
        if value.year >= 1000:
            return value, None
    return None, (
        f"{text[:40]!a} is not a day such as 2026/03/02",
        f"“{text[:40]}” không phải ngày dạng năm/tháng/ngày, ví dụ 2026/03/02",
    )


def _is_clock(text: str) -> bool:
    return not text or _CLOCK.fullmatch(text) is not None


def _read_moment(text: str) -> tuple[datetime | None, _Reason | None]:
    day, reason = _read_day(text)
    if day is None:
        return None, reason
    clock = _CLOCK.search(text)
    hours, minutes, seconds = (int(each or 0) for each in clock.groups()) if clock else (0, 0, 0)
    midnight = datetime(day.year, day.month, day.day, tzinfo=VIETNAM)
    if hours > 23 or minutes > 59 or seconds > 59:
        return None, (f"{text[:40]} is no time of the day", f"{text[:40]} không phải giờ có thật")
    return midnight + timedelta(hours=hours, minutes=minutes, seconds=seconds), None


def _read_bytes(text: str) -> tuple[bytes | None, _Reason | None]:
    if "\ufffd" in text:
        return None, _READ_AS_TEXT
    if _BASE64.fullmatch(text) is None:
        return None, _NOT_BASE64
    try:
        content = binascii.a2b_base64(text)
    except binascii.Error:
        return None, _NOT_BASE64
    return (None, _READ_AS_TEXT) if _is_ruined(content) else (content, None)


def _is_ruined(content: bytes) -> bool:
    """Tell whether bytes went through a reader of UTF-8, which writes U+FFFD for each one it does not understand."""
    count = content.count(_RUINED)
    return count >= 4 and count * 1000 >= len(content)


_NOT_BASE64: Final = ("not base64", "nội dung tệp không phải base64")
_READ_AS_TEXT: Final = (
    "full of U+FFFD (EF BF BD): some software has read this file as text and ruined it",
    "nội dung đầy ký tự thay thế (EF BF BD): một phần mềm đã đọc tệp nhị phân như văn bản và làm hỏng; gửi lại tệp gốc",
)
_READERS: Final[Mapping[Any, Callable[[str], tuple[Any, _Reason | None]]]] = {
    str: _read_text,
    date: _read_day,
    datetime: _read_moment,
    bytes: _read_bytes,
}


def _write_node(node: _Node, record: object, element: etree._Element) -> None:
    for attribute, name in node.attributes.items():
        if (value := getattr(record, name)) is not None:
            element.set(attribute, value)
    for name, child in node.children.items():
        prefixes = _PREFIXES if name in _PREFIXED else None
        if child.field_name is None:
            group = etree.SubElement(element, f"{{{NAMESPACE}}}{name}", nsmap=prefixes)
            _write_node(child, record, group)
            if not len(group) and not group.attrib:
                element.remove(group)
            continue
        value = getattr(record, child.field_name)
        for each in value if child.many else (value,):
            if each is not None:
                _write_value(each, etree.SubElement(element, f"{{{NAMESPACE}}}{name}", nsmap=prefixes))


def _write_value(value: Any, element: etree._Element) -> None:
    match value:
        case str():
            element.text = value
        case bytes():
            element.text = binascii.b2a_base64(value, newline=False).decode()
        case datetime():  # before `date`: a moment is one
            element.text = f"{value.astimezone(VIETNAM):%Y/%m/%d %H:%M:%S}"
        case date():
            element.text = f"{value:%Y/%m/%d}"
        case _:
            write(value, element)
