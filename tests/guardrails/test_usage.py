"""What an endpoint says of its tokens is believed only where it can be right; else they are counted."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrails import Call, CallRecord, Delta, Finish, Request, Usage, collect, stack
from guardrails.call import Event, Message, Text, ToolHead
from guardrails.dialects import dialect
from guardrails.flow.budget import Allowance, Budget
from guardrails.flow.spent import used
from guardrails.flow.store import MemoryStore
from guardrails.prices import PriceBook
from guardrails.record import charged, fold
from guardrails.recorder import meter
from guardrails.testing import FakeClock, Script, ScriptedEndpoint
from guardrails.testing.scripted import words
from guardrails.usage import MOST_TOKENS, MOST_USD

BOOK = PriceBook.default()
MODELS = {"openai_chat": "gpt-4o", "anthropic": "claude-sonnet-4-5"}
WORDS = "word " * 200
METER = meter(BOOK)
HUGE = MOST_TOKENS + 1
BAD = [None, "12", "", True, False, -5, 12.0, 0.5, 1e30, HUGE, 2**63, [], {}, [7], {"n": 7}]
"""Values that are no number of tokens."""
NAMES = {
    "openai_chat": ("prompt_tokens", "completion_tokens"),
    "anthropic": ("input_tokens", "output_tokens"),
}
WAYS = [(name, way) for name in NAMES for way in ("stream", "whole")]


@pytest.fixture(autouse=True, scope="module")
def _no_vocabulary() -> Iterator[None]:
    """All counts are estimates, on every machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", "")
        yield


# --- answers with a usage, in each dialect -----------------------------------------------------------------


def chat(usage: Any, text: str, way: str) -> list[Event]:
    chat = dialect("openai_chat")
    if way == "whole":
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return chat.decode_response(again({"model": "gpt-4o", "choices": [choice], "usage": usage}))[0]
    pieces = [{"index": 0, "delta": {"content": piece}, "finish_reason": None} for piece in words(text)]
    end = {"index": 0, "delta": {}, "finish_reason": "stop"}
    chunks = [{"model": "gpt-4o", "choices": [piece]} for piece in (*pieces, end)]
    return read(chat, [*chunks, {"choices": [], "usage": usage}], b"data: [DONE]\n\n")


def claude(usage: Any, text: str, way: str, begun: Any = None) -> list[Event]:
    claude = dialect("anthropic")
    if way == "whole":
        content = [{"type": "text", "text": text}]
        body = {"model": "c", "content": content, "stop_reason": "end_turn", "usage": usage}
        return claude.decode_response(again(body))[0]
    raws: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"id": "m", "model": "c", "usage": begun}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage},
    ]
    return read(claude, raws, b'data: {"type": "message_stop"}\n\n')


def again(body: dict[str, Any]) -> dict[str, Any]:
    """The body as it comes off the wire: no integer there is beyond 64 bits."""
    found: dict[str, Any] = orjson.loads(orjson.dumps(body))
    return found


def read(wire: Any, raws: list[dict[str, Any]], end: bytes) -> list[Event]:
    decoder = wire.decoder()
    data = b"".join(b"data: " + orjson.dumps(raw) + b"\n\n" for raw in raws)
    return [*decoder.feed(data + end), *decoder.close()]


def answer(name: str, usage: Any, text: str = WORDS, way: str = "stream") -> list[Event]:
    return chat(usage, text, way) if name == "openai_chat" else claude(usage, text, way)


def booked(events: list[Event], model: str = "gpt-4o", prompt: str = "say word") -> CallRecord:
    """The record of a call that was answered so."""
    call = Call(Request.of(prompt), clock=FakeClock(), arrived=0.0)
    attempt = call.journal.attempt("e", model)
    attempt.note(0.0, "sent")
    attempt.log += [(1.0, event) for event in events]
    attempt.note(1.0, "ended", None)
    return fold(call, METER, at=call.clock.wall(), ended=1.0, outcome="complete")


