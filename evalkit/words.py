"""Numbers as people read them: one way, on the terminal and in the report."""

from __future__ import annotations

import math
from collections.abc import Mapping

from evalkit.repeats import Repeats
from evalkit.stats import Measured
from evalkit.summary import Cost, Endpoint
from evalkit.trial import Trial


def count(number: int, one: str) -> str:
    """`1 call`, `2,000 calls`."""
    return f"{number:,} {one}" if number == 1 else f"{number:,} {one}s"


def called(row: Trial, several: bool = False) -> str:
    """What an answer is called: `sf-003`, or `sf-003 #2` where there are `several` to a sample."""
    return f"{row.sample} #{row.k + 1}" if several or row.k else row.sample


def percent(m: Measured | None) -> str:
    """`96.0% [90.2, 98.4]`."""
    return "–" if m is None else f"{100 * m.value:.1f}% [{100 * m.low:.1f}, {100 * m.high:.1f}]"


def decimal(m: Measured | None) -> str:
    """`0.712 [0.655, 0.766]`; an open side is `∞`."""
    if m is None:
        return "–"
    low, high = ("∞" if math.isinf(end) else f"{end:.3f}" for end in (m.low, m.high))
    return f"{m.value:.3f} [{low}, {high}]"


def ms(m: Measured | None) -> str:
    """`352 ms [340, 365]`; an open side is `∞`."""
    return "–" if m is None else f"{_ms(m.value)} ms [{_ms(max(m.low, 0.0))}, {_ms(m.high)}]"


def of_n(said: str, m: Measured | None, usual: int) -> str:
    """A number with its n where that is not the usual one of its table: `352 ms [340, 365] (n = 28)`."""
    return said if m is None or m.n == usual else f"{said} (n = {m.n:,})"


def pass_rate(e: Endpoint) -> str:
    """The pass rate, with its n where judges did not judge every sample."""
    return of_n(percent(e.pass_rate), e.pass_rate, e.samples)


def time(e: Endpoint, phase: str, quantile: str) -> str:
    """A phase's `p50` or `p99`, with its n where not every call has such a time."""
    m: Measured | None = getattr(e.latency[phase], quantile)
    return of_n(ms(m), m, e.calls)


def scorer_rate(e: Endpoint, name: str) -> str:
    """A scorer's own pass rate, with its n where it did not judge every sample."""
    return of_n(percent(e.scorers.get(name)), e.scorers.get(name), e.samples)


def scorer_mean(e: Endpoint, name: str) -> str:
    """The mean of a scorer's values, with its n where it did not judge every sample."""
    return of_n(decimal(e.scores.get(name)), e.scores.get(name), e.samples)


def pass_at(e: Endpoint, k: int) -> str:
    """pass@k, with its n where not every sample has k judged answers."""
    return "–" if e.repeats is None else _rate_of(e, e.repeats.at_least.get(k))


def pass_all(e: Endpoint, k: int) -> str:
    """pass^k, with its n where not every sample has k judged answers."""
    return "–" if e.repeats is None else _rate_of(e, e.repeats.every.get(k))


def _rate_of(e: Endpoint, m: Measured | None) -> str:
    return of_n(percent(m), m, e.samples)


def _ms(value: float) -> str:
    if math.isinf(value):
        return "∞"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def usd(value: float) -> str:
    """Money with three digits, or to the cent: `$12.30`, `$0.00420`."""
    if value == 0:
        return "$0"
    if value >= 1:
        return f"${value:,.2f}"
    digits = 2 - math.floor(math.log10(value))
    return f"${value:.{min(digits, 10)}f}"


def cost_total(cost: Cost) -> str:
    """`$0.0123`, `unknown`, or what is known and how much is not; judges included, and their part."""
    judging = f", {usd(float(cost.judging))} of it for judging" if cost.judging else ""
    earlier = f", {usd(float(cost.replaced))} of it for tries that were repeated" if cost.replaced else ""
    if not cost.known and not cost.paid:
        return "–" if cost.whole else "unknown"
    estimated = " (estimated tokens)" if cost.estimated else ""
    calls = f" + {count(cost.unknown, 'call')} unknown" if cost.unknown else ""
    return f"{usd(float(cost.paid))}{calls}{others_unknown(cost)}{estimated}{judging}{earlier}"


def others_unknown(cost: Cost) -> str:
    """` + 3 judgings of unknown cost`: what was paid besides the calls, nobody knows how much."""
    users = cost.unknown_users
    said = f" + {count(users, 'simulated user')} of unknown cost" if users else ""
    return said + judgings_unknown(cost)


