"""Made-up documents of an office: as the register would have them, and on request wrong in one way that the hub must name."""

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec

from schemas.directory_file import VIETNAM
from schemas.envelope import ENVELOPE_TYP, URGENCIES, DocumentFacts, Envelope, Part, Signer, new_envelope
from schemas.identifiers import AgencyCode
from schemas.signing import KeySigner, sign

_UNKNOWN: Final = AgencyCode("Z99.KHONGCO")

# Kinds of documents with their abbreviations (Nghị định 30/2020/NĐ-CP, Appendix III); an official letter has none.
_KINDS: Final = (
    ("Công văn", ""),
    ("Quyết định", "QĐ"),
    ("Tờ trình", "TTr"),
    ("Báo cáo", "BC"),
    ("Kế hoạch", "KH"),
    ("Thông báo", "TB"),
    ("Chỉ thị", "CT"),
    ("Giấy mời", "GM"),
    ("Chương trình", "CTr"),
)
_BODIES: Final = ("UBND", "VP", "STC", "SNV", "SYT", "SGDĐT", "SXD", "SNNMT", "SKHCN", "SCT")
_SUBJECTS: Final = (
    "Về việc triển khai kết nối, liên thông văn bản điện tử qua Trục liên thông văn bản quốc gia",
    "Về việc báo cáo tình hình thực hiện nhiệm vụ phát triển kinh tế - xã hội {month} tháng đầu năm {year}",
    "Phê duyệt kế hoạch sử dụng đất năm {year} và danh mục công trình, dự án phải thu hồi đất",
    "Về việc tăng cường công tác phòng, chống thiên tai và tìm kiếm cứu nạn trong mùa mưa bão năm {year}",
    "Về việc rà soát, sắp xếp tổ chức bộ máy và biên chế các đơn vị sự nghiệp công lập",
    "Ban hành Quy chế quản lý, sử dụng chữ ký số chuyên dùng công vụ trong hoạt động của cơ quan nhà nước",
    "Về việc đẩy nhanh tiến độ giải ngân vốn đầu tư công quý {quarter} năm {year}",
    "Triển khai tháng cao điểm chuyển đổi số và nâng cao chất lượng dịch vụ công trực tuyến toàn trình",
    "Về việc góp ý dự thảo Nghị quyết quy định mức thu học phí đối với cơ sở giáo dục công lập",
    "Mời dự hội nghị sơ kết công tác cải cách hành chính quý {quarter} năm {year}",
    "Về việc xử lý kiến nghị của cử tri gửi tới kỳ họp Hội đồng nhân dân",
    "Công bố danh mục thủ tục hành chính được sửa đổi, bổ sung trong lĩnh vực đất đai, môi trường",
)
_FAMILIES: Final = ("Nguyễn", "Trần", "Lê", "Phạm", "Hoàng", "Huỳnh", "Vũ", "Đặng", "Bùi", "Đỗ", "Hồ", "Dương")
_MIDDLES: Final = ("Văn", "Thị", "Minh", "Quốc", "Thanh", "Đức", "Ngọc", "Hữu")
_GIVEN: Final = ("An", "Bình", "Cường", "Dũng", "Hạnh", "Hương", "Khánh", "Lan", "Phượng", "Thắng", "Thủy", "Việt")
_OFFICES: Final = (
    (None, "Chủ tịch"),
    ("KT. CHỦ TỊCH", "Phó Chủ tịch"),
    ("TL. BỘ TRƯỞNG", "Chánh Văn phòng"),
    (None, "Giám đốc"),
    ("KT. GIÁM ĐỐC", "Phó Giám đốc"),
    ("TM. ỦY BAN NHÂN DÂN", "Chủ tịch"),
)
FILES: Final = (
    ("{number}.signed.pdf", "application/pdf"),
    ("Phụ lục {n} - Biểu tổng hợp số liệu.xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("Dự thảo kèm theo {n}.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("Bản đồ hiện trạng {n}.pdf", "application/pdf"),
)
"""What is attached: name, with the number of the document or of the file in it, and media type."""


@dataclass(frozen=True, slots=True)
class Drafted:
    """A signed document that is ready to go.

    Attributes:
        token: The signed bytes.
        expected: Code that the hub must answer; empty for a right document.
        to: Its recipients.
    """

    token: bytes
    expected: str
    to: tuple[AgencyCode, ...]


@dataclass(frozen=True, slots=True)
class DocumentOffice:
    """Writes the documents of one agency."""

    code: AgencyCode
    via: AgencyCode | None
    signer: KeySigner
    dice: random.Random
    recipients_by_tier: Mapping[str, Sequence[AgencyCode]]
    how_many: int
    files: Sequence[Part] = ()

    def draft(self, fault: str | None = None) -> Drafted:
        """Write a right document, or one with a fault."""
        to = self._choose_recipients()
        right = self._envelope(to)
        if fault is None:
            return Drafted(self._sign(right.to_json()), "", to)
        return Drafted(_MAKERS[fault](self, right), FAULTS[fault], to)

    def _choose_recipients(self) -> tuple[AgencyCode, ...]:
        tiers = list(self.recipients_by_tier)
        self.dice.shuffle(tiers)
        chosen: list[AgencyCode] = []
        while len(chosen) < self.how_many:
            before = len(chosen)
            for tier in tiers:
                others = [code for code in self.recipients_by_tier[tier] if code != self.code and code not in chosen]
                if others and len(chosen) < self.how_many:
                    chosen.append(self.dice.choice(others))
            if len(chosen) == before:
                break
        return tuple(chosen)

    def _envelope(self, to: Sequence[str], **changes: Any) -> Envelope:
        now = datetime.now(UTC)
        return new_envelope(
            **{
                "from_": self.code,
                "via": self.via,
                "to": to,
                "doc": self._facts(now),
                "now_s": int(now.timestamp()),
                "parts": self._parts(),
                **changes,
            }
        )

    def _facts(self, now: datetime) -> DocumentFacts:
        kind, abbreviation = self.dice.choice(_KINDS)
        day = now.astimezone(VIETNAM).date()
        competence, position = self.dice.choice(_OFFICES)
        subject = self.dice.choice(_SUBJECTS).format(month=day.month, quarter=(day.month + 2) // 3, year=day.year)
        return DocumentFacts(
            number=str(self.dice.randrange(1, 9999)),
            notation="-".join(item for item in (abbreviation, self.dice.choice(_BODIES)) if item),
            kind=kind,
            subject=subject,
            issued_on=day.isoformat(),
            urgency=self.dice.choices(URGENCIES, weights=(80, 12, 4, 3, 1))[0],
            signer=Signer(
                name=" ".join(map(self.dice.choice, (_FAMILIES, _MIDDLES, _GIVEN))),
                position=position,
                competence=competence,
            ),
            due_on=(day + timedelta(days=10)).isoformat() if self.dice.random() < 0.3 else None,
        )

    def _parts(self) -> Sequence[Part]:
        how_many = min(len(self.files), self.dice.randrange(7, 12))
        return self.dice.sample(self.files, how_many)

    def _sign(self, payload: bytes, signer: KeySigner | None = None) -> bytes:
        return sign(payload, typ=ENVELOPE_TYP, signer=signer or self.signer, now_s=int(time.time()))

    def _to_nobody(self, right: Envelope) -> bytes:
        return self._sign(right.model_copy(update={"to": (*right.to, _UNKNOWN)}).to_json())

    def _to_one_twice(self, right: Envelope) -> bytes:
        return self._sign(right.model_copy(update={"to": (*right.to, right.to[0])}).to_json())

    def _against_schema(self, right: Envelope) -> bytes:
        members = json.loads(right.to_json())
        del members["doc"]["subject"]
        return self._sign(json.dumps(members, ensure_ascii=False).encode())

    def _in_another_name(self, right: Envelope) -> bytes:
        return self._sign(right.model_copy(update={"from_": right.to[0], "via": None}).to_json())

    def _expired(self, right: Envelope) -> bytes:
        return self._sign(self._envelope(right.to, now_s=right.created - 10 * 86400).to_json())

    def _with_foreign_key(self, right: Envelope) -> bytes:
        stranger = KeySigner(ec.generate_private_key(ec.SECP256R1()), "A" * 43)
        return self._sign(right.to_json(), stranger)

    def _with_broken_signature(self, right: Envelope) -> bytes:
        token = self._sign(right.to_json())
        return token[: token.rindex(b".") + 1] + b"A" * 86

    def _not_json(self, right: Envelope) -> bytes:
        return self._sign(right.to_json()[:-1])


FAULTS: Final[Mapping[str, str]] = {
    "unknown-recipient": "E404",
    "recipient-twice": "E406",
    "bad-schema": "E502",
    "not-json": "E501",
    "wrong-from": "E401",
    "expired": "E602",
    "foreign-key": "E201",
    "broken-signature": "E301",
}
"""Ways to be wrong, and the code that the hub must answer."""

_MAKERS: Final[Mapping[str, Callable[[DocumentOffice, Envelope], bytes]]] = {
    "unknown-recipient": DocumentOffice._to_nobody,  # noqa: SLF001 - the table stands beside the class
    "recipient-twice": DocumentOffice._to_one_twice,  # noqa: SLF001
    "bad-schema": DocumentOffice._against_schema,  # noqa: SLF001
    "not-json": DocumentOffice._not_json,  # noqa: SLF001
    "wrong-from": DocumentOffice._in_another_name,  # noqa: SLF001
    "expired": DocumentOffice._expired,  # noqa: SLF001
    "foreign-key": DocumentOffice._with_foreign_key,  # noqa: SLF001
    "broken-signature": DocumentOffice._with_broken_signature,  # noqa: SLF001
}
