"""What does the caller read when all that could be tried was tried, or was not?"""

from __future__ import annotations

import pytest

from guardrails import (
    Blocked,
    Call,
    DeadlineExceeded,
    GuardrailsError,
    Interrupted,
    Refused,
    Request,
    Timeouts,
    Transient,
    collect,
    endpoint,
    stack,
)
from guardrails.dialects import dialect
from guardrails.flow.fallback import FirstOf
from guardrails.flow.retry import Backoff, Retry, RetryBudget
from guardrails.flow.route import Route
from guardrails.handler import Handler
from guardrails.testing import FakeClock, Profile, Script, ScriptedEndpoint, simulate

BODY = b'{"error": {"type": "overloaded_error", "message": "secret"}}'


def told(status: int, headers: dict[str, str] | None = None) -> GuardrailsError:
    return dialect("openai_chat").decode_error(status, headers or {}, BODY)


async def failure(handler: Handler, deadline: float | None = None) -> GuardrailsError:
    clock = FakeClock()
    call = Call(Request.of("hi"), clock, deadline=None if deadline is None else clock.now() + deadline)
    with pytest.raises(GuardrailsError) as error:
        await clock.run(collect(handler, call))
    return error.value


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 529])
async def test_a_failing_provider_is_named_and_there_is_advice(status: int) -> None:
    error = await failure(ScriptedEndpoint(told(status, {"retry-after": "5"}), name="main"))
    assert error.message.startswith(f"main answered {status}")
    assert "asked to wait 5 s" in error.message
    assert "`retry` asks again" in error.hint
    assert "`routes`" in error.hint
    assert error.args == (error.message,)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("rate_limit=5", "main answered 429: rate_limited"),
        ("status=529", "main answered 529"),
        ("sse_error=0", "main answered an error inside its stream"),
        ("sse_error=2", "main answered an error inside its stream"),
        ("html", "main answered with a web page"),
    ],
)
async def test_on_the_wire_too(fault: str, said: str) -> None:
    async with simulate(Profile(answers="fixed:one two three")) as server:
        timeouts = Timeouts(30, 30, 60)
        async with endpoint(server.url, model=f"sim+{fault}", name="main", timeouts=timeouts) as llm:
            with pytest.raises(GuardrailsError) as error:
                await llm.ask("hi")
    assert said in error.value.message
    late = isinstance(error.value, Interrupted)
    assert late == (fault == "sse_error=2")
    advice = "base URL" if fault == "html" else "`holdback`" if late else "`retry`"
    assert advice in error.value.hint


@pytest.mark.asyncio
async def test_tries_are_counted_and_a_retry_is_not_advised_to_who_has_one() -> None:
    error = await failure(stack(ScriptedEndpoint(told(503), name="main"), Retry(3)))
    assert "main answered 503" in error.message
    assert "tried 3 times" in error.message
    assert "retry" not in error.hint
    assert "`routes`" in error.hint


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("retry", "deadline", "said"),
    [
        (Retry(3), 4.0, "asked to wait 5 s; not tried again: the deadline is in 4.0 s"),
        (Retry(3, Backoff(patience=2)), None, "not tried again: it asks for more than retry.patience (2 s)"),
        (Retry(3, budget=RetryBudget(0, 0)), None, "not tried again: the retry budget is spent"),
    ],
)
async def test_why_nothing_was_tried_again_is_said(retry: Retry, deadline: float | None, said: str) -> None:
    busy = ScriptedEndpoint(told(429, {"retry-after": "5"}), name="main")
    assert said in (await failure(stack(busy, retry), deadline)).message


@pytest.mark.asyncio
async def test_when_no_route_answers_each_ones_word_is_said() -> None:
    down = ScriptedEndpoint(Transient("refuses connections", kind="connect"))
    routes = [
        Route(stack(ScriptedEndpoint(told(503)), Retry(2)), "main"),
        Route(down, "backup"),
        Route(ScriptedEndpoint(told(429)), "last"),
    ]
    error = await failure(FirstOf(routes))
    assert (error.kind, type(error)) == ("overloaded", Transient)
    assert "no route answered (main: 503 overloaded, backup: connect, last: 429" in error.message


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("error", "word"),
    [
        (told(401), "refused"),
        (told(404), "refused"),
        (Refused("too long", kind="context_length"), "context_length"),
        (Refused("no", kind="content_policy"), "content_policy"),
    ],
)
async def test_routes_that_were_not_asked_are_named_with_the_word_that_would(
    error: GuardrailsError, word: str
) -> None:
    backup = ScriptedEndpoint("fine")
    routes = [Route(ScriptedEndpoint(error), "main"), Route(backup, "backup")]
    said = await failure(FirstOf(routes))
    assert f"backup was not asked, its `on` lacks {word}" in said.message
    assert not backup.calls
    with_word = [routes[0], Route(backup, "backup", on=frozenset({word}))]
    assert (await collect(FirstOf(with_word), Call(Request.of("hi"), FakeClock()))).text == "fine"


@pytest.mark.asyncio
@pytest.mark.parametrize("error", [Blocked("no"), DeadlineExceeded("late")])
async def test_nothing_is_said_of_routes_where_none_would_help(error: GuardrailsError) -> None:
    routes = [Route(ScriptedEndpoint(error), "main"), Route(ScriptedEndpoint("fine"), "backup")]
    assert "backup" not in str(await failure(FirstOf(routes)))


@pytest.mark.asyncio
async def test_a_shared_error_does_not_grow() -> None:
    error = told(503)
    for _ in range(3):
        error.add("tried 3 times")
    assert error.message.count("tried") == 1


@pytest.mark.asyncio
async def test_a_broken_answer_names_the_endpoint() -> None:
    broken = ScriptedEndpoint(
        Script("one two", fail_after=1, error=Interrupted("the endpoint broke")), name="main"
    )
    assert (await failure(broken)).message == "main broke"
