"""What did this call do, how long did each part take, and what did it cost?

`fold` is a pure function of the call's journal: the same journal always gives the same record. A record holds
numbers, names and kinds, never prompt, answer or key.

Definitions (times in milliseconds; *arrived* is the intended arrival, so waiting in our own process counts;
*output* is any `Delta` that carries text or starts a tool call – the empty role chunk that servers send first
does not count):

=================  ========================================================================================
`queue_ms`         arrived → the answering attempt was sent (queues, filters, earlier attempts)
`connect_ms`       sent → connection ready, next to nothing when an open one is used again (None: not told)
`headers_ms`       sent → response headers
`ttft_ms`          arrived → first output on any channel, reasoning included (as vLLM's benchmark counts)
`ttfot_ms`         arrived → first output on channel `text` (guidellm's TTFOT: first visible token)
`attempt_ttft_ms`  sent → first output: the endpoint's own share of `ttft_ms`
`decode_ms`        first output → last output
`released_ms`      arrived → first output handed to the caller, after filters held it back
`e2e_ms`           arrived → the end of the answer (or of the failure)
`tpot_ms`          (t_last − t_first) / (n − n_first): time per output token after the first chunk. vLLM's
                   formula with aiperf's correction for the tokens in the first chunk (n_first, by its share
                   of the characters). None when no token came after the first chunk. Reasoning tokens that
                   were counted but never streamed are left out of n.
`icl_ms`           gaps between output chunks (p50, p90, p99, max); several events of one network read share
                   one arrival time
=================  ========================================================================================

The times are taken when our side reads, so a consumer that reads slowly stretches `decode_ms` and `tpot_ms`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, make_dataclass, replace
from datetime import datetime
from decimal import Context, Decimal
from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING, Any, Literal

from guardrails.call import (
    Attempt,
    Call,
    Delta,
    Event,
    Finish,
    Note,
    Request,
    Text,
    TokenSource,
    Usage,
)
from guardrails.usage import later, sound

Outcome = Literal["complete", "failed", "rejected", "cancelled", "abandoned"]
CountTokens = Callable[[str, str], tuple[int, TokenSource]]
CountPrompt = Callable[[Request, str], tuple[int, TokenSource]]
PriceOf = Callable[[str, Usage], Decimal | None]


@dataclass(frozen=True, slots=True)
class Gaps:
    """Quantiles (nearest rank) of the gaps between output chunks, in ms."""

    n: int
    p50: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One try at one endpoint. Offsets in ms from the call's arrival; `end` None means a complete answer."""

    endpoint: str
    model: str
    sent_ms: float
    ended_ms: float
    ttft_ms: float | None
    status: int | None
    end: str | None
    output_tokens: int
    cost_usd: Decimal | None


