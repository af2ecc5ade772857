"""A country to try things in: the real first level, with plausible departments and communes below it.

Nobody publishes the codes below the first level, so these are made up, in the structure of the real ones:

```
G09           Bộ Nội vụ                                            ministry-province
G09.03        Vụ Pháp chế - Bộ Nội vụ                              department-district
H26           UBND thành phố Hà Nội                                ministry-province
H26.01        Văn phòng UBND thành phố Hà Nội                      department-district
H26.01.02     Phòng … - Văn phòng UBND thành phố Hà Nội            department-district   belongs to its department
H26.101       UBND phường Tân Hòa, thành phố Hà Nội                commune               on the level of the departments
H26.101.02    Phòng Kinh tế - UBND phường Tân Hòa, …               commune
```

Depth is not tier, and since 1 July 2025 there are no districts: a commune stands directly below its province. The
same seed gives the same country. Only the names of the first level and the numbers of communes are real.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib.resources import files
from random import Random
from typing import Final, get_args

from schemas.addresses import Tier
from schemas.directory_file import AgencyEntry, DirectoryFile, MandateEntry, PlatformEntry
from schemas.envelope import Action
from schemas.identifiers import AgencyCode

SINCE: Final = "2025-07-01"
"""First day of everything below the first level."""

COMMUNES: Final[Mapping[str, int]] = {
    "H01": 102, "H05": 99, "H12": 64, "H13": 103, "H14": 56, "H15": 102, "H17": 94, "H18": 45, "H19": 95, "H20": 102,
    "H21": 135, "H24": 114, "H26": 126, "H27": 69, "H29": 168, "H31": 104, "H32": 65, "H35": 38, "H36": 124, "H37": 65,
    "H38": 99, "H41": 130, "H42": 129, "H44": 148, "H48": 96, "H49": 54, "H50": 78, "H52": 75, "H53": 96, "H55": 92,
    "H56": 166, "H57": 40, "H60": 124, "H61": 124,
}  # fmt: skip
"""How many communes each province has, 3,321 in all; as counted in July 2026."""

DEMO: Final = ("G06", "G09", "G12", "G22", "H17", "H26", "H49", "H53")
DEMO_PLATFORMS: Final = ("H26",)

ECHO: Final = AgencyCode("Z00.ECHO")
"""Answers everything that it is sent (`truc-agency echo`), so that a new agency can try the whole way."""

FIRST_COMMUNE: Final = 101
PLATFORM_SHARE: Final = 60 / 95
"""60 of the 95 ministries and provinces of 2019 were connected through a platform."""

Texts = Sequence[str]


def shipped() -> DirectoryFile:
    """Read the first level of the national directory, which comes with this package."""
    return DirectoryFile.model_validate_json(files("hub").joinpath("data", "vietnam-2025.json").read_bytes())


def country(
    top: DirectoryFile,
    *,
    seed: int = 0,
    only: Collection[str] | None = None,
    platforms: Collection[str] | None = None,
    departments_per_unit: int = 40,
    units_per_department: int = 15,
    communes_per_province: int | None = None,
    units_per_commune: int = 21,
) -> DirectoryFile:
    """Grow the levels below; by default to the real size, about 111,000 agencies.

    Ministries, provinces, departments and communes are connected, units below them are not.

    Args:
        top: The first level; kept, with its history.
        seed: Where chance begins.
        only: Codes of the first level that are connected and grown; by default all that are open.
        platforms: Those of them that connect through a platform of their own, such as `lgsp-h26` for `H26`; by default
            as large a share as in 2019.
        departments_per_unit: Departments of each ministry and province.
        units_per_department: Units of each department.
        communes_per_province: Communes of each province; by default the real number.
        units_per_commune: Units of each commune.
    """
    chance = Random(seed)  # noqa: S311 — names and samples, no secrets
    heads = [entry for entry in top.agencies if _is_head(entry) and (only is None or entry.code in only)]
    if platforms is None:
        platforms = chance.sample([head.code for head in heads], round(len(heads) * PLATFORM_SHARE))
    endpoints = {head.code: _platform(head.code) if head.code in platforms else head.code for head in heads}
    below: list[AgencyEntry] = []
    for head in heads:
        through = endpoints[head.code] if head.code in platforms else None
        for department in _departments(head, departments_per_unit, through):
            below.append(department)
            below.extend(_units(department, _DEPARTMENT_UNITS, units_per_department))
        communes = COMMUNES.get(head.code, 0) if communes_per_province is None else communes_per_province
        for commune in _communes(head, communes if head.code.startswith("H") else 0, through, chance):
            below.append(commune)
            below.extend(_units(commune, _COMMUNE_UNITS, units_per_commune))
    tops = [
        entry.model_copy(update={"endpoint": endpoints[entry.code]}) if entry.code in endpoints else entry
        for entry in top.agencies
    ]
    return DirectoryFile(
        agencies=(*tops, *below),
        platforms=(*top.platforms, *(_platform_entry(head, top) for head in heads if head.code in platforms)),
        mandates=(*top.mandates, *_mandates([*tops, *below])),
        certificates=top.certificates,
    )


def demo_country(seed: int = 0) -> DirectoryFile:
    """Grow a country for a demonstration: 34 connected agencies of all tiers, five of them behind one platform.

    One of them is the echo agency, which is nobody's office: it answers what others send to try their connection.
    """
    grown = country(
        shipped(),
        seed=seed,
        only=DEMO,
        platforms=DEMO_PLATFORMS,
        departments_per_unit=2,
        units_per_department=0,
        communes_per_province=2,
        units_per_commune=0,
    )
    return grown.model_copy(update={"agencies": (*grown.agencies, _ASSOCIATE, _ECHO)})


def _is_head(entry: AgencyEntry) -> bool:
    """Tell whether a body of the first level has departments of its own today; a people's council (K) has none."""
    return entry.state == "open" and entry.valid_to is None and entry.code[0] in "GH"


