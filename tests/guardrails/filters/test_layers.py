from __future__ import annotations

import asyncio
import json
import logging
import pickle
import re
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrails.call import (
    Call,
    Delta,
    Event,
    Finish,
    Image,
    Message,
    Note,
    Opaque,
    Origin,
    Request,
    Text,
    ToolHead,
    ToolResult,
    Usage,
    fold_response,
)
from guardrails.errors import Blocked, ConfigError, Interrupted
from guardrails.filters import Finding, InputFilters, OutputFilters, Pii, redact
from guardrails.filters.memory import Memory
from guardrails.filters.secrets import Secrets
from guardrails.handler import Handler, Layer, stack
from guardrails.testing import Script, ScriptedEndpoint
from guardrails.testing.contract import LAYER_CASES, check_layer

_ADDRESS = re.compile(r"[a-z]+@acme(?:\.[a-z]+)?")


@dataclass
class Addresses:
    """Finds `jo@acme.com`; remembers in which threads it ran, and on what."""

    name: str = "addresses"
    reach: int = 0
    threads: set[int] = field(default_factory=set)
    seen: list[str] = field(default_factory=list)

    def detect(self, text: str) -> list[Finding]:
        self.threads.add(threading.get_ident())
        self.seen.append(text)
        return [Finding("MAIL", m.start(), m.end(), 0.9, self.name) for m in _ADDRESS.finditer(text)]


@dataclass
class Broken:
    name: str = "broken"
    reach: int = 0

    def detect(self, text: str) -> list[Finding]:
        raise ValueError(f"cannot read {text}")


def call(prompt: str | Request = "hello") -> Call:
    return Call(Request.of(prompt))


def notes(of: Call) -> list[tuple[str, Any]]:
    return [(note.what, note.detail) for _, note in of.journal.log if isinstance(note, Note)]


async def read_into(sent: list[Event], handler: Handler, of: Call) -> None:
    async with handler(of) as stream:
        async for event in stream:
            sent.append(event)  # noqa: PERF401 – what came before an error is what the test is about


async def events(handler: Handler, of: Call | None = None) -> list[Event]:
    sent: list[Event] = []
    await read_into(sent, handler, of or call())
    return sent


def answers(*told: Event | str) -> ScriptedEndpoint:
    return ScriptedEndpoint([Delta(event) if isinstance(event, str) else event for event in told])


# --- the contract of every layer ---------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("case", LAYER_CASES)
@pytest.mark.parametrize("action", ["redact", "block"])
@pytest.mark.parametrize("layer", [InputFilters, OutputFilters])
async def test_the_contract(layer: Callable[..., Layer], action: str, case: str) -> None:
    await check_layer(layer([Addresses()], action=action), case)


@pytest.mark.parametrize("layer", [InputFilters, OutputFilters])
def test_no_detectors_is_a_mistake(layer: Callable[..., Layer]) -> None:
    with pytest.raises(ConfigError, match="no detectors"):
        layer([])


# --- input -------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_what_is_sent_is_redacted_and_noted() -> None:
    endpoint, asked = ScriptedEndpoint("fine"), call("I am jo@acme.com, not al@acme.com.")
    await events(stack(endpoint, InputFilters([Addresses()])), asked)
    assert endpoint.calls[0].request.messages[0].text == "I am <MAIL>, not <MAIL>."
    assert notes(asked)[:3] == [
        ("finding", ("input", "MAIL", 0.9, "redact", False)),
        ("finding", ("input", "MAIL", 0.9, "redact", False)),
        ("scanned", "input"),
    ]


@pytest.mark.asyncio
async def test_a_clean_call_passes_as_it_is() -> None:
    endpoint, asked = ScriptedEndpoint("fine"), call()
    await events(stack(endpoint, InputFilters([Addresses()])), asked)
    assert endpoint.calls[0] is asked


@pytest.mark.asyncio
async def test_a_blocked_prompt_is_never_sent() -> None:
    endpoint, asked = ScriptedEndpoint("fine"), call("I am jo@acme.com")
    with pytest.raises(Blocked) as caught:
        await events(stack(endpoint, InputFilters([Addresses()], action="block")), asked)
    assert endpoint.calls == []
    assert caught.value.direction == "input"
    assert caught.value.findings == (("MAIL", 0.9),)
    assert ("finding", ("input", "MAIL", 0.9, "block", False)) in notes(asked)


