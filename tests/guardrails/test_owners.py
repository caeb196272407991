from __future__ import annotations

from pathlib import Path

import pytest

from guardrails._owners import clashes, sentence


@pytest.mark.parametrize(
    ("folder", "found"),
    [
        ("guardrails_ai-0.11.0.dist-info", ("guardrails-ai", "guardrails")),
        ("guardrails-ai-0.5.dist-info", ("guardrails-ai", "guardrails")),
        ("judges-0.1.0.dist-info", ("judges", "judges")),
        ("evalkit_guardrails-0.1.0.dist-info", None),
        ("openai_guardrails-1.0.dist-info", None),
        ("guardrails_ai-notes.txt", None),
    ],
)
def test_rivals_are_found_by_their_metadata(
    tmp_path: Path, folder: str, found: tuple[str, str] | None
) -> None:
    (tmp_path / folder).mkdir()
    assert clashes(tmp_path) == ([] if found is None else [found])


def test_no_folder_no_clash(tmp_path: Path) -> None:
    assert clashes(tmp_path / "absent") == []


def test_the_sentence_says_what_to_do() -> None:
    assert "pip uninstall guardrails-ai" in sentence("guardrails-ai", "guardrails")
