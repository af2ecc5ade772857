"""From bytes to a tree that hides nothing: what XML allows beyond elements, attributes and texts is refused.

1. Size, and the number of tags and quotes, which bound the memory that a tree takes.
2. UTF-8, with or without a byte order mark; nothing before the declaration or the first element. A DTD, and so every
   entity, can stand only there: it never reaches the parser.
3. lxml, which resolves nothing and fetches nothing.
4. No comments (they cut a text in two: an identifier read to the first of them is another identifier), no processing
   instructions, no elements of other namespaces, bounded depth.

What is found does not end the search where more can be found: a tree with comments is read without them, and refused
together with its fields.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from lxml import etree

from schemas.edxml.packet import NAMESPACE, NAMESPACE_2014, SIGNATURES, XMLDSIG
from schemas.refusal import Problem
from schemas.wire import MAX_PROBLEMS

MAX_PACKET_BYTES: Final = 64 * 1024 * 1024
"""Base64 makes a third more of a file: attachments of about 48 MB together."""

MAX_DEPTH: Final = 32
_MAX_TAGS: Final = 100_000
_MAX_QUOTES: Final = 100_000
_HUGE_BYTES: Final = 7 * 1024 * 1024
"""Above it libxml2 must be told that a text may be longer than ten million characters."""

_SOAP: Final = "http://schemas.xmlsoap.org/soap/envelope/"
_BOM: Final = b"\xef\xbb\xbf"
_DECLARATION: Final = re.compile(rb"<\?xml\s[^>]{0,200}?\?>")
_ENCODING: Final = re.compile(rb"""\sencoding\s*=\s*["']([^"']{0,40})["']""")
_ELEMENT_OR_SO: Final = re.compile(rb"\s*<")

_UNBOUND: Final = re.compile(r"Namespace prefix ([^\s]+)(?: for [^\s]+)? on ([^\s]+) is not defined")


@dataclass(frozen=True, slots=True)
class Tree:
    """A packet as a tree, with nothing in it that was not looked at.

    Attributes:
        root: The element `edXML`, without comments and processing instructions.
        old: It came in the format of 2014; the tree is laid out as that of today.
        problems: Why it is refused, however its fields may read.
    """

    root: etree._Element
    old: bool = False
    problems: tuple[Problem, ...] = ()


def parse(data: bytes) -> Tree | tuple[Problem, ...]:
    """Parse a packet; total: returns problems for any bytes whatever.

    Returns:
        The tree, which may have problems too; or nothing but problems, when no field can be read.
    """
    data, junk = _without_junk(data.removeprefix(_BOM))
    problems = [*_oversized(data), *_foreign_bytes(data)]
    if problems:
        return (*junk, *problems)
    reading = parser(len(data))
    try:
        root = etree.fromstring(data, reading)
    except etree.XMLSyntaxError:
        return (*junk, *_not_well_formed(data, reading))
    problems = [*junk, *_forbidden_nodes(root)]
    wrong_root = _wrong_root(root)
    if wrong_root is not None:
        return (wrong_root, *problems)[:MAX_PROBLEMS]
    etree.strip_tags(root, etree.Comment, etree.PI)
    problems += _foreign_elements(root)
    found = tuple(problems[:MAX_PROBLEMS])
    if _namespace(root) == NAMESPACE:
        return Tree(root, problems=found)
    return Tree(_as_of_today(root), old=True, problems=found)


def parser(length: int, *, recover: bool = False) -> etree.XMLParser:
    """Make a parser that resolves and fetches nothing, for so many bytes."""
    return etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        attribute_defaults=False,
        huge_tree=_HUGE_BYTES < length <= MAX_PACKET_BYTES,
        recover=recover,
    )


def local_name(element: etree._Element) -> str:
    """Give the name of an element without its namespace."""
    return str(element.tag).rpartition("}")[2]


def place_of(element: etree._Element) -> str:
    """Write where an element stands: `/edXML/…/To[2]/OrganId`, numbers where there are several."""
    steps = []
    for step in (element, *element.iterancestors()):
        if not isinstance(step.tag, str):
            continue
        parent = step.getparent()
        twins = [] if parent is None else [child for child in parent if child.tag == step.tag]
        number = f"[{twins.index(step) + 1}]" if len(twins) > 1 else ""
        steps.append(local_name(step) + number)
    return "/" + "/".join(reversed(steps))


def _namespace(element: etree._Element) -> str:
    tag = str(element.tag)
    return tag[1:].partition("}")[0] if tag.startswith("{") else ""


def _oversized(data: bytes) -> Iterator[Problem]:
    if len(data) > MAX_PACKET_BYTES:
        yield Problem(
            "E511",
            "",
            f"{len(data)} bytes, at most {MAX_PACKET_BYTES}",
            f"{len(data)} byte, nhiều nhất {MAX_PACKET_BYTES}",
        )
    elif data.count(b"<") > _MAX_TAGS or data.count(b'"') + data.count(b"'") > _MAX_QUOTES:
        yield Problem("E511", "", "too many elements or attributes", "quá nhiều phần tử hoặc thuộc tính")


def _without_junk(data: bytes) -> tuple[bytes, tuple[Problem, ...]]:
    """Take away what stands before the declaration, and say so."""
    at = data.find(b"<?xml", 0, 4096)
    if at <= 0 or b"<" in data[:at] or b"\0" in data[:at]:
        return data, ()
    shown = _shown(data[:at])
    english = f"{at} bytes stand before the XML declaration: {shown}"
    vietnamese = f"có {at} byte đứng trước khai báo XML: {shown}; xóa phần thừa ở đầu tệp"
    return data[at:], (_refused(english, vietnamese),)


def _foreign_bytes(text: bytes) -> Iterator[Problem]:
    """Find what may not stand before the first element, and encodings that are not UTF-8."""
    if text[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in text[:8]:
        yield _refused("the file is UTF-16 or UTF-32, not UTF-8", "tệp ghi bằng UTF-16 hoặc UTF-32, không phải UTF-8")
        return
    declaration = _DECLARATION.match(text)
    begin = declaration.end() if declaration else 0
    encoding = _ENCODING.search(declaration[0]) if declaration else None
    if encoding is not None and encoding[1].lower() not in (b"utf-8", b"utf8"):
        yield _refused(
            f"declared as {_shown(encoding[1])}, not UTF-8",
            f"khai báo bảng mã {_shown(encoding[1])}, không phải UTF-8",
        )
    if b"<!DOCTYPE" in text:  # wherever it stands: a comment in front of it would hide it from a look at the beginning
        yield _refused("a DTD (<!DOCTYPE …>)", "có khai báo DTD (<!DOCTYPE …>)")
    if _ELEMENT_OR_SO.match(text, begin) is None:
        shown = _shown(text[begin : begin + 40].strip())
        yield _refused(
            f"not XML: begins with {shown}" if shown else "the file is empty",
            f"không phải XML: bắt đầu bằng {shown}" if shown else "tệp rỗng",
        )


def _not_well_formed(data: bytes, reading: etree.XMLParser) -> tuple[Problem, ...]:
    problems = []
    prefixes: set[str] = set()
    entries = list(reading.error_log)
    for entry in entries:
        if entry.type == etree.ErrorTypes.ERR_DOCUMENT_END and "<" in _rest_of(data, entry.line):
            problems.append(
                _refused(
                    f"a second document begins behind the first, line {entry.line}",
                    f"tệp chứa hai tài liệu: tài liệu thứ hai bắt đầu ở dòng {entry.line}; tách thành hai tệp",
                )
            )
        elif unbound := _UNBOUND.search(entry.message):
            if unbound[1] in prefixes:
                continue
            prefixes.add(unbound[1])
            problems.append(
                _refused(
                    f"prefix {unbound[1]} on {unbound[2]} is not bound to a namespace, line {entry.line}",
                    f"tiền tố {unbound[1]} ở {unbound[2]} chưa khai báo không gian tên (xmlns:{unbound[1]}), dòng {entry.line}",
                )
            )
        else:
            problems.append(
                _refused(
                    f"not well-formed, line {entry.line}: {entry.message[:200]}",
                    f"XML sai cú pháp ở dòng {entry.line}: {entry.message[:200]}",
                )
            )
    if entries and all(entry.type == etree.ErrorTypes.NS_ERR_UNDEFINED_NAMESPACE for entry in entries):
        root = etree.fromstring(data, parser(len(data), recover=True))
        problems += _forbidden_nodes(root)
    unique = dict.fromkeys(problems)
    return tuple(unique)[:MAX_PROBLEMS] or (_refused("not well-formed", "XML sai cú pháp"),)


def _rest_of(data: bytes, line: int) -> str:
    return b"\n".join(data.split(b"\n", line + 3)[max(line - 1, 0) : line + 3])[:4096].decode(errors="replace")


def _forbidden_nodes(root: etree._Element) -> Iterator[Problem]:
    """Find comments, processing instructions and depth, before, in and behind the root."""
    for node in (*root.itersiblings(preceding=True), *root.itersiblings()):
        yield _forbidden(node, "")
    for node in root.iter(etree.Comment, etree.PI, etree.Entity):
        parent = node.getparent()
        yield _forbidden(node, "" if parent is None else place_of(parent))
    if _depth_of(root) > MAX_DEPTH:
        yield Problem("E511", "", f"nested deeper than {MAX_DEPTH}", f"lồng sâu quá {MAX_DEPTH} tầng")


def _forbidden(node: etree._Element, place: str) -> Problem:
    if isinstance(node, etree._Comment):  # noqa: SLF001 - lxml has no public name for its class
        return _refused(
            f"a comment, line {node.sourceline}", f"có chú thích <!-- … -->, dòng {node.sourceline}; xóa đi", place
        )
    return _refused(
        f"a processing instruction, line {node.sourceline}", f"có lệnh xử lý <? … ?>, dòng {node.sourceline}", place
    )


def _depth_of(root: etree._Element) -> int:
    depth = deepest = 0
    for event, _ in etree.iterwalk(root, events=("start", "end")):
        depth += 1 if event == "start" else -1
        deepest = max(deepest, depth)
    return deepest


def _wrong_root(root: etree._Element) -> Problem | None:
    place, name, namespace = f"/{local_name(root)}", local_name(root), _namespace(root)
    if (name, namespace) == ("edXML", NAMESPACE) or (name, namespace) == ("edXML", NAMESPACE_2014):
        return None
    if (name, namespace) == ("Envelope", _SOAP):
        return None
    if name != "edXML":
        return _refused(
            f"the root is {name}, not edXML of {NAMESPACE}",
            f"phần tử gốc là {name}, phải là edXML thuộc không gian tên {NAMESPACE}",
            place,
        )
    shown = namespace or "—"
    return _refused(
        f"namespace {shown}; the right one is {NAMESPACE}",
        f"không gian tên {shown}; không gian tên đúng là {NAMESPACE}",
        place,
    )


def _foreign_elements(root: etree._Element) -> Iterator[Problem]:
    """Find elements of other namespaces; what stands inside a signature is that signature's own matter."""
    own = {NAMESPACE} if _namespace(root) == NAMESPACE else {NAMESPACE_2014, _SOAP}
    if all(str(tag).startswith(f"{{{NAMESPACE}}}") for tag in {element.tag for element in root.iter()}):
        return  # so it is nearly always
    waiting = [root]
    while waiting:
        element = waiting.pop()
        namespace = _namespace(element)
        if namespace == XMLDSIG or (namespace in own and local_name(element) in SIGNATURES):
            continue
        if namespace not in own:
            shown = namespace or "—"
            yield _refused(
                f"element of namespace {shown}; the right one is {NAMESPACE}",
                f"phần tử thuộc không gian tên {shown}; không gian tên đúng là {NAMESPACE}",
                place_of(element),
            )
            continue
        waiting.extend(child for child in reversed(element) if isinstance(child.tag, str))


