from __future__ import annotations

import copy
import pickle
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrails.call import Call, Request
from guardrails.errors import Blocked, ConfigError
from guardrails.filters.detector import Finding
from guardrails.filters.surrogates import KINDS, surrogate
from guardrails.filters.vault import TOKEN_LIKE, Shape, Vault, pseudonymize
from guardrails.filters.vaults import Vaults
from guardrails.testing import FakeClock

KEY = bytes(range(32))
MAIL = re.compile(r"[a-z]+@[a-z]+\.com", re.IGNORECASE)
PHONE = re.compile(r"\+?\d[\d -]{8,}\d")
NAMES = re.compile(r"Jo Doe|Al Roe", re.IGNORECASE)
KINDS_OF = {"EMAIL_ADDRESS": MAIL, "PHONE_NUMBER": PHONE, "PERSON": NAMES}


def find(text: str) -> list[Finding]:
    return [
        Finding(kind, match.start(), match.end(), 0.9, "test")
        for kind, pattern in KINDS_OF.items()
        for match in pattern.finditer(text)
    ]


def call(conversation: str = "", tenant: str = "") -> Call:
    return Call(Request.of("hello"), conversation=conversation, tenant=tenant)


# --- one vault ---------------------------------------------------------------------------------------------


def test_the_same_value_gets_the_same_token() -> None:
    vault = Vault(KEY)
    token = vault.token("EMAIL_ADDRESS", "Jo@acme.com")
    assert re.fullmatch(r"<EMAIL_ADDRESS_[0-9a-f]{6}>", token)
    assert vault.token("EMAIL_ADDRESS", "jo@ACME.com") == token
    assert vault.token("EMAIL_ADDRESS", "al@acme.com") != token
    assert vault.token("PERSON", "Jo@acme.com") != token
    assert vault.restore(f"to {token}") == "to Jo@acme.com"
    assert len(vault) == 3


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("PHONE_NUMBER", "(202) 555-0147", "202.555.0147"),
        ("IBAN_CODE", "DE89 3704 0044 0532 0130 00", "de89370400440532013000"),
        ("CREDIT_CARD", "4111 1111 1111 1111", "4111-1111-1111-1111"),
        ("PERSON", "Jo  Doe", "jo doe"),
    ],
)
def test_spellings_of_one_value_are_one(kind: str, one: str, other: str) -> None:
    vault = Vault(KEY)
    assert vault.token(kind, one) == vault.token(kind, other)


def test_a_kind_of_any_name_gives_a_token() -> None:
    vault = Vault(KEY)
    for kind in ("my kind/ü", "", "…", "x" * 500, "A_1", "A"):
        token = vault.token(kind, "value")
        assert vault.restore(f"a {token.lower()} b") == "a value b"
        assert len(token) < 80


def test_another_key_gives_other_tokens_and_restores_nothing() -> None:
    vault, other = Vault(KEY), Vault(KEY[::-1])
    token = vault.token("PERSON", "Jo Doe")
    assert other.token("PERSON", "Jo Doe") != token
    assert other.restore(token) == token


@pytest.mark.parametrize("style", ["token", "natural"])
def test_no_two_values_share_a_token_even_when_there_are_too_few(style: str) -> None:
    vault = Vault(KEY, shape=Shape(style, digits=2))  # type: ignore[arg-type]
    values = [f"Person {number}" for number in range(2000)]
    tokens = [vault.token("PERSON", value) for value in values]
    assert len(set(tokens)) == len(tokens)
    assert [vault.restore(token) for token in tokens] == values


def test_a_full_vault_blocks() -> None:
    vault = Vault(KEY, most=1)
    token = vault.token("PERSON", "Jo Doe")
    with pytest.raises(Blocked, match="takes no more") as caught:
        vault.token("PERSON", "Al Roe")
    assert "Roe" not in str(caught.value)
    assert vault.token("PERSON", "Jo Doe") == token


