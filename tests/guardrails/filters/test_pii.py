from __future__ import annotations

import inspect
import logging
import subprocess
import sys
import threading

import pytest

from guardrails.errors import ConfigError
from guardrails.filters import Pii, Window, redact, scan

PII = Pii()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("my ssn is 536-22-1234", "my ssn is <US_SSN>"),
        ("ssn: 536221234", "ssn: <US_SSN>"),
        ("order 536221234 is on its way", "order 536221234 is on its way"),
        ("user 912803456 logged in", "user 912803456 logged in"),
        ("accounts: 12345678", "accounts: <US_BANK_NUMBER>"),
        ("ssn one two three four 536221234", "ssn one two three four <US_SSN>"),
        ("ssn one two three four five 536221234", "ssn one two three four five 536221234"),
        ("order 12345678 in business", "order 12345678 in business"),
        ("mail john.doe@example.co.uk, please", "mail <EMAIL_ADDRESS>, please"),
        ("mail müller@xn--mnchen-3ya.de.", "mail <EMAIL_ADDRESS>."),
        ("user_ssn: 536221234", "user_ssn: <US_SSN>"),
        ("见http://acme.com/x谢谢", "见<URL>谢谢"),
        ("请联系zhang@acme.com谢谢", "请联系<EMAIL_ADDRESS>谢谢"),
        ("decorate with @property", "decorate with @property"),
        ("call (212) 555-0123 now", "call <PHONE_NUMBER> now"),
        ("call +44 20 7946 0958 ext. 12 now", "call <PHONE_NUMBER> now"),
        ("IBAN BE68 5390 0754 7034 from your account", "IBAN <IBAN_CODE> from your account"),
        ("use gb29nwbk60161331926819 here", "use <IBAN_CODE> here"),
        ("card 4111 1111 1111 1111, thanks", "card <CREDIT_CARD>, thanks"),
        ("from 10.0.0.1 and fe80::1", "from <IP_ADDRESS> and <IP_ADDRESS>"),
        ("mac 00:1a:2b:3c:4d:5e", "mac <MAC_ADDRESS>"),
        ("nhs 943 476 5919", "nhs <UK_NHS>"),
        ("born 1990-01-02", "born <DATE_TIME>"),
        ("id 123e4567-e89b-42d3-a456-426614174000", "id <UUID>"),
        ("wallet 1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "wallet <CRYPTO>"),
        ("my passport number is 912803456", "my passport number is <US_PASSPORT>"),
        ("DEA AB1234563", "DEA <MEDICAL_LICENSE>"),
        ("see https://shop.example.com:8080/me?id=7 or ask", "see <URL> or ask"),
        ("see https://jo:secret@shop.example.com/me or ask", "see <EMAIL_ADDRESS> or ask"),
        ("see www.example.org.", "see <URL>."),
        ("e.g. node.js 3.5, i.e. this", "e.g. node.js 3.5, i.e. this"),
        ("half a character: \ud800 and jo@acme.com", "half a character: \ud800 and <EMAIL_ADDRESS>"),
    ],
)
def test_what_is_found(text: str, expected: str) -> None:
    assert redact(text, PII.detect(text)) == expected


def test_clean_prose_is_left_alone() -> None:
    text = (
        "You asked in 3 steps how to bake bread. Take 500 g of flour, salt and water at 30 degrees; "
        "knead for 10 minutes, wait an hour and a half, then bake at 230 degrees (450 F) for 40 minutes. "
        "Chapter 12, section 4.2 says more: it costs $3.50, or 20% less on Mondays."
    )
    assert PII.detect(text) == []


def test_entities_pick_some() -> None:
    text = "jo@acme.com, call 212-555-0123"
    assert {f.kind for f in Pii(("EMAIL_ADDRESS",)).detect(text)} == {"EMAIL_ADDRESS"}


def test_a_higher_threshold_finds_less() -> None:
    text = "212-555-0123 and jo@acme.com"
    assert {f.kind for f in Pii(threshold=0.5).detect(text)} == {"EMAIL_ADDRESS", "URL"}


