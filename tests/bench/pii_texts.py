"""Sentences with personal data and with what only looks like it, from a seed. Nothing in them is real."""

from __future__ import annotations

import random
from collections.abc import Callable

WORDS = [
    "the",
    "my",
    "is",
    "a",
    "and",
    "of",
    "to",
    "in",
    "for",
    "please",
    "call",
    "phone",
    "number",
    "mobile",
    "card",
    "credit",
    "ssn",
    "social",
    "security",
    "passport",
    "us",
    "business",
    "testing",
    "driver",
    "license",
    "lic",
    "account",
    "check",
    "bank",
    "iban",
    "transaction",
    "ip",
    "mac",
    "date",
    "birthday",
    "email",
    "url",
    "website",
    "link",
    "nhs",
    "wallet",
    "bitcoin",
    "taxpayer",
    "itin",
    "tax",
    "medical",
    "certificate",
    "uuid",
    "guid",
    "order",
    "invoice",
    "cancelled",
    "updates",
    "recall",
    "united",
    "states",
    "travel",
    "document",
    "price",
    "total",
    "room",
    "ext",
    "from",
    "at",
    "on",
    "or",
    "now",
    "paid",
    "section",
    "page",
    "be",
]
_JOIN = (
    " ",
    " ",
    " ",
    " ",
    " ",
    " ",
    ", ",
    ": ",
    ". ",
    "\n",
    " (",
    ") ",
    "; ",
    " - ",
    "/",
    "-",
    "  ",
    "\t",
    '"',
    "'",
)
_ODD = (
    *(
        "ſ",
        "İ",
        "ı",
        "\u00a0",
        "\u200b",
        "٣",
        "１",
        "é",
        "请联系",
        "ü",
        "$",
        "%",
        "€",
        "@",
        ".",
        "..",
        "-",
        "--",
        "+",
        "#",
    ),
    *(
        "x",
        "ext.",
        "::",
        ":",
        "[",
        "]",
        "(",
        ")",
        "~",
        "/",
        "www.",
        "http://",
        "https://",
        "_",
        "\x1c",
        "\u2013",
    ),
)


def digits(rng: random.Random, count: int) -> str:
    """So many digits."""
    return "".join(rng.choice("0123456789") for _ in range(count))


def grouped(rng: random.Random) -> str:
    """Groups of digits with something between them, such as a telephone number may be."""
    groups = [digits(rng, rng.choice((1, 2, 2, 3, 3, 3, 4, 4, 5, 6, 8, 9))) for _ in range(rng.randint(1, 6))]
    text = groups[0]
    gap = rng.choice((" ", "-", ".", "", " ", "/", " - ", ") ", "\u00a0", "  ", " (", ", "))
    for group in groups[1:]:
        text += (gap if rng.random() < 0.8 else rng.choice((" ", "-", ".", "/", ")", "(", ":"))) + group
    return (
        rng.choice(
            ("", "", "", "", "+", "(", "(0", "00", "0", "011 ", "1-", "+44 ", "+1 ", "+49 (0)", "0049 ")
        )
        + text
    )


def telephone(rng: random.Random) -> str:
    """A number as people of the eight regions write theirs."""
    shape = rng.choice(
        (
            *(
                "(212) 555-XXXX",
                "415.555.XXXX",
                "+1 650 253 XXXX",
                "1-800-555-XXXX",
                "416-555-XXXX",
                "6502530XXX",
            ),
            *(
                "+44 20 7946 0XXX",
                "020 7946 0XXX",
                "07700 900XXX",
                "(0131) 496 0XXX",
                "0800 1111",
                "+44 (0)7700 900XXX",
            ),
            *(
                "030 123456XX",
                "+49 30 123456X",
                "0171 23456XX",
                "+49 (0)89 1234XXX",
                "00 49 89 1234XXX",
                "089/12345XX",
            ),
            *(
                "01 23 45 67 XX",
                "+33 6 12 34 56 XX",
                "0612345XXX",
                "050-123-4XXX",
                "+972 3 123 4XXX",
                "1-700-123-XXX",
            ),
            *(
                "098765 4XXXX",
                "+91 98765 4XXXX",
                "022 2345 6XXX",
                "(11) 91234-XXXX",
                "+55 21 2345-XXXX",
                "0 31 11 2345 XXXX",
            ),
            *(
                "+1 242 365 XXXX",
                "+41 44 668 18 XX",
                "+8613812345XXX",
                "+7 495 123 XX XX",
                "011 44 20 7946 0XXX",
            ),
        )
    )
    number = "".join(rng.choice("0123456789") if c == "X" else c for c in shape)
    return number + rng.choice(
        (
            "",
            "",
            "",
            "",
            " x12",
            " ext. 345",
            "#",
            " ext 7",
            ";ext=9",
            " 12:30",
            "%",
            "a",
            " 2012-01-02 08:00",
        )
    )


