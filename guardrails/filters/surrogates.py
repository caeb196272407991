"""Values that look natural and belong to nobody, for models that stumble over `<EMAIL_ADDRESS_3f2a9c>`.

Each is a function of a keyed hash, so the same value always gets the same one, and nobody without the key can
tell which. All come from ranges that are kept free for examples and tests:

===============  ===========================================================================================
EMAIL_ADDRESS    at example.com (RFC 2606)
PHONE_NUMBER     NNN-555-0100 to NNN-555-0199, the numbers for fiction of the North American plan
PERSON           a first and a last name from a list of the project's own, 1,600 pairs
IBAN_CODE        British, at a bank `TEST` that does not exist, with valid check digits (ISO 13616)
CREDIT_CARD      4000 00…, the range of payment services' own test cards, with a valid check digit (Luhn)
===============  ===========================================================================================

Names and phone numbers run out after thousands; a vault then gives tokens, as it does for all other kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

# No name is in both lists: first names come first, so no pair can be read across two others.
_FIRST = (
    "Ada Alina Anton Arno Bela Bruno Carla Clara Dora Edda Elias Emil Enno Fenja Flora Frida Gero Greta "
    "Hanno Hilda Ida Ilja Jonna Juri Kira Lasse Leni Lotte Malte Merle Milo Nele Nora Oskar Paula Ronja "
    "Silas Tilda Ulla Vera"
)
_LAST = (
    "Ahorn Amsel Birke Buchner Dorn Distel Eichner Erler Falke Fichte Ginster Grasmann Habicht Hasel "
    "Holder Kastner Kiefer Lerch Linde Marder Milan Nachtigal Nussbaum Otter Pappel Quendel Rabe Reiher "
    "Rohrbach Salweide Schilf Sperber Storch Tanner Ulmer Wachtel Weidner Wiesel Zander Zeisig"
)
_AREAS = (
    "202 203 206 207 209 212 213 214 215 216 303 304 305 307 308 312 313 314 315 316 402 404 405 406 407 "
    "412 413 414 415 417 502 503 504 505 507 512 513 515 518 602 603 605 606 607 612 614 615 702 703 704"
)

Make = Callable[[int], str]


def surrogate(kind: str, number: int) -> str | None:
    """The value of this kind that a number (of at least 64 bits, all in use) chooses; None: no such kind."""
    make = _MAKERS.get(kind)
    return None if make is None else make(number)


def _pick(words: str, number: int) -> tuple[str, int]:
    names = words.split()
    number, place = divmod(number, len(names))
    return names[place], number


def _person(number: int) -> str:
    first, number = _pick(_FIRST, number)
    last, _ = _pick(_LAST, number)
    return f"{first} {last}"


def _email(number: int) -> str:
    first, number = _pick(_FIRST, number)
    last, number = _pick(_LAST, number)
    return f"{first}.{last}{number % 9000 + 1000}@example.com".lower()


def _phone(number: int) -> str:
    area, number = _pick(_AREAS, number)
    return f"{area}-555-01{number % 100:02d}"


def _iban(number: int) -> str:
    account = f"TEST{number % 10**14:014d}"
    check = 98 - int("".join(str(int(char, 36)) for char in account + "GB00")) % 97
    return f"GB{check:02d}{account}"


def _card(number: int) -> str:
    digits = f"400000{number % 10**9:09d}"
    doubled = sum(sum(divmod(2 * int(digit), 10)) for digit in digits[::2])
    check = -(doubled + sum(map(int, digits[1::2]))) % 10
    return f"{digits}{check}"


_MAKERS: Mapping[str, Make] = MappingProxyType(
    {
        "CREDIT_CARD": _card,
        "EMAIL_ADDRESS": _email,
        "IBAN_CODE": _iban,
        "PERSON": _person,
        "PHONE_NUMBER": _phone,
    }
)

KINDS = tuple(_MAKERS)
"""The kinds for which there are natural-looking values."""
