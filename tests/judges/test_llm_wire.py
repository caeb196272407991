"""A judge over a real socket, in both vendors' words."""

from __future__ import annotations

from random import Random

import pytest

from guardrails import endpoint
from guardrails.record import CallRecord
from guardrails.testing import Profile, simulate
from judges.judge import Answer, Question
from judges.llm import Model, Rubric, models
from judges.llm.fence import Fence
from judges.registry import judge

SEED = 5  # so that the server, which says one thing only, can say the right case word
VERDICT = f'{{"case": "{Fence.drawn(Random(SEED), []).case}", "reasons": "fine", "score": 4}}'


@pytest.mark.e2e
@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("dialect", "structured", "path"), [("openai_chat", "auto", "/v1"), ("anthropic", "prompt", "")]
)
async def test_a_verdict_comes_over_the_wire(dialect: str, structured: str, path: str) -> None:
    records: list[CallRecord] = []
    async with simulate(Profile(answers=f"fixed:{VERDICT}")) as server:
        url = server.url.removesuffix("/v1") + path
        async with endpoint(url, model="gpt-4o-mini", dialect=dialect, sinks=(records.append,)) as llm:
            model = Model(llm, rng=Random(SEED))
            score = await Rubric(asked=model, structured=structured)(Question("?"), Answer("x"))  # type: ignore[arg-type] # one of the words
    assert (score.value, score.error, score.said) == (0.75, None, "fine")
    (record,) = records
    assert record.outcome == "complete"
    assert score.tokens == record.input_tokens + record.output_tokens
    assert score.cost_usd == float(record.cost_usd or 0) > 0


@pytest.mark.e2e
@pytest.mark.asyncio
async def test_a_server_that_is_no_judge_gives_error_rows() -> None:
    async with simulate(Profile(answers="lorem:50")) as server, endpoint(server.url, model="m") as llm:
        made = judge({"rubric": {"structured": "prompt"}}, models=models({"j": llm}))
        scores = [await made(Question("?"), Answer(text)) for text in ("one", "two")]
    assert [score.error for score in scores] == ["unreadable"] * 2
    assert all(score.said and score.value is None for score in scores)
