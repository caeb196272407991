"""The `evalkit` command as people meet it: exit codes, messages, Ctrl-C, and never a traceback."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from evalkit.stores import open_store
from evalkit.trial import Trial

pytestmark = pytest.mark.e2e

KEY = "sk-very-secret"


@dataclass
class Behaviour:
    """What the little server does. The request with the number `hold` waits until it is released."""

    html: bool = False
    broken: bool = False
    key: str | None = None
    hold: int = 0
    held: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    seen: int = 0


@contextmanager
def serving(behaviour: Behaviour) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            behaviour.seen += 1
            if behaviour.seen == behaviour.hold:
                behaviour.held.set()
                behaviour.release.wait(60)
            if behaviour.broken:
                self.answer(500, "application/json", b'{"error": {"message": "oops"}}')
            elif behaviour.html:
                self.answer(200, "text/html", b"<!doctype html><title>It works!</title>")
            elif behaviour.key and self.headers["authorization"] != f"Bearer {behaviour.key}":
                error = {"error": {"message": "Incorrect API key", "code": "invalid_api_key"}}
                self.answer(401, "application/json", json.dumps(error).encode())
            else:
                self.answer(200, "application/json", json.dumps(ANSWER).encode())

        def answer(self, status: int, kind: str, body: bytes) -> None:
            try:
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                pass  # the client has left

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        behaviour.release.set()
        server.shutdown()
        server.server_close()


ANSWER = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "oh yes"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
}


def golden(folder: Path, n: int = 6) -> str:
    path = folder / "golden.jsonl"
    lines = [{"id": f"s{i}", "input": f"question {i}", "reference": "yes"} for i in range(n)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return str(path)


def environment(**extra: str) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if name not in {"EVALKIT_DEBUG", "COLUMNS"}}
    return {**plain, "NO_COLOR": "1", **extra}


def evalkit(*arguments: str, cwd: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "evalkit", *arguments],
        cwd=cwd,
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done


def started(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "evalkit", *arguments],
        cwd=cwd,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def rows(folder: Path) -> list[Trial]:
    """The rows of the one run that is kept there, in the plan's order."""
    store = open_store(folder / ".evalkit" / "runs.db")
    (run,) = store.runs()
    return list(store.trials(run.id))


# --- all well


def test_a_run_prints_its_table_and_leaves_its_files(tmp_path: Path) -> None:
    with serving(Behaviour()) as url:
        done = evalkit(
            *("run", "--golden", golden(tmp_path), "--endpoint", url, "--model", "m", "--limit", "4"),
            *("--gate", "pass_rate >= 40%", "--html", "out/r.html", "--json", "out/r.json"),
            cwd=tmp_path,
        )

    assert done.returncode == 0, done.stderr
    assert "100.0% [51.0, 100.0]" in done.stdout
    assert "n = 4: 4 passed, 0 not" in done.stdout
    assert "m on golden: pass: pass_rate is 100%" in done.stdout
    assert "unknown" in done.stdout  # the price of m
    assert len(rows(tmp_path)) == 4
    assert (tmp_path / "out" / "r.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    numbers = json.loads((tmp_path / "out" / "r.json").read_text(encoding="utf-8"))
    assert numbers["verdict"] == "pass"
    assert numbers["endpoints"][0]["pass_rate"]["n"] == 4
    assert numbers["info"]["golden"][0]["samples"] == 4


def test_two_nights_of_ci(tmp_path: Path) -> None:
    """Each run is held against the one before, which a tag names; then its answers are judged again."""
    suite = tmp_path / "suite.yaml"
    with serving(Behaviour()) as url:
        suite.write_text(
            f"golden: {golden(tmp_path, 60)}\n"
            f"endpoints: [{{name: e, url: {url}, model: m}}]\n"
            "gates: [pass_rate >= 90%]\n",
            encoding="utf-8",
        )
        first = evalkit("run", str(suite), cwd=tmp_path, GITHUB_STEP_SUMMARY="")
        assert (first.returncode, (tmp_path / "summary.md").exists()) == (0, False), first.stderr
        for night in range(2):
            assert evalkit("runs", "tag", "latest", "main", "--move", cwd=tmp_path).returncode == 0
            against = ("--baseline", "main", "--gate", "pass_rate >= baseline - 10%")
            done = evalkit("run", str(suite), *against, cwd=tmp_path, GITHUB_STEP_SUMMARY="summary.md")
            assert done.returncode == 0, f"night {night}: {done.stderr}"
    assert (tmp_path / "summary.md").read_text(encoding="utf-8").count("1 pass") == 2

    again = evalkit(
        *("rescore", "latest", "--scorer", "exact", "--gate", "pass_rate >= 90%"),
        *("--junit", "j.xml", "--json", "n.json", "--html", "r.html"),
        cwd=tmp_path,
        GITHUB_STEP_SUMMARY="again.md",
    )

    assert again.returncode == 1, again.stderr
    assert "1 fail" in (tmp_path / "again.md").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "n.json").read_text(encoding="utf-8"))["verdict"] == "fail"
    shown = evalkit("runs", "show", "latest", cwd=tmp_path)
    assert shown.returncode == 0, "looking at a failure is none"
    assert "fail: pass_rate is 0%" in " ".join(shown.stdout.split())


