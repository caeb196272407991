"""Judges with a scale, asked of a scripted model: what is asked, what comes of the reply, what it cost."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from dataclasses import replace
from decimal import Context, Decimal, localcontext
from typing import Any

import pytest

from guardrails.call import Call, Delta, Finish, Usage
from guardrails.client import Llm
from guardrails.errors import ConfigError, Interrupted, Refused, Transient
from guardrails.flow.retry import Backoff, Retry
from guardrails.handler import Handler
from guardrails.testing import FakeClock, Script, ScriptedEndpoint
from judges.combine import AllOf
from judges.judge import Answer, Question, Score, together
from judges.llm import GEval, Model, Panel, Reference, Rubric, Verdicts, fenced, verdict_of
from judges.registry import judge

ASKED = Question("What is the capital of France?", ("Paris",), ("Paris is the capital of France.",))


def scripted(*scores: Any) -> ScriptedEndpoint:
    return ScriptedEndpoint(*(saying(score) for score in scores))


def saying(score: Any, **more: Any) -> Callable[[Call], str]:
    return lambda call: verdict_of(call, reasons="because", score=score, **more)


def rubric(endpoint: Handler, **options: Any) -> Rubric:
    return Rubric(asked=Model(endpoint), **options)


def run(made: Any, answer: str = "Paris.", question: Question = ASKED) -> Score:
    score = asyncio.run(made(question, Answer(answer)))
    assert isinstance(score, Score)
    return score


@pytest.mark.parametrize(("score", "value"), [(1, 0.0), (3, 0.5), (4, 0.75), (5, 1.0)])
def test_a_rating_becomes_its_place_on_the_scale(score: int, value: float) -> None:
    said = run(rubric(scripted(score)))
    assert said == Score(value, value >= 0.75, f"rated {score} on 1–5", said="because", calls=1)


def test_labels_have_the_values_that_they_are_given() -> None:
    spec = {"full": 1, "partly": 0.4, "none": 0}
    said = run(rubric(scripted("partly"), scale=spec, threshold=0.4))
    assert (said.value, said.passed, said.reason) == (0.4, True, "rated partly")


def test_reasons_are_asked_for_before_the_score_and_the_answer_is_fenced() -> None:
    endpoint = scripted(5)
    run(rubric(endpoint, criteria="Is it polite?"), "A very polite answer.")
    request = endpoint.calls[0].request
    schema = request.extra["response_format"]["json_schema"]["schema"]
    assert list(schema["properties"]) == ["case", "reasons", "score"]
    assert schema["properties"]["score"]["enum"] == [1, 2, 3, 4, 5]
    assert schema["additionalProperties"] is False
    assert "Is it polite?" in request.messages[0].text
    assert fenced(endpoint.calls[0], "answer") == ["A very polite answer."]
    assert fenced(endpoint.calls[0], "passage-1") == ["Paris is the capital of France."]
    assert request.sampling.temperature == 0


def test_no_prompt_names_a_model_or_an_endpoint() -> None:
    endpoint = ScriptedEndpoint(saying(5), name="zq-endpoint", model="zq-model")
    run(Rubric(asked=Model(endpoint, name="zq-judge")))
    assert "zq-" not in "".join(message.text for message in endpoint.calls[0].request.messages)
    assert endpoint.calls[0].labels == {"role": "judge", "judge": "rubric"}


def test_several_samples_give_their_mean_and_keep_each_value() -> None:
    said = run(rubric(scripted(5, 3, 1, 5), samples=4, temperature=1.0))
    assert said.value == pytest.approx(0.625)
    assert said.values == (1.0, 0.5, 0.0, 1.0)
    assert said.reason == "mean of 4 ratings, from 0.00 to 1.00"
    with pytest.raises(ConfigError, match="temperature 0 are one sample"):
        rubric(scripted(5), samples=2)


def test_a_minority_of_unreadable_samples_is_left_out_and_a_majority_is_an_error() -> None:
    some = [saying(5), saying(5), "nothing"]
    said = run(rubric(ScriptedEndpoint(*some), samples=3, temperature=1.0, repair=False))
    assert said.values == (1.0, 1.0)
    many = run(rubric(ScriptedEndpoint(saying(5), "nothing"), samples=3, temperature=1.0, repair=False))
    assert (many.error, many.value) == ("unreadable", None)


def test_a_reference_is_needed_and_shown() -> None:
    endpoint = scripted("correct")
    made = Reference(asked=Model(endpoint))
    assert run(made).value == 1.0
    assert fenced(endpoint.calls[0], "reference-1") == ["Paris"]
    assert run(made, question=Question("?")).error == "reference"


def test_what_judging_cost_is_in_the_score() -> None:
    usage = Usage(100, 20, cost=Decimal("0.002"))
    endpoint = ScriptedEndpoint(lambda call: Script(saying(4)(call), usage=usage))
    said = run(rubric(endpoint, samples=2, temperature=1.0))
    assert (said.cost_usd, said.tokens) == (0.004, 240)
    unknown = run(rubric(scripted(4)))
    assert (unknown.cost_usd, unknown.tokens) == (None, None)


# --- repair, failures, forms -------------------------------------------------------------------------------


def test_an_unreadable_reply_is_asked_for_once_more_with_what_was_wrong() -> None:
    endpoint = ScriptedEndpoint("I would say five.", saying(5))
    assert run(rubric(endpoint)).value == 1.0
    turns = endpoint.calls[1].request.messages
    assert [turn.role for turn in turns] == ["system", "user", "assistant", "user"]
    assert turns[2].text == "I would say five."
    assert "no JSON object" in turns[3].text


def test_a_second_unreadable_reply_is_an_error_row_with_the_raw_text() -> None:
    endpoint = ScriptedEndpoint("five", "still five " * 1_000)
    said = run(rubric(endpoint))
    assert (said.value, said.passed, said.error) == (None, None, "unreadable")
    assert said.said.startswith("still five")
    assert len(said.said) == 2_000
    assert "still" not in said.reason
    assert "still" not in repr(said)
    assert len(endpoint.calls) == 2


def test_a_reply_that_was_cut_off_says_what_to_do() -> None:
    said = run(rubric(ScriptedEndpoint(Script('{"case": "', finish="length"))))
    assert said.error == "unreadable"
    assert "`max_tokens` is too small" in said.reason


def test_an_endpoint_that_fails_is_an_error_row() -> None:
    said = run(rubric(ScriptedEndpoint(Transient("down", kind="connect"))))
    assert (said.error, said.reason) == ("judge_call", "the judge's call failed (connect)")
    said = run(rubric(ScriptedEndpoint(ValueError("secret text"))))
    assert (said.error, said.reason) == ("judge_call", "the judge's call raised ValueError")


@pytest.mark.asyncio
async def test_a_judge_that_hangs_is_ended_by_its_own_deadline() -> None:
    clock = FakeClock()
    endpoint = ScriptedEndpoint(Script("x", stall_after=0))
    made = Rubric(asked=Model(endpoint, clock=clock), timeout=5)
    task = asyncio.create_task(made(ASKED, Answer("x")))
    await clock.run_for(5.1)
    said = await task
    assert (said.error, said.reason) == ("judge_call", "the judge's call failed (deadline)")
    assert endpoint.active == 0


@pytest.mark.asyncio
async def test_waiting_for_a_place_is_not_part_of_a_calls_time() -> None:
    clock = FakeClock()
    endpoint = ScriptedEndpoint(lambda call: Script(saying(5)(call), ttft=4.0))
    made = Rubric(asked=Model(endpoint, clock=clock, concurrency=1), timeout=5)
    scores = await clock.run(asyncio.gather(*(made(ASKED, Answer(str(n))) for n in range(4))))
    assert [score.error for score in scores] == [None] * 4
    assert clock.now() == 16


@pytest.mark.asyncio
async def test_a_cancelled_judge_closes_its_call_and_gives_its_place_back() -> None:
    clock = FakeClock()
    endpoint = ScriptedEndpoint(Script("x", stall_after=0), saying(5))
    model = Model(endpoint, concurrency=1, clock=clock)
    task = asyncio.create_task(Rubric(asked=model)(ASKED, Answer("x")))
    await clock.run_for(1)
    assert endpoint.active == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert endpoint.active == 0
    assert (await Rubric(asked=model)(ASKED, Answer("x"))).value == 1.0


@pytest.mark.asyncio
async def test_no_more_calls_are_open_than_the_model_may_have() -> None:
    clock = FakeClock()
    endpoint = ScriptedEndpoint(lambda call: Script(saying(5)(call), ttft=1.0))
    model = Model(endpoint, concurrency=2, clock=clock)
    one, other = Rubric(asked=model, name="one"), Rubric(asked=model, name="other")
    tasks = [asyncio.create_task(each(ASKED, Answer(str(n)))) for each in (one, other) for n in range(3)]
    for _ in range(4):
        await clock.run_for(0.5)
        assert endpoint.active <= 2
    await clock.run_for(3)
    assert [score.value for score in await asyncio.gather(*tasks)] == [1.0] * 6


def refusing(*fields: str) -> ScriptedEndpoint:
    """An endpoint that does not know some ways to force a reply's form."""

    def answer(call: Call) -> Any:
        request = call.request
        asked = {*request.extra, *(["tools"] if request.tools else [])}
        if asked & set(fields):
            return Refused("unknown field", kind="bad_request")
        if request.tools:
            head = Delta(verdict_of(call, reasons="r", score=4), "tool:0", tool=_head())
            return [head, Finish("tool_calls")]
        return saying(4)(call)

    return ScriptedEndpoint(answer)