@pytest.mark.asyncio
async def test_what_was_not_looked_at_is_not_recorded_as_scanned() -> None:
    asked = call(Request((Message("user", (Text("look"), Image("u"))),), extra={"user": "jo@acme.com"}))
    await events(stack(ScriptedEndpoint("fine"), InputFilters([Addresses()])), asked)
    assert ("not_scanned", "input:image:unsupported") in notes(asked)
    assert ("not_scanned", "input:extra:unsupported") in notes(asked)


@pytest.mark.asyncio
async def test_all_detectors_are_asked_and_their_findings_joined() -> None:
    class Domains(Addresses):
        def detect(self, text: str) -> list[Finding]:
            return [Finding("HOST", m.start(), m.end(), 0.5, "d") for m in re.finditer(r"acme\S*", text)]

    endpoint = ScriptedEndpoint("fine")
    await events(stack(endpoint, InputFilters([Domains(), Addresses()])), call("jo@acme.com and acme.net"))
    assert endpoint.calls[0].request.messages[0].text == "<MAIL> and <HOST>"


@pytest.mark.asyncio
async def test_long_texts_and_the_first_one_leave_the_event_loop() -> None:
    here, detector = threading.get_ident(), Addresses()
    handler = stack(ScriptedEndpoint("fine"), InputFilters([detector], memory=Memory(0)))
    for prompt, inline in [("short", False), ("short", True), ("long " * 500, False)]:
        detector.threads.clear()
        await events(handler, call(prompt))
        assert (detector.threads == {here}) == inline
        assert (here in detector.threads) == inline


@pytest.mark.asyncio
@pytest.mark.parametrize("layer", [InputFilters, OutputFilters])
async def test_a_call_can_be_cancelled_while_a_detector_is_busy(layer: Callable[..., Layer]) -> None:
    started, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    class Busy(Addresses):
        def detect(self, text: str) -> list[Finding]:
            loop.call_soon_threadsafe(started.set)
            assert go_on.wait(60)
            return []

    endpoint = answers("to jo@acme.com ", Finish("stop"))
    task = asyncio.create_task(events(stack(endpoint, layer([Busy()]))))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    assert endpoint.active == 0


# --- output ------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_clean_answer_passes_as_the_same_objects_in_the_same_order() -> None:
    told = [
        Opaque({"start": 1}),
        Delta("", channel="reasoning"),
        Delta("Let me think about ", channel="reasoning", origin=Origin({}, "x")),
        Delta("it.", channel="reasoning"),
        Delta("Well, ", logprobs=[1], origin=Origin({}, "x")),
        Opaque({"ping": 1}),
        Delta("that is all right."),
        Delta("", channel="tool:0", tool=ToolHead("1", "f")),
        Delta('{"a": ', channel="tool:0"),
        Delta("1}", channel="tool:0"),
        Finish("tool_calls", origin=Origin({}, "x")),
        Finish(None, Usage(1, 2)),
        Opaque({"stop": 1}),
    ]
    got = await events(stack(answers(*told), OutputFilters([Addresses(reach=64)])))
    assert len(got) == len(told)
    assert all(a is b for a, b in zip(got, told, strict=True))


TEXTS = {
    "text": "Write to jo@acme.com or, if you like, to al@acme.net and bo@acme in the next days, please. ",
    "reasoning": "They want jo@acme.com; I should not tell them that the address is jo@acme.com. ",
    "tool:0": r'{"to": "jo@acme.com", "n": [1, 2.50], "text": "Hi,\njo@acme.com"}',
}
REDACTED_CALL = r'{"to": "<MAIL>", "n": [1, 2.50], "text": "Hi,\n<MAIL>"}'


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 300), max_size=25), st.sampled_from(list(TEXTS)), st.integers(1, 3))
def test_the_answer_does_not_depend_on_the_chunking(cuts: list[int], channel: str, choices: int) -> None:
    text = TEXTS[channel]
    at = [0, *sorted(cut % len(text) for cut in cuts), len(text)]
    told: list[Event] = [
        Delta(text[a:b], channel=channel, choice=choice) for a, b in pairwise(at) for choice in range(choices)
    ]
    told += [Finish("stop", choice=choice) for choice in range(choices)]
    got = asyncio.run(events(stack(answers(*told), OutputFilters([Addresses()]))))
    expected = REDACTED_CALL if channel == "tool:0" else _ADDRESS.sub("<MAIL>", text)
    for choice in fold_response(got).choices:
        assert (choice.text or choice.reasoning or choice.tool_calls[0].arguments) == expected
    assert len([event for event in got if isinstance(event, Finish)]) == choices