def never_told(name: str, text: str = WORDS) -> CallRecord:
    """The record of the same call from an endpoint that reports nothing."""
    return booked([Delta(text), Finish("stop")], MODELS[name])


# --- one figure, or both, that cannot be right -------------------------------------------------------------


@pytest.mark.parametrize(("name", "way"), WAYS)
@pytest.mark.parametrize(
    "usage", [{}, {"in": 0, "out": 0}, {"in": None, "out": None}, {"in": -1, "out": "9"}]
)
def test_a_usage_that_cannot_be_right_is_none(name: str, way: str, usage: dict[str, Any]) -> None:
    named = dict(zip(("in", "out"), NAMES[name], strict=True))
    raw = {named[key]: value for key, value in usage.items()}
    got, wanted = booked(answer(name, raw, way=way), MODELS[name]), never_told(name)
    assert (got.token_source, got.cost_usd) == ("estimate", wanted.cost_usd)
    assert (got.input_tokens, got.output_tokens) == (wanted.input_tokens, wanted.output_tokens)
    assert got.cost_usd


@pytest.mark.parametrize(("name", "way"), WAYS)
@pytest.mark.parametrize("bad", [*BAD, 0], ids=repr)
def test_the_figure_that_is_wrong_is_counted_and_the_other_stays(name: str, way: str, bad: Any) -> None:
    asked, answered = NAMES[name]
    wanted, model = never_told(name), MODELS[name]
    output = booked(answer(name, {asked: 1234, answered: bad}, WORDS, way), model)
    assert (output.input_tokens, output.token_source) == (1234, "estimate")
    assert output.output_tokens == wanted.output_tokens
    prompt = booked(answer(name, {asked: bad, answered: 321}, WORDS, way), model)
    assert (prompt.output_tokens, prompt.token_source) == (321, "estimate")
    assert prompt.input_tokens == wanted.input_tokens


@pytest.mark.parametrize(("name", "way"), WAYS)
def test_a_usage_that_can_be_right_is_believed(name: str, way: str) -> None:
    raw = dict(zip(NAMES[name], (MOST_TOKENS, 7), strict=True))
    got = booked(answer(name, raw, way=way), MODELS[name])
    assert (got.input_tokens, got.output_tokens, got.token_source) == (MOST_TOKENS, 7, "usage")


@pytest.mark.parametrize("name", NAMES)
def test_no_tokens_for_an_empty_answer_are_a_real_zero(name: str) -> None:
    got = booked(answer(name, dict(zip(NAMES[name], (9, 0), strict=True)), ""), MODELS[name])
    assert (got.input_tokens, got.output_tokens, got.token_source) == (9, 0, "usage")
    assert got.cost_usd


def test_no_tokens_for_an_empty_prompt_are_a_real_zero() -> None:
    events: list[Event] = [Delta("hi"), Finish("stop", Usage(0, 1))]
    assert booked(events, prompt="").token_source == "usage"
    assert booked(events).token_source != "usage"


@pytest.mark.parametrize(
    "delta",
    [Delta("hm", "reasoning"), Delta("no", "refusal"), Delta("", "tool:0", tool=ToolHead("1", "find"))],
)
def test_reasoning_refusals_and_tool_calls_take_tokens_too(delta: Delta) -> None:
    got = booked([delta, Finish("stop", Usage(9, 0))])
    assert (got.input_tokens, got.token_source) == (9, "estimate")
    assert got.output_tokens > 0


def test_one_count_that_is_an_estimate_makes_the_call_one() -> None:
    call = Call(Request((Message("user", (Text("x"),)),)), clock=FakeClock(), arrived=0.0)
    attempt = call.journal.attempt("e", "a model without a vocabulary")
    attempt.log += [(1.0, Delta("one two")), (1.0, Finish("stop", Usage(5, 0)))]
    got = fold(call, METER, at=call.clock.wall(), ended=1.0, outcome="complete")
    assert (got.input_tokens, got.token_source, got.cost_usd) == (5, "estimate", None)


