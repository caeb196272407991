from __future__ import annotations

import re
import tomllib
import warnings
from collections import Counter
from datetime import date, timedelta
from decimal import Context, Decimal, localcontext
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails import prices
from guardrails.call import Usage
from guardrails.errors import ConfigError
from guardrails.prices import Price, PriceBook, StalePricesWarning

BOOK = PriceBook.default()
NAMES = st.sampled_from(sorted(BOOK.models))
COUNT = st.integers(0, 10**7)


@st.composite
def usages(draw: st.DrawFn, most: int = 10**7) -> Usage:
    total = draw(st.integers(0, most))
    cached = draw(st.integers(0, total))
    return Usage(
        total, draw(COUNT), cached_tokens=cached, cache_write_tokens=draw(st.integers(0, total - cached))
    )


def cost(model: str, usage: Usage, **how: bool) -> Decimal:
    amount = BOOK.cost(model, usage, **how)
    assert amount is not None
    return amount


def write(folder: Path, text: str) -> Path:
    path = folder / "own.toml"
    path.write_text(text)
    return path


# --- the snapshot ------------------------------------------------------------------------------------------


def test_the_snapshot_holds_the_models_that_people_call() -> None:
    assert len(BOOK.models) >= 60
    providers = Counter(price.provider for price in BOOK.models.values())
    for provider, least in {
        "openai": 15, "anthropic": 8, "google": 8, "mistral": 6, "meta": 3, "bedrock": 8,
        "deepseek": 2, "xai": 3, "cohere": 3, "together": 5, "groq": 2, "fireworks": 5, "cerebras": 2,
    }.items():  # fmt: skip
        assert providers[provider] >= least, provider
    assert sum("llama" in name for name in BOOK.models) >= 5


def test_the_snapshot_has_each_kind_of_price() -> None:
    tiers = [tier for price in BOOK.models.values() for tier in price.tiers]
    assert sum(tier.standard.cached_input is not None for tier in tiers) > 60
    assert sum(tier.standard.cache_write is not None for tier in tiers) > 10
    assert sum(tier.standard.cache_write_1h is not None for tier in tiers) > 10
    assert sum(tier.batch is not None for tier in tiers) > 50
    assert sum(len(price.tiers) > 1 for price in BOOK.models.values()) > 10
    assert all(price.context for price in BOOK.models.values())


def test_the_snapshot_says_when_and_from_where() -> None:
    path = Path(prices.__file__).with_name("prices.toml")
    raw = tomllib.loads(path.read_text())
    assert raw["source"]
    assert all(table["source"].startswith("https://") for table in raw["providers"].values())
    assert {price.provider for price in BOOK.models.values()} == set(raw["providers"])
    assert BOOK.as_of == raw["as_of"]
    name, _, digest = BOOK.version.partition("+")
    assert name == raw["version"]
    assert len(digest) == 8


@given(NAMES)
def test_no_snapshot_price_is_absurd(name: str) -> None:
    for tier in BOOK.models[name].tiers:
        for rates in filter(None, (tier.standard, tier.batch)):
            assert Decimal("0.005") <= rates.input <= 200
            assert rates.input <= rates.output <= 1000
            assert rates.cached_input is None or 0 < rates.cached_input <= rates.input
        assert tier.batch is None or tier.batch.input <= tier.standard.input


def test_the_default_book_is_read_once() -> None:
    assert PriceBook.default() is PriceBook.default()


# --- finding a model ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("gpt-4o", "gpt-4o"),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("openai/gpt-4o", "gpt-4o"),
        ("openai/gpt-4o-2024-05-13", "gpt-4o-2024-05-13"),
        ("openai/gpt-5-2031-01-02", "gpt-5"),
        ("claude-haiku-4-5-20251001", "claude-haiku-4-5"),
        ("anthropic/claude-opus-5-20310101", "claude-opus-5"),
        ("gemini/gemini-2.5-pro", "gemini-2.5-pro"),
        ("together_ai/openai/gpt-oss-120b", "together/openai/gpt-oss-120b"),
        ("us.meta.llama3-3-70b-instruct-v1:0", "bedrock/meta.llama3-3-70b-instruct-v1:0"),
    ],
)
def test_a_model_is_found_by_name_alias_prefix_and_date(asked: str, found: str) -> None:
    price = BOOK.find(asked)
    assert price is not None
    assert price.model == found


@pytest.mark.parametrize(
    "asked",
    ["", "/", "gpt", "gpt-4", "GPT-4o", "gpt-4o-", "gpt-4o-2024", "gpt-4o-latest", "azure/gpt-4o", "openai/",
     "groq/gpt-4o", "openai/openai/gpt-4o", "openai/gpt-oss-120b", "gpt-oss-120b", "anthropic/gpt-4o"],
)  # fmt: skip
def test_nothing_else_is_guessed(asked: str) -> None:
    assert BOOK.find(asked) is None


@given(st.text(max_size=30), usages())
def test_an_unknown_model_costs_none_and_never_zero(name: str, usage: Usage) -> None:
    if BOOK.find(name) is None:
        assert BOOK.cost(name, usage) is None


