"""Rules at work: budgets, failures, sampling, shadows, asking again, and what a stream lets go of."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import random
import re
import threading
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
    Message,
    Note,
    Request,
    Text,
    ToolHead,
    ToolResult,
    Usage,
    fold_response,
)
from guardrails.errors import Blocked, ConfigError, Interrupted
from guardrails.filters.detector import Finding, redact
from guardrails.filters.layers import InputFilters, OutputFilters, layers
from guardrails.filters.memory import Memory
from guardrails.filters.normal import Normalized
from guardrails.filters.policy import Rule, Rulebook
from guardrails.handler import Handler, Layer, stack
from guardrails.testing import FakeClock, Script, ScriptedEndpoint
from guardrails.testing.contract import LAYER_CASES, check_layer


@dataclass
class Find:
    """Finds a pattern; counts how often it was asked."""

    pattern: str
    kind: str = "X"
    name: str = "find"
    reach: int = 0
    asked: list[str] = field(default_factory=list)

    def detect(self, text: str) -> list[Finding]:
        self.asked.append(text)
        return [
            Finding(self.kind, m.start(), m.end(), 0.9, self.name) for m in re.finditer(self.pattern, text)
        ]


@dataclass
class Judge(Find):
    """All of the text, if the pattern is in it."""

    name: str = "judge"
    scope: str = "text"
    stride: int = 20

    def detect(self, text: str) -> list[Finding]:
        found = super().detect(text)
        return [Finding(self.kind, 0, len(text), 0.9, self.name)] if found else []


@dataclass
class Remote(Judge):
    """A judge that waits until it may go on."""

    name: str = "remote"
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: int = 0

    async def detect(self, text: str) -> list[Finding]:  # type: ignore[override]
        self.started.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return super().detect(text)


@dataclass
class Broken:
    name: str = "broken"
    reach: int = 0

    def detect(self, text: str) -> list[Finding]:
        raise ValueError(f"cannot read {text}")


def open_remote(pattern: str, **kwargs: Any) -> Remote:
    remote = Remote(pattern, **kwargs)
    remote.gate.set()
    return remote


def call(prompt: str | Request = "hello", **kwargs: Any) -> Call:
    return Call(Request.of(prompt), **kwargs)


def notes(of: Call, what: str) -> list[Any]:
    return [note.detail for _, note in of.journal.log if isinstance(note, Note) and note.what == what]


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


def cut(text: str, places: Sequence[int]) -> list[str]:
    at = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[a:b] for a, b in pairwise(at)]


LAYERS: dict[str, Callable[[], Layer]] = {
    "input": lambda: InputFilters([Rule(Find("x9"), budget_ms=1e6), Judge("x9")], memory=Memory()),
    "output": lambda: OutputFilters([Rule(Find("x9"), budget_ms=1e6), Rule(Judge("x9"), hold="sentence")]),
    "remote": lambda: OutputFilters([open_remote("x9"), Find("x8")]),
    "watching": lambda: OutputFilters([Rule(Judge("nobody"), action="flag"), Rule(Find("a"), shadow=True)]),
    "all held": lambda: OutputFilters([Rule(Judge("x9"), hold="all", action="block")]),
    "reask": lambda: OutputFilters([Rule(Judge("x9"), action="reask")]),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("case", LAYER_CASES)
@pytest.mark.parametrize("layer", list(LAYERS))
async def test_the_contract(layer: str, case: str) -> None:
    await check_layer(LAYERS[layer](), case)


# --- time, failures, sampling, shadows ---------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["input", "output"])
@pytest.mark.parametrize("otherwise", ["block", "pass_and_flag", "cheaper"])
def test_a_budget_that_is_exceeded_does_what_the_rule_says(direction: str, otherwise: str) -> None:
    async def main() -> tuple[Call, str]:
        detector = Remote("x9")
        instead: Any = Find("x9") if otherwise == "cheaper" else otherwise
        rule = Rule(detector, budget_ms=50, on_exceeded=instead)
        layer = InputFilters([rule]) if direction == "input" else OutputFilters([rule])
        asked, endpoint = call("say x9", clock=clock), answers("say x9", Finish("stop"))
        if otherwise == "block":
            with pytest.raises(Blocked, match="its budget of 50 ms") as caught:
                await events(stack(endpoint, layer), asked)
            assert caught.value.kind == "filter_failed"
            assert endpoint.active == 0
            return asked, ""
        got = await events(stack(endpoint, layer), asked)
        assert detector.cancelled == 1
        sent = endpoint.calls[0].request.messages[0].text
        return asked, sent if direction == "input" else fold_response(got).text

    clock = FakeClock()
    asked, text = asyncio.run(clock.run(main()))
    assert clock.now() == pytest.approx(0.05)
    assert text == {"block": "", "pass_and_flag": "say x9", "cheaper": "say <X>"}[otherwise]
    if otherwise == "pass_and_flag":
        assert notes(asked, "not_scanned") == [f"{direction}:remote:budget"]
    if otherwise == "cheaper":
        assert notes(asked, "not_scanned") == [f"{direction}:remote:budget:find instead"]
    assert (direction in notes(asked, "scanned")) == (otherwise == "cheaper")


@pytest.mark.asyncio
@pytest.mark.parametrize("cheaper", [Find("x9"), Broken("broken too")])
async def test_a_cheaper_detector_looks_when_one_crashes_and_may_not_crash_itself(cheaper: Any) -> None:
    endpoint = ScriptedEndpoint("fine")
    handler = stack(endpoint, InputFilters([Rule(Broken(), on_crash=cheaper)]))
    if isinstance(cheaper, Broken):
        with pytest.raises(Blocked, match="'broken too' broke"):
            await events(handler, call("say x9"))
    else:
        await events(handler, call("say x9"))
        assert endpoint.calls[0].request.messages[0].text == "say <X>"


@pytest.mark.asyncio
@pytest.mark.parametrize("rule", [Rule(Broken(), shadow=True), Rule(Broken(), action="flag")])
@pytest.mark.parametrize("layer", [InputFilters, OutputFilters])
async def test_what_only_watches_never_blocks_even_when_it_breaks(layer: Any, rule: Rule) -> None:
    asked = call()
    await events(stack(ScriptedEndpoint("fine"), layer([rule, Find("x9")])), asked)
    direction = "input" if layer is InputFilters else "output"
    assert f"{direction}:broken:crash" in notes(asked, "not_scanned")


@pytest.mark.asyncio
@pytest.mark.parametrize("layer", [InputFilters, OutputFilters])
async def test_a_shadow_writes_down_what_it_would_do(layer: Any) -> None:
    asked, endpoint = call("say x9"), answers("say x9", Finish("stop"))
    got = await events(stack(endpoint, layer([Rule(Find("x9"), action="block", shadow=True)])), asked)
    assert endpoint.calls[0].request.messages[0].text == fold_response(got).text == "say x9"
    direction = "input" if layer is InputFilters else "output"
    assert notes(asked, "finding") == [(direction, "X", 0.9, "block", True)]
    assert notes(asked, "scanned") == [direction]


@pytest.mark.asyncio
async def test_sampling_is_drawn_from_the_passed_generator_and_never_counts_as_scanned() -> None:
    detector, rng = Find("x9"), random.Random(7)
    expected = [draw < 0.5 for draw in _draws(7, 20)]
    handler = stack(ScriptedEndpoint("fine"), InputFilters([Rule(detector, sample=0.5)], rng=rng))
    seen = []
    for number in range(20):
        asked, detector.asked = call(f"say x9 {number}"), []
        await events(handler, asked)
        seen.append(bool(detector.asked))
        assert notes(asked, "not_scanned") == ([] if detector.asked else ["input:find:sampled out"])
        assert notes(asked, "scanned") == (["input"] if detector.asked else [])
    assert seen == expected
    assert True in seen
    assert False in seen


def _draws(seed: int, count: int) -> list[float]:
    rng = random.Random(seed)
    return [rng.random() for _ in range(count)]


@pytest.mark.asyncio
async def test_a_block_cancels_who_still_looks() -> None:
    remote = Remote("x9")
    blocking = open_remote("bad", name="other")
    endpoint = ScriptedEndpoint("fine")
    with pytest.raises(Blocked):
        await events(stack(endpoint, InputFilters([remote, Rule(blocking, "block")])), call("bad"))
    assert remote.cancelled == 1
    assert endpoint.calls == []


@pytest.mark.asyncio
async def test_detectors_that_wait_are_asked_at_the_same_time() -> None:
    first, second = Remote("x9", name="first"), Remote("x9", name="second")
    task = asyncio.create_task(events(stack(answers("fine", Finish("stop")), OutputFilters([first, second]))))
    await first.started.wait()
    await second.started.wait()
    first.gate.set()
    second.gate.set()
    assert fold_response(await task).text == "fine"


@pytest.mark.asyncio
async def test_detectors_that_wait_are_asked_at_the_same_time_while_text_still_comes() -> None:
    first, second = Remote("x9", name="first"), Remote("x9", name="second")
    endpoint = ScriptedEndpoint(Script([Delta("so many words that both are due. ")], stall_after=1))
    task = asyncio.create_task(events(stack(endpoint, OutputFilters([first, second]))))
    await first.started.wait()
    await second.started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (first.cancelled, second.cancelled) == (1, 1)


@dataclass
class Reads(Find):
    """Begins with the same work as its like."""

    seen: list[str] = field(default_factory=list)
    read: Callable[[str], str] = str.upper

    def detect_read(self, text: str, read: str) -> list[Finding]:
        self.seen.append(read)
        return self.detect(text)


@pytest.mark.asyncio
async def test_detectors_that_begin_alike_begin_once() -> None:
    made: list[str] = []

    def read(text: str) -> str:
        made.append(text)
        return text.upper()

    both = [Reads("x9", name=name, read=read) for name in ("one", "two")]
    asked = call("a x9 b")
    await events(stack(answers("fine", Finish("stop")), InputFilters(both)), asked)
    assert made == ["a x9 b"]
    assert [each.seen for each in both] == [["A X9 B"], ["A X9 B"]]
    assert len(notes(asked, "finding")) == 1  # of what overlaps the strictest, the first


def deep(text: str) -> str:
    for _ in range(4):
        text = base64.b64encode(text.encode()).decode()
    return text


@pytest.mark.asyncio
@pytest.mark.parametrize("budget_ms", [None, 1e6])
async def test_what_is_encoded_too_deeply_is_not_said_to_be_scanned(budget_ms: float | None) -> None:
    rules = [Rule(Normalized(Find("x9")), budget_ms=budget_ms)]
    handler = stack(answers("see ", deep("a letter"), " and", Finish("stop")), OutputFilters(rules))
    handler = stack(handler, InputFilters(rules))
    for text, expected in (("plain", []), (deep("some text"), ["input:find:encoded too deeply"])):
        asked = call(text)
        await events(handler, asked)
        await events(handler, asked)  # it is not remembered
        assert notes(asked, "not_scanned") == [*expected, "output:find:encoded too deeply"] * 2


@pytest.mark.asyncio
async def test_a_detector_with_a_budget_leaves_the_event_loop() -> None:
    threads: set[int] = set()

    class Where(Find):
        def detect(self, text: str) -> list[Finding]:
            threads.add(threading.get_ident())
            return []

    rule = Rule(Where("x"), budget_ms=1e6)
    await events(stack(answers("one two", Finish("stop")), InputFilters([rule]), OutputFilters([rule])))
    assert threads
    assert threading.get_ident() not in threads


# --- directions --------------------------------------------------------------------------------------------

TOOLS = Request(
    (
        Message.of("user", "x9 from the user"),
        Message("tool", (ToolResult("1", (Text("x9 from a tool"),)),)),
    )
)


@pytest.mark.asyncio
async def test_tool_results_and_arguments_can_have_rules_of_their_own() -> None:
    book = Rulebook(
        input=(Rule(Find("x9")),),
        output=(Rule(Find("x9")),),
        tool_results=(Rule(Find("x9"), action="replace", text="[tool]"),),
        tool_arguments=(Rule(Find("x9"), action="replace", text="[args]"),),
    )
    told = ["x9 ", Delta('{"a": "x9"}', channel="tool:0", tool=ToolHead("1", "f")), Finish("tool_calls")]
    endpoint, asked = answers(*told), call(TOOLS)
    got = fold_response(await events(stack(endpoint, *layers(book)), asked)).choices[0]
    sent = endpoint.calls[0].request
    assert sent.messages[0].text == "<X> from the user"
    assert sent.messages[1].parts == (ToolResult("1", (Text("[tool] from a tool"),)),)
    assert got.text == "<X> "
    assert got.tool_calls[0].arguments == '{"a": "[args]"}'
    assert sorted(direction for direction, *_ in notes(asked, "finding")) == [
        "input",
        "output",
        "tool_arguments",
        "tool_results",
    ]
    assert sorted(notes(asked, "scanned")) == ["input", "output", "tool_arguments", "tool_results"]


@pytest.mark.asyncio
async def test_a_direction_without_rules_is_not_said_to_be_scanned() -> None:
    book = Rulebook(input=(Rule(Find("x9")),), tool_results=())
    endpoint, asked = ScriptedEndpoint("fine"), call(TOOLS)
    await events(stack(endpoint, *layers(book)), asked)
    assert endpoint.calls[0].request.messages[1] == TOOLS.messages[1]
    assert notes(asked, "scanned") == ["input"]
    assert notes(asked, "not_scanned") == ["tool_results:no rules"]


@dataclass
class JsonOnly(Judge):
    name: str = "json"
    stride: int = 0


@pytest.mark.asyncio
async def test_judges_of_whole_answers_see_the_text_once_and_no_arguments() -> None:
    judge = JsonOnly("bad")
    told: list[Event | str] = [
        Delta("thinking bad", channel="reasoning"),
        *"some words and some more ",
        Delta('{"bad": 1}', channel="tool:0", tool=ToolHead("1", "f")),
        " and the end",
        Finish("stop"),
    ]
    got = await events(stack(answers(*told), OutputFilters([Rule(judge, "block")])))
    assert judge.asked == ["some words and some more  and the end"]
    assert fold_response(got).text == judge.asked[0]


def test_actions_out_of_place_are_said() -> None:
    with pytest.raises(ConfigError, match="asks for another answer"):
        InputFilters([Rule(Find("x"), action="reask")])
    with pytest.raises(ConfigError, match="gets its values back"):
        OutputFilters([Rule(Find("x"), action="pseudonymize")])
    with pytest.raises(ConfigError, match="needs a vault"):
        InputFilters([Rule(Find("x"), action="pseudonymize")])


# --- memory ------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_history_is_not_looked_at_again_and_is_filtered_all_the_same() -> None:
    detector = Find("x9")
    endpoint = ScriptedEndpoint("fine")
    handler = stack(endpoint, InputFilters([detector]))
    history = [Message.of("user", "say x9"), Message.of("assistant", "I would rather not")]
    await events(handler, call(Request(tuple(history))))
    detector.asked.clear()
    asked = call(Request((*history, Message.of("user", "do say x9"))))
    await events(handler, asked)
    assert detector.asked == ["do say x9"]
    assert [m.text for m in endpoint.calls[1].request.messages] == [
        "say <X>",
        "I would rather not",
        "do say <X>",
    ]
    assert len(notes(asked, "finding")) == 2


@pytest.mark.asyncio
async def test_what_failed_or_was_sampled_out_is_not_remembered() -> None:
    class Sometimes(Find):
        def detect(self, text: str) -> list[Finding]:
            if len(self.asked) == 0:
                self.asked.append(text)
                raise ValueError
            return super().detect(text)

    detector = Sometimes("x9")
    rng = random.Random(7)
    sampled = Find("x8")
    rules = [Rule(detector, on_crash="pass_and_flag"), Rule(sampled, sample=0.5, name="some")]
    endpoint = ScriptedEndpoint("fine")
    handler = stack(endpoint, InputFilters(rules, rng=rng))
    for _ in range(12):
        await events(handler, call("say x9 and x8"))
    said = [c.request.messages[0].text for c in endpoint.calls]
    drawn = [draw < 0.5 for draw in _draws(7, 12)]
    assert said[0].startswith("say x9")
    assert said[1:] == ["say <X> and <X>" if yes else "say <X> and x8" for yes in drawn[1:]]


# --- asking again ------------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize(("bad", "times"), [(0, 1), (1, 1), (2, 1), (2, 2), (3, 2)])
async def test_a_blocked_answer_is_asked_for_again_so_many_times(bad: int, times: int) -> None:
    secret = "x9 the very secret words"
    endpoint = ScriptedEndpoint(*[f"here is {secret}"] * bad, "here is nothing")
    asked, sent = call("tell me"), list[Event]()
    handler = stack(endpoint, OutputFilters([Rule(Find("x9"), action="reask", times=times)]))
    if bad > times:
        with pytest.raises(Blocked) as caught:
            await read_into(sent, handler, asked)
        assert caught.value.findings == (("X", 0.9),)
        assert sent == []
    else:
        await read_into(sent, handler, asked)
        assert fold_response(sent).text == "here is nothing"
    assert len(endpoint.calls) == min(bad, times) + 1
    assert endpoint.active == 0
    for again in endpoint.calls[1:]:
        assert [m.role for m in again.request.messages] == ["user", "user"]
        assert "X" in again.request.messages[1].text
        assert secret not in again.request.messages[1].text
        assert again.journal is asked.journal


@pytest.mark.asyncio
async def test_with_reask_nothing_leaves_before_the_end() -> None:
    endpoint = ScriptedEndpoint(Script("many fine words " * 50, stall_after=100))
    task = asyncio.create_task(events(stack(endpoint, OutputFilters([Rule(Find("x9"), action="reask")]))))
    for _ in range(50):
        await asyncio.sleep(0)
    assert endpoint.active == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert endpoint.active == 0


# --- judges in a stream ------------------------------------------------------------------------------------

PROSE = "The first one is fine. The second is bad, really. And then there is a third. " * 2


async def released_before(text: str, rule: Rule) -> str:
    """What has left when the judge has seen the bad word, or all of it."""
    sent: list[Event] = []
    with contextlib.suppress(Blocked):
        await read_into(sent, stack(answers(*text, Finish("stop")), OutputFilters([rule])), call())
    return fold_response(sent).text


@pytest.mark.asyncio
async def test_hold_says_how_much_may_leave_before_a_judgement() -> None:
    def rule(hold: Any) -> Rule:
        return Rule(Judge("bad"), action="block", hold=hold, stride=10)

    assert await released_before(PROSE, rule("all")) == ""
    assert await released_before(PROSE, rule("sentence")) == "The first one is fine. "
    by_stride = await released_before(PROSE, rule("stride"))
    assert by_stride == "The first one is fine. The second "
    assert (await released_before(PROSE.replace("bad", "good"), rule("stride"))) == PROSE.replace(
        "bad", "good"
    )


@pytest.mark.asyncio
async def test_what_only_flags_looks_at_the_whole_text_after_all_of_it_has_left() -> None:
    judge, asked = Judge("bad"), call()
    handler = stack(answers(*PROSE, Finish("stop")), OutputFilters([Rule(judge, action="flag")]))
    got: list[Event] = []
    async with handler(asked) as stream:
        async for event in stream:
            got.append(event)
            assert judge.asked == []
    assert judge.asked == [PROSE]
    assert notes(asked, "finding") == [("output", "X", 0.9, "flag", False)]
    assert notes(asked, "scanned") == ["output"]


# --- laws over every way of cutting an answer --------------------------------------------------------------

CASES = {
    "places": ("Write to jo@acme or al@acme, whichever. " * 4, {"find": r"[a-z]+@[a-z]+"}),
    "overlap": (
        "Say alpha beta gamma delta, then beta gamma again and so on. " * 3,
        {"find": "alpha beta", "two": "beta gamma"},
    ),
    "open": (
        "Before BEGIN line line line\nline line END after this. Again BEGIN and no end " * 2,
        {"find": r"BEGIN(?:.|\n)*?(?:END|\Z)"},
    ),
    "judge": (PROSE, {"judge": "bad", "find": "really"}),
}
HOLDS = ("stride", "sentence", "all")


def rules_of(spec: dict[str, str], hold: Any) -> list[Rule]:
    made = []
    for name, pattern in spec.items():
        detector = (
            Judge(pattern) if name == "judge" else Find(pattern, kind=name.upper(), name=name, reach=16)
        )
        made.append(
            Rule(detector, hold=hold if name == "judge" else "stride", stride=30 if name == "judge" else None)
        )
    return [
        *made,
        Rule(Find("a", kind="A", name="flag"), action="flag"),
        Rule(Judge("i"), shadow=True, name="dark"),
    ]


def run_case(pieces: list[list[str]], spec: dict[str, str], hold: Any) -> tuple[list[str], list[Any]]:
    """The texts of the choices and the findings in the record, for pieces of each choice, interleaved."""
    told: list[Event] = []
    for row in itertools.zip_longest(*pieces):
        told += [Delta(piece, choice=n) for n, piece in enumerate(row) if piece is not None]
    told += [Finish("stop", choice=n) for n in range(len(pieces))] + [Finish(None, Usage(1, 1))]
    asked = call()
    got = asyncio.run(events(stack(answers(*told), OutputFilters(rules_of(spec, hold))), asked))
    return [choice.text for choice in fold_response(got).choices], sorted(notes(asked, "finding"))


@settings(deadline=None, max_examples=80)
@given(
    st.sampled_from(list(CASES)),
    st.sampled_from(HOLDS),
    st.lists(st.lists(st.integers(0, 400), max_size=12), min_size=1, max_size=3),
)
def test_text_and_record_do_not_depend_on_the_chunking_nor_choices_on_each_other(
    case: str, hold: Any, places: list[list[int]]
) -> None:
    text, spec = CASES[case]
    alone, findings = run_case([[text]], spec, hold)
    texts, many = run_case([cut(text, each) for each in places], spec, hold)
    assert texts == alone * len(places)
    assert many == sorted(findings * len(places))


@pytest.mark.parametrize("case", ["places", "overlap"])
def test_what_is_released_is_the_filtered_whole(case: str) -> None:
    text, spec = CASES[case]
    found = [f for name, pattern in spec.items() for f in Find(pattern, name.upper(), name).detect(text)]
    assert run_case([[text]], spec, "stride")[0] == [redact(text, found)]


@pytest.mark.asyncio
@pytest.mark.parametrize("case", list(CASES))
async def test_no_prefix_of_any_split_holds_a_part_of_what_is_removed(case: str) -> None:
    text, spec = CASES[case]
    layer = OutputFilters(rules_of(spec, "stride"))
    expected = fold_response(await events(stack(answers(text, Finish("stop")), layer))).text
    for place in range(len(text) + 1):
        sent = ""
        async with stack(answers(text[:place], text[place:], Finish("stop")), layer)(call()) as stream:
            async for event in stream:
                sent += event.text if isinstance(event, Delta) else ""
                assert expected.startswith(sent)
        assert sent == expected


@pytest.mark.asyncio
@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.parametrize("hold", HOLDS)
async def test_a_cut_upstream_never_releases_what_was_held(case: str, hold: str) -> None:
    text, spec = CASES[case]
    layer = OutputFilters(rules_of(spec, hold))
    expected = fold_response(await events(stack(answers(text, Finish("stop")), layer))).text
    for place in range(1, len(text), 3):
        broken = ScriptedEndpoint(Script([text[:place]], error=Interrupted("cut"), finish=None))
        sent: list[Event] = []
        with pytest.raises(Interrupted):
            await read_into(sent, stack(broken, layer), call())
        assert expected.startswith(fold_response(sent).text)
        assert hold != "all" or "judge" not in spec or not sent


@pytest.mark.asyncio
async def test_interleaved_tool_calls_do_not_mix() -> None:
    texts = ['{"a": "jo@acme", "b": 1}', '{"c": ["al@acme"]}']
    told: list[Event] = []
    for pair in itertools.zip_longest(*texts, fillvalue=""):
        told += [Delta(piece, channel=f"tool:{n}") for n, piece in enumerate(pair)]
    layer = OutputFilters(rules_of(CASES["places"][1], "stride"))
    got = fold_response(await events(stack(answers(*told, Finish("tool_calls")), layer))).choices[0]
    assert [c.arguments for c in got.tool_calls] == ['{"a": "<FIND>", "b": 1}', '{"c": ["<FIND>"]}']


@pytest.mark.asyncio
async def test_calls_on_one_policy_share_no_state() -> None:
    chain = layers(Rulebook(input=(Rule(Find("x9")),), output=tuple(rules_of(CASES["judge"][1], "sentence"))))

    async def one(name: str, text: str) -> str:
        told = [*text.replace("first", name), Finish("stop")]
        return fold_response(await events(stack(answers(*told), *chain), call(f"I am {name}"))).text

    names = ["jo", "al", "bo", "cy"]
    alone = {name: await one(name, PROSE) for name in names}
    assert dict(zip(names, await asyncio.gather(*(one(n, PROSE) for n in names)), strict=True)) == alone
    assert len(set(alone.values())) == len(names)


@pytest.mark.asyncio
async def test_a_rule_listens_to_the_roles_it_names() -> None:
    request = Request(
        (
            Message.of("system", "x9 system"),
            Message.of("user", "x9 user"),
            Message.of("assistant", "x9 assistant"),
            Message("user", (ToolResult("1", (Text("x9 tool"),)),)),
        )
    )
    endpoint = ScriptedEndpoint("fine")
    rules = [Rule(Find("x9"), roles=("user", "tool")), Rule(Find("s[a-z]+"), name="all")]
    await events(stack(endpoint, InputFilters(rules)), call(request))
    sent = endpoint.calls[0].request.messages
    assert [m.text for m in sent[:3]] == ["x9 <X>", "<X> u<X>", "x9 a<X>"]
    assert sent[3].parts == (ToolResult("1", (Text("<X> tool"),)),)