@dataclass(frozen=True, slots=True)
class FindingRecord:
    """What a filter found: never the text. `shadow`: `action` was not taken, only decided."""

    direction: str
    kind: str
    action: str
    count: int
    shadow: bool = False


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One call, measured. The module's docstring defines the times.

    `token_source` says where the token counts come from: `usage` (the endpoint), `tokenizer` (counted with
    the model's own vocabulary) or `estimate`. A reported figure that cannot be right (see `guardrails.usage`;
    no tokens for a prompt or an answer that is there) is counted here instead, and the source is that of this
    count, though the other figure may be the endpoint's.
    `cost_usd` is that of the answering attempt: None, never 0, when the price is unknown; `price_version`
    names the price list. `wasted_usd` is the known cost of the other attempts; one that was cancelled before
    its first token is booked with its prompt, an estimate.
    `scanned` lists the directions that filters looked at, and `not_scanned` what they did not look at, as
    `direction:what:why`. `flow` is what the flow layers decided, in order, as `what:detail`
    (`retry:rate_limited`, `fallback:backup:connect`, `circuit_open:main`, …). `error` is an error's kind.
    `cached`: the answer was one of another call, so its times say nothing about an endpoint; `cold`: the
    first call after a time without traffic (see `guardrails.flow.cold`).
    """

    id: str
    at: str
    endpoint: str
    model: str
    model_reported: str | None
    response_id: str | None
    request_id: str | None
    outcome: Outcome
    finish_reason: str | None
    error: str | None
    queue_ms: float | None
    connect_ms: float | None
    headers_ms: float | None
    ttft_ms: float | None
    ttfot_ms: float | None
    attempt_ttft_ms: float | None
    released_ms: float | None
    decode_ms: float | None
    tpot_ms: float | None
    icl_ms: Gaps | None
    e2e_ms: float
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    token_source: TokenSource
    cost_usd: Decimal | None
    price_version: str | None
    wasted_usd: Decimal
    attempts: tuple[AttemptRecord, ...]
    findings: tuple[FindingRecord, ...]
    scanned: tuple[str, ...]
    not_scanned: tuple[str, ...]
    flow: tuple[str, ...]
    cached: bool
    cold: bool
    priority: str
    tenant: str
    labels: Mapping[str, str]

    def as_json(self) -> bytes:
        """One line of JSON, without the newline; costs are decimal strings."""
        import orjson

        return orjson.dumps(self, default=str)

    def as_dict(self) -> dict[str, Any]:
        """What `as_json` says, as plain values."""
        import orjson

        plain: dict[str, Any] = orjson.loads(self.as_json())
        return plain

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The fields, in order."""
        return tuple(spec.name for spec in fields(cls))


if TYPE_CHECKING:
    _Draft, _AttemptDraft = CallRecord, AttemptRecord
else:
    # A frozen dataclass sets each field through `object.__setattr__`, which for so many takes longer than all
    # else that a record is made of. So the fields are set in a twin that is not frozen and becomes one then.
    _Draft = make_dataclass("_Draft", CallRecord.names(), slots=True)
    _AttemptDraft = make_dataclass("_AttemptDraft", [spec.name for spec in fields(AttemptRecord)], slots=True)


@dataclass(frozen=True, slots=True)
class Meter:
    """What the fold needs to know from outside: how to count tokens, and what they cost."""

    count: CountTokens
    count_prompt: CountPrompt
    price: PriceOf
    price_version: str | None


def fold(
    call: Call, meter: Meter, *, at: datetime, ended: float, outcome: Outcome, error: str | None = None
) -> CallRecord:
    """The record of `call`. `at` is the wall time of its end, `ended` the same moment on `call.clock`.

    `outcome` and `error` (an error's kind) are what the caller saw.
    """
    journal = call.journal
    folds = [_Attempt.of(attempt, call.request, meter) for attempt in journal.attempts]
    best = _answering(folds)
    seen = best or _Attempt("", call.request.model)
    done = seen.ended if seen.ended is not None and seen.end is None else ended
    arrived, released = call.arrived, None
    notes: dict[str, list[Any]] = {}
    for noted, entry in journal.log:
        if isinstance(entry, Note):
            notes.setdefault(entry.what, []).append(entry.detail)
            if entry.what == "released" and released is None:
                released = noted
    record = _Draft(
        id=call.id,
        at=at.isoformat(timespec="milliseconds"),
        endpoint=seen.endpoint,
        model=seen.model,
        model_reported=seen.model_reported,
        response_id=seen.response_id,
        request_id=seen.request_id,
        outcome=outcome,
        finish_reason=seen.reason,
        error=error,
        queue_ms=_ms(arrived, seen.sent),
        connect_ms=_ms(seen.sent, seen.connected),
        headers_ms=_ms(seen.sent, seen.headers),
        ttft_ms=_ms(arrived, seen.first),
        ttfot_ms=_ms(arrived, seen.first_text),
        attempt_ttft_ms=_ms(seen.sent, seen.first),
        released_ms=_ms(arrived, released),
        decode_ms=_ms(seen.first, seen.last),
        tpot_ms=seen.tpot_ms(),
        icl_ms=_gaps(seen.times),
        e2e_ms=_ms(arrived, done) or 0.0,
        input_tokens=seen.usage.input_tokens,
        output_tokens=seen.usage.output_tokens,
        cached_tokens=seen.usage.cached_tokens,
        reasoning_tokens=seen.usage.reasoning_tokens,
        token_source=seen.source,
        cost_usd=seen.cost if best else NO_MONEY,
        price_version=meter.price_version if best and seen.cost is not None else None,
        wasted_usd=total([f.cost for f in folds if f is not best and f.cost is not None]),
        attempts=tuple([f.record(arrived) for f in folds]),
        findings=_findings(notes.get("finding", ())),
        scanned=_words(notes.get("scanned", ())),
        not_scanned=_words(notes.get("not_scanned", ())),
        flow=tuple(map(str, notes.get("flow", ()))),
        cached="cached" in notes,
        cold="cold" in notes,
        priority=call.priority,
        tenant=call.tenant,
        labels=dict(call.labels),
    )
    record.__class__ = CallRecord
    return record


