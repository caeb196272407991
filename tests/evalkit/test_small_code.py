"""The small-code set holds what its card says, and its unit tests tell right programs from wrong ones.

The programs are this project's own, so a plain subprocess runs them: it is no sandbox for a model's code.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "datasets" / "small-code"
FENCE = re.compile(r"```python\n(.*)\n```", re.DOTALL)
LEVELS = {"easy", "medium", "hard"}

# Reads [[name, program, tests], ...]; writes {name: [what failed, and with which error]}.
RUNNER = """
import json, sys

failed = {}
for name, program, tests in json.load(sys.stdin):
    namespace = {"__name__": "program"}
    failed[name] = []
    for code in [program, *tests]:
        try:
            exec(compile(code, name, "exec"), namespace)
        except Exception as error:
            failed[name].append(f"{type(error).__name__}: {code}")
json.dump(failed, sys.stdout)
"""


def load() -> list[dict[str, Any]]:
    text = (FOLDER / "samples.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def unfenced(answer: str) -> str:
    match = FENCE.fullmatch(answer)
    assert match is not None, answer
    return match.group(1)


SAMPLES = load()
each_sample = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample["id"])


def programs(sample: dict[str, Any]) -> dict[str, str]:
    metadata = sample["metadata"]
    return {
        "answer": unfenced(metadata["answer"]),
        "wrong": unfenced(metadata["wrong"]),
        **{f"reference {i}": source for i, source in enumerate(sample["references"])},
    }


@pytest.fixture(scope="module")
def failed() -> Mapping[str, list[str]]:
    """The failed tests of every program of the set, all run in one subprocess, by `id program`."""
    jobs = [
        (f"{sample['id']} {name}", source, sample["metadata"]["tests"])
        for sample in SAMPLES
        for name, source in programs(sample).items()
    ]
    done = subprocess.run(
        [sys.executable, "-I", "-c", RUNNER],
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, list[str]] = json.loads(done.stdout)
    assert report.keys() == {name for name, _, _ in jobs}
    return report


def test_ids_prompts_and_entry_points_are_unique() -> None:
    assert [sample["id"] for sample in SAMPLES] == [f"sc-{i:03d}" for i in range(1, len(SAMPLES) + 1)]
    assert len({sample["input"] for sample in SAMPLES}) == len(SAMPLES)
    assert len({sample["metadata"]["entry_point"] for sample in SAMPLES}) == len(SAMPLES)


def test_the_card_agrees_with_the_samples() -> None:
    _, front, _ = (FOLDER / "CARD.md").read_text(encoding="utf-8").split("---\n", 2)
    card = yaml.safe_load(front)
    assert card["name"] == FOLDER.name
    assert card["version"] == "1.0.0"
    assert card["licence"] == "Apache-2.0"
    assert card["scorer"] == "code"
    assert card["samples"] == len(SAMPLES) >= 44


@each_sample
def test_fields(sample: dict[str, Any]) -> None:
    assert sample.keys() == {"id", "input", "references", "tags", "metadata"}
    metadata = sample["metadata"]
    assert metadata.keys() == {"entry_point", "tests", "answer", "wrong", "scorer"}
    assert metadata["scorer"] == "code"
    assert len(LEVELS.intersection(sample["tags"])) == 1
    assert len(sample["references"]) == 1
    assert f"`{metadata['entry_point']}" in sample["input"]
    assert sum("assert " in test for test in metadata["tests"]) >= 4
    assert all(metadata["entry_point"] in test for test in metadata["tests"])


@each_sample
def test_programs_define_the_entry_point_and_import_only_the_standard_library(sample: dict[str, Any]) -> None:
    for source in programs(sample).values():
        tree = ast.parse(source)
        defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        assert sample["metadata"]["entry_point"] in defined
        imported = {
            name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in ([node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
        }
        assert imported <= sys.stdlib_module_names


@each_sample
def test_right_programs_pass_and_the_wrong_one_fails(
    sample: dict[str, Any], failed: Mapping[str, list[str]]
) -> None:
    for name in programs(sample):
        failures = failed[f"{sample['id']} {name}"]
        if name == "wrong":
            assert failures, "no test tells the wrong answer from a right one"
            assert len(failures) < len(sample["metadata"]["tests"]), "the wrong answer is not plausible"
        else:
            assert failures == []