def _head() -> Any:
    from guardrails.call import ToolHead

    return ToolHead("1", "verdict")


@pytest.mark.parametrize(
    ("unknown", "calls"), [((), 1), (("response_format",), 2), (("response_format", "tools"), 3)]
)
def test_the_most_binding_form_that_the_endpoint_takes_is_found_and_kept(
    unknown: tuple[str, ...], calls: int
) -> None:
    endpoint = refusing(*unknown)
    made = rubric(endpoint)
    assert run(made).value == 0.75
    assert len(endpoint.calls) == calls
    assert run(made, "Another answer.").value == 0.75
    assert len(endpoint.calls) == calls + 1


def test_a_request_that_is_refused_for_good_is_not_tried_in_other_forms() -> None:
    endpoint = ScriptedEndpoint(Refused("no", kind="context_length"))
    assert run(rubric(endpoint)).error == "judge_call"
    assert len(endpoint.calls) == 1
    endpoint = ScriptedEndpoint(Refused("no", kind="bad_request"))
    assert "write `temperature: null`" in run(rubric(endpoint)).reason
    assert len(endpoint.calls) == 3


def test_a_budget_for_reasoning_is_said_in_each_vendors_words() -> None:
    endpoint = scripted(5)
    run(rubric(endpoint, reasoning="low"))
    assert endpoint.calls[0].request.extra["reasoning_effort"] == "low"
    endpoint = scripted(5)
    run(rubric(endpoint, reasoning=1_024, max_tokens=500))
    request = endpoint.calls[0].request
    assert request.extra == {"thinking": {"type": "enabled", "budget_tokens": 1_024}}
    assert (request.sampling.max_tokens, request.sampling.temperature, request.dialect) == (
        1_524,
        None,
        "anthropic",
    )