def _as_of_today(root: etree._Element) -> etree._Element:
    """Lay out a tree of 2014 as one of today, as far as its format is known: SOAP header and body, the same names."""
    for element in root.iter():
        if isinstance(element.tag, str) and _namespace(element) in (NAMESPACE_2014, _SOAP):
            element.tag = f"{{{NAMESPACE}}}{local_name(element)}"
    if local_name(root) == "edXML":
        return root
    today = etree.Element(f"{{{NAMESPACE}}}edXML")
    envelope = etree.SubElement(today, f"{{{NAMESPACE}}}edXMLEnvelope")
    for name, counterpart in (("Header", "edXMLHeader"), ("Body", "edXMLBody")):
        part = root.find(f"{{{NAMESPACE}}}{name}")
        if part is not None:
            part.tag = f"{{{NAMESPACE}}}{counterpart}"
            envelope.append(part)
    manifest = envelope.find(f"{{{NAMESPACE}}}edXMLBody/{{{NAMESPACE}}}Manifest")
    if manifest is not None:
        manifest.tag = f"{{{NAMESPACE}}}edXMLManifest"
    return today


def _shown(data: bytes) -> str:
    text = ascii(data[:40].decode("utf-8", "replace"))
    return text[1:-1]


def _refused(english: str, vietnamese: str, place: str = "") -> Problem:
    return Problem("E510", place, english, vietnamese)
