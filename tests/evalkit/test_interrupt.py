"""Ctrl-C or SIGTERM, once, twice and three times: exit code 130, and what is finished is kept."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from evalkit import cli
from evalkit.config import Suite
from evalkit.files import INTERRUPTED, Files
from evalkit.interrupt import interruptible, leaving, terminable
from evalkit.plan import Plan, Target
from evalkit.repeat import going_on
from evalkit.runner import Control
from evalkit.session import Session
from evalkit.stores import open_store
from evalkit.trial import Trial
from guardrails.call import Call
from guardrails.client import Llm
from guardrails.testing import ScriptedEndpoint


@pytest.fixture(autouse=True)
def _signals_as_in_a_terminal() -> Iterator[None]:
    """What runs the tests may ignore some, as `nohup` and a shell's background jobs do."""
    defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, default) for number, default in defaults.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (signal.SIGINT, "stopping: finishing what is in flight (Ctrl-C again to quit at once)"),
        (signal.SIGTERM, "stopping on SIGTERM: finishing what is in flight (another one quits at once)"),
        (signal.SIGHUP, "stopping on SIGHUP: finishing what is in flight (another one quits at once)"),
    ],
)
def test_the_first_finishes_the_second_drops_and_the_third_leaves(
    number: signal.Signals, sentence: str
) -> None:
    control, said, steps, left = Control(), list[str](), list[tuple[bool, bool]](), list[str]()

    async def hangs() -> None:
        told = asyncio.Event()

        def say(text: str) -> None:
            said.append(text)
            told.set()

        with interruptible(control, say, lambda: left.append("now")):
            async with asyncio.timeout(10):
                signal.raise_signal(number)
                await told.wait()
                steps.append((control.stopping, control.dropping))
                signal.raise_signal(number)
                assert await control.carry(asyncio.Event().wait()) is None
                steps.append((control.stopping, control.dropping))
                assert not left
                signal.raise_signal(number)
                await asyncio.Event().wait()

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(hangs())

    assert steps == [(True, False), (True, True)]
    assert said == [sentence]
    assert left == ["now"]


def test_whoever_leaves_waits_for_no_store_that_does_not_answer() -> None:
    said: list[object] = []
    ended = threading.Event()

    def end(code: int) -> None:
        said.append(code)
        ended.set()

    with leaving(lambda: said.append("gone"), grace=0, end=end) as leaves:
        assert not said, "nobody leaves yet"
        leaves()
        assert ended.wait(30), "the store answers never"
    assert said == ["gone", 130]


def test_whoever_leaves_in_time_ends_nothing() -> None:
    said: list[object] = []

    with leaving(lambda: said.append("gone"), grace=3600, end=said.append) as leaves:
        before = threading.active_count()
        leaves()
        (watching,) = [each for each in threading.enumerate() if each.name == "evalkit-leaving"]
        assert threading.active_count() == before + 1
    watching.join(30)

    assert not said


def test_a_hangup_that_is_ignored_stays_so() -> None:
    """As `nohup` has it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)

    async def runs() -> None:
        with terminable(), interruptible(control := Control(), lambda text: None):
            signal.raise_signal(signal.SIGHUP)
            await asyncio.sleep(0)
            assert not control.stopping

    try:
        asyncio.run(runs())
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_third_leaves_even_where_a_scorer_blocks_the_event_loop(number: signal.Signals) -> None:
    sent = 0

    async def blocks() -> None:
        nonlocal sent
        while sent < 10:  # without end, but for a test that fails
            sent += 1
            signal.raise_signal(number)

    async def runs() -> None:
        with interruptible(Control(), lambda text: None):
            await blocks()

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(runs())

    assert sent == 3


def test_a_fourth_ends_the_process_where_the_scorer_catches_the_third(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Ended(BaseException):
        """In the place of the process's end."""

    def end(code: int) -> None:
        raise Ended(code)

    async def runs() -> None:
        with interruptible(Control(), lambda text: None):
            while True:
                with suppress(KeyboardInterrupt):
                    signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(os, "_exit", end)
    with pytest.raises(Ended, match="130"):
        asyncio.run(runs())


THREAD = """
import signal, threading
from evalkit import cli

def app(**_):
    threading.Thread(target=threading.Event().wait).start()
    signal.raise_signal(signal.SIGTERM)

cli.app = app
cli.main()
"""


