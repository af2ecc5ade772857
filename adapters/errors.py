# ruff: noqa: N818 - the names say what is wrong; nobody gains from "Error" at the end of each
"""What can go wrong on the agencies' side.

```
AgencyError
├── Unusable            something of our own: settings, key, certificate, directory file, guard database
├── FileUnusable        a file that is to be sent or written
├── PartError           the way of a part to or from the hub
└── BrokerError         the way to the axis; `token` holds the bytes that were to be sent
    ├── Unreachable     the broker does not answer
    ├── RefusedByBroker the broker knows us and says no, or does not let us in
    ├── NoQueue         we have no queue at the broker
    ├── NotTaken        the broker answered, and did not take the message
    └── NotConfirmed    the broker did not say in time whether it took the message
```

Errors are for trouble. What the hub refuses comes back as a signed notice, and is a value.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Final

from schemas.identifiers import DocumentId
from schemas.refusal import CATALOGUE, Code
from schemas.signing import identity

OWN_CODES: Final[Mapping[str, Code]] = MappingProxyType({
    code.code: code
    for code in (
        Code(
            "A101", "SETTINGS",
            "A setting is missing, unknown or has a wrong value.",
            "Một thiết lập bị thiếu, không có trong danh sách hoặc có giá trị sai.",
            "Correct it in truc-agency.toml or in the environment variable TRUC_AGENCY_….",
            "Sửa trong tệp truc-agency.toml hoặc trong biến môi trường TRUC_AGENCY_….",
            "sender",
        ),
        Code(
            "A102", "KEY_UNUSABLE",
            "The private key or the certificate cannot be read, or they do not belong together.",
            "Không đọc được khóa riêng hoặc chứng thư, hoặc hai tệp không thuộc cùng một cặp.",
            "Name the PEM file of the key and that of its certificate; set key_password for an encrypted key.",
            "Chỉ đúng tệp PEM của khóa và của chứng thư đi cùng; khóa có mật khẩu thì đặt key_password.",
            "sender",
        ),
        Code(
            "A103", "DIRECTORY_UNREADABLE",
            "The directory file cannot be read.",
            "Không đọc được tệp danh mục.",
            "Fetch the directory file from the operator of the axis again.",
            "Lấy lại tệp danh mục từ đơn vị vận hành trục.",
            "sender",
        ),
        Code(
            "A104", "GUARD_UNUSABLE",
            "The guard database cannot be used, so nothing may be handed over.",
            "Không dùng được cơ sở dữ liệu chống trùng nên không thể bàn giao văn bản.",
            "Check that its folder exists, is writable, has space, and that no other process holds the file.",
            "Kiểm tra thư mục có tồn tại, ghi được, còn dung lượng, và không có tiến trình khác đang giữ tệp.",
            "sender",
        ),
        Code(
            "A105", "NO_QUEUE",
            "The broker has no queue of this name for us.",
            "Máy chủ chuyển tin không có hàng đợi này cho đơn vị.",
            "Ask the operator of the axis to connect the agency.",
            "Đề nghị đơn vị vận hành trục mở kết nối cho đơn vị.",
            "operator",
        ),
        Code(
            "A120", "FILE_UNUSABLE",
            "A file that is to be sent or written cannot be used.",
            "Không dùng được tệp cần gửi hoặc cần ghi.",
            "Check that it exists, may be read or written, and that the disk has space.",
            "Kiểm tra tệp có tồn tại, có quyền đọc ghi và ổ đĩa còn dung lượng.",
            "sender",
        ),
        Code(
            "A121", "NOT_THE_HUB",
            "What answers under hub_url is not the hub's API.",
            "Địa chỉ hub_url trả lời không phải giao diện của trục.",
            "Check hub_url, and what stands between: proxies and firewalls.",
            "Kiểm tra hub_url và các máy chủ trung gian: proxy, tường lửa.",
            "sender",
        ),
    )
})  # fmt: skip
"""What only the agency itself can meet; codes of the hub are in `schemas.refusal`."""


class AgencyError(Exception):
    """Something on the agency's side does not work.

    Attributes:
        code: Entry of the catalogue: what it means, who acts, what to do.
        place: The file, setting or address that it is about.
        en: What was found there.
        vi: The same in Vietnamese.
    """

    default_code: ClassVar[str] = "A101"

    def __init__(self, en: str, vi: str, *, place: str = "", code: str | None = None) -> None:
        self.code = entry_of(code or self.default_code)
        self.place = place
        self.en = en
        self.vi = vi
        super().__init__(f"{self.code.code} {place + ': ' if place else ''}{en}")


class Unusable(AgencyError):
    """Something of our own cannot be used: settings, key, certificate, directory file or guard database."""


class FileUnusable(AgencyError):
    """A file that is to be sent or written cannot be used."""

    default_code = "A120"


class PartError(AgencyError):
    """A part did not get to the hub, or from it; the code says whether the hub refused it or was not reached."""

    default_code = "E901"


class BrokerError(AgencyError):
    """The way to the axis does not work.

    Attributes:
        token: The signed bytes that were to be sent; submitting exactly these later is safe, since they are the same
            document. Absent when nothing was to be sent.
    """

    default_code = "E901"

    def __init__(
        self, en: str, vi: str, *, place: str = "", code: str | None = None, token: bytes | None = None
    ) -> None:
        super().__init__(en, vi, place=place, code=code)
        self.token = token

    @property
    def document_id(self) -> DocumentId | None:
        """Identity of what was to be sent."""
        return None if self.token is None else identity(self.token)


class Unreachable(BrokerError):
    """The broker does not answer; nothing was sent."""


class RefusedByBroker(BrokerError):
    """The broker does not let us in, or does not permit what we try; repeating it is useless."""

    default_code = "E403"


class NoQueue(BrokerError):
    """The broker has no queue for us."""

    default_code = "A105"


class NotTaken(BrokerError):
    """The broker answered, and did not take the message."""

    default_code = "E802"


class NotConfirmed(BrokerError):
    """The broker did not say in time whether it took the message: it may have."""

    default_code = "E803"


def entry_of(code: str) -> Code:
    """Look a code up, ours or one of the axis."""
    return OWN_CODES[code] if code in OWN_CODES else CATALOGUE[code]