# --- the cache of verdicts ---------------------------------------------------------------------------------


def test_the_same_question_is_paid_for_once() -> None:
    endpoint = scripted(4)
    made = rubric(endpoint)
    first, second = run(made), run(made)
    assert first.value == second.value == 0.75
    assert (second.tokens, second.cost_usd) == (0, 0.0)
    assert len(endpoint.calls) == 1
    run(made, "Paris!")
    run(made, question=Question("Which city?"))
    assert len(endpoint.calls) == 3


@pytest.mark.asyncio
async def test_the_same_question_at_the_same_time_is_paid_for_once_as_well() -> None:
    clock = FakeClock()
    endpoint = ScriptedEndpoint(lambda call: Script(saying(4)(call), ttft=1.0))
    made = Rubric(asked=Model(endpoint, clock=clock))
    scores = await clock.run(asyncio.gather(*(made(ASKED, Answer("x")) for _ in range(5))))
    assert [score.value for score in scores] == [0.75] * 5
    assert len(endpoint.calls) == 1
    assert clock.now() == 1


@pytest.mark.asyncio
async def test_when_the_first_one_is_cancelled_the_next_one_asks() -> None:
    clock = FakeClock()
    endpoint = ScriptedEndpoint(Script("x", stall_after=0), saying(4))
    made = Rubric(asked=Model(endpoint, clock=clock))
    first, second = (asyncio.create_task(made(ASKED, Answer("x"))) for _ in range(2))
    await clock.run_for(1)
    assert len(endpoint.calls) == 1
    first.cancel()
    assert (await second).value == 0.75
    assert (len(endpoint.calls), endpoint.active) == (2, 0)


