"""The catalogue of codes: what each means, who must act, whether trying the same again can help.

Codes are part of the interface and never change their meaning. `E1` is framing, `E2` keys and certificates, `E3`
signatures, `E4` who may speak to whom, `E5` content, `E6` time and repetition, `E8` delivery, `E9` the hub itself; `N`
marks what is worth knowing and nobody's fault. A code stands here only when something raises it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

Actor = Literal["sender", "recipient", "hub", "operator", "nobody"]


@dataclass(frozen=True, slots=True)
class Code:
    """One entry of the catalogue.

    Attributes:
        code: Stable code, such as `E401`.
        name: The same in words, such as `SENDER_MISMATCH`.
        en: What it means, one sentence.
        vi: The same in Vietnamese.
        fix_en: What to do about it.
        fix_vi: The same in Vietnamese.
        acts: Who must do it.
        retry: Whether the same bytes can succeed later.
    """

    code: str
    name: str
    en: str
    vi: str
    fix_en: str
    fix_vi: str
    acts: Actor
    retry: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding about one place.

    Attributes:
        code: Key of `CATALOGUE`.
        pointer: JSON pointer (RFC 6901) into the payload, `/header/…` into the JWS header, the path of an element in a
            national packet (`/edXML/…/To[2]/OrganId`), or empty for the whole.
        en: What was found there, in English; empty when the catalogue says it all.
        vi: The same in Vietnamese.
    """

    code: str
    pointer: str = ""
    en: str = ""
    vi: str = ""


def _catalogue(*codes: Code) -> Mapping[str, Code]:
    return MappingProxyType({code.code: code for code in codes})