def test_an_empty_answer_without_a_usage_has_a_prompt_all_the_same() -> None:
    got = booked([Finish("stop")])
    assert got.token_source != "usage"
    assert got.input_tokens > 0
    assert got.output_tokens == 0


# --- the parts of a figure ---------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [*BAD, 101], ids=repr)
def test_parts_that_cannot_be_right_are_priced_as_without_them(bad: Any) -> None:
    raw = {
        "prompt_tokens": 100,
        "completion_tokens": 100,
        "prompt_tokens_details": {"cached_tokens": bad},
        "completion_tokens_details": {"reasoning_tokens": bad},
    }
    got = booked(chat(raw, WORDS, "stream"))
    assert (got.cached_tokens, got.reasoning_tokens, got.token_source) == (0, 0, "usage")
    assert got.cost_usd == BOOK.cost("gpt-4o", Usage(100, 100))


@pytest.mark.parametrize("bad", [*BAD, 0], ids=repr)
def test_parts_in_an_object_that_is_none(bad: Any) -> None:
    raw = {"prompt_tokens": 9, "completion_tokens": 9, "prompt_tokens_details": bad}
    assert booked(chat(raw, "x", "whole")).cost_usd == BOOK.cost("gpt-4o", Usage(9, 9))


def test_what_is_read_and_what_is_written_together_are_no_more_than_the_input() -> None:
    got = booked([Delta("x"), Finish("stop", Usage(100, 1, cached_tokens=60, cache_write_tokens=60))])
    assert (got.cached_tokens, got.token_source) == (0, "usage")


@pytest.mark.parametrize("bad", [value for value in BAD if value is not None], ids=repr)
@pytest.mark.parametrize("key", ["cache_read_input_tokens", "cache_creation_input_tokens"])
def test_input_of_which_a_part_is_unreadable_is_counted(key: str, bad: Any) -> None:
    # This vendor counts them apart: without one of them nobody knows how much the input was.
    raw = {"input_tokens": 10, key: bad, "output_tokens": 5}
    got = booked(claude(raw, "x", "whole"), MODELS["anthropic"])
    assert (got.input_tokens, got.cached_tokens) == (never_told("anthropic", "x").input_tokens, 0)
    assert (got.output_tokens, got.token_source) == (5, "estimate")


# --- a usage in two places ---------------------------------------------------------------------------------

BEGUN = {"input_tokens": 10, "cache_read_input_tokens": 4, "output_tokens": 1}


@pytest.mark.parametrize(
    ("told", "usage"),
    [
        ({"output_tokens": 5}, Usage(14, 5, 4)),
        ({"output_tokens": 5, "input_tokens": None, "cache_read_input_tokens": None}, Usage(14, 5, 4)),
        ({"output_tokens": 5, "input_tokens": 20, "cache_read_input_tokens": 0}, Usage(20, 5, 0)),
        ({"output_tokens": 5, "input_tokens": 0, "cache_read_input_tokens": 14}, Usage(14, 5, 14)),
        ({"output_tokens": 5, "input_tokens": 0}, Usage(14, 5, 4)),
        ({"output_tokens": 5, "input_tokens": 0, "cache_read_input_tokens": 0}, Usage(14, 5, 4)),
        ({"output_tokens": 5, "input_tokens": -3}, Usage(14, 5, 4)),
        ({"output_tokens": 5, "input_tokens": "9"}, Usage(14, 5, 4)),
    ],
)
def test_the_end_of_a_stream_corrects_its_start(told: Any, usage: Usage) -> None:
    events = claude(told, WORDS, "stream", BEGUN)
    assert [event.usage for event in events if isinstance(event, Finish)] == [usage]
    assert booked(events).token_source == "usage"


@pytest.mark.parametrize("told", [None, {}, {"output_tokens": None}, {"output_tokens": "7"}, "none"])
def test_the_output_at_the_start_of_a_stream_is_not_that_of_its_end(told: Any) -> None:
    got = booked(claude(told, WORDS, "stream", BEGUN))
    assert (got.input_tokens, got.cached_tokens, got.token_source) == (14, 4, "estimate")
    assert got.output_tokens > 150