def test_another_judge_model_or_prompt_has_verdicts_of_its_own(tmp_path: Any) -> None:
    from judges.llm.prompt import FOLDER

    verdicts = Verdicts()
    endpoint = scripted(4)
    file = tmp_path / "mine.md"
    file.write_text((FOLDER / "rubric.md").read_text().replace("Be strict", "Be kind"))
    for model, options in [("a", {}), ("b", {}), ("a", {"criteria": "x"}), ("a", {"prompt": str(file)})]:
        run(Rubric(asked=Model(endpoint, model=model, verdicts=verdicts), **options))
    assert len(endpoint.calls) == 4


def test_verdicts_can_be_kept_elsewhere_and_what_comes_back_is_looked_at() -> None:
    kept: dict[str, str] = {}
    for expected in (1, 1):
        endpoint = scripted(4)
        made = Rubric(asked=Model(endpoint, verdicts=Verdicts(10, kept.get, kept.__setitem__)))
        assert run(made).value == 0.75
        assert len(kept) == expected
    assert len(endpoint.calls) == 0
    (key,) = kept
    for bad in ("{", "[]", "[" * 5_000):
        kept[key] = bad
        endpoint = scripted(4)
        assert run(Rubric(asked=Model(endpoint, verdicts=Verdicts(10, kept.get)))).value == 0.75
        assert len(endpoint.calls) == 1


@pytest.mark.parametrize(
    "kept",
    [
        "{}",
        '{"score": 4}',  # without reasons
        '{"reasons": "r", "score": 9}',  # not on the scale
        '{"reasons": "r", "score": "4"}',
        '{"reasons": "r", "score": NaN}',
        '{"reasons": "r", "score": 5, "more": 1}',
        '{"reasons": ' + "[" * 900 + "]" * 900 + ', "score": 5}',
    ],
)
def test_a_remembered_verdict_that_does_not_fit_is_not_remembered(kept: str) -> None:
    endpoint = scripted(4)
    verdicts = Verdicts(load=lambda key: kept)
    assert run(Rubric(asked=Model(endpoint, verdicts=verdicts))).value == 0.75
    assert (len(endpoint.calls), verdicts.hits) == (1, 0)
    # What was asked for instead is remembered in its place.
    assert run(Rubric(asked=Model(endpoint, verdicts=verdicts))).value == 0.75
    assert (len(endpoint.calls), verdicts.hits) == (1, 1)


def test_a_remembered_verdict_on_other_claims_is_not_remembered() -> None:
    endpoint = ScriptedEndpoint(
        lambda call: verdict_of(call, items=[{"number": 1, "reasons": "r", "holds": True}])
    )
    verdicts = Verdicts(load=lambda key: '{"items": [{"number": 2, "reasons": "r", "holds": true}]}')
    made = judge({"checklist": ["one"]}, models={"m": Model(endpoint, verdicts=verdicts)})
    assert run(made).value == 1.0
    assert (len(endpoint.calls), verdicts.hits) == (1, 0)