def test_an_unknown_batch_price_is_none() -> None:
    without = next(name for name, price in BOOK.models.items() if price.tiers[0].batch is None)
    assert BOOK.cost(without, Usage(10, 10), batch=True) is None
    assert BOOK.cost(without, Usage(10, 10)) is not None


# --- laws of the cost --------------------------------------------------------------------------------------


def test_a_cost_by_hand() -> None:
    # gpt-4o: 2.5 in, 1.25 cached, 10 out
    assert cost("gpt-4o", Usage(1_000, 200, cached_tokens=400)) == Decimal("0.004")
    assert cost("gpt-4o", Usage(1_000, 200), batch=True) == Decimal("0.00225")
    # claude-opus-5: 5 in, 0.5 cached, 6.25 and 10 to write the cache, 25 out
    usage = Usage(1_000_000, 0, cached_tokens=200_000, cache_write_tokens=100_000)
    assert cost("claude-opus-5", usage) == Decimal("0.1") + Decimal("0.625") + Decimal("3.5")
    assert cost("claude-opus-5", usage, hour_cache=True) == Decimal("0.1") + 1 + Decimal("3.5")


def test_long_context_prices_the_whole_request() -> None:
    # gemini-2.5-pro: 1.25/10, above 200,000 input tokens 2.5/15
    assert cost("gemini-2.5-pro", Usage(200_000, 100_000)) == Decimal("1.25")
    assert cost("gemini-2.5-pro", Usage(200_001, 100_000)) == Decimal("0.5000025") + Decimal("1.5")


@given(NAMES, usages(), st.decimals(0, 100, places=4))
def test_a_reported_cost_wins(name: str, usage: Usage, reported: Decimal) -> None:
    told = Usage(usage.input_tokens, usage.output_tokens, cost=reported)
    assert BOOK.cost(name, told) == reported
    assert BOOK.cost("never heard of it", told) == reported


@given(NAMES, usages(100_000), usages(100_000), st.booleans())
def test_cost_is_additive_within_a_tier(name: str, a: Usage, b: Usage, batch: bool) -> None:
    price = BOOK.models[name]
    both = Usage(
        a.input_tokens + b.input_tokens,
        a.output_tokens + b.output_tokens,
        a.cached_tokens + b.cached_tokens,
        a.cache_write_tokens + b.cache_write_tokens,
    )
    parts = [price.cost(usage, batch=batch) for usage in (a, b)]
    whole = price.cost(both, batch=batch)
    if price.tier(both.input_tokens) is price.tier(a.input_tokens) is price.tier(b.input_tokens):
        assert whole == (None if None in parts else sum(part for part in parts if part is not None))


@given(NAMES, COUNT, COUNT, COUNT, COUNT)
def test_more_tokens_never_cost_less(name: str, tokens: int, out: int, more: int, more_out: int) -> None:
    assert cost(name, Usage(tokens, out)) <= cost(name, Usage(tokens + more, out + more_out))


@given(NAMES, COUNT, COUNT, st.floats(0, 1))
def test_cached_tokens_never_cost_more_than_fresh_ones(
    name: str, tokens: int, out: int, share: float
) -> None:
    cached = Usage(tokens, out, cached_tokens=int(tokens * share))
    assert cost(name, cached) <= cost(name, Usage(tokens, out))


@given(NAMES, usages())
def test_the_cost_is_exact_whatever_the_callers_decimal_context(name: str, usage: Usage) -> None:
    exact = cost(name, usage)
    with localcontext(Context(prec=3)):
        assert BOOK.cost(name, usage) == exact
    assert exact * 10**6 % Decimal("0.000001") == 0


def test_cached_tokens_cost_what_input_costs_where_no_cached_price_is_known(tmp_path: Path) -> None:
    book = PriceBook.load(write(tmp_path, '[models."m"]\ninput = 3\noutput = 4'))
    assert book.cost("m", Usage(1000, 0, cached_tokens=1000)) == Decimal("0.003")


def test_more_cached_tokens_than_input_tokens_do_not_go_negative() -> None:
    assert cost("gpt-4o", Usage(0, 0, cached_tokens=1_000_000)) == Decimal("1.25")


# --- the user's file ---------------------------------------------------------------------------------------


