"""Which subjects declare a state secret, and which only speak of secrets."""

import unicodedata

import pytest

from schemas.edxml.secrecy import declares_secret, sphere_declares_secret

DECLARED = [
    "Mật",
    "MẬT",
    "Tối mật",
    "TUYỆT MẬT",
    "(Mật) Về việc kiểm tra",
    "[TỐI MẬT] Về việc kiểm tra",
    "Về việc kiểm tra (Mật)",
    "Độ mật: Tuyệt mật. Về việc kiểm tra",
    "Báo cáo quý I, độ mật: Mật",
    "MẬT - Về việc kiểm tra",
    "Mật: Về việc kiểm tra",
    "Tối mật - về việc kiểm tra",
    "Về việc kiểm tra - TỐI MẬT",
    "Về việc kiểm tra - MẬT",
    "Tài liệu mật",
    "Độ mật Tối mật",
    " *** MẬT *** ",
]
SPOKEN_OF = [
    "Về việc tăng cường bảo mật hệ thống thông tin",
    "Đổi mật khẩu tài khoản thư công vụ",
    "Triển khai Luật Bảo vệ bí mật nhà nước",
    "Ban hành Danh mục bí mật nhà nước độ Tối mật, Tuyệt mật thuộc lĩnh vực y tế",
    "Ban hành Danh mục bí mật nhà nước độ Tối mật",
    "Mật độ dân số năm 2025",
    "Hội nghị phẫu thuật gan - mật",
    "HỘI NGHỊ PHẪU THUẬT GAN - MẬT",
    "Sản phẩm mật ong, mật mía",
    "Hướng dẫn đóng dấu mật trên văn bản",
    "Giải mật tài liệu lưu trữ",
    "Độ mật: Thường",
    "Không mật",
    "Kế hoạch số 5/KH-BCY về mật mã dân sự",
    "",
]


@pytest.mark.parametrize("text", DECLARED)
def test_a_marking_is_a_declaration(text):
    assert declares_secret(text)
    assert declares_secret(unicodedata.normalize("NFD", text))
    assert sphere_declares_secret(text)


@pytest.mark.parametrize("text", SPOKEN_OF)
def test_a_subject_that_speaks_of_secrets_declares_none(text):
    assert not declares_secret(text)


@pytest.mark.parametrize("text", ["Lưu hành nội bộ", "Liên thông văn bản quốc gia", "Mật mã dân sự", None, ""])
def test_an_ordinary_sphere_declares_none(text):
    assert not sphere_declares_secret(text)


@pytest.mark.parametrize("text", ["Lưu hành mật", "Phạm vi mật", "lĩnh vực Tối mật", "tuyet mat"])
def test_a_sphere_declares_a_level_wherever_it_stands(text):
    assert sphere_declares_secret(text)


@pytest.mark.parametrize("text", ["- " * 2000, "mật " * 1000, "độ mật " * 600, "(" * 4000, " " * 4000])
@pytest.mark.timeout(5)
def test_a_hostile_text_costs_little(text):
    assert not declares_secret(text)