def test_the_memory_of_verdicts_is_bounded() -> None:
    verdicts = Verdicts(2)
    for number in range(5):
        verdicts.put(str(number), {"score": number})
    assert [verdicts.get(str(number)) for number in range(5)] == [
        None,
        None,
        None,
        {"score": 3},
        {"score": 4},
    ]


# --- the expected score ------------------------------------------------------------------------------------


def with_logprobs(call: Call, top: dict[str, float]) -> list[Any]:
    text = verdict_of(call, reasons='the "score": 1 in the answer', score=4)
    head, tail = text[:-2], text[-2:-1]
    tokens = [{"token": piece, "logprob": -0.1, "top_logprobs": []} for piece in (head[:9], head[9:])]
    listed = [{"token": token, "logprob": math.log(p)} for token, p in top.items()]
    tokens.append({"token": tail, "logprob": math.log(top.get("4", 0.1)), "top_logprobs": listed})
    tokens.append({"token": "}", "logprob": 0.0, "top_logprobs": []})
    assert "".join(each["token"] for each in tokens) == text
    return [Delta(text, logprobs={"content": tokens}), Finish("stop")]


def test_the_expected_score_is_the_mean_over_the_scores_tokens() -> None:
    top = {"4": 0.5, "5": 0.3, " 5": 0.1, "the": 0.05, "3": 0.05}
    endpoint = ScriptedEndpoint(lambda call: with_logprobs(call, top))
    said = run(GEval(asked=Model(endpoint)))
    expected = (4 * 0.5 + 5 * 0.4 + 3 * 0.05) / 0.95
    assert said.value == pytest.approx((expected - 1) / 4)
    assert "from log-probabilities" in said.reason
    assert endpoint.calls[0].request.extra["top_logprobs"] == 20
    assert len(endpoint.calls) == 1


@pytest.mark.parametrize("top", [{"4": 0.2, "I": 0.8}, {}, {"40": 0.9}])
def test_too_little_probability_on_the_scale_says_nothing(top: dict[str, float]) -> None:
    endpoint = ScriptedEndpoint(
        lambda call: with_logprobs(call, top) if len(endpoint.calls) == 1 else saying(2)(call)
    )
    said = run(GEval(asked=Model(endpoint), samples=3))
    assert said.values == (0.25, 0.25, 0.25)
    assert said.reason.startswith("no log-probabilities; mean of 3 ratings")
    assert {call.request.sampling.temperature for call in endpoint.calls[1:]} == {1.0}


def test_an_endpoint_without_log_probabilities_is_sampled() -> None:
    endpoint = refusing("logprobs")
    assert run(GEval(asked=Model(endpoint), samples=2)).values == (0.75, 0.75)
    with pytest.raises(ConfigError, match="from 0 to 9"):
        GEval(asked=Model(endpoint), scale=[1, 10])


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1.0, "x", None, True])
def test_log_probabilities_that_are_none_are_not_believed(bad: Any) -> None:
    from judges.llm.logprobs import digits

    tokens = [
        {"token": '{"score": '},
        {"token": "4", "top_logprobs": [{"token": "4", "logprob": bad}]},
        {"token": "}"},
    ]
    from guardrails.call import Choice, Response

    response = Response((Choice(logprobs=({"content": tokens},)),))
    assert digits(response, "score", 1, 5) is None


# --- panels ------------------------------------------------------------------------------------------------


def panel(*scores: Any, **options: Any) -> Panel:
    parts = [
        Rubric(
            asked=Model(scripted(score) if isinstance(score, int) else ScriptedEndpoint(score)), name=f"j{n}"
        )
        for n, score in enumerate(scores)
    ]
    return Panel(tuple(parts), **options)