def test_a_thread_of_a_scorer_s_own_does_not_keep_whoever_leaves() -> None:
    done = subprocess.run(
        [sys.executable, "-c", THREAD], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.asyncio
async def test_afterwards_it_is_python_s_own_again() -> None:
    control = Control()
    with interruptible(control, lambda text: None):
        pass

    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert not control.stopping


@pytest.mark.asyncio
async def test_afterwards_sigterm_does_what_it_did_before() -> None:
    """The summing up follows, and there it is Ctrl-C still, not the end without a word."""
    with terminable():
        with interruptible(Control(), lambda text: None):
            pass

        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


class Impatient:
    """A store whose reader is interrupted, as somebody would interrupt it who will not wait for the table.

    So many readings come through before.
    """

    def __init__(self, inner: Any, patience: int = 0) -> None:
        self.inner = inner
        self.patience = patience
        self.closed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def trials(self, *words: Any, **options: Any) -> Iterator[Trial]:
        if not self.patience:
            raise KeyboardInterrupt
        self.patience -= 1
        trials: Iterator[Trial] = self.inner.trials(*words, **options)
        return trials

    def close(self) -> None:
        self.closed = True


def plan(folder: Path, handler: ScriptedEndpoint, **fields: Any) -> Plan:
    lines = ({"id": f"s{i}", "input": f"q{i}", "reference": "yes"} for i in range(3))
    (folder / "g.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines), encoding="utf-8")
    endpoints = [{"name": "e", "url": "http://x/v1"}]
    suite = {"golden": str(folder / "g.jsonl"), "endpoints": endpoints, "out": folder, **fields}
    return Plan.of(Suite.model_validate(suite), [Target(Llm(handler, name="e"), "e")])


def test_leaving_while_a_run_is_summed_up_is_no_failed_gate(tmp_path: Path) -> None:
    made = plan(tmp_path, ScriptedEndpoint("yes"))
    store, said = Impatient(open_store(made.suite.database)), StringIO()

    junit = tmp_path / "junit.xml"
    code = Session(made, store, None, Console(file=StringIO()), Console(file=said)).run(Files(junit=junit))

    assert code == INTERRUPTED
    assert 'errors="1"' in junit.read_text(encoding="utf-8"), "nor is it a passed one"
    assert "interrupted" in said.getvalue()
    assert store.closed
    assert [(run.status, run.trials) for run in open_store(made.suite.database).runs()] == [("complete", 3)]


@pytest.mark.parametrize(
    ("patience", "errors"), [(1, "1"), (2, "1"), (3, "0")], ids=["html", "xml", "summary"]
)
def test_leaving_while_results_are_written_keeps_those_that_are(
    tmp_path: Path, patience: int, errors: str
) -> None:
    """They are of a run that is complete."""
    made = plan(tmp_path, ScriptedEndpoint("yes"))
    store, out = Impatient(open_store(made.suite.database), patience), tmp_path / "out"
    files = Files(*(out / name for name in ("report.html", "numbers.json", "junit.xml", "summary.md")))

    code = Session(made, store, None, Console(file=StringIO()), Console(file=StringIO())).run(files)

    assert code == INTERRUPTED
    junit = ElementTree.parse(out / "junit.xml").getroot()
    assert junit.attrib["errors"] == errors, "what was not written says that somebody left"
    there = {each.name for each in out.iterdir()} - {"junit.xml", "summary.md"}
    assert there == (set() if patience == 1 else {"report.html", "numbers.json"})
    assert "interrupted" in (out / "summary.md").read_text(encoding="utf-8")


def test_the_command_to_go_on_with_shows_no_password(tmp_path: Path) -> None:
    """It is printed into the logs of a pipeline."""

    def answer(call: Call) -> str:
        signal.raise_signal(signal.SIGINT)
        return "yes"

    made, said = plan(tmp_path, ScriptedEndpoint(answer), concurrency=1), StringIO()
    session = Session(
        made, open_store(made.suite.database), None, Console(file=StringIO()), Console(file=said, width=500)
    )
    urls = ["--store", "postgresql://ci:S3CRET@db/evals", "--store=postgresql://ci@db/evals?password=S3CRET"]

    code = session.run(command=["evalkit", "run", "suite.yaml", *urls, "--limit", "3"])

    assert code == INTERRUPTED
    assert "S3CRET" not in said.getvalue()
    above, line = said.getvalue().splitlines()[-2:]
    assert above == "Go on with, with the same --store or EVALKIT_STORE:"
    assert line.startswith("  evalkit run suite.yaml --limit 3 --resume 2")


@pytest.mark.parametrize(
    ("option", "shown", "lacking"),
    [
        ("--store=postgresql://ci@db/evals?host=h", "--store=postgresql://ci@db/evals?host=h", ""),
        ("--store=postgresql://db/a@b", "--store=postgresql://db/a@b", ""),
        ("--store=runs.db", "--store=runs.db", ""),
        ("--store=postgresql://ci:S3/CRET@db/evals", None, ", with the same --store or EVALKIT_STORE"),
        ("--endpoint=http://u:p@h/v1", "--endpoint=http://***@h/v1", ", with what *** stands for"),
    ],
)
def test_the_command_to_go_on_with_is_whole_where_it_can_be(
    option: str, shown: str | None, lacking: str
) -> None:
    command, more = going_on(["evalkit", "run", option], "old")

    assert shlex.split(command) == ["evalkit", "run", *filter(None, [shown]), "--resume", "old"]
    assert more == lacking


def test_a_capped_run_goes_on_under_a_higher_cap() -> None:
    for option in (["--max-usd", "2"], ["--max-usd=2"]):
        command, _ = going_on(["evalkit", "run", "s.yaml", *option, "--fresh"], "old", capped=True)
        assert command == "evalkit run s.yaml --max-usd MORE --fresh --resume old"


def test_a_job_that_is_told_to_end_writes_its_reports(tmp_path: Path) -> None:
    """Whoever ends it, such as a CI service at its limit of time, shows what was written by then."""
    told = iter([signal.SIGTERM])

    def answer(call: Call) -> str:
        for number in told:
            signal.raise_signal(number)
        return "yes"

    made, said = plan(tmp_path, ScriptedEndpoint(answer), concurrency=1), StringIO()
    store = open_store(made.suite.database)
    session = Session(made, store, None, Console(file=StringIO()), Console(file=said, width=500))

    code = session.run(Files(json=tmp_path / "numbers.json"), command=["evalkit", "run", "suite.yaml"])

    assert code == INTERRUPTED
    assert json.loads((tmp_path / "numbers.json").read_bytes())["status"] == "interrupted"
    assert "--resume" in said.getvalue()
    (run,) = open_store(made.suite.database).runs()
    assert run.status == "interrupted"
    assert run.trials < 3, "a loop hears of a signal a turn later: one more question may be under way"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_leaving_anywhere_else_is_130_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    def leave(**_: object) -> None:
        signal.raise_signal(number)

    monkeypatch.setattr(cli, "app", leave)
    with pytest.raises(SystemExit) as left:
        cli.main(["run"])

    assert left.value.code == 130
    assert "Traceback" not in capsys.readouterr().err