def _luhn(body: str) -> str:
    total = sum(sum(divmod(int(d) * (1 + (i % 2 == 0)), 10)) for i, d in enumerate(reversed(body)))
    return body + str(-total % 10)


def card(rng: random.Random) -> str:
    """A card's number with a right sum."""
    number = _luhn(rng.choice(("4", "51", "55", "34", "6011", "36")) + digits(rng, 11))
    number = _luhn("4" + digits(rng, 14)) if rng.random() < 0.5 else number
    gap = rng.choice(("", " ", "-"))
    return gap.join(number[at : at + 4] for at in range(0, len(number), 4))


def iban(rng: random.Random) -> str:
    """One that is right, and mostly spaced."""
    text = rng.choice(("DE89370400440532013000", "GB29NWBK60161331926819", "FR1420041010050500013M02606"))
    text = rng.choice((text, text, text[:-1] + "9", text.lower()))
    gap = rng.choice(("", " ", "-"))
    return gap.join(text[at : at + 4] for at in range(0, len(text), 4)) + rng.choice(
        ("", "", " 2", " from", " Ab", "x")
    )


def host(rng: random.Random) -> str:
    """A name of a machine, or a slip of the keyboard."""
    names = (
        "acme",
        "example",
        "www",
        "www2",
        "shop",
        "a",
        "x-y",
        "sentence",
        "mail",
        "müller",
        "3",
        "xn--mnchen-3ya",
    )
    ends = (
        "com",
        "co.uk",
        "org",
        "de",
        "This",
        "community",
        "js",
        "py",
        "info",
        "io",
        "museum",
        "zz",
        "in",
        "Company",
    )
    return ".".join(rng.choice(names) for _ in range(rng.randint(1, 3))) + "." + rng.choice(ends)


def url(rng: random.Random) -> str:
    """A URL, whole, quoted or in part."""
    text = rng.choice(("", "http://", "https://", "HTTPS://", "http://jo:pw@")) + host(rng)
    text += rng.choice(
        ("", "", "/", "/a/b?c=d", "?q=1", ":8080/x", "#top", "/x.com", "/(a)", ".", "/http://b.org")
    )
    quote = rng.choice(("", "", "", '"', "'"))
    return quote + text + rng.choice((quote, quote, ""))


def email(rng: random.Random) -> str:
    """An address, or nearly one."""
    local = rng.choice(
        ("jo", "john.doe", "j+x", "!a", "a!b", "x..a", "a.", ".a", "jo'", "请jo", "a/b", "_", "-a-")
    )
    return local + rng.choice(("@", "@", "@", "@", "@@", " @")) + host(rng)