def test_a_panel_aggregates_and_tells_how_far_its_judges_disagree() -> None:
    said = run(panel(5, 5, 1))
    assert said.value == pytest.approx(2 / 3)
    assert (said.passed, said.values) == (True, (1.0, 1.0, 0.0))
    assert said.reason == "mean of 3 judges: values from 0.00 to 1.00, 2 yes, 1 no"
    assert [part["judge"] for part in said.parts] == ["j0", "j1", "j2"]
    assert run(panel(5, 5, 1, aggregate="median")).value == 1.0
    assert run(panel(5, 1, 1, aggregate="majority")).value == pytest.approx(1 / 3)
    assert run(panel(5, 5, 1, threshold=0.9)).passed is False
    assert run(panel(5, 1, aggregate="majority")).passed is None


def test_a_panel_does_without_a_judge_that_fails_and_not_without_most() -> None:
    said = run(panel(5, 1, "?"))
    assert (said.value, said.error) == (0.5, None)
    assert said.reason.endswith("; 1 failed")
    assert said.parts[2]["error"] == "unreadable"
    assert run(panel(5, "?", "?")).error == "unreadable"


def test_a_list_of_models_is_a_panel() -> None:
    models = {"a": scripted(5), "b": scripted(1)}
    made = judge({"rubric": {"criteria": "x", "model": ["a", "b"]}}, models=models)
    assert made.name == "rubric"
    said = run(made)
    assert said.value == 0.5
    assert [part["judge"] for part in said.parts] == ["rubric:a", "rubric:b"]
    spec = {"rubric": {"model": ["a", "b"], "aggregate": "majority", "name": "tone"}}
    assert judge(spec, models=models).name == "tone"
    with pytest.raises(ConfigError, match="two judges or more"):
        judge({"rubric": {"model": ["a", "a"]}}, models=models)


def test_combined_judges_pass_the_costs_on() -> None:
    endpoint = ScriptedEndpoint(lambda call: Script(saying(4)(call), usage=Usage(10, 2, cost=Decimal("0.5"))))
    made = judge({"all": ["contains", "rubric"]}, models={"m": endpoint})
    said = run(made)
    assert (said.cost_usd, said.tokens, said.passed) == (0.5, 12, True)


@pytest.mark.parametrize(
    ("error", "known"),
    [
        (Transient("down", kind="connect"), True),  # nobody was reached
        (Transient("late", kind="timeout_first_event"), False),  # whoever was may have charged for it
        (ValueError("?"), False),
    ],
)
def test_a_failed_judge_costs_nothing_known_unless_nobody_was_reached(error: Exception, known: bool) -> None:
    usage = Usage(10, 2, cost=Decimal("0.5"))
    paid = Rubric(asked=Model(ScriptedEndpoint(lambda call: Script(saying(4)(call), usage=usage))), name="a")
    failed = Rubric(asked=Model(ScriptedEndpoint(error)), name="b")
    alone = run(failed)
    assert (alone.cost_usd, alone.tokens, alone.calls) == ((0.0, 0, 1) if known else (None, None, 1))
    for whole in (Panel((paid, failed, judge("exact"))), AllOf((paid, failed, judge("exact")))):
        said = run(whole, question=replace(ASKED, prompt=repr(whole)))
        assert (said.cost_usd, said.tokens, said.calls) == ((0.5, 12, 2) if known else (None, None, 2))


def test_what_a_judge_was_paid_for_before_it_failed_is_in_its_score() -> None:
    usage = Usage(10, 2, cost=Decimal("0.5"))
    error = Interrupted("gone", kind="reset")

    def cut(call: Call) -> Script:
        said = [Delta(saying(4)(call)[:9]), Finish("stop", usage)]
        return Script(said, finish=None, fail_after=2, error=error)

    said = run(rubric(Llm(ScriptedEndpoint(cut, model="m"))))
    assert (said.error, said.cost_usd, said.tokens, said.calls) == ("judge_call", 0.5, 12, 1)
    unread = ScriptedEndpoint(Script("no verdict", usage=usage), cut)
    said = run(rubric(Llm(unread)))
    assert (said.error, said.cost_usd, said.tokens, said.calls) == ("judge_call", 1.0, 24, 2)


