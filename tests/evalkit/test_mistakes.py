"""All that is wrong is told at once, as far as one mistake does not hide another."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from evalkit.config import Suite
from evalkit.mistakes import Mistakes, Several
from evalkit.plan import Plan
from guardrails.errors import ConfigError


def odd(number: int) -> int:
    if number % 2 == 0:
        raise ConfigError(f"{number} is even", hint="add one")
    return 10 * number


def told(numbers: list[int]) -> ConfigError | None:
    wrong = Mistakes()
    assert wrong.each(odd, numbers) == tuple(10 * number for number in numbers if number % 2)
    try:
        wrong.tell()
    except ConfigError as error:
        return error
    return None


def test_nothing_wrong_is_nothing_told() -> None:
    assert told([1, 3]) is None


def test_one_mistake_is_told_as_it_was() -> None:
    error = told([1, 2, 2])
    assert error is not None
    assert (error.message, error.hint) == ("2 is even", "add one")


def test_several_stand_below_each_other_each_with_its_hint() -> None:
    error = told([2, 1, 4])
    assert error is not None
    assert error.message.splitlines() == [
        *("2 mistakes, and nothing was run:", "- 2 is even", "  → add one", "- 4 is even", "  → add one")
    ]
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, Several)
    assert [each.message for each in again.errors] == ["2 is even", "4 is even"]


def test_several_in_several_are_one_list() -> None:
    def both(numbers: list[int]) -> None:
        if error := told(numbers):
            raise error

    wrong = Mistakes()
    wrong.each(both, [[2, 4], [1], [6]])
    assert [each.message for each in wrong.found] == ["2 is even", "4 is even", "6 is even"]


def test_a_simulated_user_that_nobody_plays_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "good.jsonl").write_text('{"id": "a", "input": "x", "reference": "y"}\n')
    endpoint = {"name": "e", "url": "http://127.0.0.1:1/v1", "model": "m"}
    suite = Suite(golden="good.jsonl", endpoints=[endpoint], user={})
    with pytest.raises(ConfigError, match="url"):
        Plan.of(suite, folder=tmp_path)


def test_a_plan_tells_of_sets_prompts_and_endpoints_together(tmp_path: Path) -> None:
    (tmp_path / "good.jsonl").write_text('{"id": "a", "input": "x", "reference": "y", "tags": ["t"]}\n')
    (tmp_path / "bad.jsonl").write_text('{"id": "a"}\n')
    suite = Suite.model_validate(
        {
            "golden": ["good.jsonl", "bad.jsonl", "none.jsonl"],
            "endpoints": [{"name": "e", "url": "http://127.0.0.1:1/v1", "model": "m"}],
            "prompts": [
                {"name": "p", "system": "{{ metadata.x }}", "user": "{{ metadata.y }}"},
                {"name": "q", "system": "{{ z }}"},
            ],
            "gates": ["pass_rate[u] >= 0.9"],
        }
    )
    with pytest.raises(Several) as loading:
        Plan.of(suite, folder=tmp_path)
    said = [each.message for each in loading.value.errors]
    assert len(said) == 5
    for part, one in zip(("bad.jsonl", "none.jsonl", "for x", "for y", "for z"), said, strict=True):
        assert part in one
    with pytest.raises(Several) as checking:
        Plan.of(suite.model_copy(update={"golden": suite.golden[:1]}), folder=tmp_path)
    assert "a tag 'u' that no sample has" in checking.value.errors[-1].message
    assert len(checking.value.errors) == 4