CATALOGUE: Final[Mapping[str, Code]] = _catalogue(
    Code(
        "E101", "TOO_LARGE",
        "The envelope is larger than 256 KiB.",
        "Gói tin lớn hơn 256 KiB.",
        "Send attachments as parts and keep only their digests in the envelope; of several tokens in one message, send fewer.",
        "Gửi tệp đính kèm dưới dạng tệp riêng, trong gói tin chỉ để mã băm; nếu gửi nhiều chuỗi một lần thì gửi ít chuỗi hơn.",
        "sender",
    ),
    Code(
        "E102", "BAD_FRAME",
        "The body is not a compact JWS: three ASCII segments between exactly two dots.",
        "Nội dung không phải JWS dạng gọn: ba đoạn ASCII, ngăn bởi đúng hai dấu chấm.",
        "Send the token as it was signed, without line breaks or wrapping; several in one message, at most 100 and 256 KiB "
        "together, one to a line.",
        "Gửi nguyên chuỗi đã ký, không xuống dòng, không bọc thêm; nhiều chuỗi trong một lần gửi thì mỗi dòng một chuỗi, "
        "tối đa 100 chuỗi và 256 KiB.",
        "sender",
    ),
    Code(
        "E103", "BAD_BASE64",
        "A segment is not strict base64url without padding.",
        "Một đoạn không phải base64url chặt (không ký tự đệm).",
        "Encode with the base64url alphabet, without padding, white space or left-over bits.",
        "Mã hóa bằng bảng base64url, không ký tự đệm, khoảng trắng hay bit thừa.",
        "sender",
    ),
    Code(
        "E104", "BAD_HEADER",
        "The JWS header does not have exactly the members alg, typ, x5t#S256 and iat.",
        "Phần đầu JWS không có đúng các trường alg, typ, x5t#S256 và iat.",
        "Write exactly these four members, each once.",
        "Ghi đúng bốn trường này, mỗi trường một lần.",
        "sender",
    ),
    Code(
        "E105", "WRONG_TYPE",
        "An object of this typ is not expected here.",
        "Loại đối tượng (typ) này không được nhận ở đây.",
        "Send documents under document.<user>, receipts under receipt.<user>, statuses under status.<user>, each with "
        "its own typ.",
        "Gửi văn bản qua document.<user>, biên nhận qua receipt.<user>, trạng thái qua status.<user>, mỗi loại đúng typ "
        "của mình.",
        "sender",
    ),
    Code(
        "E201", "CERT_UNKNOWN",
        "The certificate that the signature names is not in the directory.",
        "Chứng thư nêu trong chữ ký không có trong danh mục.",
        "Register the certificate with the operator of the axis, or sign with the registered one.",
        "Đăng ký chứng thư với đơn vị vận hành trục, hoặc ký bằng chứng thư đã đăng ký.",
        "sender",
    ),
    Code(
        "E202", "CERT_NOT_VALID_NOW",
        "The certificate was not valid at signing, or is not valid now.",
        "Chứng thư không còn hoặc chưa có hiệu lực lúc ký hoặc lúc này.",
        "Sign with a certificate that is in force.",
        "Ký bằng chứng thư đang có hiệu lực.",
        "sender",
    ),
    Code(
        "E203", "CERT_REVOKED",
        "The certificate has been revoked.",
        "Chứng thư đã bị thu hồi.",
        "Get a new certificate, have it registered, sign again.",
        "Xin cấp chứng thư mới, đăng ký vào danh mục rồi ký lại.",
        "sender",
    ),
    Code(
        "E205", "ALG_NOT_ALLOWED",
        "The algorithm is not ES256 or PS256, or not the one registered with the certificate.",
        "Thuật toán không phải ES256 hay PS256, hoặc không đúng thuật toán đã đăng ký cùng chứng thư.",
        "Sign with the algorithm of the registered key.",
        "Ký bằng đúng thuật toán của khóa đã đăng ký.",
        "sender",
    ),
    Code(
        "E206", "KEY_WEAK",
        "The key is too small or of a kind that is not allowed: RSA of at least 2048 bits or P-256.",
        "Khóa quá ngắn hoặc không thuộc loại cho phép: RSA từ 2048 bit hoặc P-256.",
        "Get a certificate for a stronger key.",
        "Xin cấp chứng thư cho khóa mạnh hơn.",
        "sender",
    ),
    Code(
        "E207", "CHAIN_INVALID",
        "The certificate does not chain to a trusted authority, or may not sign documents.",
        "Chứng thư không nối được tới cơ quan chứng thực tin cậy, hoặc không được dùng để ký văn bản.",
        "Use a certificate for digital signatures from an authority on the trust list.",
        "Dùng chứng thư ký số do cơ quan có trong danh sách tin cậy cấp.",
        "sender",
    ),
    Code(
        "E301", "SIG_INVALID",
        "The signature does not fit the bytes.",
        "Chữ ký không khớp với nội dung.",
        "Sign the exact bytes that are sent; nothing may change them afterwards.",
        "Ký đúng những byte được gửi; sau khi ký không thay đổi gì nữa.",
        "sender",
    ),
    Code(
        "E302", "SIG_MISSING",
        "The signature is absent.",
        "Không có chữ ký.",
        "Sign before sending.",
        "Ký trước khi gửi.",
        "sender",
    ),
    Code(
        "E303", "XMLDSIG_PROFILE",
        "The XML signature of the packet is not one that the axis accepts, or does not cover all of the packet.",
        "Chữ ký XML của gói tin không thuộc loại trục chấp nhận, hoặc không bao gồm toàn bộ gói tin.",
        "Sign the whole packet below edXMLHeader with RSA-SHA256, RSA-PSS or ECDSA-SHA256 and SHA-256 digests.",
        "Ký toàn bộ gói tin, đặt trong edXMLHeader, bằng RSA-SHA256, RSA-PSS hoặc ECDSA-SHA256, hàm băm SHA-256.",
        "sender",
    ),
    Code(
        "E401", "SENDER_MISMATCH",
        "The signer is neither the agency in `from` nor the platform in `via`.",
        "Bên ký không phải đơn vị ghi ở `from` cũng không phải nền tảng ghi ở `via`.",
        "Correct `from`, or sign with the key of that agency.",
        "Sửa `from`, hoặc ký bằng khóa của chính đơn vị đó.",
        "sender",
    ),
    Code(
        "E402", "NOT_DELEGATED",
        "The platform has no mandate in force from this agency for this action.",
        "Nền tảng chưa được đơn vị ủy quyền, ủy quyền đã hết hạn hoặc không gồm hành động này.",
        "Have the agency's mandate entered in the directory.",
        "Đề nghị đăng ký ủy quyền của đơn vị vào danh mục.",
        "sender",
    ),
    Code(
        "E403", "CHANNEL_MISMATCH",
        "Connection, routing key and signer do not belong together.",
        "Kết nối, khóa định tuyến và bên ký không khớp nhau.",
        "Connect as the agency or its platform and publish under your own routing key with user_id set.",
        "Kết nối bằng tài khoản của đơn vị hoặc nền tảng của mình, gửi bằng khóa định tuyến của mình, có user_id.",
        "sender",
    ),
    Code(
        "E404", "RECIPIENT_UNKNOWN",
        "The recipient is not in the directory.",
        "Đơn vị nhận không có trong danh mục.",
        "Look the code up in the directory; the axis registers nobody on contact.",
        "Tra lại mã định danh trong danh mục; trục không tự đăng ký đơn vị mới.",
        "sender",
    ),
    Code(
        "E405", "RECIPIENT_SUSPENDED",
        "The recipient is suspended in the directory.",
        "Đơn vị nhận đang bị tạm ngưng trong danh mục.",
        "Ask the operator when the agency returns, and send again then.",
        "Hỏi đơn vị vận hành khi nào đơn vị hoạt động lại rồi gửi lại.",
        "sender",
    ),
    Code(
        "E406", "FANOUT_LIMIT",
        "The recipients are too many, or one is named twice.",
        "Quá nhiều đơn vị nhận, hoặc một đơn vị được ghi hai lần.",
        "Name each recipient once, and split the list or use a group.",
        "Ghi mỗi đơn vị nhận một lần; chia nhỏ danh sách hoặc dùng nhóm.",
        "sender",
    ),
    Code(
        "E408", "RECIPIENT_CLOSED",
        "The recipient's code is closed.",
        "Mã định danh của đơn vị nhận đã đóng.",
        "Send to the successor that is named.",
        "Gửi tới đơn vị kế thừa được nêu.",
        "sender",
    ),
    Code(
        "E409", "DELIVERY_UNKNOWN",
        "The receipt names a delivery that was never accepted, or that belongs to another agency.",
        "Biên nhận nêu một lượt chuyển chưa từng được nhận vào trục, hoặc của đơn vị khác.",
        "Answer only deliveries from your own queue, with the delivery id computed from document and recipient.",
        "Chỉ trả biên nhận cho lượt chuyển trong hàng đợi của mình, với mã lượt chuyển tính từ văn bản và đơn vị nhận.",
        "recipient",
    ),
    Code(
        "E410", "REFERENCE_UNKNOWN",
        "`ref` names a document that this sender has not sent over the axis, or that is not accepted yet.",
        "`ref` nêu một văn bản mà bên gửi chưa từng gửi qua trục, hoặc chưa được nhận vào trục.",
        "Name the identity of the earlier document; if it was sent just now, send this one again after its receipt.",
        "Ghi đúng mã văn bản đã gửi trước đó; nếu vừa gửi thì đợi có biên nhận rồi gửi lại văn bản này.",
        "sender", retry=True,
    ),
    Code(
        "E411", "STATUS_UNRELATED",
        "The status names a document that was never delivered between these two agencies.",
        "Trạng thái nêu một văn bản chưa từng được chuyển giữa hai đơn vị này.",
        "Name the identity of the sender's document, its recipient in `from` and its sender in `to`; for 13 the other "
        "way round.",
        "Ghi đúng mã văn bản của bên gửi, đơn vị nhận ở `from` và đơn vị gửi ở `to`; riêng trạng thái 13 thì ngược lại.",
        "sender",
    ),
    Code(
        "E420", "GRANT_MISMATCH",
        "The grant is for something else than what is asked: another act, part, document or time.",
        "Giấy phép truy cập (grant) không đúng với yêu cầu: khác hành động, tệp, văn bản hoặc mốc thời gian.",
        "Sign a grant for exactly what is asked.",
        "Ký giấy phép đúng với điều được yêu cầu.",
        "sender",
    ),
    Code(
        "E421", "PART_NOT_YOURS",
        "No document with this part was delivered to the agency, or sent by it.",
        "Không có văn bản nào chứa tệp này được gửi đến hoặc gửi đi từ đơn vị.",
        "Name the document in which the part was delivered, and ask in the name of its recipient or sender.",
        "Nêu đúng văn bản có tệp này và hỏi với danh nghĩa đơn vị nhận hoặc đơn vị gửi của văn bản đó.",
        "sender",
    ),
    Code(
        "E422", "MAIL_NOT_YOURS",
        "Whoever signed the grant does not receive the mail of this agency.",
        "Bên ký giấy phép truy cập không phải nơi nhận văn bản của đơn vị này.",
        "Ask in the name of your own agency, or of one whose endpoint in the directory is your platform.",
        "Hỏi với danh nghĩa đơn vị mình, hoặc đơn vị có điểm nhận trong danh mục là nền tảng của mình.",
        "sender",
    ),
    Code(
        "E423", "CATCH_UP_LATER",
        "No catch-up can begin now: another one of the agency goes on or ended just now, or too many agencies catch up.",
        "Chưa thể bắt đầu nhận bù: đơn vị đang nhận bù đợt khác hoặc vừa nhận xong, hoặc quá nhiều đơn vị đang nhận bù.",
        "Wait as long as is said, then ask again; `truc-agency catch-up` shows how far the present one is.",
        "Đợi hết thời gian được nêu rồi yêu cầu lại; lệnh `truc-agency catch-up` cho biết đợt hiện tại đến đâu.",
        "sender", retry=True,
    ),
    Code(
        "E424", "CATCH_UP_SPAN",
        "The moment from which the agency wants to catch up is not in the past, too long ago, or too much came since.",
        "Mốc thời gian để nhận bù không ở trong quá khứ, quá xa, hoặc từ đó đến nay có quá nhiều văn bản.",
        "Choose a later moment, within what is said; for what is older, ask the operator of the axis.",
        "Chọn mốc gần hơn, trong khoảng được nêu; cần văn bản cũ hơn thì đề nghị đơn vị vận hành trục.",
        "sender",
    ),
    Code(
        "E501", "JSON_NOT_STRICT",
        "The payload is not strict JSON: duplicate member, number that is not an integer, depth, encoding.",
        "Nội dung không phải JSON chặt: trùng trường, số không nguyên, lồng quá sâu, sai bảng mã.",
        "Write UTF-8 JSON with each member once and whole numbers only.",
        "Ghi JSON UTF-8, mỗi trường một lần, chỉ dùng số nguyên.",
        "sender",
    ),
    Code(
        "E502", "SCHEMA",
        "A field is missing, unknown, or has a wrong value.",
        "Thiếu trường, thừa trường, hoặc giá trị sai.",
        "Correct the field; the JSON Schema is published with the axis.",
        "Sửa trường được nêu; lược đồ JSON được công bố cùng với trục.",
        "sender",
    ),
    Code(
        "E503", "PART_MISSING",
        "A part of the document was not uploaded by its sender, or was swept because no document named it in time.",
        "Đơn vị gửi chưa tải tệp của văn bản lên trục, hoặc tệp đã bị dọn vì quá hạn mà chưa văn bản nào nhắc tới.",
        "Upload the part in the name of the sender, then send exactly the same document again.",
        "Tải tệp lên với danh nghĩa đơn vị gửi, rồi gửi lại đúng văn bản này.",
        "sender", retry=True,
    ),
    Code(
        "E504", "PART_DIGEST",
        "The bytes of the part do not have the digest that it is named by.",
        "Nội dung tệp không khớp mã băm đã khai.",
        "Compute SHA-256 over exactly the bytes that are sent; the file may have changed meanwhile.",
        "Tính SHA-256 trên đúng các byte gửi đi; có thể tệp đã thay đổi trong lúc gửi.",
        "sender",
    ),
    Code(
        "E505", "PART_LENGTH",
        "The part does not have the length that is given for it.",
        "Độ dài của tệp không đúng như đã khai.",
        "Give the number of bytes of the part, in the envelope and in the upload.",
        "Khai đúng số byte của tệp, cả trong gói tin lẫn khi tải lên.",
        "sender",
    ),
    Code(
        "E520", "PART_TOO_LARGE",
        "The part is larger than the hub takes.",
        "Tệp lớn hơn mức trục cho phép.",
        "Split the part, or ask the operator for the limit.",
        "Chia nhỏ tệp, hoặc hỏi đơn vị vận hành về giới hạn.",
        "sender",
    ),
    Code(
        "E521", "UPLOAD_OFFSET",
        "The upload does not go on where the hub has got to.",
        "Lần tải lên không tiếp nối đúng vị trí trục đã nhận.",
        "Ask for the offset with HEAD and go on from there.",
        "Hỏi lại vị trí bằng HEAD rồi tải tiếp từ đó.",
        "sender", retry=True,
    ),
    Code(
        "E522", "BAD_REQUEST",
        "A header, a parameter or the path of the HTTP request is missing or wrong.",
        "Tiêu đề, tham số hoặc đường dẫn của yêu cầu HTTP bị thiếu hoặc sai.",
        "Correct the request as the OpenAPI description says.",
        "Sửa yêu cầu theo mô tả OpenAPI.",
        "sender",
    ),
    Code(
        "E508", "NAME_UNSAFE",
        "A file name could do harm, or two files of one packet bear the same name.",
        "Tên tệp không an toàn, hoặc hai tệp trong một gói tin trùng tên.",
        "Give the file a plain name without slashes, control or special characters, and send it again.",
        "Đổi tên tệp thành tên đơn giản, không có dấu gạch chéo, ký tự điều khiển hay ký tự đặc biệt, rồi gửi lại.",
        "sender",
    ),
    Code(
        "E510", "XML_FORBIDDEN",
        "The packet is not plain XML of the national format: DTD, comment, encoding, namespace or syntax.",
        "Gói tin không phải XML thuần theo định dạng quốc gia: có DTD, chú thích, sai bảng mã, không gian tên hoặc cú pháp.",
        "Write one edXML element in UTF-8, with nothing before it but the XML declaration, and no comments.",
        "Ghi một phần tử edXML bằng UTF-8, trước đó chỉ có khai báo XML, không có chú thích.",
        "sender",
    ),
    Code(
        "E511", "ARCHIVE_LIMIT",
        "The packet, or an archive in it, is larger, deeper or packed tighter than is taken.",
        "Gói tin hoặc tệp nén trong gói tin quá lớn, lồng quá sâu hoặc nén bất thường.",
        "Send fewer or smaller files, each in a ZIP of its own without archives in it.",
        "Gửi ít tệp hơn hoặc tệp nhỏ hơn; mỗi tệp một ZIP riêng, không lồng tệp nén.",
        "sender",
    ),
    Code(
        "E512", "PACKET_FIELD",
        "A field of the packet is missing or wrong.",
        "Một trường của gói tin bị thiếu hoặc sai.",
        "Correct the field that is named in the document management system, and send again.",
        "Sửa trường được nêu trong hệ thống quản lý văn bản rồi gửi lại.",
        "sender",
    ),
    Code(
        "E513", "ATTACHMENT_UNPAIRED",
        "An attachment is listed in the manifest but absent, or the reverse.",
        "Tệp đính kèm có trong danh mục nhưng không có trong gói tin, hoặc ngược lại.",
        "Give every attachment one entry in the manifest with the same ContentId.",
        "Mỗi tệp đính kèm phải có đúng một mục trong danh mục, cùng ContentId.",
        "sender",
    ),
    Code(
        "E514", "STATE_SECRET",
        "The packet declares a state secret, which the axis must not carry.",
        "Gói tin ghi độ mật; trục không được chuyển văn bản bí mật nhà nước.",
        "Send the document in the way that is prescribed for state secrets; nothing of it was passed on.",
        "Gửi văn bản theo quy định về bảo vệ bí mật nhà nước; trục không chuyển tiếp nội dung nào.",
        "sender",
    ),
    Code(
        "E601", "CLOCK_SKEW",
        "A time lies outside the window: signed more than 24 hours ago or more than 5 minutes ahead.",
        "Thời điểm nằm ngoài khoảng cho phép: ký quá 24 giờ trước hoặc sớm hơn hiện tại quá 5 phút.",
        "Set the clock of the signing machine, and sign again.",
        "Chỉnh đồng hồ máy ký rồi ký lại.",
        "sender",
    ),
    Code(
        "E602", "EXPIRED",
        "The lifetime of the document is over, or longer than 30 days.",
        "Văn bản đã hết hạn chuyển, hoặc thời hạn dài quá 30 ngày.",
        "Choose `expires` after now and at most 30 days after `created`.",
        "Chọn `expires` sau hiện tại và không quá 30 ngày kể từ `created`.",
        "sender",
    ),
    Code(
        "E603", "REPLAY_CONFLICT",
        "This id was used before for a document with other bytes.",
        "Mã này đã dùng cho một văn bản khác nội dung.",
        "Give every new document a new id; send an old one again with exactly the same bytes.",
        "Mỗi văn bản mới dùng một mã mới; gửi lại văn bản cũ thì giữ nguyên từng byte.",
        "sender",
    ),
    Code(
        "E605", "GRANT_OVER",
        "The grant is older than five minutes, its end is past, or its end is more than five minutes after its signature.",
        "Giấy phép truy cập (grant) đã ký quá 5 phút, đã hết hạn, hoặc ghi hạn dài hơn 5 phút kể từ lúc ký.",
        "Sign a fresh grant for each request.",
        "Ký giấy phép mới cho mỗi yêu cầu.",
        "sender",
    ),
    Code(
        "N604", "DUPLICATE",
        "The same document was received before; the first answer stands.",
        "Văn bản này đã được nhận trước đó; câu trả lời đầu tiên vẫn giữ nguyên.",
        "Nothing to do.",
        "Không cần làm gì.",
        "nobody",
    ),
    Code(
        "N605", "LIFETIME_ENDS",
        "The lifetime that the sender chose ends soon and the recipient has not answered.",
        "Sắp hết hạn chuyển do bên gửi chọn mà đơn vị nhận chưa trả lời.",
        "Reach the recipient in another way, or be ready to send a new document; until then the hub goes on trying.",
        "Liên hệ đơn vị nhận bằng cách khác, hoặc chuẩn bị gửi văn bản mới; đến lúc đó trục vẫn tự động thử lại.",
        "sender", retry=True,
    ),
    Code(
        "E801", "UNROUTABLE",
        "The recipient's queue or its binding is missing at the broker.",
        "Hàng đợi của đơn vị nhận, hoặc liên kết của nó, không có trên máy chủ chuyển tin.",
        "Run `truc broker plan` and `truc broker apply`; the hub goes on trying.",
        "Chạy `truc broker plan` rồi `truc broker apply`; trục vẫn tự động thử lại.",
        "operator", retry=True,
    ),
    Code(
        "E802", "NOT_TAKEN",
        "The broker did not take the message: the recipient's queue is full or down.",
        "Máy chủ chuyển tin không nhận: hàng đợi của đơn vị nhận đã đầy hoặc đang ngừng.",
        "The recipient empties its queue; the hub goes on trying.",
        "Đơn vị nhận lấy bớt văn bản trong hàng đợi; trục vẫn tự động thử lại.",
        "recipient", retry=True,
    ),
    Code(
        "E803", "UNSURE",
        "The broker did not say in time whether it took the message.",
        "Máy chủ chuyển tin không trả lời kịp là đã nhận hay chưa.",
        "Nothing to do: the hub sends again under the same delivery id.",
        "Không cần làm gì: trục gửi lại với cùng mã lượt chuyển.",
        "hub", retry=True,
    ),
    Code(
        "E804", "NO_RECEIPT",
        "The recipient has not answered with a receipt in time.",
        "Đơn vị nhận chưa trả biên nhận trong thời hạn.",
        "The recipient checks its adapter; the hub sends again by itself.",
        "Đơn vị nhận kiểm tra phần mềm kết nối; trục tự động gửi lại.",
        "recipient", retry=True,
    ),
    Code(
        "E805", "RETURNED",
        "The recipient's software took the message and gave it back.",
        "Phần mềm của đơn vị nhận đã lấy nhưng trả lại văn bản.",
        "The recipient looks into the log of its software.",
        "Đơn vị nhận xem nhật ký phần mềm của mình.",
        "recipient", retry=True,
    ),
    Code(
        "E806", "BROKER_REFUSED",
        "The broker refused this message and closed the channel over it.",
        "Máy chủ chuyển tin từ chối riêng văn bản này và đóng kênh.",
        "The operator looks at permissions and at the size limit of the broker.",
        "Đơn vị vận hành kiểm tra phân quyền và giới hạn kích thước của máy chủ chuyển tin.",
        "operator", retry=True,
    ),
    Code(
        "E807", "RECIPIENT_FAILED",
        "The recipient answered that it could not process the document for now.",
        "Đơn vị nhận báo hiện chưa xử lý được văn bản.",
        "The recipient mends its system; the hub goes on trying.",
        "Đơn vị nhận khắc phục hệ thống của mình; trục vẫn tự động thử lại.",
        "recipient", retry=True,
    ),
    Code(
        "E808", "RECIPIENT_REFUSED",
        "The recipient refused the document for good.",
        "Đơn vị nhận từ chối hẳn văn bản.",
        "The sender reads the reason in the receipt and sends a corrected document.",
        "Bên gửi xem lý do trong biên nhận và gửi văn bản đã sửa.",
        "sender",
    ),
    Code(
        "E809", "LIFETIME_OVER",
        "The lifetime that the sender chose ended before the recipient answered.",
        "Đã hết hạn chuyển do bên gửi chọn mà đơn vị nhận chưa trả lời.",
        "The sender sends a new document or reaches the recipient in another way.",
        "Bên gửi gửi văn bản mới hoặc liên hệ đơn vị nhận bằng cách khác.",
        "sender",
    ),
    Code(
        "E810", "REDIRECTED",
        "The recipient's code is closed; the document was redirected to its successor.",
        "Mã định danh của đơn vị nhận đã đóng; văn bản đã được chuyển hướng tới đơn vị kế thừa.",
        "Nothing to do here; look at the delivery to the successor.",
        "Không cần làm gì ở lượt chuyển này; xem lượt chuyển tới đơn vị kế thừa.",
        "nobody",
    ),
    Code(
        "E811", "RECIPIENT_DOWN",
        "The recipient has failed or kept silent several times in a row, so its documents are held.",
        "Đơn vị nhận bị lỗi hoặc im lặng nhiều lần liên tiếp nên văn bản gửi đơn vị được tạm giữ.",
        "The recipient checks its adapter; the hub tries one document at a time and goes on by itself once it answers.",
        "Đơn vị nhận kiểm tra phần mềm kết nối; trục thử từng văn bản một và tự chuyển tiếp khi đơn vị trả lời.",
        "recipient", retry=True,
    ),
    Code(
        "E812", "RECIPIENT_PAUSED",
        "The recipient was suspended in the directory after the document was accepted, so the document is held.",
        "Đơn vị nhận bị tạm ngưng trong danh mục sau khi trục đã nhận văn bản nên văn bản được tạm giữ.",
        "Nothing to do: the hub goes on by itself when the directory opens the agency again.",
        "Không cần làm gì: trục tự chuyển tiếp khi danh mục mở lại đơn vị.",
        "operator", retry=True,
    ),
    Code(
        "E813", "HELD_BY_OPERATOR",
        "A person holds everything for this recipient.",
        "Đơn vị vận hành đang tạm giữ mọi văn bản gửi đơn vị này.",
        "The operator runs `truc release` when the reason is gone.",
        "Đơn vị vận hành chạy `truc release` khi lý do không còn.",
        "operator", retry=True,
    ),
    Code(
        "E901", "DEPENDENCY",
        "Something that is needed does not answer: broker, database or a fresh directory.",
        "Một thành phần cần thiết không trả lời: máy chủ chuyển tin, cơ sở dữ liệu hoặc danh mục mới.",
        "Nothing is lost: it goes on by itself once the part is back; the operator looks at /readyz.",
        "Không mất gì: hệ thống tự chạy tiếp khi thành phần đó trở lại; đơn vị vận hành xem /readyz.",
        "hub", retry=True,
    ),
    Code(
        "E902", "CHECK_FAILED",
        "A check of the hub itself failed on this submission, so it was put aside.",
        "Một phép kiểm tra của trục bị lỗi với lượt gửi này nên lượt gửi được để riêng.",
        "The operator reports the parked submission to the engineers.",
        "Đơn vị vận hành báo lượt gửi này cho kỹ sư.",
        "operator", retry=True,
    ),
    Code(
        "E903", "POISON",
        "The submission was taken many times and never settled, so the broker put it aside.",
        "Lượt gửi đã được lấy nhiều lần mà không xử lý xong nên máy chủ chuyển tin để riêng.",
        "The operator looks at the hub's log of that time and replays it.",
        "Đơn vị vận hành xem nhật ký của trục lúc đó rồi gửi lại.",
        "operator", retry=True,
    ),
    Code(
        "E904", "BUSY",
        "The hub has as many transfers of parts in hand as it may have at a time.",
        "Trục đang truyền số tệp tối đa cho phép cùng lúc.",
        "Try again after the seconds that `Retry-After` says.",
        "Thử lại sau số giây ghi trong `Retry-After`.",
        "hub", retry=True,
    ),
    Code(
        "E905", "DEFECT",
        "The hub met an unexpected error while it answered the request.",
        "Trục gặp lỗi ngoài dự kiến khi trả lời yêu cầu.",
        "Try again; if it stays, the operator looks at the hub's log of that time.",
        "Thử lại; nếu vẫn lỗi, đơn vị vận hành xem nhật ký của trục lúc đó.",
        "operator", retry=True,
    ),
)  # fmt: skip