def test_forms_that_were_refused_are_calls_too_and_free() -> None:
    usage = Usage(10, 2, cost=Decimal("0.5"))

    def answer(call: Call) -> Any:
        if call.request.extra:
            return Refused("unknown field", kind="bad_request")
        return Script(saying(4)(call), usage=usage)

    said = run(rubric(ScriptedEndpoint(answer)))
    assert (said.cost_usd, said.tokens, said.calls) == (0.5, 12, 2)


@pytest.mark.parametrize(
    ("error", "cost"),
    [
        (Transient("late", kind="timeout_first_event"), None),  # whoever was reached may have charged for it
        (Transient("down", kind="connect"), 0.5),
    ],
)
def test_an_attempt_of_unknown_cost_makes_the_cost_of_judging_unknown(
    error: Exception, cost: float | None
) -> None:
    usage = Usage(10, 2, cost=Decimal("0.5"))
    endpoint = ScriptedEndpoint(error, lambda call: Script(saying(4)(call), usage=usage), model="m")
    said = run(rubric(Llm(endpoint, Retry(backoff=Backoff(base=0.0)))))
    assert len(endpoint.calls) == 2
    assert (said.error, said.cost_usd, said.calls) == (None, cost, 1)


def test_judges_that_ask_nobody_cost_nothing_together() -> None:
    assert together([Score.verdict(True, "r"), Score.unjudged("reference", "r")]) == {}


def test_no_caller_rounds_what_judging_cost_with_a_coarse_decimal_context() -> None:
    usage = Usage(10, 2, cost=Decimal("0.123456"))
    endpoint = ScriptedEndpoint(lambda call: Script(saying(4)(call), usage=usage))
    with localcontext(Context(prec=2)):
        said = run(rubric(endpoint, samples=3, temperature=1.0))
    assert said.cost_usd == 0.370368


# --- the registry ------------------------------------------------------------------------------------------


def test_a_judge_without_a_model_says_what_to_write() -> None:
    for models in (None, {}):
        with pytest.raises(ConfigError, match=r"judges: \{NAME: \{url") as caught:
            judge("rubric", models=models)
        assert "asks a model" in caught.value.message
    two = {"a": scripted(1), "b": scripted(1)}
    with pytest.raises(ConfigError, match="one of a, b"):
        judge("rubric", models=two)
    with pytest.raises(ConfigError, match="none of the suite's"):
        judge({"rubric": {"model": "c"}}, models=two)
    with pytest.raises(ConfigError, match="no option 'asked'"):
        judge({"rubric": {"asked": "x"}}, models=two)
    with pytest.raises(ConfigError, match="runs code or calls somebody"):
        judge("rubric", models={"a": scripted(1)}, trusted=False)
    with pytest.raises(ConfigError, match="needs a model"):
        Rubric()


def test_what_a_row_is_keyed_by_changes_with_model_and_prompt(tmp_path: Any) -> None:
    from judges.llm.prompt import FOLDER

    (tmp_path / "mine.md").write_text((FOLDER / "rubric.md").read_text() + "\nMore.\n")
    one, other = scripted(1), ScriptedEndpoint(saying(1), model="m2")
    spellings = {
        repr(judge("rubric", models={"a": one})),
        repr(judge("rubric", models={"a": other})),
        repr(judge({"rubric": {"prompt": "mine.md"}}, folder=tmp_path, models={"a": one})),
    }
    assert len(spellings) == 3
    assert repr(judge("rubric", models={"a": one})) in spellings


def test_a_score_goes_through_json_and_old_rows_still_read() -> None:
    score = Score(0.5, True, "why", None, 0.1, 12, (0.5, 0.5), ({"claim": "x"},), "reasons")
    assert Score(**json.loads(json.dumps(score.as_dict()))) == score
    old = {"value": 1.0, "passed": True, "reason": "why", "error": None}
    assert Score(**old).as_dict() == old  # type: ignore[arg-type] # a row as it was written before
    assert "reasons" not in repr(score)
    assert "claim" not in repr(score)
