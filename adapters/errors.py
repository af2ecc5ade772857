# ruff: noqa: N818 - the names say what is wrong; nobody gains from "Error" at the end of each
"""What can go wrong on the agencies' side.

```
AgencyError
├── Unusable            something of our own: settings, key, certificate, directory file, guard database
├── FileUnusable        a file that is to be sent or written
├── PartError           the way of a part to or from the hub
├── HubError            a question to the hub
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

from schemas.bundle import untie
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
            "A106", "MAILBOX_UNUSABLE",
            "The mailbox database cannot be used, so nothing can be kept or handed over.",
            "Không dùng được cơ sở dữ liệu hộp thư nên không lưu và không giao được văn bản.",
            "Check that its folder exists, is writable, has space, and that no other process holds the file.",
            "Kiểm tra thư mục có tồn tại, ghi được, còn dung lượng, và không có tiến trình khác đang giữ tệp.",
            "sender", retry=True,
        ),
        Code(
            "A107", "JOURNAL_UNUSABLE",
            "The journal of the folder adapter cannot be used, so nothing can be sent or handed over.",
            "Không dùng được sổ nhật ký của phần mềm thư mục nên không gửi và không nhận được văn bản.",
            "Check that its folder exists, is writable, has space, and that no other process holds the file.",
            "Kiểm tra thư mục có tồn tại, ghi được, còn dung lượng, và không có tiến trình khác đang giữ tệp.",
            "sender", retry=True,
        ),
        Code(
            "A108", "ADAPTER_RUNNING",
            "An adapter of this agency is running; it would take the answers to the test.",
            "Phần mềm kết nối của đơn vị đang chạy và sẽ lấy mất các trả lời cho lần thử.",
            "Stop it for a moment (systemctl stop truc-agency-folder), test, and start it again.",
            "Tạm dừng phần mềm đó (systemctl stop truc-agency-folder), thử, rồi chạy lại.",
            "sender",
        ),
        Code(
            "A201", "NOT_SIGNED_IN",
            "The request bears no token that the gateway knows.",
            "Yêu cầu không kèm mã truy cập mà cổng biết.",
            "Send the header Authorization: Bearer TOKEN; the hash of the token stands in gateway_tokens_file.",
            "Gửi kèm đầu mục Authorization: Bearer MÃ; mã băm của nó phải có trong tệp gateway_tokens_file.",
            "sender",
        ),
        Code(
            "A202", "NOT_FOUND",
            "There is nothing at this address.",
            "Không có gì ở địa chỉ này.",
            "Check the address, and that the document or delivery passed through this gateway.",
            "Kiểm tra lại địa chỉ, và văn bản hoặc lượt chuyển đó có đi qua cổng này không.",
            "sender",
        ),
        Code(
            "A203", "METHOD_NOT_ALLOWED",
            "This address does not know the method.",
            "Địa chỉ này không nhận phương thức đó.",
            "Use the methods that the OpenAPI description lists; the header Allow names them.",
            "Dùng đúng phương thức ghi trong mô tả OpenAPI; đầu mục Allow liệt kê chúng.",
            "sender",
        ),
        Code(
            "A204", "BODY_TOO_LARGE",
            "The body of the request is larger than is taken here.",
            "Nội dung yêu cầu lớn hơn mức nhận ở đây.",
            "Send attachments as parts; for parts see gateway_max_part_bytes and the limit of the axis.",
            "Gửi tệp đính kèm dưới dạng tệp riêng; với tệp, xem gateway_max_part_bytes và giới hạn của trục.",
            "sender",
        ),
        Code(
            "A205", "MEDIA_TYPE",
            "The body of the request is of a type that is not taken here.",
            "Nội dung yêu cầu thuộc loại không nhận ở đây.",
            "Set Content-Type to one of the types that the OpenAPI description lists, without Content-Encoding.",
            "Đặt Content-Type là một trong các loại ghi trong mô tả OpenAPI, không dùng Content-Encoding.",
            "sender",
        ),
        Code(
            "A206", "PARAMETER",
            "A header or a parameter of the address is missing or has a wrong value.",
            "Một đầu mục hoặc tham số trong địa chỉ bị thiếu hoặc sai giá trị.",
            "Correct what is named; the OpenAPI description says which values are taken.",
            "Sửa chỗ được nêu; mô tả OpenAPI ghi rõ các giá trị được nhận.",
            "sender",
        ),
        Code(
            "A207", "KEY_REUSED",
            "This Idempotency-Key was used before for another request.",
            "Idempotency-Key này đã dùng cho một yêu cầu khác.",
            "Give every new document a key of its own; repeat a request with exactly the same content.",
            "Mỗi văn bản mới dùng một khóa riêng; gửi lại yêu cầu cũ thì giữ nguyên nội dung.",
            "sender",
        ),
        Code(
            "A208", "ALREADY_ANSWERED",
            "This delivery was answered before, in another way.",
            "Lượt chuyển này đã được trả lời trước đó, với nội dung khác.",
            "The first answer stands. After `failed` the document comes again and can be answered again.",
            "Câu trả lời đầu tiên giữ nguyên. Sau `failed`, văn bản sẽ đến lại và được trả lời lại.",
            "sender",
        ),
        Code(
            "A209", "BUSY",
            "More requests are being answered at this moment than the gateway takes.",
            "Cổng đang phục vụ số yêu cầu tối đa.",
            "Try again after the seconds in Retry-After; open fewer connections at a time.",
            "Thử lại sau số giây ghi ở Retry-After; mở ít kết nối cùng lúc hơn.",
            "sender", retry=True,
        ),
        Code(
            "A210", "TOO_MANY_WAITING",
            "More documents wait for the way to the axis than the gateway keeps.",
            "Số văn bản đang chờ gửi lên trục đã tới mức tối đa của cổng.",
            "Find out why the broker does not take them (truc-agency doctor), and try again.",
            "Tìm nguyên nhân máy chủ chuyển tin không nhận (truc-agency doctor), rồi thử lại.",
            "sender", retry=True,
        ),
        Code(
            "A211", "FAULT",
            "The gateway met with an error of its own.",
            "Cổng gặp lỗi bên trong.",
            "Try again; the log of the gateway shows what happened, please report it.",
            "Thử lại; nhật ký của cổng ghi lại sự việc, đề nghị báo cho nơi cung cấp phần mềm.",
            "operator", retry=True,
        ),
        Code(
            "A301", "PACKET_CHANGED",
            "A new document of this DocumentId was sent before, with another content.",
            "Văn bản có mã định danh (DocumentId) này đã được gửi trước đó với nội dung khác.",
            "Give a new document a DocumentId of its own; to change one that was sent, send an update or a replacement.",
            "Văn bản mới phải có DocumentId riêng; muốn sửa văn bản đã gửi thì gửi văn bản cập nhật hoặc thay thế.",
            "sender",
        ),
        Code(
            "A302", "PACKET_CONTRADICTS",
            "The packet says something else than the envelope that was signed for it, or cannot be read.",
            "Gói edXML nói khác với phần mô tả đã được ký kèm theo, hoặc không đọc được.",
            "The sender makes packet and envelope of one and the same document, and sends it anew.",
            "Bên gửi lập gói edXML và phần mô tả từ cùng một văn bản rồi gửi lại.",
            "sender",
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


class HubError(AgencyError):
    """The hub did not answer a question over HTTP, or refuses to; the code says which."""

    default_code = "E901"


class BrokerError(AgencyError):
    """The way to the axis does not work.

    Attributes:
        token: The signed bytes that were to be sent; submitting exactly these later is safe, since they are the same
            document. Of receipts that were to be sent together, all of them. Absent when nothing was to be sent.
    """

    default_code = "E901"

    def __init__(
        self, en: str, vi: str, *, place: str = "", code: str | None = None, token: bytes | None = None
    ) -> None:
        super().__init__(en, vi, place=place, code=code)
        self.token = token

    @property
    def document_id(self) -> DocumentId | None:
        """Identity of what was to be sent, when that was a single thing."""
        return None if self.token is None or len(untie(self.token)) > 1 else identity(self.token)


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