@pytest.mark.parametrize("entity", ["PERSON", "LOCATION", "NRP", "EMAIL"])
def test_an_entity_that_no_pattern_finds_says_what_to_do(entity: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Pii(("URL", entity))
    message = str(caught.value)
    assert entity in message
    assert "EMAIL_ADDRESS" in message
    assert ("language model" in message) == (entity != "EMAIL")


@pytest.mark.parametrize("threshold", [0, -1, 1.5])
def test_a_threshold_that_is_no_score_is_a_mistake(threshold: float) -> None:
    with pytest.raises(ConfigError, match="threshold"):
        Pii(threshold=threshold)


def test_importing_and_constructing_loads_nothing_and_detection_needs_no_network() -> None:
    code = """
import socket, sys
def no(*_, **__): raise AssertionError("network")
import guardrails, guardrails.filters
pii = guardrails.filters.Pii()
heavy = {"presidio_analyzer", "spacy", "tldextract", "re2", "phonenumbers", "numpy", "pydantic"}
heavy &= set(sys.modules)
assert not heavy, heavy
socket.socket.connect = socket.getaddrinfo = no
pii.warm()
kinds = {f.kind for f in pii.detect("jo@acme.co.uk, https://acme.com, 212-555-0123")}
assert kinds == {"EMAIL_ADDRESS", "URL", "PHONE_NUMBER"}, kinds
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_threads_that_start_together_find_the_same() -> None:
    text = "jo@acme.com, call 212-555-0123, ssn 536-22-1234"
    barrier, results = threading.Barrier(8), []

    def work() -> None:
        barrier.wait()
        results.append(PII.detect(text))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert all(result == results[0] for result in results)


def test_nothing_that_was_read_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    secrets = ["gb29nwbk60161331926819", "gb29nwbk60161331926818", "jo@acme.com", "536-22-1234", "Wallaby"]
    with caplog.at_level(logging.DEBUG):
        PII.detect("ssn Wallaby " + " ".join(secrets))
    for secret in secrets:
        assert secret not in caplog.text


HOSTILE = [
    "a." * 2000,
    "www." * 1000,
    "a@" * 2000,
    "a.a@" * 1000,
    "http://a" * 500,
    "1-" * 2000,
    "a:" * 2000,
    "ab:" * 1300,
    "1" * 4000,
    "a." * 30_000 + "@b",
    "A1" * 2000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=[text[:8] for text in HOSTILE])
def test_hostile_text_is_read_to_its_end(text: str) -> None:
    scan(text, PII.detect, PII.reach)


def test_addresses_and_urls_are_matched_by_an_engine_that_cannot_backtrack() -> None:
    from guardrails.filters.pii import addresses

    for make in (addresses.own_emails, addresses.own_urls):
        cells = inspect.getclosurevars(make()).nonlocals
        assert type(cells["pattern"]).__module__ == "re2"


REALISTIC = [
    (
        "Dear support, I am Jo. I was charged twice on card 4111 1111 1111 1111; please call me back on "
        "(212) 555-0123 or +44 20 7946 0958 before 2026-12-01. Mail: john.doe@example.com, and my account "
        "number is 12345678901. The page was https://shop.example.com/orders/77?user=jo&x=1 – thanks!\n"
    ),
    (
        "Refund to IBAN DE89 3704 0044 0532 0130 00 (BIC COBADEFFXXX). My SSN is 536-22-1234, passport "
        "912803456, and the laptop's mac is 00:1a:2b:3c:4d:5e at 192.168.1.17. NHS number: 943 476 5919.\n"
    ),
]


@pytest.mark.parametrize("step", [1, 3, 17, 400])
@pytest.mark.parametrize(
    "text", [*REALISTIC, (REALISTIC[0] + "And now some more words. " * 20) * 3 + REALISTIC[1]]
)
def test_a_stream_is_redacted_as_the_whole_text_is(text: str, step: int) -> None:
    window, found = Window(PII.detect, PII.reach), []
    for at in range(0, len(text), step):
        found += window.push(text[at : at + step])
    found += window.finish()
    expected = redact(text, PII.detect(text))
    assert redact(text, found) == expected
    assert redact(text, scan(text, PII.detect, PII.reach)) == expected