def test_a_start_that_says_nothing_of_use_leaves_it_to_the_end() -> None:
    events = claude({"input_tokens": 9, "output_tokens": 5}, WORDS, "stream", {"input_tokens": 0})
    assert [event.usage for event in events if isinstance(event, Finish)] == [Usage(9, 5)]


# --- money -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [-1, -0.5, 1e300, MOST_USD + 1, "0.1", True, [], None], ids=repr)
def test_a_cost_that_cannot_be_right_is_not_booked(bad: Any) -> None:
    raw = {"prompt_tokens": 9, "completion_tokens": 9, "cost": bad}
    assert booked(chat(raw, WORDS, "stream")).cost_usd == BOOK.cost("gpt-4o", Usage(9, 9))


@pytest.mark.parametrize("cost", ["NaN", "sNaN", "Infinity", "-Infinity", "-0.1"])
def test_a_cost_that_is_no_sum_of_money_is_not_booked(cost: str) -> None:
    got = booked([Delta("x"), Finish("stop", Usage(9, 9, cost=Decimal(cost)))])
    assert got.cost_usd == BOOK.cost("gpt-4o", Usage(9, 9))


def test_a_reported_cost_of_nothing_counts_where_there_is_no_price() -> None:
    raw = {"prompt_tokens": 9, "completion_tokens": 9, "cost": 0}
    free = booked([Delta("x"), Finish("stop", Usage(9, 9, cost=Decimal(0)))], "nobody's")
    assert free.cost_usd == 0
    priced = booked(chat(raw, WORDS, "stream"))
    assert priced.cost_usd == BOOK.cost("gpt-4o", Usage(9, 9))


def test_the_first_model_with_a_price_counts() -> None:
    prices = {"a": Decimal(1), "b": Decimal(2)}
    for cost in (None, Decimal(0)):
        assert charged(Usage(1, 1, cost=cost), lambda model, _: prices.get(model), "?", "b", "a") == 2
        assert charged(Usage(1, 1, cost=cost), lambda model, _: prices.get(model), "?") == cost


def spent(budget: Budget, unit: str) -> int:
    assert isinstance(budget.store, MemoryStore)
    held = budget.store._cells.get(f"guardrails:budget:{{b}}:=:day:{unit}")
    return 0 if held is None else int(held[1])


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "usage", [Usage(), Usage(9, 0), Usage(-1, -1), Usage(2**63, 2**63), Usage(cost=Decimal(0))]
)
async def test_a_budget_bites_whatever_the_endpoint_says(usage: Usage) -> None:
    clock, budget = FakeClock(), Budget("b", (Allowance("day", Decimal(1), tokens=10**6),), model="gpt-4o")
    handler = stack(ScriptedEndpoint(Script(WORDS, usage=usage), model="gpt-4o"), budget)
    before: dict[str, int] = {}
    for _ in range(2):
        await clock.run(collect(handler, Call(Request.of("say word", max_tokens=300), clock=clock)))
        now = {unit: spent(budget, unit) for unit in ("tokens", "usd")}
        assert all(value > before.get(unit, 0) for unit, value in now.items())
        before = now
    assert 2 * 150 < before["tokens"] < 2 * 300
    assert before["usd"] < 10**10, "a cent, in picodollars"


# --- whatever stands there ---------------------------------------------------------------------------------

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.integers(-3, 300)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)
DETAILS = st.dictionaries(st.sampled_from(["cached_tokens", "reasoning_tokens"]), JSON) | JSON
CHAT = st.fixed_dictionaries(
    {},
    optional={
        "prompt_tokens": JSON,
        "completion_tokens": JSON,
        "prompt_tokens_details": DETAILS,
        "completion_tokens_details": DETAILS,
        "cost": JSON,
    },
)
CLAUDE = st.dictionaries(st.sampled_from(["input_tokens", "output_tokens", *BEGUN]), JSON)


