from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrails.call import (
    Call,
    Delta,
    Event,
    Finish,
    Message,
    Note,
    Opaque,
    Origin,
    Request,
    Reset,
    ToolHead,
    ToolUse,
    Usage,
    fold_response,
)
from guardrails.errors import Interrupted
from guardrails.filters import Finding, InputFilters, OutputFilters
from guardrails.filters.policy import Rule
from guardrails.filters.restore import Restore
from guardrails.filters.vault import Shape
from guardrails.filters.vaults import Vaults
from guardrails.handler import Handler, stack
from guardrails.recorder import Record
from guardrails.testing import Script, ScriptedEndpoint
from guardrails.testing.contract import LAYER_CASES, check_layer

_MAIL = re.compile(r"[a-z.]+\d*@[a-z]+\.com", re.IGNORECASE)


def find(text: str) -> list[Finding]:
    return [Finding("EMAIL_ADDRESS", m.start(), m.end(), 0.9, "test") for m in _MAIL.finditer(text)]


@dataclass(frozen=True)
class Mails:
    name: str = "mails"
    reach: int = 0

    def detect(self, text: str) -> list[Finding]:
        return find(text)


def hide(vaults: Vaults) -> InputFilters:
    return InputFilters([Rule(Mails(), action="pseudonymize")], vaults=vaults.of)


def asked(prompt: str | Request = "I am jo@acme.com", conversation: str = "") -> Call:
    return Call(Request.of(prompt), conversation=conversation)


def echo(call: Call) -> str:
    return f"So you are {call.request.messages[-1].text[5:]}, not al@evil.com."


async def read_into(got: list[Event], handler: Handler, call: Call) -> None:
    async with handler(call) as stream:
        async for event in stream:
            got.append(event)  # noqa: PERF401 – what came before an error counts


async def events(handler: Handler, call: Call) -> list[Event]:
    got: list[Event] = []
    await read_into(got, handler, call)
    return got


@pytest.mark.asyncio
@pytest.mark.parametrize("case", LAYER_CASES)
async def test_the_contract(case: str) -> None:
    vaults = Vaults()
    await check_layer(Restore(vaults), case)
    assert len(vaults) == 0


@pytest.mark.asyncio
async def test_values_come_back_and_are_not_taken_for_leaks() -> None:
    vaults, endpoint, call = Vaults(), ScriptedEndpoint(echo), asked()
    handler = stack(endpoint, Record(), Restore(vaults), hide(vaults), OutputFilters([Mails()]))
    response = fold_response(await events(handler, call))
    assert response.text == "So you are jo@acme.com, not <EMAIL_ADDRESS>."
    assert "acme" not in endpoint.calls[0].request.messages[0].text
    assert call.journal.record is not None
    assert b"acme" not in call.journal.record.as_json()
    for attempt in call.journal.attempts:
        assert not any("acme" in entry.text for _, entry in attempt.log if isinstance(entry, Delta))
    assert len(vaults) == 0


@pytest.mark.asyncio
async def test_a_conversation_keeps_its_tokens_and_no_other_reads_them() -> None:
    vaults, endpoint = Vaults(), ScriptedEndpoint(echo)
    handler = stack(endpoint, Restore(vaults), hide(vaults))
    for conversation in ("c", "c", "d"):
        assert "jo@acme.com" in fold_response(await events(handler, asked(conversation=conversation))).text
    first, second, other = (call.request.messages[0].text for call in endpoint.calls)
    assert first == second != other
    says = stack(ScriptedEndpoint(first), Restore(vaults))
    assert fold_response(await events(says, asked("?", "d"))).text == first
    assert fold_response(await events(says, asked("?", "c"))).text == "I am jo@acme.com"


@pytest.mark.asyncio
async def test_surrogates_come_back_too() -> None:
    vaults, endpoint = Vaults(shape=Shape("natural")), ScriptedEndpoint(echo)
    seen = OutputFilters([Mails()], vaults=vaults.of)
    handler = stack(endpoint, Restore(vaults), hide(vaults), seen)
    response = fold_response(await events(handler, asked()))
    assert response.text == "So you are jo@acme.com, not <EMAIL_ADDRESS>."
    assert "@example.com" in endpoint.calls[0].request.messages[0].text