def test_threads_agree_on_tokens() -> None:
    vault = Vault(KEY, shape=Shape(digits=2))
    values = [f"value {number % 50}" for number in range(1000)]
    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(lambda value: vault.token("X", value), values))
    assert len(vault) == 50
    assert [vault.restore(token) for token in tokens] == values


@pytest.mark.parametrize("wrong", [Shape, lambda **_: Shape("nice"), lambda **_: Shape(digits=40)])  # type: ignore[arg-type]
def test_a_shape_that_cannot_be_is_a_mistake(wrong: type[Shape]) -> None:
    with pytest.raises(ConfigError):
        wrong(digits=1)


def test_nothing_shows_or_pickles_a_value() -> None:
    vaults = Vaults()
    vault = vaults.of(call("c"))
    vault.token("PERSON", "Jo Doe")
    for thing in (vault, vaults, vault.lexicon):
        assert "Doe" not in repr(thing)
    for thing in (vault, vaults):
        with pytest.raises(ConfigError, match="seal"):
            pickle.dumps(thing)
        with pytest.raises(ConfigError, match="seal"):
            copy.deepcopy(thing)


# --- there and back ----------------------------------------------------------------------------------------

VALUES = ["jo@acme.com", "al@acme.com", "+49 171 2345678", "171 234-5678", "Jo Doe", "Al Roe"]


def test_a_text_goes_there_and_back() -> None:
    vault = Vault(KEY)
    text = "Jo Doe <jo@acme.com> or +49 171 2345678; Al Roe, jo@acme.com"
    sent = pseudonymize(text, find(text), vault)
    assert not any(value in sent for value in VALUES)
    assert vault.restore(sent) == text
    assert pseudonymize(text, find(text), vault) == sent


def test_what_looks_like_a_token_comes_back_as_it_was() -> None:
    vault = Vault(KEY)
    token = vault.token("EMAIL_ADDRESS", "jo@acme.com")
    for literal in (token, token.lower(), token.strip("<>").replace("_", " ")):
        text = f"I wrote {literal} to jo@acme.com"
        sent = pseudonymize(text, find(text), vault)
        assert TOKEN_LIKE in sent
        assert vault.restore(sent) == text


def test_a_literal_that_the_token_of_the_same_text_would_be_comes_back() -> None:
    token = Vault(KEY).token("EMAIL_ADDRESS", "jo@acme.com")
    text, vault = f"{token} is not jo@acme.com", Vault(KEY)
    assert vault.restore(pseudonymize(text, find(text), vault)) == text


@settings(deadline=None, max_examples=200)
@given(st.data(), st.sampled_from(["token", "natural"]))
def test_every_text_goes_there_and_back(data: st.DataObject, style: str) -> None:
    # Two digits: nearly every code that is drawn here is one that the vault uses.
    vault = Vault(KEY, shape=Shape(style, digits=2))  # type: ignore[arg-type]
    used = [vault.token("EMAIL_ADDRESS", f"{name}@acme.com") for name in ("a", "b", "c", "d", "e", "f", "g")]
    used += [vault.token("PERSON", "Al Roe"), vault.token("PHONE_NUMBER", "+49 171 2345678")]
    literal = st.sampled_from(used) | st.from_regex(
        r"<?(EMAIL_ADDRESS|PERSON)[ _][0-9a-f]{2}>?", fullmatch=True
    )
    words = st.sampled_from(["<", ">", " ", "-", "\\", "x", "&lt;", "1", "é", "Ada", "Weidner", "555"])
    text = "".join(data.draw(st.lists(literal | words | st.sampled_from(VALUES), max_size=10)))
    findings = find(text)
    sent = pseudonymize(text, findings, vault)
    assert sent == pseudonymize(text, findings, vault)
    # Up to the spelling that came first; case and the form of phone numbers are all that may differ.
    assert plain(vault.restore(sent)) == plain(text)


def plain(text: str) -> str:
    return re.sub(r"[\s+-]+", "", text).lower()