@pytest.mark.asyncio
async def test_every_prefix_of_every_split_is_free_of_every_part_of_a_finding() -> None:
    text = "Do write to jo@acme.com now. " * 3
    expected = redact(text, Addresses().detect(text))
    filters = OutputFilters([Addresses()])
    for place in range(len(text)):
        sent = ""
        async with stack(answers(text[:place], text[place:], Finish("stop")), filters)(call()) as stream:
            async for event in stream:
                sent += event.text if isinstance(event, Delta) else ""
                assert expected.startswith(sent)
        assert sent == expected


@pytest.mark.asyncio
async def test_text_flows_before_the_answer_ends() -> None:
    endpoint = ScriptedEndpoint(Script("some quite ordinary words " * 40, stall_after=100))
    length = 0
    async with stack(endpoint, OutputFilters([Addresses(reach=64)]))(call()) as stream:
        async for event in stream:
            assert isinstance(event, Delta)
            length += len(event.text)
            if length > 500:
                break
    assert endpoint.active == 0


@pytest.mark.asyncio
async def test_a_changed_delta_loses_what_would_spell_the_text() -> None:
    told = [
        Delta("to ", logprobs=["to"], origin=Origin({}, "x")),
        Delta("jo@ac", logprobs=["jo@ac"], origin=Origin({}, "x")),
        Delta("me.com", logprobs=["me.com"], origin=Origin({}, "x")),
        Delta(" now", logprobs=["now"], origin=Origin({}, "x")),
        Finish("stop"),
    ]
    asked = call()
    got = await events(stack(answers(*told), OutputFilters([Addresses()])), asked)
    assert got == [told[0], Delta("<MAIL>"), told[3], Finish("stop")]
    assert isinstance(got[1], Delta)
    assert got[1].origin is None
    assert got[0] is told[0]
    assert notes(asked).count(("dropped", "output:logprobs")) == 2


@pytest.mark.asyncio
async def test_findings_and_the_scan_are_noted() -> None:
    asked = call()
    told = [Delta("to jo@acme.com"), Opaque({"image": 1}, structural=False), Finish("stop")]
    await events(stack(answers(*told), OutputFilters([Addresses()])), asked)
    assert ("finding", ("output", "MAIL", 0.9, "redact", False)) in notes(asked)
    assert ("not_scanned", "output:opaque:unsupported") in notes(asked)
    assert ("scanned", "output") in notes(asked)


@pytest.mark.asyncio
async def test_a_blocked_answer_stops_before_the_finding() -> None:
    endpoint = answers("This is fine. ", "Write to jo@", "acme.com ", *["and so on " * 5] * 4, Finish("stop"))
    asked, sent = call(), list[Event]()
    with pytest.raises(Blocked) as caught:
        await read_into(sent, stack(endpoint, OutputFilters([Addresses()], action="block")), asked)
    assert sent == [Delta("This is fine. ")]
    assert caught.value.direction == "output"
    assert caught.value.findings == (("MAIL", 0.9),)
    assert endpoint.active == 0
    assert ("finding", ("output", "MAIL", 0.9, "block", False)) in notes(asked)


@pytest.mark.asyncio
@pytest.mark.parametrize("channel", ["text", "reasoning", "refusal", "tool:0"])
async def test_every_channel_can_block(channel: str) -> None:
    told = [Delta(TEXTS.get(channel, TEXTS["text"]), channel=channel), Finish("stop")]
    with pytest.raises(Blocked):
        await events(stack(answers(*told), OutputFilters([Addresses()], action="block")))


@pytest.mark.asyncio
async def test_a_broken_stream_releases_nothing_that_was_held() -> None:
    endpoint = ScriptedEndpoint(Script(["My address is ", "jo@ac"], error=Interrupted("cut"), finish=None))
    sent: list[Event] = []
    with pytest.raises(Interrupted):
        await read_into(sent, stack(endpoint, OutputFilters([Addresses()])), call())
    assert "jo" not in fold_response(sent).text
    assert endpoint.active == 0


@pytest.mark.asyncio
async def test_an_end_without_a_finish_is_still_scanned() -> None:
    got = await events(stack(answers("to jo@acme.com"), OutputFilters([Addresses()])))
    assert got == [Delta("to <MAIL>")]


@pytest.mark.asyncio
async def test_the_finish_of_one_choice_does_not_end_another() -> None:
    told = [
        Delta("to jo@ac", choice=1),
        Delta("nothing here", choice=0),
        Finish("stop", choice=0),
        Delta("me.com", choice=1),
        Finish("stop", choice=1),
        Finish(None, Usage(1, 2)),
    ]
    got = await events(stack(answers(*told), OutputFilters([Addresses()])))
    response = fold_response(got)
    assert [choice.text for choice in response.choices] == ["nothing here", "to <MAIL>"]
    assert got[-1] is told[-1]