@dataclass(frozen=True)
class Numbers:
    name: str = "numbers"
    reach: int = 0

    def detect(self, text: str) -> list[Finding]:
        numbers = re.finditer(r"\+49 \d{3}(?: \d{3})*", text)
        return [Finding("PHONE_NUMBER", m.start(), m.end(), 0.9, "numbers") for m in numbers]


@pytest.mark.asyncio
@pytest.mark.parametrize("text", ["call +49 171 234 567x9 now", "call +49 171 234, then 0+49 171 234 567"])
async def test_a_surrogate_that_could_not_be_told_from_its_neighbours_is_a_token(text: str) -> None:
    vaults, endpoint = (
        Vaults(shape=Shape("natural")),
        ScriptedEndpoint(lambda call: call.request.messages[0].text),
    )
    layer = InputFilters([Rule(Numbers(), action="pseudonymize")], vaults=vaults.of)
    answer = fold_response(await events(stack(endpoint, Restore(vaults), layer), asked(text))).text
    assert answer == text
    assert "+49" not in endpoint.calls[0].request.messages[0].text


@pytest.mark.asyncio
async def test_what_somebody_wrote_like_the_surrogate_of_another_comes_back_as_it_was() -> None:
    vaults, endpoint = (
        Vaults(shape=Shape("natural")),
        ScriptedEndpoint(lambda call: call.request.messages[0].text),
    )
    layer = InputFilters([Rule(Numbers(), action="pseudonymize")], vaults=vaults.of)
    handler = stack(endpoint, Restore(vaults), layer)
    await events(handler, asked("+49 171 234 567", "first"))
    surrogate = endpoint.calls[0].request.messages[0].text
    text = f"+49 171 234 567 is not {surrogate}"
    fresh = Vaults(shape=Shape("natural"))  # where the same surrogate is made in the same text
    vault = fresh.of(asked("", "x"))
    vault._key = vaults.of(asked("", "first"))._key
    layer = InputFilters([Rule(Numbers(), action="pseudonymize")], vaults=fresh.of)
    answer = fold_response(await events(stack(endpoint, Restore(fresh), layer), asked(text, "x"))).text
    assert answer == text


@pytest.mark.asyncio
async def test_the_history_goes_out_with_the_tokens_that_it_came_with() -> None:
    vaults, endpoint = Vaults(), ScriptedEndpoint("fine")
    turn = Message("assistant", (ToolUse("1", "send", '{"to": "jo\\u0040acme.com", "n": 1}'),))
    request = Request((Message.of("user", "jo@acme.com"), turn))
    await events(stack(endpoint, Restore(vaults), hide(vaults)), asked(request))
    first, second = endpoint.calls[0].request.messages
    assert isinstance(second.parts[0], ToolUse)
    assert json.loads(second.parts[0].arguments) == {"to": first.text, "n": 1}


@pytest.mark.asyncio
async def test_an_answer_without_tokens_passes_as_the_same_objects() -> None:
    told = [
        Opaque({"start": 1}),
        Delta("Let me think. ", channel="reasoning", origin=Origin({}, "x")),
        Delta("All right.", logprobs=[1], origin=Origin({}, "x")),
        Delta("", channel="tool:0", tool=ToolHead("1", "f")),
        Delta('{"a": 1}', channel="tool:0"),
        Finish("tool_calls"),
        Finish(None, Usage(1, 2)),
    ]
    vaults = Vaults()
    got = await events(stack(ScriptedEndpoint(told), Restore(vaults), hide(vaults)), asked())
    assert len(got) == len(told)
    assert all(a is b for a, b in zip(got, told, strict=True))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(0, 300), max_size=20),
    st.sampled_from(["text", "reasoning", "refusal", "tool:0"]),
    st.integers(1, 3),
    st.sampled_from([None, "stop"]),
)
def test_the_answer_does_not_depend_on_the_chunking(
    cuts: list[int], channel: str, choices: int, reason: str | None
) -> None:
    vaults, call = Vaults(), asked()
    value = 'jo "the\\ one" doe'
    with vaults.lease(call) as vault:
        token = vault.token("PERSON", value)
        text = f"To {token} and `{token[1:-1].lower()}`: {token[:-3]}"
        if channel == "tool:0":
            text = json.dumps({"to": f"{token}", "text": f"\n{token[1:-1]}\n", "n": 2})
        at = [0, *sorted(cut % len(text) for cut in cuts), len(text)]
        told: list[Event] = [
            Delta(text[a:b], channel=channel, choice=choice)
            for a, b in pairwise(at)
            for choice in range(choices)
        ]
        told += [Finish(reason, choice=choice) for choice in range(choices)]
        got = asyncio.run(events(stack(ScriptedEndpoint(told), Restore(vaults)), call))
    for choice in fold_response(got).choices:
        if channel == "tool:0":
            arguments = json.loads(choice.tool_calls[0].arguments)
            assert arguments == {"to": value, "text": f"\n{value}\n", "n": 2}
        else:
            whole = choice.text or choice.reasoning or choice.refusal
            assert whole == f"To {value} and `{value}`: {token[:-3]}"
    assert len([event for event in got if isinstance(event, Finish)]) == choices


