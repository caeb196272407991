"""What a call costs: a dated snapshot of published prices, and the user's own file over it.

Why a snapshot and not a fetch? A report has to say which prices it used, and give the same number tomorrow.
The snapshot (`prices.toml`, beside this file) says where its figures were read and when; `PriceBook.version`
names it, with a hash of its content. Prices go stale, so a book older than 90 days warns, once.

A model without a price costs None, never 0: a zero in a sum is a claim, None a gap that a report can count.
All money is `Decimal`, in USD; all prices are per million tokens.

An own file looks like the snapshot; what it names replaces the snapshot's entry of that name, whole::

    as_of = 2026-11-01                # when you checked the prices you rely on
    [models."my-llama"]               # self-hosted: zero is allowed, when you say it
    input = 0
    output = 0
    [models."gpt-4o"]                 # a negotiated price; aliases and dated names follow
    input = 2.0
    output = 8.0
"""

from __future__ import annotations

import functools
import hashlib
import re
import tomllib
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Context, Decimal
from importlib import resources
from pathlib import Path
from typing import Any, Self

from guardrails.call import Usage
from guardrails.errors import ConfigError

STALE_AFTER_DAYS = 90

_EXACT = Context(prec=60)  # the caller's decimal context may be coarse: money here is never rounded by it
_DATED = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|\d{8})\Z")


class StalePricesWarning(UserWarning):
    """The prices in use are older than `STALE_AFTER_DAYS` days."""


@dataclass(frozen=True, slots=True)
class Rates:
    """USD per million tokens. None: not stated; such tokens cost what plain input costs."""

    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None

    def charge(self, usage: Usage, *, hour_cache: bool = False) -> Decimal:
        """USD for these tokens. Cached and cache-writing tokens are parts of the input tokens."""
        plain = max(usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens, 0)
        # The context's own methods: entering it as a local one would cost more than the sums.
        times, plus = _EXACT.multiply, _EXACT.add
        micro = _EXACT.fma(plain, self.input, times(usage.output_tokens, self.output))
        if usage.cached_tokens:
            cached = self.input if self.cached_input is None else self.cached_input
            micro = plus(micro, times(usage.cached_tokens, cached))
        if usage.cache_write_tokens:
            hour = self.cache_write_1h if hour_cache else None
            write = self.cache_write if hour is None else hour
            micro = plus(micro, times(usage.cache_write_tokens, self.input if write is None else write))
        return _EXACT.scaleb(micro, -6)


@dataclass(frozen=True, slots=True)
class Tier:
    """The rates of a whole request with more than `above` input tokens. `batch` is None where unknown."""

    above: int
    standard: Rates
    batch: Rates | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """One model's prices. `tiers` ascend; the first is the base. `context`: most input tokens, if known."""

    model: str
    tiers: tuple[Tier, ...]
    provider: str = ""
    context: int | None = None

    def tier(self, input_tokens: int) -> Tier:
        """The tier that a request of this many input tokens falls into."""
        if len(self.tiers) == 1:
            return self.tiers[0]
        reached = [tier for tier in self.tiers if input_tokens > tier.above]
        return reached[-1] if reached else self.tiers[0]

    def cost(self, usage: Usage, *, batch: bool = False, hour_cache: bool = False) -> Decimal | None:
        """USD; None when the batch price is asked for and unknown."""
        tier = self.tier(usage.input_tokens)
        rates = tier.batch if batch else tier.standard
        return None if rates is None else rates.charge(usage, hour_cache=hour_cache)


