"""What every signed payload has in common: strict, frozen models, texts, times, and problems with their place."""

import re
from collections.abc import Sequence
from datetime import date
from typing import Annotated, Any, Final, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from schemas import strict_json
from schemas.refusal import Problem

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


Day = Annotated[
    str,
    BeforeValidator(_day_text),
    StringConstraints(strict=True, pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"),
    AfterValidator(_real_day),
]
"""A real calendar day, `YYYY-MM-DD`, without a zone: the date printed on the document."""

Instant = Annotated[int, Field(strict=True, ge=1_500_000_000, le=9_999_999_999)]
"""A moment in whole seconds since 1970-01-01T00:00:00Z."""

Digest = Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 in lower-case hexadecimal."""

Model = TypeVar("Model", bound=Wire)


def read_payload(model: type[Model], payload: bytes) -> Model | tuple[Problem, ...]:
    """Read the payload of a signed object, or say everything that is wrong with it.

    Returns:
        The object; or its problems, `E501` alone, otherwise one `E502` for each field.
    """
    try:
        strict_json.loads(payload)
    except strict_json.NotStrictError as error:
        return (Problem("E501", "", str(error), _STRICT_VI[error.reason]),)
    try:
        return model.model_validate_json(payload)
    except ValidationError as error:
        return tuple(_schema_problem(item) for item in error.errors(include_input=False, include_url=False))


def pointer(location: Sequence[str | int]) -> str:
    """Write a place in a JSON document as a pointer (RFC 6901)."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in location)


def _schema_problem(item: Any) -> Problem:
    context = {key: str(value) for key, value in item.get("ctx", {}).items()}
    vietnamese = _SCHEMA_VI.get(item["type"], "giá trị không hợp lệ")
    english = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return Problem("E502", pointer(item["loc"]), english, re.sub(r"\{(\w+)\}", lambda m: context[m[1]], vietnamese))


_STRICT_VI: Final = {
    "encoding": "không phải UTF-8 thuần, không có dấu thứ tự byte (BOM)",
    "syntax": "sai cú pháp JSON",
    "duplicate": "một trường xuất hiện hai lần trong cùng một đối tượng",
    "number": "số không phải số nguyên tối đa 19 chữ số",
    "depth": f"lồng sâu quá {strict_json.MAX_DEPTH} tầng",
    "surrogate": "chuỗi chứa nửa cặp mã thay thế",
}

_SCHEMA_VI: Final = {
    "missing": "thiếu trường bắt buộc",
    "extra_forbidden": "trường không có trong lược đồ",
    "string_type": "phải là chuỗi ký tự",
    "string_too_short": "quá ngắn, ít nhất {min_length} ký tự",
    "string_too_long": "quá dài, nhiều nhất {max_length} ký tự",
    "string_pattern_mismatch": "không đúng dạng quy định",
    "int_type": "phải là số nguyên",
    "int_parsing_size": "số quá lớn",
    "bool_type": "phải là true hoặc false",
    "literal_error": "chỉ nhận một trong các giá trị {expected}",
    "tuple_type": "phải là danh sách",
    "list_type": "phải là danh sách",
    "too_short": "danh sách quá ngắn, ít nhất {min_length} phần tử",
    "too_long": "danh sách quá dài, nhiều nhất {max_length} phần tử",
    "greater_than_equal": "phải từ {ge} trở lên",
    "less_than_equal": "không quá {le}",
    "model_type": "phải là đối tượng JSON",
    "model_attributes_type": "phải là đối tượng JSON",
    "value_error": "giá trị không hợp lệ",
}
