"""What an import changes, and what `check` finds."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from hub.core.certificate_chain import check_chain
from hub.core.directory_change import diff, merged
from hub.core.directory_check import Finding, check, check_repeats
from schemas.directory_file import AgencyEntry, CertificateEntry, DirectoryFile, MandateEntry, PlatformEntry
from schemas.signing import PrivateKey

NOW = datetime(2025, 8, 1, 2, 0, tzinfo=UTC)
EVERYTHING = x509.KeyUsage(
    digital_signature=True,
    content_commitment=True,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
AUTHORITY = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def agency(code, **other):
    values = {"name": f"Đơn vị {code}", "tier": "ministry-province", "valid_from": "2020-09-15", **other}
    return AgencyEntry(code=code, **values)


def directory(*agencies, **other):
    return DirectoryFile(agencies=agencies, **other)


def findings(file, **other):
    return [(finding.level, finding.place, finding.code) for finding in check(file, now=NOW, **other)]


class Name:
    """Somebody with a key who may issue certificates to others."""

    def __init__(self, name, key=None, issuer=None, *, ca=True, pathlen=None, usage=None, start=NOW, days=365):
        self.key: PrivateKey = key or ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        above = issuer or self
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(above.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start - timedelta(days=1))
            .not_valid_after(start + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=pathlen), critical=True)
            .add_extension(usage or (AUTHORITY if ca else EVERYTHING), critical=True)
            .sign(above.key, hashes.SHA256())
        )

    def leaf(self, name="Văn thư", **other):
        return Name(name, issuer=self, ca=False, **other)

    def entry(self, owner, **other):
        pem = self.certificate.public_bytes(serialization.Encoding.PEM).decode()
        return CertificateEntry(owner=owner, pem=pem, **other)


@pytest.fixture(scope="module")
def root():
    return Name("Gốc")


class TestDiff:
    def test_first_import_adds_everything(self):
        wanted = directory(agency("H01"), agency("H02"))

        changes = diff(DirectoryFile(), wanted)

        assert changes
        assert (changes.added, changes.unchanged, changes.absent) == (wanted, 0, 0)

    def test_second_import_has_nothing_to_do(self, root):
        platform = PlatformEntry(code="lgsp-h26", name="LGSP", valid_from="2020-09-15")
        mandate = MandateEntry(platform="lgsp-h26", agency="H01", actions=("new",), valid_from="2020-09-15")
        wanted = directory(
            agency("H01"), platforms=(platform,), mandates=(mandate,), certificates=(root.leaf().entry("H01"),)
        )

        changes = diff(wanted, wanted)

        assert not changes
        assert changes.unchanged == 4

    def test_a_changed_entry_stands_beside_what_it_was(self):
        old, new = agency("H01"), agency("H01", name="Tỉnh An Giang", valid_to="2025-07-01")

        changes = diff(directory(old), directory(new))

        assert changes.changed.agencies == (new,)
        assert changes.before.agencies == (old,)
        assert changes.added == DirectoryFile()

    def test_another_period_is_another_entry(self):
        later = agency("H02", state="closed", successors=("H05",), valid_from="2025-07-01")

        changes = diff(directory(agency("H02")), directory(agency("H02"), later))

        assert changes.added.agencies == (later,)
        assert changes.unchanged == 1

    def test_entries_that_the_file_does_not_name_are_counted_and_stay(self):
        held = directory(agency("H01"), agency("H02"))

        changes = diff(held, directory(agency("H01")))

        assert not changes
        assert changes.absent == 1
        assert merged(held, changes) == held

    def test_the_same_certificate_written_in_another_way_is_unchanged(self, root):
        entry = root.leaf().entry("H01")

        changes = diff(
            directory(certificates=(entry,)),
            directory(certificates=(entry.model_copy(update={"pem": f"của H01\n{entry.pem}\n"}),)),
        )

        assert not changes

    def test_a_revocation_is_a_change(self, root):
        entry = root.leaf().entry("H01")
        revoked = entry.model_copy(update={"revoked_at": 1_750_000_000})

        changes = diff(directory(certificates=(entry,)), directory(certificates=(revoked,)))

        assert changes.changed.certificates == (revoked,)

    def test_merging_a_diff_gives_what_was_wanted(self):
        held = directory(agency("H01"), agency("H02"))
        wanted = directory(agency("H01"), agency("H02", name="Bắc Giang"), agency("H03"))

        assert merged(held, diff(held, wanted)) == wanted


class TestRepeats:
    def test_the_same_entry_twice(self, root):
        platform = PlatformEntry(code="lgsp-h01", name="LGSP", valid_from="2020-09-15")
        mandate = MandateEntry(platform="lgsp-h01", agency="H01", actions=("new",), valid_from="2020-09-15")
        certificate = root.leaf().entry("hub")

        file = directory(
            agency("H01"),
            agency("H02"),
            agency("H01", name="Tên khác"),
            platforms=(platform, platform),
            mandates=(mandate, mandate),
            certificates=(certificate, certificate),
        )

        assert [finding.place for finding in check_repeats(file)] == [
            "/agencies/2",
            "/platforms/1",
            "/mandates/1",
            "/certificates/1",
        ]

    def test_another_period_is_no_repeat(self):
        assert (
            check_repeats(directory(agency("H01", valid_to="2025-07-01"), agency("H01", valid_from="2025-07-01"))) == []
        )


class TestCheck:
    def test_a_good_directory_has_no_findings(self, root):
        file = directory(
            agency("H26", endpoint="H26"),
            agency("H26.01", tier="department-district", parent="H26", endpoint="lgsp-h26"),
            platforms=(PlatformEntry(code="lgsp-h26", name="LGSP Hà Nội", valid_from="2020-09-15"),),
            mandates=(MandateEntry(platform="lgsp-h26", agency="H26.01", actions=("new",), valid_from="2020-09-15"),),
            certificates=(root.leaf().entry("H26"), root.leaf().entry("hub"), root.leaf().entry("lgsp-h26")),
        )

        assert findings(file, anchors=[root.certificate]) == []

    def test_periods_that_overlap(self):
        file = directory(agency("H01", valid_to="2025-07-02"), agency("H01", valid_from="2025-07-01"))

        assert findings(file) == [("error", "/agencies/1/valid_from", "")]

    def test_a_short_period_inside_a_long_one(self):
        file = directory(
            agency("H01"),
            agency("H01", valid_from="2021-01-01", valid_to="2021-02-01"),
            agency("H01", valid_from="2022-01-01"),
        )

        assert findings(file) == [("error", "/agencies/1/valid_from", ""), ("error", "/agencies/2/valid_from", "")]

    def test_periods_that_meet_are_good(self):
        file = directory(agency("H01", valid_to="2025-07-01"), agency("H01", valid_from="2025-07-01"))

        assert findings(file) == []

    def test_end_before_beginning(self):
        assert findings(directory(agency("H01", valid_to="2020-09-14"))) == [("error", "/agencies/0/valid_to", "")]

    def test_unknown_parent(self):
        assert findings(directory(agency("H01", parent="H99"))) == [("error", "/agencies/0/parent", "")]

    def test_parent_that_ends_earlier(self):
        file = directory(agency("H01", valid_to="2025-07-01"), agency("H01.01", tier="commune", parent="H01"))

        assert findings(file) == [("warning", "/agencies/1/parent", "")]

    def test_child_above_its_parent(self):
        file = directory(agency("H01", tier="commune"), agency("H01.01", tier="department-district", parent="H01"))

        assert findings(file) == [("warning", "/agencies/1/tier", "")]

    def test_associates_stand_outside_the_tiers(self):
        file = directory(agency("A01", tier="associate"), agency("A01.01", parent="A01"))

        assert findings(file) == []

    def test_circle_of_parents_is_found_once(self):
        file = directory(agency("H01", parent="H02"), agency("H02", parent="H03"), agency("H03", parent="H01"))

        assert findings(file) == [("error", "/agencies/0/parent", "")]

    def test_circle_that_begins_later(self):
        file = directory(
            agency("H01", valid_to="2025-07-01"),
            agency("H01", parent="H02", valid_from="2025-07-01"),
            agency("H02", parent="H01"),
        )

        assert findings(file) == [("error", "/agencies/1/parent", "")]

    def test_parents_that_change_places_are_no_circle(self):
        file = directory(
            agency("H01", parent="H02", valid_to="2025-07-01"),
            agency("H01", valid_from="2025-07-01"),
            agency("H02", valid_to="2025-07-01"),
            agency("H02", parent="H01", valid_from="2025-07-01"),
        )

        assert findings(file) == []

    def test_agency_below_a_circle_ends_its_walk(self):
        file = directory(agency("H01", parent="H02"), agency("H02", parent="H01"), agency("H03", parent="H01"))

        assert findings(file) == [("error", "/agencies/0/parent", "")]

    def test_unknown_endpoint(self):
        assert findings(directory(agency("H01", endpoint="lgsp-h01"))) == [("error", "/agencies/0/endpoint", "")]

    def test_endpoint_that_is_not_connected_itself(self):
        file = directory(agency("H01"), agency("H02", endpoint="H01"))

        assert findings(file) == [("error", "/agencies/1/endpoint", "")]

    def test_platform_that_ends_earlier(self):
        platform = PlatformEntry(code="lgsp-h01", name="LGSP", valid_from="2020-09-15", valid_to="2025-07-01")
        mandate = MandateEntry(platform="lgsp-h01", agency="H01", actions=("new",), valid_from="2020-09-15")

        file = directory(agency("H01", endpoint="lgsp-h01"), platforms=(platform,), mandates=(mandate,))

        assert findings(file) == [("error", "/agencies/0/endpoint", "")]

    def test_parent_under_two_names_in_a_row(self):
        file = directory(
            agency("H57", valid_to="2025-01-01"),
            agency("H57", name="UBND thành phố Huế", valid_from="2025-01-01"),
            agency("H57.01", tier="commune", parent="H57"),
        )

        assert findings(file) == []

    def test_parent_that_is_closed(self):
        file = directory(
            agency("H02", state="closed", successors=("H05",)),
            agency("H05"),
            agency("H02.01", tier="commune", parent="H02"),
        )

        assert findings(file) == [("warning", "/agencies/2/parent", "")]

    def test_platform_without_a_mandate(self):
        platform = PlatformEntry(code="lgsp-h01", name="LGSP", valid_from="2020-09-15")

        file = directory(agency("H01", endpoint="lgsp-h01"), platforms=(platform,))

        assert findings(file) == [("warning", "/agencies/0/endpoint", "")]

    def test_mandate_between_unknown_parties(self):
        mandate = MandateEntry(platform="lgsp-h01", agency="H01", actions=("new",), valid_from="2020-09-15")

        file = directory(mandates=(mandate,))

        assert findings(file) == [("error", "/mandates/0/platform", ""), ("error", "/mandates/0/agency", "")]

    def test_closed_without_a_successor(self):
        assert findings(directory(agency("H02", state="closed"))) == [("warning", "/agencies/0/successors", "")]

    def test_unknown_successor(self):
        file = directory(agency("H02", state="closed", successors=("H05",)))

        assert findings(file) == [("error", "/agencies/0/successors/0", "")]

    def test_a_finding_is_told_in_both_languages(self):
        assert check(directory(agency("H01", parent="H99")), now=NOW) == [
            Finding(
                "error",
                "/agencies/0/parent",
                "",
                "H01: its parent H99 is unknown",
                "H01: không có đơn vị cấp trên H99",
            )
        ]


class TestCertificates:
    def test_unknown_owner(self, root):
        assert findings(directory(certificates=(root.leaf().entry("H01"),))) == [("error", "/certificates/0/owner", "")]

    def test_the_same_twice(self, root):
        entry = root.leaf().entry("hub")

        assert findings(directory(certificates=(entry, entry))) == [("error", "/certificates/1/pem", "")]

    def test_expired_is_a_warning_and_keeps_its_chain(self, root):
        old = root.leaf(start=NOW - timedelta(hours=12), days=0.25)

        file = directory(certificates=(old.entry("hub"),))

        assert findings(file, anchors=[root.certificate]) == [("warning", "/certificates/0/pem", "")]

    def test_no_certificate_at_all(self):
        file = directory(certificates=(CertificateEntry(owner="hub", pem="không phải PEM"),))

        assert findings(file) == [("error", "/certificates/0/pem", "E207")]

    def test_rsa_1024(self, root):
        weak = root.leaf(key=rsa.generate_private_key(public_exponent=65537, key_size=1024))

        file = directory(certificates=(weak.entry("hub"),))

        assert findings(file, anchors=[root.certificate]) == [("error", "/certificates/0/pem", "E206")]

    def test_an_authority_may_not_sign_documents(self, root):
        assert findings(directory(certificates=(root.entry("hub"),))) == [("error", "/certificates/0/pem", "E207")]

    def test_stranger_is_refused_only_when_anchors_are_given(self, root):
        file = directory(certificates=(Name("Người lạ").leaf().entry("hub"),))

        assert findings(file) == []
        assert findings(file, anchors=[root.certificate]) == [("error", "/certificates/0/pem", "E207")]


class TestChain:
    def refused(self, leaf, *anchors, now=NOW, through=()):
        problem = check_chain(
            leaf.certificate,
            [anchor.certificate for anchor in anchors],
            now,
            intermediates=[between.certificate for between in through],
        )
        return problem is not None and problem.code == "E207"

    def test_issued_by_an_anchor(self, root):
        assert not self.refused(root.leaf(), root)

    def test_issued_by_an_anchor_that_is_not_self_signed(self, root):
        issuing = Name("Cấp dưới", issuer=root)

        assert not self.refused(issuing.leaf(), issuing)

    def test_issued_below_an_anchor(self, root):
        issuing = Name("Cấp dưới", issuer=root, pathlen=0)

        assert not self.refused(issuing.leaf(), root, through=[issuing])
        assert self.refused(issuing.leaf(), root)

    def test_path_longer_than_an_authority_allows(self):
        root = Name("Gốc", pathlen=0)
        issuing = Name("Cấp dưới", issuer=root)

        assert self.refused(issuing.leaf(), root, through=[issuing])

    def test_more_than_two_authorities_below_the_anchor(self, root):
        first = Name("Cấp một", issuer=root)
        second = Name("Cấp hai", issuer=first)
        third = Name("Cấp ba", issuer=second)

        assert not self.refused(second.leaf(), root, through=[first, second])
        assert self.refused(third.leaf(), root, through=[first, second, third])

    def test_no_anchors(self, root):
        assert self.refused(root.leaf())

    def test_root_of_the_same_name(self, root):
        assert self.refused(Name("Gốc").leaf(), root)

    def test_issued_by_a_leaf(self, root):
        leaf = root.leaf()
        forged = Name("Giả mạo", issuer=leaf, ca=False)

        assert self.refused(forged, root)
        assert self.refused(forged, leaf)

    def test_issuer_that_may_not_sign_certificates(self):
        assert self.refused(*reversed([root := Name("Gốc", usage=EVERYTHING), root.leaf()]))

    def test_leaf_that_is_an_authority(self, root):
        assert self.refused(Name("Cấp dưới", issuer=root), root)

    def test_leaf_that_may_not_sign_documents(self, root):
        assert self.refused(root.leaf(usage=AUTHORITY), root)

    def test_expired(self, root):
        leaf = root.leaf(days=30)

        assert not self.refused(leaf, root, now=NOW + timedelta(days=29))
        assert self.refused(leaf, root, now=NOW + timedelta(days=31))

    def test_not_valid_yet(self, root):
        assert self.refused(root.leaf(), root, now=NOW - timedelta(days=2))

    def test_expired_root(self):
        root = Name("Gốc", days=10)

        assert self.refused(root.leaf(), root, now=NOW + timedelta(days=11))
