"""Identities: the same for the same, another for anything else."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.identifiers import DocumentId, delivery_id_of, identity_of, is_agency_code
from schemas.signing import identity

DOCUMENTS = st.binary(max_size=20).map(identity_of)
CODES = st.from_regex(r"[A-Z][0-9]{2}(\.[A-Z0-9]{1,3}){0,3}", fullmatch=True)


@given(DOCUMENTS, CODES, DOCUMENTS, CODES)
def test_a_delivery_id_is_a_function_of_document_and_recipient(document, recipient, other_document, other_recipient):
    first, second = delivery_id_of(document, recipient), delivery_id_of(other_document, other_recipient)

    assert (first == second) == ((document, recipient) == (other_document, other_recipient))
    assert first.version == 8


@given(st.text("0123456789abcdef", min_size=8, max_size=8), CODES)
def test_no_shift_between_document_and_recipient_makes_the_same_delivery(digits, code):
    """`ab` for `c` is not `a` for `bc`."""
    assert delivery_id_of(DocumentId(digits + code[0]), code[1:]) != delivery_id_of(DocumentId(digits), code)


@given(st.binary(max_size=50), st.binary(max_size=20), st.binary(max_size=20))
def test_identity_leaves_the_last_segment_out_and_nothing_else(signing_input, one, other):
    one, other = one.replace(b".", b""), other.replace(b".", b"")

    assert identity(signing_input + b"." + one) == identity(signing_input + b"." + other) == identity_of(signing_input)


@given(st.text(max_size=20))
def test_a_code_is_ascii_and_fits_a_queue_name(text):
    if is_agency_code(text):
        assert text.isascii()
        assert text == text.strip()
        assert not set(text) & set("*#/\\ \n\0")


@given(CODES, st.integers(0, 10), st.characters(exclude_categories=["Cs"]))
def test_a_character_from_outside_the_alphabet_makes_a_code_none(code, position, character):
    position %= len(code) + 1

    if not ("A" <= character <= "Z" or "0" <= character <= "9" or character in ".-"):
        assert not is_agency_code(code[:position] + character + code[position:])