@pytest.mark.asyncio
async def test_interleaved_tool_calls_do_not_mix() -> None:
    vaults, call = Vaults(), asked()
    with vaults.lease(call) as vault:
        texts = [json.dumps({"to": vault.token("PERSON", name)}) for name in ("Jo", "Al")]
        told: list[Event] = [Delta("", channel=f"tool:{n}", tool=ToolHead(str(n), "f")) for n in (0, 1)]
        for chars in zip(*texts, strict=True):
            told += [Delta(char, channel=f"tool:{n}") for n, char in enumerate(chars)]
        got = await events(stack(ScriptedEndpoint([*told, Finish("tool_calls")]), Restore(vaults)), call)
    calls = fold_response(got).choices[0].tool_calls
    assert [json.loads(use.arguments) for use in calls] == [{"to": "Jo"}, {"to": "Al"}]


@pytest.mark.asyncio
async def test_text_that_is_over_goes_before_what_follows() -> None:
    vaults, call = Vaults(), asked()
    with vaults.lease(call) as vault:
        token = vault.token("PERSON", "Jo")
        told = [Delta(f"{token} {token[:6]}"), Delta("", channel="tool:0", tool=ToolHead("1", "f"))]
        got = await events(stack(ScriptedEndpoint([*told, Finish("stop")]), Restore(vaults)), call)
    assert got[:3] == [Delta("Jo "), Delta(token[:6]), told[1]]


@pytest.mark.asyncio
async def test_a_changed_event_loses_what_spells_its_text() -> None:
    vaults, call = Vaults(), asked()
    with vaults.lease(call) as vault:
        told = [Delta(vault.token("PERSON", "Jo"), logprobs=[1], origin=Origin({}, "x")), Finish("stop")]
        (changed, _) = await events(stack(ScriptedEndpoint(told), Restore(vaults)), call)
    assert isinstance(changed, Delta)
    assert (changed.text, changed.logprobs, changed.origin) == ("Jo", None, None)
    assert ("dropped", "output:logprobs") in [
        (note.what, note.detail) for _, note in call.journal.log if isinstance(note, Note)
    ]


@pytest.mark.asyncio
async def test_an_answer_that_starts_again_is_restored_from_its_start() -> None:
    vaults, call = Vaults(), asked()
    with vaults.lease(call) as vault:
        token = vault.token("PERSON", "Jo")
        told = [Delta(f"{token} {token[:4]}"), Reset("reset"), Delta(f"{token[4:]} {token}"), Finish("stop")]
        got = await events(stack(ScriptedEndpoint(told), Restore(vaults)), call)
    assert got == [Delta("Jo "), told[1], Delta(f"{token[4:]} Jo"), told[3]]


@pytest.mark.asyncio
async def test_a_cut_passes_on_as_it_is() -> None:
    vaults, call = Vaults(), asked()
    got: list[Event] = []
    with vaults.lease(call) as vault:
        token = vault.token("PERSON", "Jo")
        endpoint = ScriptedEndpoint(Script([f"{token} and {token[:4]}"], fail_after=1))
        with pytest.raises(Interrupted):
            await read_into(got, stack(endpoint, Restore(vaults)), call)
    assert got == [Delta("Jo and ")]
    assert endpoint.active == 0