@dataclass(frozen=True, slots=True, eq=False)
class PriceBook:
    """Prices by model name. `as_of`: when they were current; `version`: its name and a hash of the content.

    `aliases` maps a further name to a key of `models`; `prefixes` maps what stands before the first slash of
    a model's name (`openai/…`, `together_ai/…`) to the provider it means.
    """

    as_of: date
    version: str
    models: Mapping[str, Price] = field(repr=False)
    aliases: Mapping[str, str] = field(repr=False)
    prefixes: Mapping[str, str] = field(repr=False)

    @classmethod
    def default(cls) -> PriceBook:
        """The packaged snapshot, read once per process."""
        return _snapshot()[0]

    @classmethod
    def load(cls, path: str | Path) -> PriceBook:
        """The user's file over the packaged snapshot.

        Raises `ConfigError` that lists every mistake in the file, each with its key and what is allowed.
        """
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise ConfigError(f"cannot read the prices file {path}: {error.strerror or error}") from error
        base, base_content = _snapshot()
        own = _parse(content, str(path), needs_date=False)
        return base._under(own, hashlib.sha256(base_content + b"\0" + content).hexdigest()[:8])

    def _under(self, own: _Parsed, digest: str) -> Self:
        as_of = own.as_of or self.as_of
        models = dict(self.models)
        for name, price in own.models.items():
            known = self._exact(name)
            inherits = known is not None and not price.provider
            models[name] = replace(price, provider=known.provider) if known and inherits else price
        return replace(
            self,
            as_of=as_of,
            version=f"{own.version or as_of.isoformat()}+{digest}",
            models=models,
            aliases={**self.aliases, **own.aliases},
            prefixes={**self.prefixes, **own.prefixes},
        )

    def find(self, model: str) -> Price | None:
        """The price of a model; None when it is not in the book.

        Tried in this order: the name itself, an alias, the name without its provider's prefix (only if the
        entry is of that provider: the same open model costs another price at another host), and all of these
        without a date at the end (`-2024-07-18`, `-20250219`). Nothing else is guessed.
        """
        return self._hosted(model) or self._hosted(_DATED.sub("", model))

    def _exact(self, name: str) -> Price | None:
        return self.models.get(name) or self.models.get(self.aliases.get(name, ""))

    def _hosted(self, name: str) -> Price | None:
        if price := self._exact(name):
            return price
        prefix, _, rest = name.partition("/")
        provider = self.prefixes.get(prefix)
        if not provider:
            return None
        found = (self._exact(candidate) for candidate in (f"{provider}/{rest}", rest))
        return next((price for price in found if price and price.provider == provider), None)

    def cost(
        self, model: str, usage: Usage, *, batch: bool = False, hour_cache: bool = False
    ) -> Decimal | None:
        """USD for a call; None when unknown, never 0 for want of a price.

        A cost that the provider reported wins. `batch`: sent through the batch API. `hour_cache`: its cache
        writes were for one hour, not for the provider's default of minutes (a usage does not say which).
        """
        if usage.cost is not None:
            return usage.cost
        price = self.find(model)
        return None if price is None else price.cost(usage, batch=batch, hour_cache=hour_cache)

    def stale(self, today: date) -> bool:
        """Whether the prices are more than `STALE_AFTER_DAYS` days old."""
        return (today - self.as_of).days > STALE_AFTER_DAYS

    def warn_if_stale(self, today: date) -> None:
        """Warn with `StalePricesWarning` if the prices are old: once per process and version."""
        if not self.stale(today) or self.version in _warned:
            return
        _warned.add(self.version)
        warnings.warn(
            f"prices {self.version} are of {self.as_of} ({(today - self.as_of).days} days ago): costs may be "
            "wrong. Update the package, or write the prices that you checked, with today's `as_of`, into a "
            "file of your own and load it with guardrails.prices.PriceBook.load(path); the format is that of "
            f"{resources.files('guardrails') / 'prices.toml'}",
            StalePricesWarning,
            stacklevel=2,
        )


_warned: set[str] = set()


@functools.cache
def _snapshot() -> tuple[PriceBook, bytes]:
    content = resources.files("guardrails").joinpath("prices.toml").read_bytes()
    parsed = _parse(content, "guardrails/prices.toml", needs_date=True)
    assert parsed.as_of is not None, "_parse refuses a snapshot without a date"
    digest = hashlib.sha256(content).hexdigest()[:8]
    version = f"{parsed.version or parsed.as_of.isoformat()}+{digest}"
    return PriceBook(parsed.as_of, version, parsed.models, parsed.aliases, parsed.prefixes), content


# --- reading a file ----------------------------------------------------------------------------------------

_STANDARD = ("input", "output", "cached_input", "cache_write", "cache_write_1h")
_RATES = (*_STANDARD, *(f"batch_{name}" for name in _STANDARD))
_FILE_KEYS = ("as_of", "version", "source", "providers", "models")
_PROVIDER_KEYS = ("source", "prefixes")
_MODEL_KEYS = ("provider", "aliases", "context", "tier", *_RATES)
_TIER_KEYS = ("above", *_RATES)


@dataclass(slots=True)
class _Parsed:
    as_of: date | None
    version: str
    models: dict[str, Price]
    aliases: dict[str, str]
    prefixes: dict[str, str]


def _parse(content: bytes, name: str, *, needs_date: bool) -> _Parsed:
    """Read a price file, or raise one `ConfigError` with all that is wrong in it."""
    try:
        raw = tomllib.loads(content.decode(), parse_float=Decimal)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"the prices file {name} is not valid TOML (UTF-8): {error}") from error
    reader = _Reader()
    parsed = reader.file(raw, needs_date=needs_date)
    if reader.mistakes:
        count = len(reader.mistakes)
        listed = "\n".join(f"  {mistake}" for mistake in reader.mistakes)
        raise ConfigError(f"{count} mistake{'s' * (count > 1)} in the prices file {name}:\n{listed}")
    return parsed


