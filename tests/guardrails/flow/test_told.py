"""An endpoint fails, or a fallback is in use: does the operator hear of it, with the cause, and only once?"""

from __future__ import annotations

import logging
from contextlib import suppress

import pytest

from guardrails import Blocked, Call, GuardrailsError, Refused, Request, Shed, Transient, collect, stack
from guardrails.flow.breaker import Breaker, Circuit, Rules
from guardrails.flow.budget import Allowance, Budget
from guardrails.flow.fallback import FirstOf
from guardrails.flow.rates import RateLimit, Rates
from guardrails.flow.retry import Backoff, Retry, RetryBudget
from guardrails.flow.route import Route
from guardrails.handler import Handler, Layer
from guardrails.testing import FakeClock, ScriptedEndpoint

DOWN = Transient("the endpoint answered 503", kind="unavailable", status=503)
PLENTY = RetryBudget(1.0, 10**6)


async def ask(clock: FakeClock, handler: Handler, times: int = 1) -> None:
    for _ in range(times):
        with suppress(GuardrailsError):
            await clock.run(collect(handler, Call(Request.of("a secret"), clock)))


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records]


@pytest.fixture(autouse=True)
def _all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "guardrails")


@pytest.mark.asyncio
async def test_exhausted_retries_are_told_of_once_and_so_is_their_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FakeClock()
    endpoint = ScriptedEndpoint(*[DOWN] * 30, "fine", name="main")
    handler = stack(endpoint, Retry(3, Backoff(base=0.0), PLENTY))
    await ask(clock, handler, times=10)
    clock.advance(30.0)
    await ask(clock, handler)
    assert lines(caplog) == [
        ("WARNING", "main fails: 503 unavailable after 3 tries"),
        ("INFO", "main answers again after 30 s"),
    ]


@pytest.mark.asyncio
async def test_another_cause_is_told_of_a_minute_later(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    other = Transient("the endpoint refuses connections", kind="connect")
    handler = stack(ScriptedEndpoint(DOWN, other, other, name="main"), Retry(1))
    await ask(clock, handler, times=2)
    assert len(caplog.records) == 1
    clock.advance(60.0)
    await ask(clock, handler)
    assert lines(caplog)[1:] == [("WARNING", "main fails: connect after one try")]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (DOWN, "503 unavailable"),
        (Refused("no", kind="auth", status=401), "401 auth"),
        (Shed("full", kind="queue_full"), "queue_full"),
    ],
)
async def test_a_fallback_in_use_is_told_of_once(
    error: Exception, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    main = Route(ScriptedEndpoint(*[error] * 20, "fine"), "main")
    backup = Route(ScriptedEndpoint("fine"), "backup", on=frozenset({"transient", "shed", "refused"}))
    handler = FirstOf([main, backup], budget=PLENTY)
    await ask(clock, handler, times=20)
    assert lines(caplog) == [("WARNING", f"route main fails ({said}): calls go on to backup")]
    await ask(clock, handler)
    assert lines(caplog)[1:] == [("INFO", "route main answers again after 0 s")]
    assert "secret" not in caplog.text


@pytest.mark.asyncio
async def test_that_no_route_answers_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    routes = [Route(ScriptedEndpoint(DOWN), "main"), Route(ScriptedEndpoint(DOWN), "backup")]
    await ask(clock, FirstOf(routes, budget=PLENTY), times=5)
    assert [message for _, message in lines(caplog)] == [
        "route main fails (503 unavailable): calls go on to backup",
        "route backup fails (503 unavailable): no other route takes its calls",
    ]


@pytest.mark.asyncio
@pytest.mark.parametrize("error", [Blocked("no"), Refused("too long", kind="context_length")])
async def test_what_is_wrong_with_one_request_is_no_outage(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    every = frozenset({"blocked", "context_length"})
    routes = [Route(ScriptedEndpoint(error), "main"), Route(ScriptedEndpoint("fine"), "backup", on=every)]
    await ask(FakeClock(), FirstOf(routes))
    assert not caplog.records


TENANTS = Budget("b", (Allowance("day", tokens=100),), by="tenant", assumed_output=10)
TOGETHER = Budget("b", (Allowance("day", tokens=100),), by="all", assumed_output=10)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("layer", "tenant", "prompt", "outage"),
    [
        (TENANTS, "big", "x", False),
        (TENANTS, "", "x", True),
        (TOGETHER, "big", "x", True),
        (TOGETHER, "big", "word " * 500, False),
        (RateLimit("e", Rates(requests=1), patience=0.0, by_tenant=True), "big", "x", False),
        (RateLimit("e", Rates(requests=1), patience=0.0, by_tenant=True), "", "x", True),
        (RateLimit("e", Rates(requests=1), patience=0.0), "big", "x", True),
    ],
)
async def test_a_limit_of_ones_own_is_no_outage(
    layer: Layer, tenant: str, prompt: str, outage: bool, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    main = Route(ScriptedEndpoint(*["fine"] * 40), "main", layers=(layer,))
    backup = Route(ScriptedEndpoint(*["fine"] * 40), "backup", on=frozenset({"budget", "shed"}))
    handler = FirstOf([main, backup], budget=PLENTY)
    for _ in range(40):
        await clock.run(collect(handler, Call(Request.of(prompt), clock, tenant=tenant)))
    assert bool(lines(caplog)) == outage


@pytest.mark.asyncio
async def test_a_circuit_that_opens_names_the_cause(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    breaker = Breaker("main", Circuit(Rules(consecutive=2)))
    handler = stack(ScriptedEndpoint(DOWN), Retry(1), breaker)
    await ask(clock, handler, times=2)
    assert ("WARNING", "circuit of main: open (at last: 503 unavailable)") in lines(caplog)
    with pytest.raises(Transient, match=r"failed too often \(at last: 503 unavailable\)"):
        await clock.run(collect(handler, Call(Request.of("hi"), clock)))