def test_an_own_file_lies_over_the_snapshot(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        as_of = 2031-05-01
        [models."my-llama"]
        input = 0
        output = 0.0
        [models."gpt-4o"]
        input = 1
        output = 2
        aliases = ["four-o"]
        [[models."gpt-4o".tier]]
        above = 1000
        input = 10
        output = 20
        [models."big"]
        provider = "vllm"
        input = 0.123456789
        output = 1e-3
        """,
    )
    book = PriceBook.load(path)
    million = Usage(0, 1_000_000)
    assert book.cost("my-llama", Usage(5, 5)) == 0
    for name in ("gpt-4o", "four-o", "gpt-4o-2024-08-06", "openai/gpt-4o", "gpt-4o-2031-12-31"):
        assert book.cost(name, million) == 2, name
    assert book.cost("gpt-4o", Usage(1001, 0)) == Decimal("0.01001")
    assert book.cost("vllm/big", Usage(1, 1)) == Decimal("0.000000124456789")
    assert book.cost("gpt-5", million) == BOOK.cost("gpt-5", million)
    assert book.as_of == date(2031, 5, 1)
    assert book.version.startswith("2031-05-01+")
    assert book.version != BOOK.version


def test_the_version_follows_the_content(tmp_path: Path) -> None:
    one = PriceBook.load(write(tmp_path, '[models."m"]\ninput = 1\noutput = 1'))
    two = PriceBook.load(write(tmp_path, '[models."m"]\ninput = 1\noutput = 2'))
    assert one.version != two.version
    assert one.as_of == two.as_of == BOOK.as_of


def test_an_own_name_beats_an_alias_of_the_snapshot(tmp_path: Path) -> None:
    book = PriceBook.load(write(tmp_path, '[models."gpt-4o-2024-08-06"]\ninput = 7\noutput = 7'))
    assert book.find("openai/gpt-4o-2024-08-06") == book.find("gpt-4o-2024-08-06")
    assert book.cost("gpt-4o-2024-08-06", Usage(0, 1_000_000)) == 7
    assert book.cost("gpt-4o", Usage(0, 1_000_000)) == BOOK.cost("gpt-4o", Usage(0, 1_000_000))


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        as_of = "2031-05-01"
        curency = "EUR"
        [providers.mine]
        prefixes = "mine"
        [models]
        flat = 3
        [models."a"]
        inptu = 1
        output = -1
        context = 0.5
        [models."b"]
        input = nan
        output = true
        provider = 4
        aliases = ["a"]
        [[models."b".tier]]
        input = 1
        output = "free"
        above = 0
        [models."c"]
        input = 1
        output = 1
        batch_input = inf
        tier = 7
        """,
    )
    with pytest.raises(ConfigError) as caught:
        PriceBook.load(path)
    told = str(caught.value)
    assert str(path) in told
    for place in (
        "as_of: must be a date", "curency: unknown key; allowed: as_of",
        "providers.mine.prefixes: must be a list",
        'models."flat": must be a table', 'models."a".inptu: unknown key; allowed: provider',
        'models."a".input: is missing', 'models."a".output: must be a number', 'models."a".context: must be',
        'models."b".input: must be a number', 'models."b".output: must be a number',
        'models."b".provider: must be a string', 'models."b".aliases: "a" is a name',
        'models."b".tier[0].output: must be a number', 'models."b".tier[0].above: must be a whole number',
        'models."c".batch_input: must be a number', 'models."c".batch_output: is missing',
        'models."c".tier: must be a list of tables',
    ):  # fmt: skip
        assert place in told, place


@pytest.mark.parametrize("content", [b"models = ", b"\xff\xfe", b"[[models]]", b"models = 3"])
def test_a_file_that_is_no_price_file_is_a_config_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "own.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"own\.toml"):
        PriceBook.load(path)


def test_a_missing_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        PriceBook.load(tmp_path / "nowhere.toml")


def test_tiers_must_rise(tmp_path: Path) -> None:
    tier = '[[models."m".tier]]\nabove = {}\ninput = 1\noutput = 1\n'
    text = '[models."m"]\ninput = 1\noutput = 1\n' + tier.format(200) + tier.format(100)
    with pytest.raises(ConfigError, match="must rise"):
        PriceBook.load(write(tmp_path, text))


@given(st.lists(st.integers(1, 100), unique=True, max_size=4), st.integers(0, 120))
def test_the_tier_is_the_highest_one_exceeded(starts: list[int], tokens: int) -> None:
    rates = BOOK.models["gpt-4o"].tiers[0].standard
    price = Price("m", tuple(prices.Tier(above, rates) for above in (0, *sorted(starts))))
    assert price.tier(tokens).above == max([above for above in starts if tokens > above], default=0)


# --- staleness ---------------------------------------------------------------------------------------------


def test_stale_after_ninety_days() -> None:
    assert not BOOK.stale(BOOK.as_of + timedelta(days=90))
    assert BOOK.stale(BOOK.as_of + timedelta(days=91))
    assert not BOOK.stale(BOOK.as_of - timedelta(days=400))


def test_a_stale_book_warns_once_and_says_what_to_do(tmp_path: Path) -> None:
    # its own version, so that no other test can have warned of it before
    book = PriceBook.load(write(tmp_path, f"as_of = 2020-01-01\nversion = '{tmp_path.name}'"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        book.warn_if_stale(date(2020, 2, 1))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        book.warn_if_stale(date(2021, 1, 1))
        book.warn_if_stale(date(2021, 1, 2))
    (warning,) = caught
    assert warning.category is StalePricesWarning
    assert re.search(r"366 days ago.*PriceBook\.load\(path\).*prices\.toml", str(warning.message))
    assert warning.filename == __file__
