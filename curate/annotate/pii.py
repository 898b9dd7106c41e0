"""Personal data that has a form: e-mail addresses, IP addresses, phone numbers, bank accounts, credit cards.

What has check digits (IBAN by ISO 7064, cards by Luhn) or a syntax of its own is found reliably; phone numbers are
"phone-like": international with a plus sign, North American, or national with a leading zero and groups. A card number
has the first digits and the length of an issuer and the groups that are printed on cards, and is no part of a longer row
of numbers; of rows of exactly four numbers of four digits, one in forty looks like one all the same. Names and
street addresses are not looked for. Addresses reserved for documentation (example.com, non-public IP ranges) do not
count, so that masked text has none. Numbers in other scripts' digits are not found.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from curate.annotate.columns import struct_of, text_of

KINDS = ("emails", "ip_addresses", "phone_numbers", "ibans", "credit_cards")
EMAILS, IP_ADDRESSES, PHONE_NUMBERS, IBANS, CREDIT_CARDS = range(5)

_EMAIL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@((?:[A-Za-z0-9-]+\.)+[A-Za-z][A-Za-z0-9-]*[A-Za-z0-9])")
_RESERVED = re.compile(r"(?:^|\.)(?:example\.(?:com|org|net)|example|test|invalid|localhost)$", re.IGNORECASE)
_FILE = re.compile(r"\.(?:png|jpe?g|gif|webp|svg|avif|css|js)$", re.IGNORECASE)  # logo@2x.png
_IP = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?!\.?\d)")
_GROUPS = r"\d{{4}}{0}\d{{6}}{0}\d{{4,5}}|\d{{4}}{0}\d{{4}}{0}\d{{4}}{0}\d{{4}}(?:{0}\d{{3}})?"
_IN_GROUPS = "|".join(rf"(?<!\d{sep})(?:{_GROUPS.format(sep)})(?!{sep}\d+(?![\d/]))" for sep in " -")  # may stand before 12/25, but no other number
_CARD = re.compile(rf"(?<![\d.])(?:\d{{13,19}}|{_IN_GROUPS})(?!\d|\.\d)")
_ISSUERS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})"  # Visa
    r"|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|(?:6011|64[4-9]\d|65\d\d)\d{12}"  # Discover
    r"|(?:30[0-5]|309|36\d|3[89]\d)\d{11}"  # Diners Club
    r"|35(?:2[89]|[3-8]\d)\d{12}"  # JCB
    r"|62\d{14}(?:\d{3})?"  # UnionPay
    r"|60(?:69|[78]\d)\d{12}"  # RuPay
    r"|(?:50\d\d|5893|6304|6759|676[1-3])\d{12}(?:\d{2,3})?"  # Maestro
)
_PHONE = re.compile(
    r"(?<![\d.(+])(?:"
    r"\+\d{1,3}[ .\-/]?(?:\(0?\d{0,4}\)[ .\-/]?)?\d(?:[ .\-/]{0,3}\d){5,12}"  # +49 (0)711 123456
    r"|(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[.-])[2-9]\d\d[ .-]\d{4}"  # (555) 234-5678
    r"|\(0\d{1,5}\) ?[-/]? ?\d(?:[ .-]?\d){3,9}"  # (0711) 123456
    r"|0[1-9]\d{0,4}(?: ?[/-] ?|[ .])\d{2,}(?:[ .-]\d{2,}){0,4}"  # 0711/123456, 01 23 45 67 89
    r")(?!\d|[.,]\d)"
)
_IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28, "CH": 21, "CR": 22, "CY": 28,
    "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18,
    "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LI": 21,
    "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18, "NO": 15, "PK": 24,
    "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "TN": 24, "TR": 26, "UA": 29,
    "VA": 22, "VG": 24, "XK": 20,
}  # fmt: skip


def annotate(batch: pa.RecordBatch) -> pa.StructArray:
    """Count what looks like personal data.

    Fields:
        emails: number of e-mail addresses, those reserved for documentation not counted
        ip_addresses: number of public IPv4 addresses
        phone_numbers: number of phone-like numbers
        ibans: number of international bank account numbers with a right check sum
        credit_cards: number of card numbers, by issuer, length, groups and check digit

    Rules:
        address_list  pii.emails + pii.phone_numbers > 20
        bank_data     pii.ibans + pii.credit_cards > 0
    """
    counts = np.zeros((batch.num_rows, len(KINDS)), np.int64)
    for row, _, _, kind in spans(text_of(batch)):
        counts[row, kind] += 1
    return struct_of({name: np.ascontiguousarray(counts[:, k]) for k, name in enumerate(KINDS)})


def spans(text: pa.StringArray) -> Iterator[tuple[int, int, int, int]]:
    """Yield (row, first byte, byte after the last one, index into KINDS), in order, not overlapping.

    Bytes are positions in the array's values buffer.
    """
    from curate.kernels import candidates as kernel
    from curate.kernels.words import views

    data, starts, ends = views(text)
    found = kernel.candidates(data, starts, ends)
    order = np.lexsort((found[:, 1], found[:, 0]))
    row_before, end_before = -1, -1
    for row, begin, end, what in found[order].tolist():
        if row != row_before:
            row_before, end_before = row, -1
        for first, last, kind in _checked(bytes(data[begin:end]).decode("latin-1"), what, kernel):
            if begin + first >= end_before:
                yield row, begin + first, begin + last, kind
                end_before = begin + last


def _checked(span: str, what: int, kernel) -> list[tuple[int, int, int]]:  # type: ignore[no-untyped-def]
    """Return (first, last, kind) of what is really there in a candidate, in order."""
    if what == kernel.EMAIL:
        return [(m.start(), m.end(), EMAILS) for m in [_EMAIL.search(span)] if m and not _RESERVED.search(m[1]) and not _FILE.search(m[1])]
    if what == kernel.ACCOUNT:
        length = _iban_end(span)
        return [(0, length, IBANS)] if length else []
    found: list[tuple[int, int, int]] = []
    for pattern, kind, check in ((_IP, IP_ADDRESSES, _is_public), (_CARD, CREDIT_CARDS, _is_card), (_PHONE, PHONE_NUMBERS, _is_phone)):
        found += _between(found, [(m.start(), m.end(), kind) for m in pattern.finditer(span) if check(m[0])])
        found.sort()
    return found


def _between(found: list[tuple[int, int, int]], more: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Return those of `more` that overlap none of `found`; both in order, and each without overlaps."""
    free, k = [], 0
    for first, last, kind in more:
        while k < len(found) and found[k][1] <= first:
            k += 1
        if k == len(found) or last <= found[k][0]:
            free.append((first, last, kind))
    return free


