"""What the rows of a run come to, and what is said of two endpoints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal, localcontext
from io import StringIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from evalkit import gate, view, words
from evalkit import measure as measuring
from evalkit.columns import Columns
from evalkit.compare import Comparison
from evalkit.compare import compare as compare_columns
from evalkit.metric import Metric
from evalkit.stats import Measured
from evalkit.summary import Endpoint
from evalkit.summary import summarise as summarise_columns
from evalkit.trial import Failure, Trial
from judges.judge import Answer, Score

YES, NO = Score.verdict(True, "right"), Score.verdict(False, "wrong")
LOST = Score.unjudged("timeout", "the judge did not answer")


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def record(**fields: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "model": "m",
        "model_reported": None,
        "ttft_ms": 100.0,
        "tpot_ms": 10.0,
        "e2e_ms": 500.0,
        "input_tokens": 10,
        "output_tokens": 5,
        "token_source": "usage",
        "cost_usd": "0.001",
        "wasted_usd": "0",
        "price_version": "p1",
        "findings": [],
        "scanned": [],
        "not_scanned": [],
    }
    return {**plain, **fields}


def row(sample: int | str, score: Score | None = YES, endpoint: str = "a", **fields: Any) -> Trial:
    scores = {} if score is None else {"contains": score}
    made = {"record": record(), "answer": Answer("text"), "error": None, "scores": scores} | fields
    return Trial("run", str(sample), endpoint, f"{endpoint}{sample}", "now", **made)


def failed(sample: int, kind: str = "reset", endpoint: str = "a") -> Trial:
    return row(sample, None, endpoint, error=Failure(kind, "it broke"), answer=None)


def summarise(rows: Sequence[Trial], generator: np.random.Generator) -> list[Endpoint]:
    return summarise_columns(Columns.of(rows), generator)


def compare(rows: Sequence[Trial], generator: np.random.Generator) -> list[Comparison]:
    return compare_columns(Columns.of(rows), generator)


def measure(metric: Metric, rows: Sequence[Trial], generator: np.random.Generator) -> Measured | None:
    return measuring.measure(metric, Columns.of(rows), generator)


# --- rows


@pytest.mark.parametrize(
    ("scores", "passed"),
    [
        ({}, True),
        ({"y": Score(0.4, None, "no verdict")}, None),
        ({"x": YES}, True),
        ({"x": YES, "y": NO}, False),
        ({"x": LOST}, None),
        ({"x": YES, "y": LOST}, None),
        ({"x": NO, "y": LOST}, None),
        ({"x": YES, "y": Score(0.4, None, "a value without a verdict")}, True),
    ],
)
def test_a_row_passes_when_every_scorer_says_yes(scores: dict[str, Score], passed: bool | None) -> None:
    assert Trial("r", "s", "e", "k", "now", scores=scores).passed is passed


def test_a_failed_call_counts_as_not_passed() -> None:
    (summary,) = summarise([row(1), row(2), row(3), failed(4)], rng())

    assert summary.pass_rate is not None
    assert (summary.pass_rate.value, summary.pass_rate.n) == (0.75, 4)
    assert (summary.passed, summary.failed, summary.failures) == (3, 0, 1)


def test_rows_that_a_judge_failed_on_are_left_out_and_bounded() -> None:
    (summary,) = summarise([row(1), row(2, NO), row(3, LOST), row(4, LOST)], rng())

    assert summary.pass_rate is not None
    assert (summary.pass_rate.value, summary.pass_rate.n) == (0.5, 2)
    assert (summary.pass_rate_worst, summary.pass_rate_best) == (0.25, 0.75)
    assert summary.judge_errors == {"timeout": 2}


@given(st.lists(st.sampled_from(["yes", "no", "lost", "failed"]), min_size=1, max_size=40))
def test_every_row_is_counted_once_and_the_rate_lies_within_its_bounds(kinds: list[str]) -> None:
    made = {
        "yes": row,
        "no": lambda n: row(n, NO),
        "lost": lambda n: row(n, LOST),
        "failed": failed,
    }
    (summary,) = summarise([made[kind](number) for number, kind in enumerate(kinds)], rng())

    assert (
        summary.passed + summary.failed + summary.failures + summary.unjudged == summary.calls == len(kinds)
    )
    assert summary.pass_rate_worst is not None
    assert summary.pass_rate_best is not None
    if summary.pass_rate is not None:
        assert summary.pass_rate_worst <= summary.pass_rate.value + 1e-12
        assert summary.pass_rate.value <= summary.pass_rate_best + 1e-12
        assert summary.pass_rate.low <= summary.pass_rate.value <= summary.pass_rate.high


def test_latencies_are_those_of_whole_answers() -> None:
    rows = [row(1, record=record(ttft_ms=10.0)), row(2, record=record(ttft_ms=30.0)), failed(3)]
    (summary,) = summarise(rows, rng())

    assert summary.latency["ttft"].values == (10.0, 30.0)
    assert summary.latency["ttft"].p50 is not None
    assert summary.latency["ttft"].p50.value == 20.0
    assert summary.latency["ttft"].p99 is not None
    assert summary.latency["ttft"].p99.high == math.inf


def test_an_unknown_price_is_never_zero() -> None:
    unknown = record(cost_usd=None, price_version=None)
    (none,) = summarise([row(1, record=unknown)], rng())
    (some,) = summarise([row(1, record=unknown), row(2, record=record(wasted_usd="0.002"))], rng())

    assert words.cost_total(none.cost) == "unknown"
    assert none.cost.per_call is None
    assert (some.cost.total, some.cost.known, some.cost.unknown) == (Decimal("0.003"), 1, 1)
    assert "1 call unknown" in words.cost_total(some.cost)


def test_calls_that_failed_for_nothing_do_not_make_answers_of_unknown_cost_cheap() -> None:
    broken = {"error": Failure("server_error", ""), "answer": None}
    free = [row(n, None, record=record(cost_usd="0"), **broken) for n in range(3)]
    (summary,) = summarise([*free, row(3, record=record(cost_usd=None))], rng())

    assert (summary.cost.known, summary.cost.unknown) == (3, 1)
    assert summary.cost.per_call is None
    assert words.cost_per_thousand(summary.cost) == "unknown"


def test_a_call_that_was_never_made_has_no_unknown_cost() -> None:
    (summary,) = summarise([row(1, record=None, error=Failure("shed", ""), answer=None), row(2)], rng())

    assert (summary.cost.known, summary.cost.unknown) == (1, 0)


def test_estimated_tokens_are_called_so() -> None:
    (summary,) = summarise([row(1, record=record(token_source="estimate"))], rng())

    assert "100% estimated" in words.tokens(summary)
    assert "estimated" in words.cost_total(summary.cost)


def test_tags_and_findings_are_counted() -> None:
    found = [{"direction": "output", "kind": "EMAIL_ADDRESS", "action": "redact", "count": 2}]
    rows = [row(1, tags=("x", "y"), record=record(findings=found)), row(2, NO, tags=("x",))]
    (summary,) = summarise(rows, rng())

    assert {tag: (rate.value, rate.n) for tag, rate in summary.tags.items()} == {"x": (0.5, 2), "y": (1.0, 1)}
    assert summary.findings == {("output", "EMAIL_ADDRESS", "redact"): 2}
    assert words.findings(summary, "output") == "2×EMAIL_ADDRESS"
    assert words.findings(summary, "input") == "–"


def test_weights_are_those_of_the_golden_set() -> None:
    (summary,) = summarise([row(1, weight=3.0), row(2, NO)], rng())

    assert summary.pass_rate is not None
    assert summary.pass_rate.value == 0.75
    assert summary.weighted


@pytest.mark.parametrize("name", sorted(gate.METRICS))
def test_every_metric_that_a_gate_knows_can_be_measured(name: str) -> None:
    queued = record(ttfot_ms=1.0, queue_ms=1.0, scanned=["output"])
    rows = [row(number, record=queued, k=k) for number in range(30) for k in range(2)]

    assert measure(gate.METRICS[name], rows, rng()) is not None


@pytest.mark.parametrize(("value", "low"), [(1.0, 0.57), (0.0, 0.0), (0.5, 0.19)])
def test_equal_scores_of_few_answers_are_not_certain(value: float, low: float) -> None:
    rows = [row(number, Score(value, None, "a mark")) for number in range(5)]

    for metric in (gate.METRICS["mean_score"], gate.metric("contains.mean_score")):
        measured = measure(metric, rows, rng())
        assert measured is not None
        assert (measured.value, measured.low) == (value, pytest.approx(low, abs=0.05))
        assert measured.low < measured.high


@pytest.mark.parametrize("name", sorted(gate.METRICS))
def test_no_rows_measure_nothing(name: str) -> None:
    assert measure(gate.METRICS[name], [], rng()) is None


def test_the_error_rate_counts_calls_and_judges() -> None:
    measured = measure(gate.METRICS["error_rate"], [row(1), failed(2), row(3, LOST), row(4, NO)], rng())

    assert measured is not None
    assert measured.value == 0.5


# --- two endpoints


def pairs(a: Sequence[Score], b: Sequence[Score], **b_record: Any) -> list[Trial]:
    return [row(n, score) for n, score in enumerate(a)] + [
        row(n, score, "b", record=record(**b_record)) for n, score in enumerate(b)
    ]


def test_a_clear_difference_is_a_sentence_with_its_uncertainty() -> None:
    rows = pairs([YES] * 95 + [NO] * 5, [YES] * 70 + [NO] * 30, ttft_ms=40.0, cost_usd="0.0005")
    (comparison,) = compare(rows, rng())

    assert comparison.verdict == (
        "a answers better than b by 25.0 points [17.5, 34.3] (n = 100, paired). "
        "a costs 2× as much [2, 2] and gives its first token 60 ms later [60, 60]."
    )


def test_the_better_one_is_named_first_whatever_the_order() -> None:
    rows = pairs([YES] * 70 + [NO] * 30, [YES] * 95 + [NO] * 5, ttft_ms=40.0, cost_usd="0.0005")

    (comparison,) = compare(rows, rng())
    said = comparison.verdict

    assert said.startswith("b answers better than a by 25.0 points [17.5, 34.3]")
    assert "b costs 0.5× as much [0.5, 0.5] and gives its first token 60 ms earlier [60, 60]" in said


def test_no_difference_is_not_called_equality() -> None:
    (comparison,) = compare(pairs([YES] * 9 + [NO], [YES] * 8 + [NO] * 2), rng())

    assert comparison.verdict.startswith(
        "no difference in pass rate between a and b could be shown: +10.0 points [-"
    )


def test_only_samples_that_both_have_are_compared() -> None:
    (comparison,) = compare([row(1), row(2), row(3, LOST), row(2, NO, "b"), row(3, YES, "b")], rng())

    assert comparison.rates is not None
    assert (comparison.rates.difference.n, comparison.rates.only_a) == (1, 1)


def test_a_side_is_not_cheap_by_failing() -> None:
    nothing = record(cost_usd="0", ttft_ms=None)
    lost = [
        row(n, None, "b", error=Failure("reset", "it broke"), answer=None, record=nothing) for n in range(9)
    ]
    (comparison,) = compare(
        [*(row(n) for n in range(20)), *lost, *(row(n, YES, "b") for n in range(9, 20))], rng()
    )

    assert comparison.cost_ratio is not None
    assert (comparison.cost_ratio.value, comparison.cost_ratio.n) == (1.0, 11)


def test_nothing_in_common_is_said() -> None:
    (comparison,) = compare([row(1), row(2, YES, "b")], rng())

    assert "no judged sample in common" in comparison.verdict
    assert comparison.cost_ratio is None
    assert comparison.ttft_ms is None


# --- on a terminal


def shown(rows: Sequence[Trial], width: int) -> str:
    console = Console(width=width, file=StringIO(), highlight=False)
    view.table(console, summarise(rows, rng()))
    view.comparisons(console, compare(rows, rng()))
    view.hints(console, Columns.of(rows))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_numbers_of_fewer_calls_than_the_tables_say_of_how_many(width: int) -> None:
    rows = [
        *(row(n) for n in range(6)),
        *(row(n, record=record(tpot_ms=None)) for n in range(6, 10)),
        failed(10),
        row(11, LOST),
        row(12, scores={"contains": YES, "exact": YES}),
    ]
    said = shown(rows, width)
    lines = {line[:18].strip(): line for line in said.splitlines()}

    assert "calls" in lines
    assert "n = 13" in lines["calls"]
    for label, n in (("pass rate", 12), ("TTFT p50", 12), ("TPOT p99", 8), ("exact", 1), ("contains", 11)):
        assert f"(n = {n})" in lines[label], label


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits(width: int) -> None:
    found = [{"direction": "input", "kind": "EMAIL_ADDRESS", "action": "redact", "count": 123}]
    rows = [
        row(n, YES, name, record=record(findings=found, model_reported="a-long-model-name-2026-11-01"))
        for n in range(50)
        for name in ("vendor", "self-hosted", "third")
    ]
    said = shown(rows, width)

    assert max(map(len, said.splitlines())) <= width
    for part in ("vendor", "self-hosted", "third", "100.0% [92.9, 100.0]", "n = 50", "TPOT p99", "150×EMAIL"):
        assert part in said or part == "150×EMAIL", part
    assert "6,150×EMAIL_ADDRESS" in said


def test_what_others_wrote_cannot_steer_the_terminal() -> None:
    nasty = "m\x1b[2J[bold red]x[/]"
    rows = [row(1, record=record(model_reported=nasty)), failed(2, kind="re\x1b[31mset")]
    said = shown(rows, 100)

    assert "\x1b" not in said
    assert "[bold red]x[/]" in said.replace("\n", "")


def test_failures_come_with_what_to_do() -> None:
    assert "3 × rate_limited: it broke → lower --concurrency" in shown(
        [failed(n, "rate_limited") for n in range(3)], 120
    )


def finding(kind: str, direction: str = "output") -> dict[str, Any]:
    return {"direction": direction, "kind": kind, "action": "flag", "count": 1, "shadow": False}


def test_judges_that_failed_come_with_where_to_look() -> None:
    assert "runs show RUN --failing" in shown([row(1, LOST), row(2)], 100)
    assert "--failing" not in shown([row(2), failed(3)], 100)


def test_a_rate_that_nobody_judged_says_so() -> None:
    assert "Nothing judged these answers" in shown([row(1, None)], 100)
    assert "Nothing judged these answers" not in shown([row(1), failed(2)], 100)


def test_rates_of_findings_count_their_own_kinds_in_scanned_answers() -> None:
    scanned = {"scanned": ["output"]}
    rows = [
        row(1, record=record(**scanned, findings=[finding("EMAIL_ADDRESS")])),
        row(2, record=record(**scanned, findings=[finding("TOXICITY")])),
        row(3, record=record(**scanned, findings=[finding("US_SSN", "input")])),
        row(4, record=record(**scanned)),
        row(5, record=record(findings=[finding("TOXICITY")])),
        row(6, record=record(**scanned, findings=[finding("IBAN_CODE"), finding("EMAIL_ADDRESS")])),
    ]
    for metric, value in (("pii_rate <= 1", 0.4), ("toxicity_rate <= 1", 0.2)):
        measured = measure(gate.parse(metric).metric, rows, rng())
        assert measured is not None
        assert (measured.value, measured.n) == (value, 5), metric


def test_cached_answers_have_no_pace_of_their_own() -> None:
    rows = [row(n, record=record(ttft_ms=100.0)) for n in range(3)]
    rows += [row(n, record=record(ttft_ms=0.1, cached=True)) for n in range(3, 6)]
    measured = measure(gate.parse("p50_ttft_ms <= 1").metric, rows, rng())
    assert measured is not None
    assert (measured.value, measured.n) == (100.0, 3)


def test_an_earlier_calls_cost_is_not_paid_again() -> None:
    (summary,) = summarise([row(1), row(2, record=record(cached=True, cost_usd="0.003"))], rng())

    assert summary.cost.total == Decimal("0.001")
    assert summary.cost.per_call is not None
    assert summary.cost.per_call.value == pytest.approx(0.002)
    assert summary.cached == 1
    assert "(1 answered earlier)" in words.calls(summary)


# --- against counting by hand

ANY_ROWS = st.lists(
    st.tuples(
        st.sampled_from(["s1", "s2", "s3", "s4"]),
        st.sampled_from([YES, NO, LOST, None]),
        st.sampled_from([("x",), ("x", "y"), ()]),
        st.one_of(st.none(), st.floats(1, 1e4)),
        st.one_of(st.none(), st.integers(0, 10**6).map(lambda micros: str(Decimal(micros) / 10**6))),
    ),
    min_size=1,
    max_size=25,
)


def by_question(pairs: list[tuple[str, float]]) -> float | None:
    """The mean over samples of the mean of each."""
    samples: dict[str, list[float]] = {}
    for sample, value in pairs:
        samples.setdefault(sample, []).append(value)
    return sum(sum(v) / len(v) for v in samples.values()) / len(samples) if samples else None


@given(ANY_ROWS)
def test_every_number_is_what_counting_by_hand_says(given_rows: list[Any]) -> None:
    rows = [
        row(sample, score, k=k, tags=tags, record=record(ttft_ms=ttft, cost_usd=cost))
        if score is not None
        else row(
            sample,
            None,
            k=k,
            tags=tags,
            record=record(cost_usd=cost),
            error=Failure("reset", ""),
            answer=None,
        )
        for k, (sample, score, tags, ttft, cost) in enumerate(given_rows)
    ]
    (summary,) = summarise(rows, rng())

    judged = [(r.sample, float(r.passed)) for r in rows if r.passed is not None]
    expected = by_question(judged)
    assert (summary.pass_rate is None) == (expected is None)
    if summary.pass_rate is not None:
        assert summary.pass_rate.value == pytest.approx(expected)
        assert summary.pass_rate.n == len({sample for sample, _ in judged})
    for end, kind in ((summary.pass_rate_worst, True), (summary.pass_rate_best, None)):
        counted = [(r.sample, float(r.passed is True or r.passed is kind)) for r in rows]
        assert end == pytest.approx(by_question(counted))
    for tag in ("x", "y"):
        expected = by_question(
            [(r.sample, float(r.passed)) for r in rows if r.passed is not None and tag in r.tags]
        )
        assert (tag in summary.tags) == (expected is not None)
        if expected is not None:
            assert summary.tags[tag].value == pytest.approx(expected)
    known = [r for r in rows if r.record and r.record["cost_usd"] is not None]
    assert (summary.cost.known, summary.cost.unknown) == (len(known), len(rows) - len(known))
    if any(r.error is None and r not in known for r in rows):
        known = [r for r in known if r.error is None]
    costs = [(r.sample, float(r.record["cost_usd"])) for r in known if r.record]
    assert (summary.cost.per_call is None) == (not costs)
    if summary.cost.per_call is not None:
        assert summary.cost.per_call.value == pytest.approx(by_question(costs))
    errors = measure(gate.METRICS["error_rate"], rows, rng())
    assert errors is not None
    lost = [(r.sample, float(r.error is not None or bool(r.judge_errors))) for r in rows]
    assert errors.value == pytest.approx(by_question(lost))
    times = [t for _, score, _, t, _ in given_rows if score is not None and t is not None]
    assert summary.latency["ttft"].n == len(times)
    if times:
        assert summary.latency["ttft"].p50 is not None
        assert summary.latency["ttft"].p50.value == pytest.approx(float(np.median(times)))
    assert summary.input_tokens == 10 * len(rows)


def test_sets_and_prompts_are_arms_of_their_own() -> None:
    rows = [row(1, set="s"), row(1, NO, set="t"), row(1, set="s", prompt="short")]
    found = summarise(rows, rng())

    assert [(each.set, each.name, each.calls) for each in found] == [
        ("s", "a", 1),
        ("t", "a", 1),
        ("s", "a/short", 1),
    ]
    console = Console(width=100, file=StringIO(), highlight=False)
    view.table(console, found)
    assert isinstance(console.file, StringIO)
    said = console.file.getvalue()
    assert said.index("\ns\n") < said.index("a/short") < said.index("\nt\n")


def test_a_run_of_nothing_has_no_endpoints() -> None:
    assert summarise([], rng()) == []
    assert compare([], rng()) == []


def test_scorers_have_their_own_rates_and_graded_ones_their_means() -> None:
    graded = Score(0.25, None, "a grade")
    (summary,) = summarise([row(n, scores={"x": YES, "y": NO, "z": graded}) for n in range(10)], rng())

    assert summary.scorers["x"] is not None
    assert (summary.scorers["x"].value, summary.scorers["z"]) == (1.0, None)
    assert set(summary.scores) == {"z"}
    assert summary.scores["z"].value == 0.25


def test_what_judging_cost_is_in_the_total_and_said_apart() -> None:
    asked = Score(1.0, True, "", cost_usd=0.25)
    (summary,) = summarise([row(1, asked), row(2, asked)], rng())

    assert (summary.cost.total, summary.cost.judging) == (Decimal("0.002"), Decimal("0.50"))
    assert words.cost_total(summary.cost) == "$0.502, $0.500 of it for judging"
    assert summary.cost.paid == Decimal("0.502")


@pytest.mark.parametrize(("calls", "said"), [(1, "3 judgings"), (0, "")], ids=["asked", "asked nobody"])
def test_judgings_of_unknown_cost_are_not_free(calls: int, said: str) -> None:
    asked, unknown = Score(1.0, True, "", cost_usd=0.25), Score(1.0, True, "", calls=calls)
    (summary,) = summarise([row(0, asked), *(row(n, unknown) for n in range(1, 4))], rng())

    assert summary.cost.whole == (calls == 0)
    missing = f" + {said} of unknown cost" if said else ""
    assert words.cost_total(summary.cost) == f"$0.254{missing}, $0.250 of it for judging"
    assert view.cost(summary, rescored=True).startswith(f"$0.250{missing} now ($0.00400 by")
    assert any("Unknown cost" in line for line in view.notes([summary])) == (calls > 0)


def test_only_unknown_judging_is_said_as_such() -> None:
    (summary,) = summarise([row(1, Score(1.0, True, "", calls=1))], rng())
    assert words.cost_total(summary.cost) == "$0.00100 + 1 judging of unknown cost"

    (summary,) = summarise([row(1, Score(1.0, True, "", calls=1), record=None)], rng())
    assert words.cost_total(summary.cost) == "unknown"


def test_attempts_and_users_of_unknown_cost_are_not_free() -> None:
    broken = record(attempts=[{"cost_usd": None}, {"cost_usd": "0.001"}], wasted_usd="0.5")
    talked = record(attempts=[{"cost_usd": "0.001"}], user_cost_usd=None)
    (summary,) = summarise([row(1, record=broken), row(2, record=talked), row(3)], rng())

    assert (summary.cost.known, summary.cost.unknown) == (2, 1)
    assert summary.cost.per_call is not None
    assert summary.cost.per_call.value == pytest.approx(0.001), "nobody knows what the first one cost"
    said = words.cost_total(summary.cost)
    assert said == "$0.503 + 1 call unknown + 1 simulated user of unknown cost"


def test_sums_of_money_are_exact_whatever_context_the_caller_has_set() -> None:
    dear = record(cost_usd="1000.001", wasted_usd="0.0001", user_cost_usd="0.00001")
    with localcontext(prec=2):
        (summary,) = summarise([row(1, Score(1.0, True, "", cost_usd=0.25), record=dear)], rng())
        paid = summary.cost.paid

    assert (summary.cost.total, paid) == (Decimal("1000.00111"), Decimal("1000.25111"))


@pytest.mark.parametrize(
    ("n", "of_a", "said"),
    [
        (1, 150.0, "a gave its first token 50 ms later on 1 sample: too few to say anything."),
        (1, 100.0, "a gave its first token at the same time on 1 sample: too few to say anything."),
        (4, 50.0, "a gave its first token 50 ms earlier on 4 samples, all alike: too few to say anything."),
        (5, 150.0, "a gives its first token 50 ms later [50, 50]."),
    ],
)
def test_so_few_times_that_are_alike_say_nothing(n: int, of_a: float, said: str) -> None:
    rows = [
        row(sample, endpoint=arm, record=record(ttft_ms=ms, cost_usd=None))
        for sample in range(n)
        for arm, ms in (("a", of_a), ("b", 100.0))
    ]
    (found,) = compare(rows, rng())

    assert found.verdict.endswith(said)
    assert "inf" not in found.verdict


def test_a_judge_that_fails_now_and_then_does_not_move_the_pass_rate() -> None:
    """Another scorer says no of every second answer, and every third is not judged by the second one."""
    scores = [{"x": YES if n % 2 else NO, "y": LOST if n % 3 == 0 else YES} for n in range(600)]
    (summary,) = summarise([row(n, None, scores=each) for n, each in enumerate(scores)], rng())
    assert summary.pass_rate is not None
    assert summary.pass_rate.value == pytest.approx(0.5)
    assert (summary.unjudged, summary.passed, summary.failed) == (200, 200, 200)


def test_what_judges_say_of_their_failures_is_told() -> None:
    said = StringIO()
    rows = [row(n, LOST) for n in range(3)] + [row(9)]
    view.hints(Console(file=said, width=200), Columns.of(rows))
    assert "judges failed: 3 × timeout, such as contains: the judge did not answer" in said.getvalue()
