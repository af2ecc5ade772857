"""What every signed payload has in common: strict, frozen models, texts, times, and problems with their place."""

import re
from collections.abc import Sequence
from datetime import date
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import PydanticCustomError

from schemas import strict_json
from schemas.refusal import Problem

MAX_PROBLEMS: Final = 200
"""Most problems that are told about one payload; a hostile one can hold a hundred thousand."""

NO_CONTROLS: Final = r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff]*$"
"""Tabs and line feeds are the only control characters: a NUL cannot be stored, terminals obey the others."""


class Wire(BaseModel):
    """A part of a signed payload: frozen, nothing extra, nothing converted."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", populate_by_name=True)

    def to_json(self) -> bytes:
        """Write the payload once, before it is signed; members without a value are left out."""
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()


def text(max_length: int, *, min_length: int = 1) -> StringConstraints:
    """Constrain a text to a length in characters and to printable characters."""
    return StringConstraints(strict=True, min_length=min_length, max_length=max_length, pattern=NO_CONTROLS)


def _day_text(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value


def _real_day(value: str) -> str:
    date.fromisoformat(value)
    return value


def _whole_number(value: Any) -> Any:
    if isinstance(value, bool):  # Python, and so a `Literal`, holds `True` for 1
        raise PydanticCustomError("int_type", "Input should be a valid integer")
    return value


Version1 = Annotated[Literal[1], BeforeValidator(_whole_number)]
"""The number 1, by which a format says which version of it follows."""

Day = Annotated[
    str,
    StringConstraints(strict=True, pattern=r"^[12][0-9]{3}-[0-9]{2}-[0-9]{2}$"),
    AfterValidator(_real_day),
    BeforeValidator(_day_text),
]
"""A real calendar day from the year 1000 on, `YYYY-MM-DD`, without a zone: the date printed on the document."""

Instant = Annotated[int, Field(strict=True, ge=1_500_000_000, le=9_999_999_999)]
"""A moment in whole seconds since 1970-01-01T00:00:00Z."""

Digest = Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 in lower-case hexadecimal."""

Model = TypeVar("Model", bound=Wire)


def read_payload(model: type[Model], payload: bytes) -> Model | tuple[Problem, ...]:
    """Read the payload of a signed object, or say everything that is wrong with it.

    Returns:
        The object; or its problems, `E501` alone, otherwise one `E502` for each field, at most `MAX_PROBLEMS`.
    """
    try:
        strict_json.loads(payload)
    except strict_json.NotStrictError as error:
        return (Problem("E501", "", str(error), _STRICT_VI[error.reason]),)
    try:
        return model.model_validate_json(payload, by_alias=True, by_name=False)
    except ValidationError as error:
        items = error.errors(include_input=False, include_url=False)
        return tuple(_schema_problem(item) for item in _without_echoes(items)[:MAX_PROBLEMS])


def pointer(location: Sequence[str | int]) -> str:
    """Write a place in a JSON document as a pointer (RFC 6901)."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in location)


def _without_echoes(items: list[Any]) -> list[Any]:
    """Leave out that a list is too short when that is so only because its items are wrong themselves."""
    holders = {item["loc"][:depth] for item in items for depth in range(len(item["loc"]))}
    return [item for item in items if item["type"] != "too_short" or item["loc"] not in holders]


def _schema_problem(item: Any) -> Problem:
    kind, place = item["type"], item["loc"]
    if kind == "extra_forbidden" and not _PLAIN_NAME.fullmatch(str(place[-1])):
        # The name is the sender's choice: it may be long, or hold what cannot be stored or shown.
        name = ascii(place[-1])[:60]
        return Problem("E502", pointer(place[:-1]), f"unknown member {name}", f"có trường lạ {name}")
    context = {key: str(value).replace(" or ", " hoặc ") for key, value in item.get("ctx", {}).items()}
    english = _SCHEMA_EN.get(kind) or item["msg"].removeprefix("Value error, ").removeprefix("Input ")
    vietnamese = _SCHEMA_VI.get(kind, "giá trị không hợp lệ")
    vietnamese = re.sub(r"\{(\w+)\}", lambda m: context[m[1]], vietnamese)
    return Problem("E502", pointer(place), english, vietnamese)


_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_.#$-]{1,60}")


_STRICT_VI: Final = {
    "encoding": "không phải UTF-8 thuần, không có dấu thứ tự byte (BOM)",
    "syntax": "sai cú pháp JSON",
    "duplicate": "một trường xuất hiện hai lần trong cùng một đối tượng",
    "number": f"số không phải số nguyên, hoặc vượt quá {strict_json.MAX_INTEGER}",
    "depth": f"lồng sâu quá {strict_json.MAX_DEPTH} tầng",
    "surrogate": "chuỗi chứa nửa cặp mã thay thế",
}

_SCHEMA_EN: Final = {
    "extra_forbidden": "unknown member",
    "missing": "required member missing",
    "string_pattern_mismatch": "not of the form that the schema asks for",
    "too_short": "too few items",
    "too_long": "too many items",
}

_SCHEMA_VI: Final = {
    "missing": "thiếu trường bắt buộc",
    "extra_forbidden": "trường không có trong lược đồ",
    "string_type": "phải là chuỗi ký tự",
    "string_too_short": "quá ngắn, ít nhất {min_length} ký tự",
    "string_too_long": "quá dài, nhiều nhất {max_length} ký tự",
    "string_pattern_mismatch": "không đúng dạng quy định",
    "int_type": "phải là số nguyên",
    "literal_error": "chỉ nhận một trong các giá trị {expected}",
    "tuple_type": "phải là danh sách",
    "too_short": "danh sách quá ngắn, ít nhất {min_length} phần tử",
    "too_long": "danh sách quá dài, nhiều nhất {max_length} phần tử",
    "greater_than_equal": "phải từ {ge} trở lên",
    "less_than_equal": "không quá {le}",
    "model_type": "phải là đối tượng JSON",
    "value_error": "không phải ngày có thật",
    "ref_count": "`ref` phải trống với new, đúng một văn bản với update và revoke, ít nhất một với replace",
    "edxml_part": "`edxml.part` không phải tệp nào trong `parts`",
    "reason_missing": "trạng thái 02 phải kèm lý do trong `detail`",
    "reference_empty": "phải nêu văn bản hoặc số văn bản",
}