NOTHING = Usage()
NO_MONEY = Decimal(0)
EXACT = Context(prec=60)
"""For all sums of money: the caller's own context may be coarse, and would round them."""
# Attempts that ended so never reached a model: they cost nothing. Others may have been billed.
NOT_SENT = frozenset({"connect", "connect_timeout", "dns", "tls"})


def total(costs: Iterable[Decimal]) -> Decimal:
    """The sum, whatever decimal context the caller has set."""
    money = NO_MONEY
    for cost in costs:
        money = EXACT.add(money, cost)
    return money


# --- one attempt -------------------------------------------------------------------------------------------


def said(events: Iterable[Event | Note]) -> str:
    """All that a model wrote, for counting: texts on every channel, and the names of the tools it called."""
    deltas = [entry for entry in events if isinstance(entry, Delta)]
    return "".join([delta.text if delta.tool is None else delta.tool.name + delta.text for delta in deltas])


def charged(usage: Usage, price: PriceOf, *models: str) -> Decimal | None:
    """USD by the first of the models that has a price; None: unknown.

    A reported cost of 0 counts only where there is no price. A proxy that knows none says 0, and so does one
    that sends the bill for the tokens elsewhere.
    """
    asked = usage if usage.cost is None or usage.cost else replace(usage, cost=None)
    for model in models:
        cost = price(model, asked)
        if cost is not None:
            return cost
    return usage.cost