def test_a_failed_gate_is_exit_code_1(tmp_path: Path) -> None:
    with serving(Behaviour()) as url:
        suite = tmp_path / "suite.yaml"
        suite.write_text(
            f"golden: {golden(tmp_path)}\nendpoints: [{{url: '{url}', model: m}}]\n"
            "scorers: [exact]\ngates: [pass_rate >= 90%]\n",
            encoding="utf-8",
        )
        done = evalkit("run", "suite.yaml", cwd=tmp_path)

    assert done.returncode == 1
    assert "fail: pass_rate is 0%" in done.stdout


def test_a_key_reaches_the_endpoint_and_no_file(tmp_path: Path) -> None:
    with serving(Behaviour(key=KEY)) as url:
        done = evalkit(
            *("run", "--golden", golden(tmp_path), "--endpoint", url, "--model", "m", "--key-env", "MY_KEY"),
            *("--html", "r.html", "--json", "r.json"),
            cwd=tmp_path,
            MY_KEY=KEY,
        )

    assert done.returncode == 0, done.stderr
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) >= 4
    assert not [path for path in written if KEY.encode() in path.read_bytes()]
    assert KEY not in done.stdout + done.stderr


# --- it could not run


def refused(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode == 2, done.stderr
    for part in parts:
        assert part in done.stderr, done.stderr
    assert KEY not in done.stderr


def run_against(url: str, folder: Path, *more: str, **extra: str) -> subprocess.CompletedProcess[str]:
    base = ("run", "--golden", golden(folder), "--endpoint", url, "--model", "m")
    return evalkit(*base, *more, cwd=folder, **extra)


def test_a_port_where_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"

        refused(run_against(url, tmp_path), "first 5 calls failed (connect)", "→")


def test_a_wrong_key(tmp_path: Path) -> None:
    with serving(Behaviour(key=KEY)) as url:
        refused(run_against(url, tmp_path, "--key-env", "MY_KEY", MY_KEY="wrong"), "(auth)", "key")


def test_a_key_that_is_not_set(tmp_path: Path) -> None:
    with serving(Behaviour(key=KEY)) as url:
        refused(run_against(url, tmp_path, "--key-env", "NOT_SET_AT_ALL"), "NOT_SET_AT_ALL")


def test_a_run_without_a_single_answer_is_not_a_success(tmp_path: Path) -> None:
    with serving(Behaviour(broken=True)) as url:
        done = run_against(url, tmp_path)

    refused(done, "6 × server_error", "no call brought an answer")
    assert len(rows(tmp_path)) == 6


def test_a_server_that_speaks_html(tmp_path: Path) -> None:
    with serving(Behaviour(html=True)) as url:
        refused(run_against(url, tmp_path), "(not_inference)", "→")


def test_an_unexpected_error_hides_its_text_until_asked(tmp_path: Path) -> None:
    broken = "import evalkit.cli as c, evalkit._version as v\ndef f(): raise RuntimeError('a prompt')\n"
    command = [sys.executable, "-c", f"{broken}v.version = f\nc.main(['--version'])"]

    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    debugged = subprocess.run(command, env=environment(EVALKIT_DEBUG="1"), capture_output=True, text=True)

    assert done.returncode == 2
    assert "unexpected RuntimeError" in done.stderr
    assert "EVALKIT_DEBUG" in done.stderr
    assert "a prompt" not in done.stderr
    assert "a prompt" in debugged.stderr
    assert debugged.returncode == 2, "1 is a failed gate"


# --- interrupted


def resumed(stderr: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command that an interrupted run printed."""
    line = next(line.strip() for line in stderr.splitlines() if "--resume" in line)
    program, *arguments = shlex.split(line)
    assert program == "evalkit"
    return evalkit(*arguments, cwd=cwd)


def read_until(process: subprocess.Popen[str], word: str) -> str:
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if word in line:
            return said
    raise AssertionError(said)


def held_run(url: str, folder: Path, behaviour: Behaviour) -> subprocess.Popen[str]:
    """A run whose fourth call is in flight."""
    base = ("run", "--golden", golden(folder), "--endpoint", url, "--model", "m", "--concurrency", "1")
    process = started(*base, cwd=folder)
    assert behaviour.held.wait(60)
    return process


def test_the_first_ctrl_c_finishes_what_is_in_flight(tmp_path: Path) -> None:
    behaviour = Behaviour(hold=4)
    with serving(behaviour) as url, held_run(url, tmp_path, behaviour) as process:
        process.send_signal(signal.SIGINT)
        read_until(process, "stopping")
        behaviour.release.set()
        _, stderr = process.communicate(timeout=60)

        assert process.returncode == 130
        assert "2 of 6 calls left" in stderr
        assert len(rows(tmp_path)) == 4

        again = resumed(stderr, tmp_path)

    assert again.returncode == 0, again.stderr
    assert "4 of 6 calls are done already" in again.stderr
    assert "n = 6: 6 passed" in again.stdout
    assert behaviour.seen == 6


def test_the_second_ctrl_c_quits_at_once(tmp_path: Path) -> None:
    behaviour = Behaviour(hold=4)
    with serving(behaviour) as url, held_run(url, tmp_path, behaviour) as process:
        process.send_signal(signal.SIGINT)
        read_until(process, "stopping")
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)

        assert process.returncode == 130
        assert "3 of 6 calls left" in stderr
        assert "Traceback" not in stderr
        assert len(rows(tmp_path)) == 3


def test_a_kill_loses_what_was_in_flight_and_nothing_else(tmp_path: Path) -> None:
    behaviour = Behaviour(hold=4)
    with serving(behaviour) as url, held_run(url, tmp_path, behaviour) as process:
        process.kill()
        process.communicate(timeout=60)
        behaviour.release.set()

        assert len(rows(tmp_path)) == 3
        again = run_against(url, tmp_path)  # the same command goes on by itself

    assert again.returncode == 0, again.stderr
    assert len(rows(tmp_path)) == 6


# --- the other commands


def test_the_sets_are_listed_shown_and_checked(tmp_path: Path) -> None:
    listed = evalkit("datasets", "list", cwd=tmp_path)
    shown = evalkit("datasets", "show", "short-facts", cwd=tmp_path)
    checked = evalkit("datasets", "check", cwd=tmp_path)

    assert all(name in listed.stdout for name in ("short-facts", "small-code", "support-desk"))
    assert "## Purpose" in shown.stdout
    assert "samples.jsonl" in shown.stdout
    assert checked.returncode in (0, 1)
    assert "problems" in checked.stdout


def test_the_doctor_makes_a_test_call(tmp_path: Path) -> None:
    with serving(Behaviour()) as url:
        well = evalkit("doctor", "--endpoint", url, "--model", "m", cwd=tmp_path)
    ill = evalkit("doctor", "--endpoint", url, "--model", "m", cwd=tmp_path)

    assert "test call: TTFT" in well.stdout
    assert "Python 3." in well.stdout
    assert "prices of" in well.stdout
    assert ill.returncode == 2
    assert "✗ test call" in ill.stdout


def test_the_version_is_told_quickly(tmp_path: Path) -> None:
    code = (
        "import sys, evalkit.cli\n"
        "heavy = {'numpy', 'httpx', 'aiohttp', 'pydantic', 'presidio_analyzer', 'tiktoken', 'jinja2'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert evalkit("--version", cwd=tmp_path).stdout.startswith("evalkit ")
    assert loaded.stdout.strip() == "[]"


def test_a_place_where_the_demo_cannot_write_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file", encoding="utf-8")
    done = evalkit("demo", "--out", "taken/demo", cwd=tmp_path)

    assert done.returncode == 2
    assert "taken/demo cannot be written: Not a directory" in done.stderr


def test_the_demo_shows_two_endpoints_and_leaves_its_files(tmp_path: Path) -> None:
    done = evalkit("demo", "--out", "out", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "Simulated" in done.stderr
    for part in ("vendor answers better than self-hosted", "EMAIL_ADDRESS", "per million output tokens"):
        assert part in " ".join(done.stdout.split()), part
    out = tmp_path / "out"
    records = (out / "records.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(records) == 200
    assert "Simulated" in (out / "report.html").read_text(encoding="utf-8")
    store = open_store(out / "runs.db")
    assert [run.trials for run in store.runs()] == [200]
