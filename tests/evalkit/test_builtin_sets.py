"""The built-in sets: found, listed in the manifest, and judged as their cards say."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evalkit import datasets
from evalkit.sample import load
from guardrails.errors import ConfigError
from judges.judge import Answer
from judges.registry import JUDGES, judge


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with one of the sets and its manifest, to be changed."""
    shutil.copytree(datasets.path("short-facts").parent, tmp_path / "short-facts")
    datasets.write(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", datasets.names())
def test_a_set_loads_and_its_card_agrees(name: str) -> None:
    card, golden = datasets.card(name), load(name)
    assert card.name == golden.name == name
    assert card.samples == len(golden)


@pytest.mark.parametrize("name", datasets.names())
def test_the_judge_of_each_sample_tells_its_right_answer_from_its_wrong_one(name: str) -> None:
    scorer, judged = datasets.card(name).scorer, 0
    for sample in load(name).samples:
        chosen = sample.metadata.get("scorer", scorer)
        if chosen == "code" or chosen not in JUDGES or not {"answer", "wrong"} <= sample.metadata.keys():
            continue
        judged += 1
        for key, passed in (("answer", True), ("wrong", False)):
            coroutine: Any = judge(chosen)(sample.question(), Answer(sample.metadata[key]))
            with pytest.raises(StopIteration) as done:
                coroutine.send(None)
            assert done.value.value.passed is passed, f"{sample.id}: {done.value.value.reason}"
    assert judged or scorer not in JUDGES or scorer == "code", "programs are run in test_small_code"


def test_the_manifest_agrees_with_the_sets() -> None:
    assert datasets.check() == [], (
        "changed on purpose? raise the card's version, python -m evalkit.datasets --write"
    )


def test_the_command_checks(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "evalkit.datasets"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert datasets.main(["--help"]) == 2


def test_a_changed_set_is_seen(copy: Path) -> None:
    assert datasets.check(copy) == []
    samples = copy / "short-facts" / "samples.jsonl"
    samples.write_text(samples.read_text(encoding="utf-8").replace("Canberra", "Sydney"), encoding="utf-8")
    (problem,) = datasets.check(copy)
    assert problem.startswith("short-facts: samples_sha256 is ")


def test_a_maintainer_writes_the_manifest(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = copy / "short-facts" / "CARD.md"
    card.write_text(card.read_text(encoding="utf-8").replace("1.0.0", "1.1.0"), encoding="utf-8")
    assert datasets.main([], copy) == 1
    assert "version is 1.1.0, manifest.json says 1.0.0" in capsys.readouterr().err
    assert datasets.main(["--write"], copy) == 0
    assert datasets.main([], copy) == 0


def test_a_line_more_is_seen_thrice(copy: Path) -> None:
    samples = copy / "short-facts" / "samples.jsonl"
    samples.write_bytes(samples.read_bytes() + b'{"id": "new", "input": "x"}\n')
    said = " ".join(datasets.check(copy))
    assert "samples is 128" in said
    assert "samples_sha256" in said
    assert "its card counts 127 samples" in said


def test_sets_that_are_not_in_both_places_are_seen(copy: Path) -> None:
    shutil.copytree(copy / "short-facts", copy / "other")
    assert datasets.check(copy) == ["other: is not in manifest.json"]
    datasets.write(copy)
    assert datasets.check(copy) == ["other: its card is that of short-facts"]
    shutil.rmtree(copy / "other")
    assert datasets.check(copy) == ["other: is in manifest.json, and there is no such set"]


def test_a_manifest_that_is_missing_or_broken_is_seen(copy: Path) -> None:
    manifest = copy / "manifest.json"
    manifest.write_text("{", encoding="utf-8")
    assert datasets.check(copy) == ["manifest.json cannot be read (JSONDecodeError)"]
    manifest.unlink()
    assert datasets.check(copy) == ["manifest.json cannot be read (FileNotFoundError)"]


@pytest.mark.parametrize(
    ("card", "said"),
    [
        ("", "ValueError"),
        ("---\nname: [\n---\n", "Error"),
        ("---\nname: x\n---\n", "lacks or misspells version"),
    ],
)
def test_a_card_that_cannot_be_read_is_told(copy: Path, card: str, said: str) -> None:
    (copy / "short-facts" / "CARD.md").write_text(card, encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        datasets.card("short-facts", copy)
    (problem,) = datasets.check(copy)
    assert problem.startswith("short-facts: the card of short-facts cannot be read")


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"built-in sets are .*short-facts"):
        datasets.path("../etc")
    with pytest.raises(ConfigError, match=r"support-desk – did you mean `support-desk`\?"):
        datasets.path("Suport-desk")
    assert json.loads((datasets.folder() / datasets.MANIFEST).read_text(encoding="utf-8")).keys() == set(
        datasets.names()
    )
