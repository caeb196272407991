"""Two answers, both orders; many of them; families; a judge with known error rates."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from guardrails.call import Call, Usage
from guardrails.errors import ConfigError
from guardrails.testing import Script, ScriptedEndpoint
from judges.judge import MAX_ANSWER, Answer, Question
from judges.llm import (
    Model,
    Pairwise,
    Preference,
    Rubric,
    Tally,
    erring,
    family,
    fenced,
    preferences,
    relatives,
    verdict_of,
)

ASKED = Question("Which city?", ("Canberra",))


def says(choose: Callable[[str, str], str], usage: Usage | None = None) -> ScriptedEndpoint:
    def answer(call: Call) -> Any:
        (a,), (b,) = fenced(call, "answer_a"), fenced(call, "answer_b")
        return Script(verdict_of(call, reasons="because", better=choose(a, b)), usage=usage)

    return ScriptedEndpoint(answer)


def longest(a: str, b: str) -> str:
    return "A" if len(a) > len(b) else "B" if len(b) > len(a) else "tie"


def prefer(endpoint: ScriptedEndpoint, a: str, b: str, **options: Any) -> Preference:
    return asyncio.run(Pairwise(asked=Model(endpoint), **options).prefer(ASKED, a, b))


def test_a_win_needs_both_orders() -> None:
    found = prefer(says(longest, Usage(10, 5)), "long answer", "short")
    assert (found.winner, found.orders, found.consistent) == ("a", ("a", "a"), True)
    assert (found.longer, found.tokens, found.score, found.first_wins) == (6, 30, 1.0, 1)
    turned = prefer(says(longest), "short", "long answer")
    assert (turned.winner, turned.orders, turned.longer) == ("b", ("b", "b"), -6)


@pytest.mark.parametrize(("first", "wins"), [("A", 2), ("B", 0)])
def test_a_judge_that_goes_by_position_has_no_preference(first: str, wins: int) -> None:
    found = prefer(says(lambda a, b: first), "one", "two")
    assert (found.winner, found.consistent, found.score, found.first_wins) == ("tie", False, 0.5, wins)


def test_one_order_is_believed_only_when_asked_for() -> None:
    endpoint = says(lambda a, b: "A")
    assert prefer(endpoint, "one", "two", both=False).winner == "a"
    assert len(endpoint.calls) == 1


def test_equal_answers_are_a_tie_and_cost_nothing() -> None:
    endpoint = says(longest)
    found = prefer(endpoint, "same", "same")
    assert (found.winner, found.consistent, found.tokens) == ("tie", True, 0)
    assert not endpoint.calls


def test_one_unreadable_order_is_an_error_and_no_tie() -> None:
    endpoint = ScriptedEndpoint(lambda call: verdict_of(call, reasons="r", better="A"), "?")
    found = prefer(endpoint, "one", "two")
    assert (found.winner, found.score, found.error) == (None, None, "unreadable")
    assert prefer(endpoint, "x" * (MAX_ANSWER + 1), "y").error == "too_long"


def test_in_a_suite_the_answer_meets_the_reference() -> None:
    made = Pairwise(asked=Model(says(longest)))
    assert made.check(Question("?")) is not None
    score = asyncio.run(made(ASKED, Answer("Canberra, of course")))
    assert (score.value, score.passed, score.reason) == (
        1.0,
        True,
        "better than the reference; +11 characters",
    )
    score = asyncio.run(made(ASKED, Answer("C.")))
    assert (score.value, score.passed) == (0.0, False)


def test_a_prompt_of_ones_own_needs_the_three_words(tmp_path: Any) -> None:
    from judges.llm.prompt import FOLDER

    file = tmp_path / "mine.md"
    file.write_text((FOLDER / "pairwise.md").read_text().replace("[A, B, tie]", "[A, B]"))
    with pytest.raises(ConfigError, match="not one that this judge can read"):
        Pairwise(asked=Model(says(longest)), prompt=str(file))


# --- many pairs --------------------------------------------------------------------------------------------


def test_a_tally_counts_what_a_report_needs() -> None:
    tally = Tally.of(
        [
            Preference("a", ("a", "a"), 5),
            Preference("b", ("b", "b"), 5),
            Preference("tie", ("a", "b"), 5),
            Preference("tie", ("tie", "tie"), 0),
            Preference(None, (), 5, "unreadable"),
        ]
    )
    assert (tally.wins, tally.losses, tally.ties, tally.inconsistent, tally.errors) == (1, 1, 2, 1, 1)
    assert (tally.first_wins, tally.shown) == (4, 6)
    assert (tally.longer_wins, tally.unequal) == (1, 2)
    assert (tally.n, tally.win_rate, tally.bounds) == (4, 0.5, (0.4, 0.6))
    assert (Tally().win_rate, Tally().bounds) == (None, None)


async def _all(judge: Pairwise, pairs: Any, **options: Any) -> list[tuple[Any, Preference]]:
    return [each async for each in preferences(judge, pairs, **options)]


def test_preferences_come_in_order_and_pairs_are_read_as_needed() -> None:
    read: list[int] = []

    def pairs() -> Any:
        for number in range(20):
            read.append(number)
            yield number, ASKED, Answer("x" * number), Answer("y" * 10)

    async def some() -> list[int]:
        judge = Pairwise(asked=Model(says(longest)))
        keys = []
        async for key, _ in preferences(judge, pairs(), at_once=3):
            keys.append(key)
            assert len(read) <= len(keys) + 3
        return keys

    assert asyncio.run(some()) == list(range(20))
    found = asyncio.run(_all(Pairwise(asked=Model(says(longest))), pairs()))
    assert Tally.of(each for _, each in found) == Tally(9, 10, 1, 0, 0, 19, 38, 19, 19)


@pytest.mark.asyncio
async def test_leaving_early_leaves_no_call_open() -> None:
    endpoint = ScriptedEndpoint(Script("x", stall_after=0))
    endpoint_first = says(longest)
    calls = 0

    def handler(call: Call) -> Any:
        nonlocal calls
        calls += 1
        return (endpoint_first if calls <= 2 else endpoint)(call)

    pairs = ((n, ASKED, Answer(f"a{n}"), Answer("b" * (n + 9))) for n in range(5))
    source = preferences(Pairwise(asked=Model(handler)), pairs, at_once=3)
    assert (await anext(source))[0] == 0
    await source.aclose()
    assert endpoint.active == 0


# --- families ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "house"),
    [
        ("gpt-4o-mini", "openai"),
        ("openai/o3-mini", "openai"),
        ("o1", "openai"),
        ("claude-sonnet-4", "anthropic"),
        ("us.anthropic.claude-3-haiku", "anthropic"),
        ("meta-llama/Llama-3.1-8B-Instruct", "meta"),
        ("Qwen/Qwen2.5-7B", "qwen"),
        ("phi-4", "microsoft"),
        ("philosopher-7b", None),
        ("yi-34b", "01-ai"),
        ("yield", None),
        ("", None),
        ("my-model", None),
    ],
)
def test_the_family_of_a_models_name(model: str, house: str | None) -> None:
    assert family(model) == house


def test_relatives_are_warned_about() -> None:
    (warning,) = relatives(["gpt-4o", "claude-3"], ["gpt-4o-mini", "llama-3", "o3"])
    assert "gpt-4o is of the same family (openai) as gpt-4o-mini, o3" in warning
    assert relatives(["my-judge"], ["my-judge"]) == []


# --- known error rates -------------------------------------------------------------------------------------


def test_a_scripted_judge_errs_as_often_as_it_should() -> None:
    n, sensitivity, specificity = 2_000, 0.9, 0.7
    rng = random.Random(3)
    answer = erring(
        lambda text: text.startswith("right"), rng, sensitivity=sensitivity, specificity=specificity
    )
    judge = Rubric(asked=Model(ScriptedEndpoint(answer)))

    async def judged(word: str) -> float:
        scores = [await judge(ASKED, Answer(f"{word} {number}")) for number in range(n // 2)]
        return sum(score.passed is True for score in scores) / len(scores)

    # Four standard errors of a share of 1,000.
    assert asyncio.run(judged("right")) == pytest.approx(sensitivity, abs=4 * (0.09 / 1_000) ** 0.5)
    assert asyncio.run(judged("wrong")) == pytest.approx(1 - specificity, abs=4 * (0.21 / 1_000) ** 0.5)
