"""Numbers as people read them: one way, on the terminal and in the report."""

from __future__ import annotations

import math
from collections.abc import Mapping

from evalkit.stats import Measured
from evalkit.summary import Cost, Endpoint


def percent(m: Measured | None) -> str:
    """`96.0% [90.2, 98.4]`."""
    return "–" if m is None else f"{100 * m.value:.1f}% [{100 * m.low:.1f}, {100 * m.high:.1f}]"


def ms(m: Measured | None) -> str:
    """`352 ms [340, 365]`; an open side is `∞`."""
    return "–" if m is None else f"{_ms(m.value)} ms [{_ms(max(m.low, 0.0))}, {_ms(m.high)}]"


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
    """`$0.0123`, `unknown`, or what is known and how many calls are not."""
    if not cost.known:
        return "unknown" if cost.unknown else "–"
    estimated = " (estimated tokens)" if cost.estimated else ""
    missing = f" + {cost.unknown:,} calls unknown" if cost.unknown else ""
    return f"{usd(float(cost.total))}{missing}{estimated}"


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
    if not e.unjudged or e.pass_rate_worst is None or e.pass_rate_best is None:
        return ""
    return f"{100 * e.pass_rate_worst:.1f}% to {100 * e.pass_rate_best:.1f}%"