@pytest.mark.asyncio
async def test_a_tool_call_waits_until_it_is_json_and_its_head_does_not() -> None:
    told = [
        Delta("Calling. "),
        Delta("", channel="tool:0", tool=ToolHead("1", "mail")),
        Delta('{"to": "jo\\u0040', channel="tool:0"),
        Delta('acme.com"}', channel="tool:0"),
        Delta("", channel="tool:1", tool=ToolHead("2", "wait")),
        Delta("{}", channel="tool:1"),
        Finish("tool_calls"),
    ]
    seen: list[Event] = []
    endpoint = ScriptedEndpoint(Script(told[:3], stall_after=3, finish="x"))
    handler = stack(endpoint, OutputFilters([Addresses()]))
    async with handler(call()) as stream:
        seen += [await anext(stream), await anext(stream)]
    assert seen == told[:2]
    got = await events(stack(answers(*told), OutputFilters([Addresses()])))
    calls = fold_response(got).choices[0].tool_calls
    assert [(c.name, json.loads(c.arguments)) for c in calls] == [("mail", {"to": "<MAIL>"}), ("wait", {})]
    heads = [event.tool.name for event in got if isinstance(event, Delta) and event.tool]
    assert heads == ["mail", "wait"]


@pytest.mark.asyncio
async def test_interleaved_tool_calls_stay_whole() -> None:
    first, second = '{"a": "jo@acme.com"}', '{"b": "al@acme.com"}'
    told: list[Event] = []
    for a, b in zip(first, second, strict=True):
        told += [Delta(a, channel="tool:0"), Delta(b, channel="tool:1")]
    got = await events(stack(answers(*told, Finish("tool_calls")), OutputFilters([Addresses()])))
    calls = fold_response(got).choices[0].tool_calls
    assert [json.loads(c.arguments) for c in calls] == [{"a": "<MAIL>"}, {"b": "<MAIL>"}]


@pytest.mark.asyncio
async def test_after_a_change_of_channel_the_rest_of_a_finding_is_removed() -> None:
    told = [
        Delta("to jo@acme.", channel="text"),
        Delta("hm", channel="reasoning"),
        Delta("com now"),
        Finish("stop"),
    ]
    got = fold_response(await events(stack(answers(*told), OutputFilters([Addresses()])))).choices[0]
    assert "jo" not in got.text
    assert "com" not in got.text
    assert got.reasoning == "hm"


@pytest.mark.asyncio
async def test_an_empty_text_in_another_channel_is_no_change_of_channel() -> None:
    told = [Delta("to jo@"), Delta("", channel="reasoning"), Delta("acme.com"), Finish("stop")]
    got = fold_response(await events(stack(answers(*told), OutputFilters([Addresses()]))))
    assert got.text == "to <MAIL>"


@pytest.mark.asyncio
async def test_a_blocked_answer_is_not_waited_for() -> None:
    told = ["jo@acme.com ", *["and so on " * 5] * 4]
    endpoint = ScriptedEndpoint(Script(told, stall_after=5))
    with pytest.raises(Blocked):
        await events(stack(endpoint, OutputFilters([Addresses()], action="block")))
    assert endpoint.active == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("inside", [False, True])
async def test_a_value_that_is_spread_over_texts_of_one_message_is_found(inside: bool) -> None:
    texts = Text("write to jo@ac"), Text("me.com or "), Text("al@acme"), Image("u"), Text(".org and")
    parts = (ToolResult("1", texts),) if inside else texts
    endpoint, detector = ScriptedEndpoint("fine"), Addresses()
    asked = call(Request((Message("tool" if inside else "user", parts), Message.of("user", "plain"))))
    await events(stack(endpoint, InputFilters([detector])), asked)
    first, second = endpoint.calls[0].request.messages
    sent = first.parts[0].parts if isinstance(first.parts[0], ToolResult) else first.parts
    assert sent == (Text("write to <MAIL>"), Text(" or "), Text("<MAIL>"), Image("u"), Text(".org and"))
    assert second is asked.request.messages[1]
    assert sorted(detector.seen) == sorted(
        ["write to jo@acme.com or al@acme", "plain", *(text.text for text in texts if isinstance(text, Text))]
    )


@pytest.mark.asyncio
async def test_what_is_a_value_by_itself_is_found_beside_other_texts() -> None:
    endpoint = ScriptedEndpoint("fine")
    parts = Text("see key"), Text("AKIA2OGYBAH6QLVPX5MZ"), Text("and more")
    await events(stack(endpoint, InputFilters([Secrets()])), call(Request((Message("user", parts),))))
    assert endpoint.calls[0].request.messages[0].parts == (
        Text("see key"),
        Text("<AWS_ACCESS_KEY>"),
        Text("and more"),
    )