def _platform(code: AgencyCode) -> AgencyCode:
    return AgencyCode(f"lgsp-{code.lower()}")


def _platform_entry(head: AgencyEntry, top: DirectoryFile) -> PlatformEntry:
    first = min(entry.valid_from for entry in top.agencies if entry.code == head.code)
    return PlatformEntry(code=_platform(head.code), name=f"Nền tảng LGSP - {head.name}", valid_from=first)


def _mandates(agencies: Sequence[AgencyEntry]) -> Iterator[MandateEntry]:
    for entry in agencies:
        if entry.endpoint is not None and entry.endpoint != entry.code:
            yield MandateEntry(
                platform=entry.endpoint,
                agency=entry.code,
                actions=get_args(Action),
                valid_from=entry.valid_from,
                valid_to=entry.valid_to,
            )


def _departments(head: AgencyEntry, count: int, through: AgencyCode | None) -> Iterator[AgencyEntry]:
    names = _PROVINCE_DEPARTMENTS if head.code.startswith("H") else _MINISTRY_DEPARTMENTS
    for number in range(1, count + 1):
        name = _nth(names, number)
        called = f"{name} {_place(head)}" if head.code.startswith("H") else f"{name} - {head.name}"
        yield _entry(head, f"{number:02}", called, "department-district", through=through, connected=True)


def _communes(head: AgencyEntry, count: int, through: AgencyCode | None, chance: Random) -> Iterator[AgencyEntry]:
    for number, pick in enumerate(chance.sample(range(len(_FIRST) * len(_SECOND)), count), FIRST_COMMUNE):
        name = f"{_FIRST[pick % len(_FIRST)]} {_SECOND[pick // len(_FIRST)]}"
        kind = "phường" if chance.random() < 697 / 3321 else "xã"
        called = f"UBND {kind} {name}, {_place(head)}"
        yield _entry(head, str(number), called, "commune", through=through, connected=True)


def _units(body: AgencyEntry, names: Texts, count: int) -> Iterator[AgencyEntry]:
    for number in range(1, count + 1):
        yield _entry(body, f"{number:02}", f"{_nth(names, number)} - {body.name}", body.tier, connected=False)


def _entry(
    parent: AgencyEntry, group: str, name: str, tier: Tier, *, connected: bool, through: AgencyCode | None = None
) -> AgencyEntry:
    code = AgencyCode(f"{parent.code}.{group}")
    return AgencyEntry(
        code=code,
        name=name,
        tier=tier,
        parent=parent.code,
        endpoint=(through or code) if connected else None,
        valid_from=SINCE,
    )


