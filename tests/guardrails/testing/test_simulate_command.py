"""`guardrails simulate` as a process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from guardrails.errors import ConfigError
from guardrails.testing import Profile, simulate_process
from guardrails.testing.faults import FAULTS

COMMAND = [sys.executable, "-m", "guardrails", "simulate"]

pytestmark = pytest.mark.e2e


def get(url: str) -> dict[str, object]:
    with urllib.request.urlopen(url, timeout=10) as answer:
        found = json.load(answer)
    assert isinstance(found, dict)
    return found


def test_a_process_serves_until_the_block_ends() -> None:
    with simulate_process(Profile(models=("mine",))) as server:
        listed = get(f"{server.url}/v1/models")
        assert [model["id"] for model in listed["data"]] == ["mine"]  # type: ignore[attr-defined]
        assert get(f"{server.url}/stats")["requests"] == 1
    with pytest.raises(OSError, match="refused"):
        get(f"{server.url}/stats")


def test_a_process_that_cannot_start_says_why() -> None:
    process = simulate_process(Profile(answers="golden:/nowhere.jsonl"))
    with pytest.raises(ConfigError, match=r"did not start.*cannot read the answers"), process:
        pass


def test_ctrl_c_ends_quietly_with_counts() -> None:
    process = subprocess.Popen(
        [*COMMAND, "--port", "0", "--key", "sk-secret"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    greeting = []
    while not greeting or "Ctrl-C" not in greeting[-1]:  # all of it, before we press it
        greeting.append(process.stdout.readline())
        assert greeting[-1], "it ended before it was ready"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert greeting[0].startswith("serving on http://127.0.0.1:")
    assert any("curl -N http://127.0.0.1:" in line for line in greeting)
    assert "0 requests, 0 completed" in out
    assert (process.returncode, err) == (0, "")
    assert "sk-secret" not in "".join(greeting) + out


def test_help_lists_every_fault() -> None:
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, timeout=30, check=True)
    for name, (what, _) in FAULTS.items():
        assert f"{name}: {what}" in done.stdout


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--profile", "turbo"], "use one of: instant, vendor, self-hosted, overloaded"),
        (["--fault", "explode"], "use one of: reset, reset_after"),
        (["--fault", "reset:7"], "write NAME=VALUE:PROBABILITY"),
        (["--answers", "parrot"], "use one of: echo"),
        (["--answers", "golden:/nowhere.jsonl"], "cannot read the answers"),
        (["--accuracy", "2"], "Invalid value for '--accuracy'"),
        (["--port", "99999"], "Invalid value for '--port'"),
    ],
)
def test_a_wrong_option_is_explained_with_exit_code_2(options: list[str], complaint: str) -> None:
    done = subprocess.run(
        [*COMMAND, *options],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
    )
    assert done.returncode == 2
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_taken_port_is_explained() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run([*COMMAND, "--port", str(port)], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: cannot listen on 127.0.0.1:{port}")


def test_options_override_the_profile(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("models: [one]\nanswers: 'fixed:from the file'\n")
    process = subprocess.Popen(
        [*COMMAND, "--port", "0", "--profile", str(path), "--answers", "fixed:from the option", "--quiet"],
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        url = process.stdout.readline().removeprefix("serving on ").strip()
        body = {"model": "one", "messages": [{"role": "user", "content": "?"}]}
        request = urllib.request.Request(f"{url}/chat/completions", json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            said = json.load(answer)["choices"][0]["message"]["content"]
        process.terminate()
    assert said == "from the option"