def hexes(rng: random.Random) -> str:
    """Addresses of machines and other groups of hexadecimal digits."""

    def group(size: int) -> str:
        return "".join(rng.choice("0123456789abcdefABCDEF"[: rng.choice((10, 16, 22))]) for _ in range(size))

    return rng.choice(
        (
            lambda: (
                ".".join(str(rng.randint(0, 300)) for _ in range(rng.choice((3, 4, 4, 4, 5))))
                + rng.choice(("", "/24", "/3a"))
            ),
            lambda: ":".join(group(rng.randint(1, 4)) for _ in range(rng.choice((6, 8, 8, 3)))),
            lambda: group(2) + "::" + group(rng.randint(0, 4)) + rng.choice(("", "/64", "%eth0", ".1")),
            lambda: rng.choice(("::", "::1", "::ffff:10.0.0.1", "1::10.0.0.1", "fe:ab::", "a:b:c:d:e:f:a:b")),
            lambda: rng.choice((":", "-")).join(group(2) for _ in range(6)),
            lambda: ".".join(group(4) for _ in range(3)),
            lambda: "-".join(group(size) for size in (8, 4, 4, 4, 12)),
            lambda: "abcdefab-abcd-abcd-abcd-abcdefabcdef",
        )
    )()


def identifier(rng: random.Random) -> str:
    """Letters and digits in the shapes of licences, wallets, dates and the like."""
    shape = rng.choice(
        (
            *(
                "A9999999",
                "AA9999999",
                "A9999",
                "A9",
                "999999999",
                "99999999",
                "9999999999",
                "999-99-9999",
                "99999-9999",
            ),
            *(
                "999 99 9999",
                "999.99.9999",
                "912-70-9999",
                "912 70 9999",
                "912709999",
                "AB1234563",
                "A91234563",
                "999 999 9999",
            ),
            *(
                "943 476 5919",
                "943-476-5919",
                "1990-01-02",
                "1/2/2020",
                "31.12.99",
                "12-JAN-2020",
                "JAN-99",
                "2/20",
                "12/2020",
            ),
            *(
                "2020-01-02T10:11:12Z",
                "2012/1/2",
                "99AAA99999",
                "A9A9A",
                "999999999A",
                "A-Z]]999",
                "$9,999.99",
                "9.9",
                "9999",
            ),
            *(
                "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
                "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
                "AAAAA9999A",
                "99AAAAA9999A9Z9",
            ),
            *(
                "AAA999999",
                "AAA9999999",
                "99999999A",
                "X9999999A",
                "AA 99 99 99 A",
                "99 999 999 999",
                "99999999999",
                "DE999999999",
            ),
            *(
                "AA99 AAA",
                "AA9 9AA",
                "HRB 99999",
                "999999-999A",
                "999999-9999",
                "AA99999999A",
                "999999/99",
                "34A9999",
                "HR123",
            ),
            *(
                "claim no. 9999999",
                "rx: 99999999",
                "prior auth 999999",
                "REF-9999999",
                "provider tin 12-9999999",
                "RSSMRA85T10A562S",
            ),
        )
    )
    letter = rng.choice(("ABCDEFGHKLMNPRSTXYZ", "abcdefxyz"))
    swap = {"9": lambda: rng.choice("0123456789"), "A": lambda: rng.choice(letter)}
    return "".join(swap[c]() if c in swap and rng.random() < 0.9 else c for c in shape)


KINDS: tuple[Callable[[random.Random], str], ...] = (
    grouped,
    telephone,
    card,
    iban,
    url,
    email,
    hexes,
    identifier,
)


def sentence(rng: random.Random, pieces: int = 12, share: float = 0.35) -> str:
    """Words, with personal data for that share of them."""
    text = ""
    for _ in range(pieces):
        chance = rng.random()
        if chance < share:
            text += rng.choice(KINDS)(rng)
        elif chance < share + 0.04:
            text += rng.choice(_ODD)
            continue
        else:
            text += rng.choice(WORDS)
        text += rng.choice(_JOIN)
    return text


def mangled(rng: random.Random) -> str:
    """A sentence with characters lost, doubled and put in."""
    text = list(sentence(rng, rng.randint(1, 14), 0.6))
    for _ in range(rng.randint(0, 6)):
        at = rng.randrange(len(text) + 1)
        text[at : at + rng.randint(0, 2)] = rng.choice((rng.choice(_ODD), digits(rng, 1), " ", "", "."))
    return "".join(text)