def _place(head: AgencyEntry) -> str:
    return head.name.removeprefix("UBND ")


def _nth(names: Texts, number: int) -> str:
    """Choose a name; when they are used up, the last is numbered."""
    return names[number - 1] if number < len(names) else f"{names[-1]} số {number - len(names) + 1}"


_ASSOCIATE: Final = AgencyEntry(
    code=AgencyCode("0100109106"),
    name="Tập đoàn Công nghiệp - Viễn thông Quân đội",
    tier="associate",
    endpoint=AgencyCode("0100109106"),
    valid_from=SINCE,
)

_ECHO: Final = AgencyEntry(
    code=ECHO, name="Đơn vị phản hồi (thử kết nối)", tier="associate", endpoint=ECHO, valid_from=SINCE
)

_PROVINCE_DEPARTMENTS: Final[Texts] = (
    "Văn phòng UBND", "Sở Nội vụ", "Sở Tài chính", "Sở Xây dựng", "Sở Nông nghiệp và Môi trường", "Sở Công Thương",
    "Sở Khoa học và Công nghệ", "Sở Văn hóa, Thể thao và Du lịch", "Sở Giáo dục và Đào tạo", "Sở Y tế", "Sở Tư pháp",
    "Sở Dân tộc và Tôn giáo", "Sở Ngoại vụ", "Thanh tra", "Ban Quản lý khu kinh tế", "Trung tâm Phục vụ hành chính công",
    "Ban An toàn giao thông", "Quỹ Đầu tư phát triển", "Trường Chính trị", "Báo và Phát thanh, Truyền hình",
    "Liên minh Hợp tác xã", "Ban Quản lý dự án đầu tư xây dựng",
)  # fmt: skip
_MINISTRY_DEPARTMENTS: Final[Texts] = (
    "Văn phòng", "Vụ Tổ chức cán bộ", "Vụ Pháp chế", "Vụ Kế hoạch - Tài chính", "Vụ Hợp tác quốc tế",
    "Cục Chuyển đổi số", "Thanh tra", "Vụ Thi đua - Khen thưởng", "Cục Quản lý chất lượng", "Viện Chiến lược và Chính sách",
    "Trường Đào tạo, bồi dưỡng cán bộ", "Tạp chí", "Nhà xuất bản", "Chi cục khu vực",
)  # fmt: skip
_DEPARTMENT_UNITS: Final[Texts] = (
    "Văn phòng", "Phòng Tổ chức - Hành chính", "Phòng Kế hoạch - Tài chính", "Phòng Nghiệp vụ", "Chi cục chuyên ngành",
    "Trung tâm Thông tin", "Trung tâm Dịch vụ công", "Trung tâm",
)  # fmt: skip
_COMMUNE_UNITS: Final[Texts] = (
    "Văn phòng HĐND và UBND", "Phòng Kinh tế", "Phòng Văn hóa - Xã hội", "Trung tâm Phục vụ hành chính công",
    "Ban Chỉ huy Quân sự", "Công an", "Trạm Y tế", "Trường Trung học cơ sở", "Trường Tiểu học", "Trường Mầm non",
)  # fmt: skip
_FIRST: Final[Texts] = (
    "An", "Bình", "Cẩm", "Cao", "Đại", "Đông", "Gia", "Hòa", "Hưng", "Khánh", "Lộc", "Long", "Mỹ", "Nam", "Ngọc", "Phú",
    "Phước", "Quảng", "Sơn", "Tân", "Tây", "Thanh", "Thạnh", "Thịnh", "Thượng", "Tiên", "Trung", "Vân", "Vĩnh", "Xuân",
)  # fmt: skip
_SECOND: Final[Texts] = (
    "An", "Bình", "Châu", "Điền", "Dương", "Giang", "Hà", "Hải", "Hiệp", "Hội", "Hưng", "Khê", "Lạc", "Lâm", "Lĩnh",
    "Lộc", "Lợi", "Minh", "Mỹ", "Phong", "Phú", "Phúc", "Quang", "Sơn", "Tâm", "Thành", "Thắng", "Thuận", "Tiến", "Trì",
    "Trung", "Tường", "Viên", "Xuân", "Yên",
)  # fmt: skip
