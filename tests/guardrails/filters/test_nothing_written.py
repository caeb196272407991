"""Marked personal data goes through every path, faults included; then all that was written is searched."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import pickle
import re
import subprocess
import sys
import traceback
import urllib.parse
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

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
    ToolUse,
)
from guardrails.client import Llm
from guardrails.endpoints.function import FunctionEndpoint
from guardrails.endpoints.http import HttpConfig, HttpEndpoint
from guardrails.endpoints.opening import Timeouts
from guardrails.errors import Blocked, GuardrailsError
from guardrails.filters import Finding, InputFilters, OutputFilters, Pii, Restore, Vault, Vaults
from guardrails.filters.policy import Rule
from guardrails.filters.secrets import Secrets
from guardrails.handler import Handler, Layer, stack
from guardrails.recorder import JsonlSink, Record
from guardrails.testing import FakeClock, Profile, Script, ScriptedEndpoint, simulate
from guardrails.testing.faults import FAULTS

# Put together here: a traceback shows lines of this file.
MARK = "zq" + "marker"
MAIL = f"{MARK}@acme-mail.com"
SSN = "-".join(("536", "90", "4399"))
KEY = "sk-" + "proj-Tq8ZvN2xWc5Rb7Yk1LmPaQ4dT3BlbkFJHs6Ug9Xe0Jf2Ki5Oz8"
TEXT = f"Write to {MAIL} (SSN {SSN}), the key is {KEY}, thank you very much."
NEEDLES = tuple(
    needle.lower()
    for value in (MARK, SSN, KEY[3:])
    for needle in (value, urllib.parse.quote(value), base64.b64encode(value.encode()).decode()[:-4])
)
DETECTORS = (Pii(), Secrets())


@dataclass
class Written:
    """Everything that was written down since the test began."""

    log: pytest.LogCaptureFixture
    out: pytest.CaptureFixture[str]
    folder: Path
    texts: list[str] = field(default_factory=list)

    def add(self, *things: object) -> None:
        """What a caller might print: reprs, and errors with all that hangs on them."""
        for thing in things:
            self.texts += [repr(thing), str(thing)]
            if isinstance(thing, BaseException):
                self.texts += traceback.format_exception(thing)
                self.texts += [repr(thing.args), repr(vars(thing)), repr(pickle.dumps(thing))]
            if isinstance(thing, Call):
                self.texts += [repr(entry) for _, entry in thing.journal.log]
                self.texts += [repr(entry) for attempt in thing.journal.attempts for _, entry in attempt.log]
                self.texts += [repr(e.detail) for _, e in thing.journal.log if isinstance(e, Note)]
                if thing.journal.record is not None:
                    self.texts.append(repr(thing.journal.record))
                    self.texts.append(thing.journal.record.as_json().decode())

    def whole(self) -> str:
        """All of it, in lower case."""
        printed = self.out.readouterr()
        files = [path.read_bytes().decode("latin-1") for path in self.folder.rglob("*") if path.is_file()]
        return "\n".join([self.log.text, printed.out, printed.err, *files, *self.texts]).lower()

    def check(self) -> str:
        """Nothing of the marked values may be in it. Returns it, for a look at what should be in it."""
        whole = self.whole()
        for needle in NEEDLES:
            at = whole.find(needle)
            assert at < 0, f"found in: …{whole[max(0, at - 300) : at + 60]}…"
        return whole


@pytest.fixture
def written(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Written:
    caplog.set_level(logging.DEBUG)
    return Written(caplog, capfd, tmp_path)


def run(work: Awaitable[None]) -> None:
    """With the event loop in debug mode: it logs the repr of every task and callback that takes 0 s."""

    async def slow() -> None:
        asyncio.get_running_loop().slow_callback_duration = 0.0
        await work

    asyncio.run(slow(), debug=True)


async def read(handler: Handler, call: Call, written: Written) -> str:
    """Read an answer as an application does that logs every event. Returns its text."""
    texts = []
    async with handler(call) as stream:
        async for event in stream:
            written.add(event)
            texts.append(event.text if isinstance(event, Delta) else "")
    return "".join(texts)


async def drain(handler: Handler, call: Call, written: Written) -> BaseException | None:
    """The same of an application that logs errors and the call itself, too."""
    error: BaseException | None = None
    try:
        await read(handler, call, written)
    except Exception as caught:
        error = caught
        logging.getLogger("application").exception("the call %r failed", call)
        written.add(caught)
    written.add(call, call.request)
    return error


def asked(text: str = TEXT) -> Call:
    arguments = json.dumps({"to": text})
    turns = (
        Message.of("system", text),
        Message.of("user", text),
        Message("assistant", (ToolUse("1", "f", arguments),)),
        Message("tool", (ToolResult("1", (Text(text),)),)),
    )
    return Call(Request(turns))


def answer() -> list[Event]:
    """The values in every channel, in pieces."""
    arguments = json.dumps({"to": TEXT})
    told: list[Event] = []
    for channel, text in (("reasoning", TEXT), ("text", TEXT), ("refusal", TEXT), ("tool:0", arguments)):
        told += [Delta("", channel=channel, tool=ToolHead("1", "f") if channel == "tool:0" else None)]
        told += [Delta(text[at : at + 7], channel=channel) for at in range(0, len(text), 7)]
    return [*told, Finish("stop")]


def test_the_search_finds_what_it_looks_for(written: Written) -> None:
    logging.getLogger("deep.down").debug("a %s", MAIL)
    with pytest.raises(AssertionError, match="found in"):
        written.check()
    for leak in (ValueError(TEXT), base64.b64encode(MARK.encode()), MAIL.upper(), {"ssn": SSN}):
        other = Written(written.log, written.out, written.folder)
        written.log.clear()
        assert other.check() == "\n\n"
        other.add(leak)
        with pytest.raises(AssertionError, match="found in"):
            other.check()


# --- what filters do ---------------------------------------------------------------------------------------


def layers(action: str, vaults: Vaults) -> list[Layer]:
    rules = [Rule(detector, action=action) for detector in DETECTORS]  # type: ignore[arg-type]
    inner = "redact" if action in ("pseudonymize", "flag") else action
    answers = [Rule(detector, action=inner) for detector in DETECTORS]  # type: ignore[arg-type]
    return [Restore(vaults), InputFilters(rules, vaults=vaults.of), OutputFilters(answers, vaults=vaults.of)]


@pytest.mark.parametrize("action", ["redact", "block", "pseudonymize", "replace"])
@pytest.mark.parametrize("prompt", [TEXT, "Who is it?"])
def test_filters_write_nothing(written: Written, action: str, prompt: str) -> None:
    vaults, call = Vaults(), asked(prompt)
    endpoint = ScriptedEndpoint(answer())
    handler = stack(endpoint, Record((JsonlSink(written.folder / "calls.jsonl"),)), *layers(action, vaults))
    run(_none(drain(handler, call, written)))
    written.add(vaults, *endpoint.calls, *layers(action, vaults))
    assert '"findings":[{"direction":"' in written.check()
    assert len((written.folder / "calls.jsonl").read_text().splitlines()) == 1


def test_values_that_come_back_are_written_nowhere(written: Written) -> None:
    vaults, call = Vaults(), asked()
    endpoint = ScriptedEndpoint(lambda call: call.request.messages[1].text)
    sink = JsonlSink(written.folder / "calls.jsonl")
    handler = stack(endpoint, Record((sink,)), *layers("pseudonymize", vaults))

    async def work() -> None:
        assert await read(handler, call, written) == TEXT
        written.add(call, vaults)

    run(work())
    written.check()


async def _none(work: Awaitable[Any]) -> None:
    await work


# --- detectors that break ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Broken:
    """Raises with the text in the error, and in the error behind it."""

    name: str = "broken"
    reach: int = 0

    def detect(self, text: str) -> list[Finding]:
        try:
            raise KeyError(text)
        except KeyError as error:
            raise ValueError(f"cannot read {text}") from error


@dataclass(frozen=True)
class BrokenLater:
    """The same, of a detector that waits for somebody else."""

    name: str = "later"
    reach: int = 0

    async def detect(self, text: str) -> list[Finding]:
        await asyncio.sleep(0)
        raise ValueError(f"cannot read {text}")


@dataclass(frozen=True)
class Hanging:
    """Never answers."""

    name: str = "hanging"
    reach: int = 0

    async def detect(self, text: str) -> list[Finding]:
        await asyncio.Event().wait()
        return []


@pytest.mark.parametrize("direction", [InputFilters, OutputFilters])
@pytest.mark.parametrize("otherwise", ["block", "pass_and_flag", Pii(), Broken("second")])
@pytest.mark.parametrize("detector", [Broken(), BrokenLater()])
def test_a_detector_that_breaks_writes_nothing(
    written: Written, direction: Callable[[Sequence[Rule]], Layer], otherwise: Any, detector: Any
) -> None:
    rules = [Rule(detector, on_crash=otherwise), *map(Rule, DETECTORS)]
    endpoint = ScriptedEndpoint(answer())
    handler = stack(endpoint, Record((JsonlSink(written.folder / "calls.jsonl"),)), direction(rules))
    errors: list[BaseException | None] = []

    async def work() -> None:
        errors.append(await drain(handler, asked(), written))

    run(work())
    if otherwise == "block":
        (error,) = errors
        assert isinstance(error, Blocked)
        assert error.kind == "filter_failed"
        assert error.__cause__ is None
        assert error.__context__ is None
    assert getattr(otherwise, "name", detector.name) in written.check()


@pytest.mark.parametrize("direction", [InputFilters, OutputFilters])
def test_a_detector_out_of_time_writes_nothing(
    written: Written, direction: Callable[[Sequence[Rule]], Layer]
) -> None:
    clock = FakeClock()
    handler = stack(ScriptedEndpoint(answer()), Record(), direction([Rule(Hanging(), budget_ms=5)]))
    call = Call(asked().request, clock=clock)
    run(_none(clock.run(drain(handler, call, written))))
    assert "budget" in written.check()


def test_a_sink_that_breaks_writes_no_more_than_the_record(written: Written) -> None:
    def sink(record: object) -> None:
        raise OSError(f"cannot write {record!r}")

    run(
        _none(
            drain(
                stack(ScriptedEndpoint(answer()), Record((sink,)), *layers("redact", Vaults())),
                asked(),
                written,
            )
        )
    )
    assert "a record sink failed" in written.check()


# --- endpoints that break ----------------------------------------------------------------------------------


@pytest.mark.parametrize("fail_after", [0, 3, 40])
@pytest.mark.parametrize("action", ["redact", "pseudonymize"])
def test_an_endpoint_that_fails_writes_nothing(written: Written, fail_after: int, action: str) -> None:
    endpoint = ScriptedEndpoint(Script(answer()[:-1], fail_after=fail_after))
    handler = stack(endpoint, Record(), *layers(action, Vaults()))
    run(_none(drain(handler, asked(), written)))
    assert "scripted" in written.check()


@pytest.mark.parametrize("after", [0, 2])
def test_a_function_whose_error_quotes_the_prompt_is_named_by_type_and_place(
    written: Written, after: int
) -> None:

    async def model(request: Request) -> AsyncGenerator[str]:
        for _ in range(after):
            yield "All is well. "
        raise RuntimeError(f"cannot answer {request.messages[1].text}")

    handler = stack(FunctionEndpoint(model), Record(), OutputFilters(DETECTORS))
    call = asked()

    async def work() -> None:
        with pytest.raises(GuardrailsError) as caught:
            await read(handler, call, written)
        written.add(caught.value, call)

    run(work())
    assert "the function raised runtimeerror" in written.check()


@pytest.mark.parametrize("dialect", ["openai_chat", "anthropic"])
@pytest.mark.parametrize("fault", [*FAULTS, ""])
def test_a_server_with_any_fault_writes_nothing(written: Written, fault: str, dialect: str) -> None:
    """The server echoes the prompt, which nothing has hidden: only the answer is filtered."""
    quick = Timeouts(first_event=0.2, between_events=0.2, whole=5)

    async def work() -> None:
        async with simulate(Profile(answers="echo")) as server:
            model = f"sim+{fault}" if fault else "sim"
            url = server.url + ("" if dialect == "anthropic" else "/v1")
            config = HttpConfig(url, model=model, dialect=dialect, timeouts=quick)
            async with aclosing(HttpEndpoint(config)) as endpoint:
                sink = JsonlSink(written.folder / "calls.jsonl")
                handler = stack(endpoint, Record((sink,)), OutputFilters(DETECTORS))
                await drain(handler, Call(Request.of(TEXT, max_tokens=500)), written)
                written.add(endpoint, config, server)

    run(work())
    written.check()


REPLIES = {
    "error object": (
        400,
        "application/json",
        json.dumps({"error": {"message": TEXT, "type": TEXT, "code": TEXT}}),
    ),
    "error text": (500, "text/plain", TEXT),
    "error page": (502, "text/html", f"<html><title>{TEXT}</title></html>"),
    "rate limit": (429, "application/json", json.dumps({"error": {"message": TEXT, "param": TEXT}})),
    "no event": (200, "text/event-stream", f"data: {TEXT}\n\n"),
    "broken event": (200, "text/event-stream", f'data: {{"choices": [{{"delta": {{"content": "{TEXT}"\n\n'),
    "unknown field": (200, "text/event-stream", f"{TEXT}: {TEXT}\n\n"),
    "wrong shape": (200, "text/event-stream", f"data: {json.dumps({'choices': TEXT})}\n\n"),
    "error event": (200, "text/event-stream", f"data: {json.dumps({'error': {'message': TEXT}})}\n\n"),
    "redirect": (302, "text/plain", TEXT),
}


@pytest.mark.parametrize("reply", list(REPLIES))
def test_a_vendor_that_quotes_the_prompt_writes_nothing(written: Written, reply: str) -> None:
    status, kind, body = REPLIES[reply]

    def respond(_: httpx.Request) -> httpx.Response:
        headers = {"content-type": kind, "location": "http://elsewhere.test/"}
        return httpx.Response(status, headers=headers, content=body.encode())

    errors: list[BaseException | None] = []

    async def work() -> None:
        config = HttpConfig("http://model.test/v1", model="m")
        async with aclosing(HttpEndpoint(config, transport=httpx.MockTransport(respond))) as endpoint:
            handler = stack(endpoint, Record(), OutputFilters(DETECTORS))
            errors.append(await drain(handler, Call(Request.of(TEXT)), written))

    run(work())
    assert isinstance(errors[0], GuardrailsError)
    written.check()


# --- around a call -----------------------------------------------------------------------------------------


def test_reprs_of_what_holds_the_values_show_none(written: Written) -> None:
    vault = Vault(bytes(32), most=1)
    vault.token("EMAIL_ADDRESS", MAIL)
    with pytest.raises(Blocked) as full:
        vault.token("US_SSN", SSN)
    with pytest.raises(GuardrailsError) as pickled:
        pickle.dumps(vault)
    llm = Llm(ScriptedEndpoint(answer()), *layers("pseudonymize", Vaults()))
    finding = Pii().detect(TEXT)[0]
    written.add(vault, vault.lexicon, full.value, pickled.value, llm, finding, *asked().request.messages)
    written.check()


def test_a_sealed_vault_is_written_encrypted(written: Written) -> None:
    pytest.importorskip("cryptography")
    vaults = Vaults(key=bytes(32))
    vaults.of(Call(Request.of("?"), conversation="c")).token("EMAIL_ADDRESS", MAIL)
    (written.folder / "vault").write_bytes(vaults.seal("c"))
    with pytest.raises(GuardrailsError) as caught:
        vaults.open(vaults.seal("c")[:-1], "c")
    written.add(caught.value)
    written.check()


SIMULATE = ["guardrails.cli", "simulate", "--port", "0", "--answers"]
EVALUATE = ["evalkit", "run", "--endpoint", "http://127.0.0.1:9/v1", "--model", "m", "--golden"]
COMMANDS = {
    "answers to replay": [*SIMULATE, "replay:{}"],
    "a golden set to answer": [*SIMULATE, "golden:{}"],
    "a golden set to ask": [*EVALUATE, "{}"],
}


@pytest.mark.parametrize("command", list(COMMANDS))
@pytest.mark.parametrize("line", [TEXT, json.dumps({"txet": TEXT}), json.dumps([TEXT])])
def test_the_command_line_does_not_print_the_data_that_it_cannot_read(
    written: Written, command: str, line: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("data") / "data.jsonl"
    file.write_text(line + "\n")
    words = [sys.executable, "-m", *(word.format(file) for word in COMMANDS[command])]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, cwd=written.folder)
    assert done.returncode == 2
    written.texts += [done.stdout, done.stderr]
    assert re.search(r"data\.jsonl(, line |:)1\b", written.check())