def test_a_surrogate_in_an_answer_is_nobodys_data() -> None:
    vault = Vault(KEY, shape=Shape("natural"))
    mail = vault.token("EMAIL_ADDRESS", "jo@acme.com")
    answer = f"Write to {mail} or to al@acme.com"
    found = [Finding("EMAIL_ADDRESS", m.start(), m.end(), 1.0, "t") for m in re.finditer(r"\S+@\S+", answer)]
    assert vault.spare(answer, found) == found[1:]
    assert vault.spare("x@y", [Finding("X", 0, 3, 1.0, "t")])


def test_a_finding_is_not_spared_for_a_token_in_it() -> None:
    vault = Vault(KEY, shape=Shape("natural"))
    number = vault.token("PHONE_NUMBER", "+49 171 2345678")
    for text, spared in [(f"+1 ({number})", True), (f"key {number} end", False), (f"+491 {number}", True)]:
        assert (vault.spare(text, [Finding("X", 0, len(text), 1.0, "t")]) == []) == spared


# --- surrogates --------------------------------------------------------------------------------------------


@given(st.integers(0, 2**256 - 1))
def test_surrogates_are_valid_and_from_free_ranges(number: int) -> None:
    made = {kind: surrogate(kind, number) or "" for kind in KINDS}
    assert re.fullmatch(r"[a-z]+\.[a-z]+\d{4}@example\.com", made["EMAIL_ADDRESS"])
    assert re.fullmatch(r"[2-7]\d\d-555-01\d\d", made["PHONE_NUMBER"])
    assert re.fullmatch(r"[A-Z][a-z]+ [A-Z][a-z]+", made["PERSON"])
    iban, card = made["IBAN_CODE"], made["CREDIT_CARD"]
    assert re.fullmatch(r"GB\d\dTEST\d{14}", iban)
    assert int("".join(str(int(char, 36)) for char in iban[4:] + iban[:4])) % 97 == 1
    digits = [int(digit) for digit in reversed(card)]
    assert re.fullmatch(r"400000\d{10}", card)
    assert sum(digits[::2]) % 10 == -sum(sum(divmod(2 * digit, 10)) for digit in digits[1::2]) % 10
    assert surrogate("US_SSN", number) is None


def test_no_first_name_is_a_last_name() -> None:
    names = [(surrogate("PERSON", number) or "").split() for number in range(1600)]
    firsts, lasts = ({name[place] for name in names} for place in (0, 1))
    assert (len(firsts), len(lasts)) == (40, 40)
    assert not firsts & lasts


# --- the vaults of all conversations -----------------------------------------------------------------------


def test_a_conversation_has_one_vault_and_shares_it_with_nobody() -> None:
    vaults = Vaults()
    vault = vaults.of(call("c", "t"))
    assert vaults.of(call("c", "t")) is vault
    others = [vaults.of(call("c", "u")), vaults.of(call("d", "t")), vaults.of(call()), vaults.of(call())]
    assert len({id(other) for other in [vault, *others]}) == 5
    token = vault.token("PERSON", "Jo Doe")
    for other in others:
        assert other.restore(token) == token
        assert other.token("PERSON", "Jo Doe") != token


def test_names_cannot_be_joined_to_another_scope() -> None:
    vaults = Vaults()
    assert vaults.of(call('b", "c', "a")) is not vaults.of(call("c", 'a", "b'))


def test_a_vault_expires_and_its_tokens_come_back_with_the_key() -> None:
    clock = FakeClock()
    vaults = Vaults(key=KEY, clock=clock, ttl=10)
    vault = vaults.of(call("c"))
    token = vault.token("PERSON", "Jo Doe")
    clock.advance(9)
    assert vaults.of(call("c")) is vault
    clock.advance(9)
    assert vaults.of(call("c")) is vault
    clock.advance(10)
    vaults.purge()
    assert len(vaults) == 0
    fresh = vaults.of(call("c"))
    assert fresh.restore(token) == token
    assert fresh.token("PERSON", "Jo Doe") == token