def _is_public(address: str) -> bool:
    try:
        return ipaddress.IPv4Address(address).is_global
    except ValueError:
        return False


def _is_card(number: str) -> bool:
    """An issuer's first digits and length, and Luhn's check digit; not all digits the same, and no EAN-13 bar code that begins with 4."""
    digits = [int(c) for c in number if c.isdigit()]
    if len(set(digits)) == 1 or not _ISSUERS.fullmatch("".join(map(str, digits))):
        return False
    backwards = digits[::-1]
    if len(digits) == 13 and (sum(backwards) + 2 * sum(backwards[1::2])) % 10 == 0:
        return False
    return (sum(backwards[::2]) + sum(d * 2 - 9 * (d > 4) for d in backwards[1::2])) % 10 == 0


def _is_phone(number: str) -> bool:
    return 7 <= sum(c.isdigit() for c in number) <= 15


def _iban_end(span: str) -> int:
    """Return the length of the IBAN at the beginning of the span, spaces included; 0 if there is none."""
    wanted = _IBAN_LENGTHS.get(span[:2], 0)
    places = [k for k, c in enumerate(span) if c != " "][:wanted]
    if not wanted or len(places) < wanted:
        return 0
    account = "".join(span[k] for k in places)
    number = int("".join(str(int(c, 36)) for c in account[4:] + account[:4]))
    return places[-1] + 1 if number % 97 == 1 else 0