@dataclass(slots=True)
class _Attempt:
    """One attempt's log, folded."""

    endpoint: str
    model: str
    sent: float | None = None
    connected: float | None = None
    headers: float | None = None
    status: int | None = None
    request_id: str | None = None
    model_reported: str | None = None
    response_id: str | None = None
    first: float | None = None
    first_text: float | None = None
    last: float | None = None
    first_chars: int = 0
    chars: int = 0
    reasoned: bool = False
    times: list[float] = field(default_factory=list)
    reason: str | None = None
    reported: Usage | None = None
    ended: float | None = None
    end: str | None = "open"
    usage: Usage = NOTHING
    source: TokenSource = "usage"
    cost: Decimal | None = None

    @classmethod
    def of(cls, attempt: Attempt, request: Request, meter: Meter) -> _Attempt:
        self = cls(attempt.endpoint, attempt.model)
        for at, entry in attempt.log:
            if isinstance(entry, Delta):
                if entry.text or entry.tool:
                    self._output(at, entry)
            elif isinstance(entry, Finish):
                self.reason = entry.reason or self.reason
                self.reported = later(self.reported, entry.usage)
            elif isinstance(entry, Note):
                self._note(at, entry)
        if self.reported is not None or self.first is not None:
            self._measure(attempt, request, meter)
        elif self.end in NOT_SENT or (self.status or 0) >= 400:
            self.cost = NO_MONEY
        elif self.end == "cancelled" or (self.end is None and self.reason is not None):
            self._measure(attempt, request, meter)
        return self

    def _output(self, at: float, delta: Delta) -> None:
        if self.first is None:
            self.first = at
        if self.first_text is None and delta.channel == "text":
            self.first_text = at
        if at == self.first:
            self.first_chars += len(delta.text)
        if delta.channel == "reasoning":
            self.reasoned = True
        self.chars += len(delta.text)
        self.times.append(at)
        self.last = at

    def _note(self, at: float, note: Note) -> None:
        what = note.what
        if what == "sent":
            self.sent = at
        elif what == "connected":
            self.connected = at
        elif what == "headers":
            self.headers = at
            self.status, self.request_id = note.detail
        elif what == "reported":
            self.model_reported, self.response_id = note.detail
        elif what == "ended":
            self.ended, self.end = at, note.detail

    def _measure(self, attempt: Attempt, request: Request, meter: Meter) -> None:
        """Tokens and cost: as reported, and counted where nothing, or nothing that can be right, was."""
        usage = NOTHING if self.reported is None else sound(self.reported)
        if not usage.output_tokens and (self.first is not None or self.reported is None):
            text = said(entry for _, entry in attempt.log)
            output, source = meter.count(text, self.model)
            usage = self._counted(replace(usage, output_tokens=output), source)
        if not usage.input_tokens and (_asks(request) or self.reported is None):
            prompt, source = meter.count_prompt(request, self.model)
            usage = self._counted(replace(usage, input_tokens=prompt), source)
        self.usage = usage
        names = (self.model_reported, self.model) if self.model_reported else (self.model,)
        self.cost = charged(usage, meter.price, *names)

    def _counted(self, usage: Usage, source: TokenSource) -> Usage:
        if self.source != "estimate":
            self.source = source
        return usage

    def tpot_ms(self) -> float | None:
        if self.first is None or self.last is None or not self.chars:
            return None
        tokens = self.usage.output_tokens
        if not self.reasoned:
            tokens -= self.usage.reasoning_tokens
        after_first = tokens - max(1, round(tokens * self.first_chars / self.chars))
        return None if after_first < 1 else (self.last - self.first) * 1e3 / after_first

    def record(self, arrived: float) -> AttemptRecord:
        record = _AttemptDraft(
            endpoint=self.endpoint,
            model=self.model,
            sent_ms=_ms(arrived, self.sent) or 0.0,
            ended_ms=_ms(arrived, self.ended) or 0.0,
            ttft_ms=_ms(self.sent, self.first),
            status=self.status,
            end=self.end,
            output_tokens=self.usage.output_tokens,
            cost_usd=self.cost,
        )
        record.__class__ = AttemptRecord
        return record


def _asks(request: Request) -> bool:
    """Whether there is anything in the prompt that takes tokens."""
    parts = (part for message in request.messages for part in message.parts)
    return any(type(part) is not Text or part.text for part in parts)


def _answering(attempts: list[_Attempt]) -> _Attempt | None:
    """The attempt that gave the answer: the last one that finished, else that has output, else the last."""
    if len(attempts) == 1:
        return attempts[0]
    finished = [attempt for attempt in attempts if attempt.reason is not None]
    whole = [attempt for attempt in finished if attempt.end is None]
    begun = [attempt for attempt in attempts if attempt.first is not None]
    candidates = whole or finished or begun or attempts
    return candidates[-1] if candidates else None


def _ms(start: float | None, end: float | None) -> float | None:
    # To 0.1 µs. A `round(…, 4)` goes through a decimal text, and a record has a dozen times.
    return None if start is None or end is None else round((end - start) * 1e7) / 1e4


def _gaps(times: list[float]) -> Gaps | None:
    if len(times) < 2:
        return None
    gaps = sorted(later - earlier for earlier, later in pairwise(times))
    n = len(gaps)
    p50, p90, p99 = (round(gaps[min(n - 1, ceil(q * n) - 1)] * 1e3, 4) for q in (0.5, 0.9, 0.99))
    return Gaps(n, p50, p90, p99, round(gaps[-1] * 1e3, 4))


def _findings(details: Sequence[Any]) -> tuple[FindingRecord, ...]:
    if not details:
        return ()
    counts = Counter((direction, kind, action, shadow) for direction, kind, _score, action, shadow in details)
    return tuple(
        FindingRecord(direction, kind, action, count, shadow)
        for (direction, kind, action, shadow), count in sorted(counts.items())
    )


def _words(details: Sequence[Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(str, details))) if details else ()