def hold_true(events: list[Event], model: str, text: str) -> None:
    got = booked(events, model)
    counts = (got.input_tokens, got.output_tokens, got.cached_tokens, got.reasoning_tokens)
    assert all(type(n) is int and 0 <= n <= MOST_TOKENS for n in counts)
    assert got.cached_tokens <= got.input_tokens
    assert got.reasoning_tokens <= got.output_tokens
    assert got.input_tokens > 0
    assert got.cost_usd is not None
    assert 0 < got.cost_usd <= MOST_USD, "the price is known"
    assert (got.output_tokens > 0) or not text
    call = Call(Request.of("say word"), clock=FakeClock())
    attempt = call.journal.attempt("e", model)
    attempt.log += [(1.0, event) for event in events]
    usage = used(attempt, got.input_tokens)
    assert usage is not None
    found = (usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.reasoning_tokens)
    assert found == counts, "the budget books what the record says"
    told = [event.usage for event in events if isinstance(event, Finish) and event.usage is not None]
    reported = told[-1] if told else None
    if got.token_source == "usage":
        assert reported is not None
        assert (reported.input_tokens, reported.output_tokens) == counts[:2]


@settings(max_examples=200)
@given(CHAT | JSON, st.sampled_from(["", "x", WORDS]), st.sampled_from(["stream", "whole"]))
def test_whatever_stands_in_a_usage(usage: Any, text: str, way: str) -> None:
    hold_true(chat(usage, text, way), "gpt-4o", text)


@settings(max_examples=200)
@given(CLAUDE | JSON, CLAUDE | JSON, st.sampled_from(["", "x", WORDS]), st.sampled_from(["stream", "whole"]))
def test_whatever_stands_in_the_two_usages_of_a_stream(usage: Any, begun: Any, text: str, way: str) -> None:
    hold_true(claude(usage, text, way, begun), MODELS["anthropic"], text)


# --- what vendors do ---------------------------------------------------------------------------------------


def test_a_usage_in_a_choice_after_the_end_is_read() -> None:
    """As OpenRouter sends it: in one more chunk, whose choice has no reason to finish."""
    chunks: list[dict[str, Any]] = [
        {"model": "gpt-4o", "choices": [{"index": 0, "delta": {"content": "four words of answer"}}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {
            "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": None}],
            "usage": {"prompt_tokens": 1697, "completion_tokens": 52, "total_tokens": 1749, "cost": 0.0047},
        },
    ]
    got = booked(read(dialect("openai_chat"), chunks, b"data: [DONE]\n\n"))
    assert (got.input_tokens, got.output_tokens, got.token_source) == (1697, 52, "usage")
    assert got.cost_usd == Decimal("0.0047")


@pytest.mark.parametrize("way", ["stream", "whole"])
@pytest.mark.parametrize(
    ("usage", "output", "reasoning"),
    [
        # Figures of a real call: xAI counts what was thought beside the answer.
        (
            {
                "prompt_tokens": 10120,
                "completion_tokens": 1499,
                "total_tokens": 14428,
                "completion_tokens_details": {"reasoning_tokens": 2809},
            },
            4308,
            2809,
        ),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 815}, 805, 0),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}, 5, 0),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 3}, 5, 0),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": "815"}, 5, 0),
    ],
)
def test_what_the_total_has_beyond_both_is_output(
    way: str, usage: dict[str, Any], output: int, reasoning: int
) -> None:
    got = booked(answer("openai_chat", usage, "word", way))
    assert (got.output_tokens, got.reasoning_tokens, got.token_source) == (output, reasoning, "usage")


def test_a_usage_of_nothing_takes_nothing_back() -> None:
    events: list[Event] = [Delta("word"), Finish("stop", Usage(20, 5)), Finish(None, Usage())]
    got = booked(events)
    assert (got.input_tokens, got.output_tokens, got.token_source) == (20, 5, "usage")
    call = Call(Request.of("say word"), clock=FakeClock(), arrived=0.0)
    attempt = call.journal.attempt("e", "gpt-4o")
    attempt.log += [(1.0, event) for event in events]
    assert used(attempt, 7) == Usage(20, 5)