class _Reader:
    """Turns tables into prices and collects what is wrong with them, each mistake with its place."""

    def __init__(self) -> None:
        self.mistakes: list[str] = []

    def wrong(self, place: str, why: str) -> None:
        self.mistakes.append(f"{place}: {why}")

    def known(self, table: Mapping[str, Any], allowed: Iterable[str], place: str = "") -> None:
        for key in table:
            if key not in allowed:
                self.wrong(f"{place}{key}", f"unknown key; allowed: {', '.join(allowed)}")

    def table(self, value: Any, place: str) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        self.wrong(place, "must be a table")
        return {}

    def text(self, value: Any, place: str) -> str:
        if isinstance(value, str):
            return value
        self.wrong(place, "must be a string")
        return ""

    def texts(self, value: Any, place: str) -> list[str]:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return value
        self.wrong(place, "must be a list of strings")
        return []

    def count(self, value: Any, place: str) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
        self.wrong(place, "must be a whole number of tokens above 0")
        return 1

    def money(self, value: Any, place: str) -> Decimal:
        if isinstance(value, int | Decimal) and not isinstance(value, bool):
            amount = Decimal(value)
            if amount.is_finite() and amount >= 0:
                return amount
        self.wrong(place, "must be a number of USD per million tokens, 0 or more")
        return Decimal(0)

    def file(self, raw: dict[str, Any], *, needs_date: bool) -> _Parsed:
        self.known(raw, _FILE_KEYS)
        as_of = raw.get("as_of")
        if (
            (as_of is None and needs_date)
            or not isinstance(as_of, date | None)
            or isinstance(as_of, datetime)
        ):
            self.wrong("as_of", "must be a date such as 2026-11-01, without quotes")
            as_of = None
        prefixes: dict[str, str] = {}
        for provider, table in self.table(raw.get("providers", {}), "providers").items():
            place = f"providers.{provider}"
            self.known(self.table(table, place), _PROVIDER_KEYS, f"{place}.")
            listed = table.get("prefixes", [provider]) if isinstance(table, dict) else []
            prefixes |= dict.fromkeys(self.texts(listed, f"{place}.prefixes"), provider)
        models, aliases = self.models(self.table(raw.get("models", {}), "models"))
        for price in models.values():
            if price.provider:
                prefixes.setdefault(price.provider, price.provider)
        return _Parsed(as_of, self.text(raw.get("version", ""), "version"), models, aliases, prefixes)

    def models(self, raw: dict[str, Any]) -> tuple[dict[str, Price], dict[str, str]]:
        models: dict[str, Price] = {}
        aliases: dict[str, str] = {}
        for name, value in raw.items():
            place = f'models."{name}"'
            table = self.table(value, place)
            self.known(table, _MODEL_KEYS, f"{place}.")
            models[name] = self.price(name, table, place)
            for alias in self.texts(table.get("aliases", []), f"{place}.aliases"):
                if alias in raw or alias in aliases:
                    self.wrong(f"{place}.aliases", f'"{alias}" is a name of another entry too')
                aliases[alias] = name
        return models, aliases

    def price(self, name: str, table: dict[str, Any], place: str) -> Price:
        tiers = [self.tier(0, table, place)]
        listed = table.get("tier", [])
        if not isinstance(listed, list):
            self.wrong(f"{place}.tier", f'must be a list of tables: [[models."{name}".tier]]')
            listed = []
        for number, item in enumerate(listed):
            here = f"{place}.tier[{number}]"
            entry = self.table(item, here)
            self.known(entry, _TIER_KEYS, f"{here}.")
            tiers.append(self.tier(self.count(entry.get("above"), f"{here}.above"), entry, here))
        starts = [tier.above for tier in tiers]
        if starts != sorted(set(starts)):
            self.wrong(f"{place}.tier", "`above` must rise from tier to tier")
        return Price(
            model=name,
            tiers=tuple(tiers),
            provider=self.text(table.get("provider", ""), f"{place}.provider"),
            context=self.count(table["context"], f"{place}.context") if "context" in table else None,
        )

    def tier(self, above: int, table: dict[str, Any], place: str) -> Tier:
        has_batch = any(key.startswith("batch_") for key in table)
        return Tier(
            above, self.rates(table, place, ""), self.rates(table, place, "batch_") if has_batch else None
        )

    def rates(self, table: dict[str, Any], place: str, prefix: str) -> Rates:
        stated: dict[str, Decimal] = {}
        for field_name in _STANDARD:
            key = prefix + field_name
            if key in table:
                stated[field_name] = self.money(table[key], f"{place}.{key}")
            elif field_name in ("input", "output"):
                self.wrong(f"{place}.{key}", "is missing: USD per million tokens, 0 if it costs nothing")
                stated[field_name] = Decimal(0)
        return Rates(**stated)
