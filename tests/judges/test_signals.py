"""latency, cost, perplexity, findings: what was not measured is never passed."""

from __future__ import annotations

import asyncio
import math
from decimal import localcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.call import ToolUse
from guardrails.errors import ConfigError
from judges.judge import MAX_ANSWER, Answer, Question, Score
from judges.registry import judge


def score(spec: Any, answer: Answer) -> Score:
    return asyncio.run(judge(spec)(Question("?"), answer))


def recorded(**record: Any) -> Answer:
    return Answer("x", record=record)


# --- latency and cost --------------------------------------------------------------------------------------


def test_every_bound_has_to_hold() -> None:
    spec = {"latency": {"ttft_ms": 800, "tpot_ms": 50}}
    assert score(spec, recorded(ttft_ms=800.0, tpot_ms=20.0)) == Score(
        1.0, True, "ttft_ms 800 ≤ 800, tpot_ms 20 ≤ 50"
    )
    assert score(spec, recorded(ttft_ms=801.0, tpot_ms=20.0)) == Score(0.0, False, "ttft_ms 801 > 800")


def test_a_time_that_was_not_measured_is_no_verdict_unless_another_one_is_too_long() -> None:
    spec = {"latency": {"ttft_ms": 800, "tpot_ms": 50}}
    assert score(spec, recorded(ttft_ms=10.0, tpot_ms=None)).error == "not_measured"
    assert score(spec, recorded(ttft_ms=900.0, tpot_ms=None)).passed is False
    assert score(spec, Answer("x")).error == "not_measured"


def test_a_cached_answer_says_nothing_about_latency() -> None:
    assert score({"latency": {"e2e_ms": 1}}, recorded(e2e_ms=0.1, cached=True)).error == "cached"


@pytest.mark.parametrize(
    ("record", "passed"),
    [
        ({"cost_usd": "0.002", "wasted_usd": "0"}, True),
        ({"cost_usd": "0.0021"}, False),
        ({"cost_usd": "0.0015", "wasted_usd": "0.0006"}, False),
        ({"cost_usd": "0", "wasted_usd": "0", "cached": True}, True),
        ({"cost_usd": None, "wasted_usd": "0.1"}, False),
        ({"cost_usd": None, "wasted_usd": "0"}, None),
        ({"cost_usd": "0.001", "attempts": [{"cost_usd": None}, {"cost_usd": "0.001"}]}, None),
        ({"cost_usd": "0.003", "attempts": [{"cost_usd": None}, {"cost_usd": "0.003"}]}, False),
        ({"cost_usd": "NaN"}, None),
        ({}, None),
    ],
)
def test_cost(record: dict[str, Any], passed: bool | None) -> None:
    said = score({"cost": 0.002}, recorded(**record))
    assert said.passed is passed
    assert (said.error == "not_measured") is (passed is None)


def test_cost_is_exact_whatever_context_the_caller_has_set() -> None:
    with localcontext(prec=2):
        assert score({"cost": 1.001}, recorded(cost_usd="1.001", wasted_usd="0.001")).passed is False


@pytest.mark.parametrize(
    "spec",
    [
        "latency",
        {"latency": {"ttft_ms": 0}},
        {"latency": {"p99_ms": 3}},
        "cost",
        {"cost": -1},
        {"cost": "cheap"},
    ],
)
def test_bad_bounds_are_refused(spec: Any) -> None:
    with pytest.raises(ConfigError, match=r"latency|cost"):
        judge(spec)


# --- perplexity --------------------------------------------------------------------------------------------


def test_perplexity_of_a_fair_coin_is_2() -> None:
    answer = Answer("x", logprobs=(math.log(0.5),) * 7)
    assert score({"perplexity": 2}, answer).reason == "perplexity 2 over 7 tokens"
    assert score("perplexity", answer).value == pytest.approx(0.5)
    assert score("perplexity", answer).passed is None
    assert score({"perplexity": 2.01}, answer).passed
    assert score({"perplexity": 1.99}, answer).passed is False


def test_no_logprobs_is_an_error_row() -> None:
    for logprobs in (None, (), (math.nan,), (-math.inf,)):
        assert score("perplexity", Answer("x", logprobs=logprobs)).error == "no_logprobs"


