"""Writes what integrators read: JSON Schemas, the catalogue of codes (JSON and a table), the AsyncAPI description.

Everything in `schemas/published/` beside the examples is made here from the code that the hub runs, so it cannot say
anything else:

    python -m schemas.publish            write the files
    python -m schemas.publish --check    fail when one of them differs from the code

A published schema says as much of our rules as JSON Schema can. Not in it: what depends on the directory, the clock or
the ledger, and the strictness of the JSON text itself (`schemas/strict_json.py`).
"""

import argparse
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from schemas.asyncapi import asyncapi
from schemas.directory_file import DirectoryFile
from schemas.envelope import ENVELOPE_TYP, REF_COUNTS, Envelope
from schemas.event import EVENT_TYP, Event
from schemas.grant import GRANT_TYP, Grant
from schemas.receipt import NOTICE_TYP, RECEIPT_TYP, STATUS_TYP, Notice, Receipt, Status
from schemas.refusal import CATALOGUE
from schemas.wire import Wire

PUBLISHED: Final = Path(__file__).with_name("published")

_MODELS: Final[Mapping[str, tuple[type[Wire], str]]] = {
    "envelope": (Envelope, f"Payload of a {ENVELOPE_TYP}"),
    "receipt": (Receipt, f"Payload of a {RECEIPT_TYP}"),
    "status": (Status, f"Payload of a {STATUS_TYP}"),
    "grant": (Grant, f"Payload of a {GRANT_TYP}"),
    "event": (Event, f"Payload of a {EVENT_TYP}"),
    "notice": (Notice, f"Payload of a {NOTICE_TYP}"),
    "directory": (DirectoryFile, "Directory of agencies, platforms, mandates and certificates"),
}


def documents() -> dict[str, str]:
    """Make every published file: its text by its name."""
    values: dict[str, Any] = {f"{name}.schema.json": schema(name) for name in _MODELS}
    values["codes.json"] = [asdict(code) for code in CATALOGUE.values()]
    values["asyncapi.json"] = asyncapi()
    texts = {name: json.dumps(value, ensure_ascii=False, indent=2) + "\n" for name, value in values.items()}
    return texts | {"codes.md": code_table()}


_ACTORS_VI: Final = {
    "sender": "bên gửi",
    "recipient": "bên nhận",
    "hub": "trục",
    "operator": "đơn vị vận hành",
    "nobody": "không ai",
}


def code_table() -> str:
    """Write the table of all codes for people: who must act, whether the same bytes can succeed later."""
    rows = [
        f"| {code.code} | `{code.name}` | {code.acts}<br>{_ACTORS_VI[code.acts]} | {'yes / có' if code.retry else '—'} "
        f"| {code.vi}<br>{code.fix_vi} | {code.en}<br>{code.fix_en} |".replace("<user>", "&lt;user&gt;")
        for code in CATALOGUE.values()
    ]
    return "\n".join(
        (
            "# Codes",
            "",
            (
                "Made from `schemas/refusal.py` by `python -m schemas.publish`; do not edit. *Retry*: whether exactly the "
                "same bytes can succeed later."
            ),
            "",
            "| code | name | who acts / ai xử lý | retry / gửi lại | nghĩa là gì, cách sửa | meaning, what to do |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
        )
    )


def schema(name: str) -> dict[str, Any]:
    """Make the JSON Schema (2020-12) of one kind of payload: such as `envelope`."""
    model, title = _MODELS[name]
    generated = model.model_json_schema(by_alias=True)
    definitions = generated.pop("$defs", {})
    parts = {model.__name__: generated, **definitions}
    described = {part.__name__: part for part in _wire_models()}
    for part_name, part in parts.items():
        _describe(part, described[part_name])
        _add_rules(part_name, part)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:truc:schema:{name}:v1",
        "title": title,
        **generated,
        "$defs": definitions,
    }


def drift() -> list[str]:
    """Name the published files that differ from what the code says."""
    return [
        name
        for name, text in documents().items()
        if not (PUBLISHED / name).is_file() or (PUBLISHED / name).read_text(encoding="utf-8") != text
    ]


def main() -> int:
    """Write the published files, or check them."""
    parser = argparse.ArgumentParser(prog="python -m schemas.publish", description=inspect.getdoc(main))
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file differs from the code")
    if parser.parse_args().check:
        stale = drift()
        print("\n".join(f"schemas/published/{name} differs from the code" for name in stale) or "no drift")  # noqa: T201
        return 1 if stale else 0
    for name, text in documents().items():
        (PUBLISHED / name).write_text(text, encoding="utf-8")
    return 0


def _wire_models(root: type[Wire] = Wire) -> Iterator[type[Wire]]:
    for model in root.__subclasses__():
        yield model
        yield from _wire_models(model)


_ATTRIBUTE: Final = re.compile(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", re.MULTILINE)


def _describe(part: dict[str, Any], model: type[Wire]) -> None:
    """Move what the docstring says about each attribute to its property, and drop titles that only repeat names."""
    text, _, attributes = (inspect.getdoc(model) or "").partition("\n\nAttributes:\n")
    part["description"] = text
    part.pop("title", None)
    said = {name: " ".join(words.split()) for name, words in _ATTRIBUTE.findall(attributes)}
    for field_name, field in model.model_fields.items():
        member = part["properties"][field.alias or field_name]
        member.pop("title", None)
        if field_name in said:
            member["description"] = said[field_name]


def _add_rules(name: str, part: dict[str, Any]) -> None:
    """Add the rules that live in validators, where the generator cannot see them."""
    for member in part["properties"].values():
        for variant in (member, *member.get("anyOf", ())):
            if variant.get("pattern", "").endswith("[0-9]{3}-[0-9]{2}-[0-9]{2}$"):
                variant["format"] = "date"
    if name == "Envelope":
        part["properties"]["to"]["uniqueItems"] = True
        part["allOf"] = [_ref_rule(action, counts) for action, counts in REF_COUNTS.items()]
    if name == "Status":
        part["if"] = {"properties": {"status": {"const": "02"}}}
        part["then"] = {"properties": {"detail": {"type": "string"}}, "required": ["detail"]}
    if name == "Reference":
        part["anyOf"] = [
            {"properties": {member: {"type": "string"}}, "required": [member]} for member in ("document", "number")
        ]


def _ref_rule(action: str, counts: range) -> dict[str, Any]:
    """Say how many documents `ref` names for one action; an absent action is the default, `new`."""
    fewest, most = counts[0], counts[-1]
    condition: dict[str, Any] = {"properties": {"action": {"const": action}}}
    consequence: dict[str, Any] = {"properties": {"ref": {"minItems": fewest, "maxItems": most}}}
    if action != "new":
        condition["required"] = ["action"]
    if fewest:
        consequence["required"] = ["ref"]
    return {"if": condition, "then": consequence}


if __name__ == "__main__":
    raise SystemExit(main())