@pytest.mark.asyncio
async def test_one_layer_serves_many_calls_at_once_without_mixing_them() -> None:
    filters = OutputFilters([Addresses()])

    async def one(name: str) -> str:
        told = [*f"I am {name} and not {name}@acme.com, says {name}. ", Finish("stop")]
        return fold_response(await events(stack(answers(*told), filters))).text

    names = ["jo", "al", "bo", "cy"]
    got = await asyncio.gather(*(one(name) for name in names))
    assert got == [f"I am {name} and not <MAIL>, says {name}. " for name in names]


# --- detectors that break ----------------------------------------------------------------------------------

SECRET = "jo@acme.com"


@pytest.mark.asyncio
@pytest.mark.parametrize("layer", [InputFilters, OutputFilters])
async def test_a_broken_detector_blocks_and_tells_where_but_not_what(
    layer: Callable[..., Layer], caplog: pytest.LogCaptureFixture
) -> None:
    asked = call(f"I am {SECRET}")
    with caplog.at_level(logging.DEBUG), pytest.raises(Blocked) as caught:
        await events(
            stack(answers(f"You are {SECRET}", Finish("stop")), layer([Addresses(), Broken()])), asked
        )
    error = caught.value
    assert error.kind == "filter_failed"
    assert "ValueError at test_layers.py:" in str(error)
    assert error.__cause__ is None
    assert error.__context__ is None
    leaks = [str(error), repr(error), repr(asked), repr(notes(asked)), caplog.text]
    leaks += [*traceback.format_exception(error), repr(pickle.loads(pickle.dumps(error)).__dict__)]
    assert not [leak for leak in leaks if SECRET in leak]
    assert ("scanned", error.direction) not in notes(asked)


@pytest.mark.asyncio
@pytest.mark.parametrize(("layer", "direction"), [(InputFilters, "input"), (OutputFilters, "output")])
async def test_pass_and_flag_lets_the_others_work_and_never_says_scanned(
    layer: Callable[..., Layer], direction: str
) -> None:
    asked = call(f"I am {SECRET}")
    endpoint = answers(f"You are {SECRET}", Finish("stop"))
    got = await events(stack(endpoint, layer([Broken(), Addresses()], on_error="pass_and_flag")), asked)
    sent = endpoint.calls[0].request.messages[0].text
    assert SECRET not in (sent if direction == "input" else fold_response(got).text)
    assert ("not_scanned", f"{direction}:broken:crash") in notes(asked)
    assert ("scanned", direction) not in notes(asked)


@pytest.mark.asyncio
@pytest.mark.parametrize("action", ["redact", "block"])
@pytest.mark.parametrize("layer", [InputFilters, OutputFilters])
async def test_personal_data_stays_out_of_errors_notes_and_logs(
    layer: Callable[..., Layer], action: str, caplog: pytest.LogCaptureFixture
) -> None:
    secrets = ["gb29nwbk60161331926819", "536-22-1234", "212-555-0123", "jo.wallaby@acme.com"]
    text = "ssn, " + ", ".join(secrets)
    asked = call(text)
    seen: list[str] = []
    with caplog.at_level(logging.DEBUG):
        try:
            await events(stack(answers(text, Finish("stop")), layer([Pii()], action=action)), asked)
        except Blocked as error:
            assert action == "block"
            seen += [str(error), repr(error), repr(error.__dict__), *traceback.format_exception(error)]
        else:
            assert action == "redact"
    seen += [repr(asked), repr(notes(asked)), repr(asked.journal.log), caplog.text]
    assert not [secret for secret in secrets for leak in seen if secret in leak]
    # Of an answer that was stopped, nobody speaks of what came after that.
    expected = 1 if layer is OutputFilters and action == "block" else len(secrets)
    assert len([what for what, _ in notes(asked) if what == "finding"]) == expected


@pytest.mark.asyncio
async def test_pii_goes_through_both_layers_together() -> None:
    told: Sequence[Event | str] = [*"Your number (212) 555-0123 is noted, mail jo@acme.com. ", Finish("stop")]
    endpoint = answers(*told)
    handler = stack(endpoint, InputFilters([Pii()]), OutputFilters([Pii()]))
    got = fold_response(await events(handler, call("I am jo@acme.com")))
    assert endpoint.calls[0].request.messages[0].text == "I am <EMAIL_ADDRESS>"
    assert got.text == "Your number <PHONE_NUMBER> is noted, mail <EMAIL_ADDRESS>. "