@given(logprobs=st.lists(st.floats(-9999, 0.001), min_size=1).map(tuple))
def test_perplexity_is_at_least_1(logprobs: tuple[float, ...]) -> None:
    said = score("perplexity", Answer("x", logprobs=logprobs))
    assert said.value is not None
    assert 0 < said.value <= 1


def test_a_bound_below_1_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        judge({"perplexity": 0.5})


# --- findings ----------------------------------------------------------------------------------------------

MAIL = "Write to jane.doe@example.org today."


def found(kind: str, direction: str = "output", count: int = 1) -> dict[str, Any]:
    return {"direction": direction, "kind": kind, "action": "redact", "count": count, "shadow": False}


def test_our_detectors_look_at_the_answer() -> None:
    assert score("findings", Answer("All is well.")) == Score(1.0, True, "nothing found")
    assert score("findings", Answer(MAIL)) == Score(0.0, False, "1 × EMAIL_ADDRESS")
    assert score({"findings": ["EMAIL_ADDRESS"]}, Answer(MAIL)).passed is False
    assert score({"findings": ["US_SSN", "toxicity", "secrets"]}, Answer(MAIL)).passed
    assert score({"findings": ["toxicity"]}, Answer("you fucking idiot, I will kill you")).passed is False
    assert score({"findings": {"kinds": ["pii"], "max": 1}}, Answer(MAIL)).passed


def test_refusals_and_arguments_of_tools_are_looked_at_too() -> None:
    assert score("findings", Answer("", refusal=MAIL)).passed is False
    assert score("findings", Answer("", (ToolUse("1", "send", f'{{"to": "{MAIL}"}}'),))).passed is False


def test_the_whole_answer_counts_towards_the_bound() -> None:
    long = "a" * (MAX_ANSWER // 2)
    assert score("findings", Answer(long, refusal=long)).error is None
    assert score("findings", Answer(long, (ToolUse("1", "f", long),), refusal="x")).error == "too_long"


def test_what_the_calls_filters_found_counts_though_it_is_gone() -> None:
    redacted = Answer("Write to <EMAIL_ADDRESS> today.", record={"findings": [found("EMAIL_ADDRESS")]})
    assert score("findings", redacted).reason == "1 × EMAIL_ADDRESS"
    flagged = Answer(MAIL, record={"findings": [found("EMAIL_ADDRESS")]})
    assert score("findings", flagged).reason == "1 × EMAIL_ADDRESS"  # the same one, not two
    asked = Answer("Done.", record={"findings": [found("EMAIL_ADDRESS", "input")]})
    assert score("findings", asked).passed


def test_without_a_scan_the_record_has_to_say_that_there_was_one() -> None:
    spec = {"findings": {"kinds": ["TOXICITY", "MY_KIND"], "scan": False}}
    assert score(spec, Answer("x")).error == "not_scanned"
    assert score(spec, recorded(scanned=[], findings=[])).error == "not_scanned"
    assert score(spec, recorded(scanned=["input"], findings=[])).error == "not_scanned"
    assert score(spec, recorded(scanned=["output"], findings=[])).passed
    assert score(spec, recorded(scanned=[], findings=[found("MY_KIND")])).passed is False
    with_tools = Answer("x", (ToolUse("1", "f", "{}"),), record={"scanned": ["output"], "findings": []})
    assert score(spec, with_tools).error == "not_scanned"


def test_without_a_scan_kinds_of_ones_own_are_taken_and_misspelt_ones_of_ours_are_not() -> None:
    for kind, meant in (
        ("TOXICTY", "TOXICITY"),
        ("EMAIL_ADRESS", "EMAIL_ADDRESS"),
        ("IPADDRESS", "IP_ADDRESS"),
    ):
        with pytest.raises(ConfigError, match=f"did you mean {meant}"):
            judge({"findings": {"kinds": [kind], "scan": False}})
    own = ["EMPLOYEE_ID", "UK_PASSPORT", "EMAIL", "ACME_SECRET_KEY", "US_SSN", "pii"]
    own += ["TOXIC", "BANK_CODE", "US_TIN", "MAIL_ADDRESS", "IP_ADDR"]
    judge({"findings": {"kinds": own, "scan": False}})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kinds": ["toxicty"]}, "no group"),
        ({"kinds": []}, "must not be empty"),
        ({"kinds": ["NO_SUCH_KIND"]}, "NO_SUCH_KIND"),
        ({"max": -1}, "at least 0"),
    ],
)
def test_bad_kinds_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        judge({"findings": options})
