"""What the command line refuses, and how it says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalkit import cli
from evalkit.commands.run import again

Capture = pytest.CaptureFixture[str]


def command(*arguments: str) -> None:
    with pytest.raises(SystemExit) as exit_code:
        cli.main(arguments)
    assert exit_code.value.code == 2


def complained(capsys: Capture, *parts: str) -> None:
    said = capsys.readouterr().err
    for part in parts:
        assert part in said, said


def test_the_command_to_go_on_with_names_one_run() -> None:
    said = again(["run", "s.yaml", "--resume", "old", "--limit", "3", "--resume=older"])

    assert said == ["evalkit", "run", "s.yaml", "--limit", "3"]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--golden", "gone.jsonl"), ("gone.jsonl", "no such file", "support-desk")),
        (("--golden", "empty.jsonl"), ("empty.jsonl", "holds no samples")),
        (("--golden", "twice.jsonl"), ("twice.jsonl:2", "id of line 1")),
        (("--golden", "short-facts", "--gate", "quality > 3"), ("there is no metric 'quality'",)),
        (("--golden", "short-facts", "--gate", "pass_rate >= 95"), ("did you mean 95%?",)),
        (("--golden", "short-facts", "--scorer", "vibes"), ("there is no judge 'vibes'",)),
        (("--golden", "short-facts", "--dialect", "klingon"), ("klingon", "openai_chat")),
        (("--golden", "short-facts", "--resume", "nope"), ("runs.db",)),
        (("--golden", "short-facts", "--out", "file.txt"), ("file.txt cannot be written", "--out")),
        (("--golden", "short-facts", "-n", "20000"), ("sampling.n", "less than or equal to 10000")),
        (("--golden", "short-facts", "--limit", str(2**63)), ("limit", f"less than or equal to {2**63 - 1}")),
        ((), ("--golden missing",)),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_sent(
    tmp_path: Path, capsys: Capture, arguments: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    (tmp_path / "empty.jsonl").write_text("\n", encoding="utf-8")
    (tmp_path / "file.txt").write_text("", encoding="utf-8")
    line = '{"id": "a", "input": "q", "reference": "r"}\n'
    (tmp_path / "twice.jsonl").write_text(line * 2, encoding="utf-8")
    here = [str(tmp_path / each) if (tmp_path / each).exists() else each for each in arguments]
    kept = () if "--out" in here else ("--out", str(tmp_path / "kept"))

    # Nobody listens there, and nobody is asked: the messages are about what came before.
    command("run", "--endpoint", "http://127.0.0.1:1/v1", "--model", "m", *here, *kept)

    complained(capsys, *parts)
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("run",), "nothing to run"),
        (("run", "gone.yaml"), "gone.yaml does not exist"),
        (
            ("run", "--golden", "short-facts", "--endpoint", "localhost:80", "--model", "m"),
            "http://host:port/v1",
        ),
        (("run", "--golden", "short-facts", "--model", "m"), "--endpoint"),
        (("run", "--golden", "short-facts", "--endpoint", "http://a/v1"), "1 --endpoint and 0 --model"),
        (("datasets", "show", "gone"), "no built-in set 'gone'"),
        (("frobnicate",), "frobnicate"),
    ],
)
def test_a_wrong_command_says_what_to_write(capsys: Capture, arguments: tuple[str, ...], part: str) -> None:
    command(*arguments)

    complained(capsys, part)