def test_the_vault_unused_for_longest_goes_first() -> None:
    vaults = Vaults(most=2)
    kept, gone = vaults.of(call("kept")), vaults.of(call("gone"))
    vaults.of(call("kept"))
    vaults.of(call("new"))
    assert len(vaults) == 2
    assert vaults.of(call("kept")) is kept
    assert vaults.of(call("gone")) is not gone


def test_a_call_under_way_keeps_its_vault() -> None:
    clock = FakeClock()
    vaults = Vaults(clock=clock, ttl=10, most=1)
    with vaults.lease(call("c")) as vault, vaults.lease(call("c")) as again:
        assert again is vault
        clock.advance(100)
        for number in range(5):
            vaults.of(call(str(number)))
        assert vaults.of(call("c")) is vault
    assert vaults.of(call("c")) is vault
    clock.advance(10)
    assert vaults.of(call("c")) is not vault


def test_a_call_without_a_conversation_leaves_nothing() -> None:
    vaults, mine = Vaults(), call()
    with vaults.lease(mine) as vault:
        assert vaults.of(mine) is vault
    assert len(vaults) == 0


def test_a_conversation_can_be_forgotten() -> None:
    vaults = Vaults()
    vault = vaults.of(call("c", "t"))
    vaults.forget("c", "t")
    assert vaults.of(call("c", "t")) is not vault


@pytest.mark.parametrize("wrong", [{"key": b"short"}, {"ttl": 0}, {"most": 0}, {"values": 0}])
def test_vaults_that_cannot_be_are_a_mistake(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        Vaults(**wrong)  # type: ignore[arg-type]
    assert "short" not in str(caught.value)


# --- out of the process ------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["token", "natural"])
def test_a_sealed_vault_opens_in_another_process(style: str) -> None:
    pytest.importorskip("cryptography")
    here, there = (Vaults(key=KEY, shape=Shape(style)) for _ in range(2))  # type: ignore[arg-type]
    tokens = {kind: here.of(call("c", "t")).token(kind, "Jo Doe") for kind in ("PERSON", "US_SSN")}
    sealed = here.seal("c", "t")
    assert b"Doe" not in sealed
    assert here.seal("c", "t") != sealed
    vault = there.open(sealed, "c", "t")
    assert there.of(call("c", "t")) is vault
    for kind, token in tokens.items():
        assert vault.restore(f"<{token}>") == "<Jo Doe>"
        assert vault.token(kind, "jo doe" if kind == "PERSON" else "Jo Doe") == token
    assert len(there.open(sealed, "c", "t")) == 2


def test_a_sealed_vault_opens_for_its_conversation_and_its_time_only() -> None:
    pytest.importorskip("cryptography")
    clock = FakeClock()
    vaults = Vaults(key=KEY, clock=clock, ttl=10)
    vaults.of(call("c", "t")).token("PERSON", "Jo Doe")
    sealed = vaults.seal("c", "t")
    changed = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for blob, names in [(sealed, ("c", "u")), (sealed, ("d", "t")), (changed, ("c", "t")), (b"", ("c", "t"))]:
        with pytest.raises(ConfigError, match="cannot be opened") as caught:
            vaults.open(blob, *names)
        assert caught.value.__cause__ is None
    with pytest.raises(ConfigError, match="cannot be opened"):
        Vaults(key=KEY[::-1], clock=clock).open(sealed, "c", "t")
    clock.advance(10)
    with pytest.raises(ConfigError, match="expired"):
        vaults.open(sealed, "c", "t")


def test_sealing_needs_a_key_of_ones_own() -> None:
    with pytest.raises(ConfigError, match="key of your own"):
        Vaults().seal("c")


def test_sealing_needs_cryptography_and_never_writes_in_the_clear() -> None:
    program = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from guardrails.filters.vaults import Vaults\n"
        "from guardrails.errors import ConfigError\n"
        "for work in (lambda v: v.seal('c'), lambda v: v.open(b'', 'c')):\n"
        "    try: work(Vaults(key=bytes(32)))\n"
        "    except ConfigError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.count("evalkit-guardrails[vault]") == 2