def judgings_unknown(cost: Cost) -> str:
    """The judgings' part of that."""
    judgings = cost.unknown_judgings
    return f" + {count(judgings, 'judging')} of unknown cost" if judgings else ""


def cost_per_thousand(cost: Cost) -> str:
    """`$0.15 [0.14, 0.16]` for 1,000 calls."""
    m = cost.per_call
    if m is None:
        return "unknown" if cost.unknown else "–"
    value, low, high = (1000 * x for x in (m.value, m.low, m.high))
    if math.isinf(high):
        return f"{usd(value)} (n = {m.n})"
    return f"{usd(value)} [{usd(low)[1:]}, {usd(high)[1:]}]"


def tokens(e: Endpoint) -> str:
    """`18,204 in, 4,310 out`, and who counted when it was not the endpoint."""
    counted = {"tokenizer": "counted here", "estimate": "estimated"}
    answered = sum(e.token_sources.values())
    notes = [
        f"{100 * n / answered:.0f}% {counted[source]}"
        for source, n in e.token_sources.items()
        if source in counted
    ]
    return f"{e.input_tokens:,} in, {e.output_tokens:,} out" + (f" ({', '.join(notes)})" if notes else "")


def counts(found: Mapping[str, int]) -> str:
    """`3×timeout, 1×reset`, or a dash."""
    return ", ".join(f"{n:,}×{kind}" for kind, n in found.items()) or "–"


def findings(e: Endpoint, direction: str) -> str:
    """`41×EMAIL_ADDRESS, 12×PHONE_NUMBER`, with the action when it is not redaction."""
    found = {
        kind if action == "redact" else f"{kind} ({action})": n
        for (where, kind, action), n in e.findings.items()
        if where == direction
    }
    return counts(found)


def judge_bounds(e: Endpoint) -> str:
    """What the pass rate would be if every row that a judge failed on had failed, and if it had passed."""
    if not e.unjudged or not e.judge_errors or e.pass_rate_worst is None or e.pass_rate_best is None:
        return ""
    return f"{100 * e.pass_rate_worst:.1f}% to {100 * e.pass_rate_best:.1f}%"


def sandboxes(e: Endpoint) -> str:
    """`bubblewrap + Landlock + seccomp`: what the answers' code was run in."""
    return " / ".join(e.sandboxes) or "–"


def calls(e: Endpoint) -> str:
    """`n = 120: 110 passed, 8 not, 2 failed calls`, with what was unjudged or an earlier call's."""
    parts = [f"{e.passed:,} passed", f"{e.failed:,} not"]
    if e.failures:
        parts.append(count(e.failures, "failed call"))
    if e.unjudged:
        parts.append(f"{e.unjudged:,} unjudged")
    n = f"{e.calls:,}"
    if e.repeats is not None:
        n = f"{count(e.calls, 'answer')} to {count(e.samples, 'sample')}"
    cached = f" ({e.cached:,} answered earlier)" if e.cached else ""
    return f"n = {n}: {', '.join(parts)}{cached}"


# --- several answers a sample ------------------------------------------------------------------------------


def steps(found: Mapping[int, Measured]) -> list[int]:
    """The k worth a line: the smallest after 1, five, ten, and the largest."""
    ks = [k for k in found if k > 1]
    return sorted({*ks[:1], *(k for k in ks if k in (5, 10)), *ks[-1:]})


def flakes(r: Repeats) -> str:
    """`12.0% [7.0, 19.8]: 12 flaky, 80 always pass, 8 never`."""
    return f"{percent(r.flake_rate)}: {r.flaky:,} flaky, {r.always:,} always pass, {r.never:,} never"


def majority(r: Repeats) -> str:
    """The majority's pass rate, and in how many questions it was a tie."""
    ties = f" ({count(r.ties, 'tie')})" if r.ties else ""
    return f"{percent(r.majority)}{ties}"


def spread(r: Repeats) -> str:
    """`question 71%, answer 29% (with the judge)`: where an answer's verdict varies."""
    shares = None if r.variance is None else r.variance.shares
    if shares is None:
        return "unknown" if r.variance is None else "nothing varies"
    question, generation, judge = shares
    if judge is None:
        return f"question {question:.0%}, answer and judge {generation:.0%}"
    return f"question {question:.0%}, answer {generation:.0%}, judge {judge:.0%}"
