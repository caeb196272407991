"""Gates on runs: whom they mean, what they are held against, how often they are wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from io import StringIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from evalkit import view
from evalkit.columns import Columns
from evalkit.compare import align, compare, compare_runs
from evalkit.gate import Gate, Relative, parse
from evalkit.measure import difference, measure
from evalkit.metric import METRICS, metric
from evalkit.questions import Values, score_difference
from evalkit.stats import Measured, paired_counts
from evalkit.trial import Trial
from evalkit.verdict import Decided, brief, decide, decide_all

Made = Callable[..., Trial]


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def run(made: Made, *arms: tuple[str, Sequence[bool]], at: str = "s", **fields: object) -> list[Trial]:
    """One answer a sample: the samples of every arm are 0, 1, 2, …"""
    return [
        made(number, passed, arm=arm, set=at, **fields)
        for arm, answers in arms
        for number, passed in enumerate(answers)
    ]


def one(gate: str, rows: list[Trial], baseline: Columns | None = None) -> Decided:
    (decided,) = decide_all([parse(gate)], Columns.of(rows), baseline)
    return decided


# --- whom a gate means


def test_a_gate_is_held_against_every_arm_on_every_set(made: Made) -> None:
    rows = run(made, ("a", [True] * 40), ("b", [False] * 40)) + run(made, ("a", [True] * 40), at="t")
    decided = decide_all([parse("pass_rate >= 50%")], Columns.of(rows))
    assert [(each.arm, each.set, each.verdict.status) for each in decided] == [
        ("a", "s", "pass"),
        ("b", "s", "fail"),
        ("a", "t", "pass"),
    ]
    assert decided[0].name == "a on s"


def test_a_gate_against_an_endpoint_that_is_alone_is_undecided_and_does_not_vanish(made: Made) -> None:
    rows = run(made, ("a", [True] * 40)) + run(made, ("a", [True] * 40), at="t")
    for gate in ('pass_rate >= "a" - 2%', 'pass_rate of a >= "a" - 20%', 'pass_rate on s >= "a" - 20%'):
        (decided,) = decide_all([parse(gate)], Columns.of(rows))
        assert decided.verdict.status == "undecided"
        assert "no other endpoint" in decided.verdict.sentence


def test_a_gate_is_not_held_against_what_never_answered(made: Made) -> None:
    dead = Columns.of(made(n, "server_error", set="s") for n in range(40))
    decided = one("pass_rate >= baseline - 2%", run(made, ("a", [True] * 40)), dead)
    assert (decided.verdict.status, decided.verdict.admitted) == ("undecided", None)
    assert "no call of baseline brought an answer" in decided.verdict.sentence


@pytest.mark.parametrize(
    ("gate", "of"),
    [
        ("pass_rate >= 1 on t", [("a", "t")]),
        ("pass_rate >= 1 of b", [("b", "s")]),
        ("pass_rate >= 1 on s of a", [("a", "s")]),
    ],
)
def test_a_gate_may_mean_one_set_or_one_endpoint(made: Made, gate: str, of: list[tuple[str, str]]) -> None:
    rows = run(made, ("a", [True]), ("b", [True])) + run(made, ("a", [True]), at="t")
    assert [(each.arm, each.set) for each in decide_all([parse(gate)], Columns.of(rows))] == of


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        ("pass_rate >= 0 on nowhere", "no rows of set 'nowhere'"),
        ("pass_rate >= 0 of nobody on nowhere", "no rows of set 'nowhere' and endpoint 'nobody'"),
        ("pass_rate[none] >= 0", "no sample has the tag 'none'"),
        ("pass@7 >= 0", "nothing was measured"),
        ("nobody.pass_rate >= 0", "nothing was measured"),
        ("flake_rate <= 1", "nothing was measured"),
        ("pass_rate >= baseline - 100%", "no baseline was given"),
        ('pass_rate >= "other" - 100%', "there is no endpoint and no run 'other'"),
    ],
)
def test_what_nobody_measured_is_undecided_and_never_passes(made: Made, gate: str, said: str) -> None:
    decided = one(gate, run(made, ("a", [True] * 50)))
    assert (decided.verdict.status, decided.verdict.admitted) == ("undecided", None)
    assert said in decided.verdict.sentence


def test_what_the_run_has_not_is_named_by_the_gate(made: Made) -> None:
    decided = one("pass_rate >= 0 of nobody on nowhere", run(made, ("a", [True])))
    assert (decided.arm, decided.set, decided.name) == ("nobody", "nowhere", "nobody on nowhere")


def test_an_empty_run_passes_nothing() -> None:
    (decided,) = decide_all([parse("pass_rate >= 0")], Columns.of([]))
    assert decided.verdict.status == "undecided"
    assert decided.name == "the run"


def test_a_tag_is_gated_on_its_own_samples(made: Made) -> None:
    rows = [made(n, n % 2 == 0, tags=("even",) if n % 2 == 0 else ("odd",)) for n in range(80)]
    even, odd = decide_all(
        [parse("pass_rate[even] >= 90%"), parse("pass_rate[odd] >= 90%")], Columns.of(rows)
    )
    assert (even.verdict.status, odd.verdict.status) == ("pass", "fail")
    assert even.verdict.measured is not None
    assert even.verdict.measured.n == 40
    assert "pass_rate[even]" in even.verdict.sentence


def test_a_tag_is_gated_on_the_sets_that_have_it(made: Made) -> None:
    tagged = [made(n, True, arm=arm, set="g", tags=("odd",)) for n in range(40) for arm in "ab"]
    rows = [*tagged, *run(made, ("a", [True] * 40), ("b", [True] * 40), at="h")]

    decided = decide_all([parse("pass_rate[odd] >= 50%")], Columns.of(rows))

    assert [(each.arm, each.set, each.verdict.status) for each in decided] == [
        ("a", "g", "pass"), ("b", "g", "pass"),
    ]  # fmt: skip


def test_an_arm_without_a_tag_that_its_set_has_passes_nothing(made: Made) -> None:
    rows = [*(made(n, True, tags=("odd",)) for n in range(40)), *run(made, ("b", [True] * 40), at="")]
    statuses = [
        each.verdict.status for each in decide_all([parse("pass_rate[odd] >= 50%")], Columns.of(rows))
    ]
    assert statuses == ["pass", "undecided"]


def test_what_was_not_measured_says_what_it_takes(made: Made) -> None:
    for gate, needs in (
        ("pass@5 >= 10%", "sampling: {n: 5}"),
        ("flake_rate <= 10%", "several judged answers"),
        ("toxicity_rate <= 1%", "filters: {output: [toxicity]}"),
        ("exakt.pass_rate >= 10%", "no score of 'exakt'"),
    ):
        assert needs in one(gate, run(made, ("a", [True] * 9))).verdict.sentence


def test_the_confidence_of_a_gate_is_that_of_its_interval(made: Made) -> None:
    columns = Columns.of(run(made, ("a", [True] * 95 + [False] * 5)))
    strict, loose = decide_all(
        [
            parse({"gate": "pass_rate >= 0.90", "confidence": 0.99}),
            parse({"gate": "pass_rate >= 0.90", "confidence": 0.8}),
        ],
        columns,
    )
    assert (strict.verdict.status, loose.verdict.status) == ("undecided", "pass")
    assert "99% interval" in strict.verdict.sentence


# --- against a baseline


def test_an_endpoint_is_held_against_another_but_not_against_itself(made: Made) -> None:
    rows = run(made, ("vendor", [True] * 200), ("own", [True] * 180 + [False] * 20))
    decided = decide_all([parse('pass_rate >= "vendor" - 2%')], Columns.of(rows))
    assert [(each.arm, each.verdict.status) for each in decided] == [("own", "fail")]
    assert "pass_rate less that of vendor is -10.00 points" in decided[0].verdict.sentence
    assert "on the same samples, n = 200" in decided[0].verdict.sentence


def test_pairing_decides_what_two_rates_apart_would_not(made: Made) -> None:
    answers = [n % 2 == 0 for n in range(300)]
    worse = answers[:]
    worse[0] = False
    decided = one('pass_rate >= "vendor" - 4%', run(made, ("vendor", answers), ("own", worse)))
    assert decided.verdict.status == "pass"


def test_a_baseline_run_is_found_by_set_and_arm_and_else_by_its_only_arm(made: Made) -> None:
    gate = "pass_rate >= baseline - 5%"
    rows = run(made, ("a", [True] * 100))
    same = Columns.of(run(made, ("z", [True] * 100), ("a", [False] * 100)))
    only = Columns.of(run(made, ("z", [True] * 100)))
    many = Columns.of(run(made, ("y", [True] * 100), ("z", [True] * 100)))
    assert one(gate, rows, same).verdict.measured == Measured(1.0, *_ends(one(gate, rows, same)), 100)
    assert one(gate, rows, only).verdict.status == "pass"
    assert "baseline has no rows of a on s" in one(gate, rows, many).verdict.sentence


def _ends(decided: Decided) -> tuple[float, float]:
    assert decided.verdict.measured is not None
    return decided.verdict.measured.low, decided.verdict.measured.high


def test_runs_are_named_as_gates_name_them(made: Made) -> None:
    rows, old = run(made, ("a", [True] * 100)), Columns.of(run(made, ("a", [True] * 100)))
    gates = [parse({"gate": "pass_rate", "against": "v1", "margin": "5%"})]
    (decided,) = decide_all(gates, Columns.of(rows), {"v1": old})
    assert decided.verdict.status == "pass"


def test_only_samples_with_the_same_content_are_compared_and_that_is_said(made: Made) -> None:
    new = [made(n, True, set="s", content="new" if n < 3 else "same") for n in range(50)]
    old = [made(n, n >= 3, set="s", content="same") for n in range(40)]
    decided = one("pass_rate >= baseline - 15%", new, Columns.of(old))
    assert decided.verdict.measured is not None
    assert (decided.verdict.measured.value, decided.verdict.measured.n) == (0.0, 37)
    assert (
        "(of 37 of 50 and 40 samples (3 have changed), those that are the same in both)"
        in decided.verdict.sentence
    )
    (comparison,) = compare_runs(Columns.of(new), Columns.of(old), "v1")
    assert "37 of 50 and 40 samples (3 have changed) are compared" in comparison.verdict.lower()


def test_sets_that_share_nothing_are_not_compared(made: Made) -> None:
    old = Columns.of([made(n, True, set="s") for n in range(100, 200)])
    decided = one("pass_rate >= baseline - 50%", run(made, ("a", [True] * 100)), old)
    assert decided.verdict.status == "undecided"
    assert "0 of 100 samples" in decided.verdict.sentence


def test_a_tag_is_that_of_this_run_and_nothing_is_said_to_be_missing(made: Made) -> None:
    new = [made(n, True, set="s", tags=("x",) if n < 60 else ()) for n in range(100)]
    old = Columns.of([made(n, True, set="s") for n in range(100)])
    decided = one("pass_rate[x] >= baseline - 10%", new, old)
    assert decided.verdict.status == "pass"
    assert "n = 60" in decided.verdict.sentence
    assert "those that are the same" not in decided.verdict.sentence


def test_content_that_a_row_does_not_say_is_taken_as_the_same(made: Made) -> None:
    a, b = (Columns.of([made(n, content=content) for n in range(5)]) for content in ("", "x"))
    both = align(a, b)
    assert (both.samples, both.changed, both.whole) == (5, 0, True)


@pytest.mark.parametrize(
    ("gate", "status"),
    [
        ("p50_ttft_ms <= baseline * 1.1", "fail"),
        ("p50_ttft_ms <= baseline * 1.3", "pass"),
        ("p50_ttft_ms <= baseline + 30 ms", "pass"),
        ("p99_ttft_ms <= baseline * 3", "undecided"),
        ("mean_ttft_ms <= baseline * 1.1", "fail"),
        ("mean_ttft_ms <= baseline + 30%", "pass"),
        ("cost_per_call_usd <= baseline * 1.5", "fail"),
        ("cost_per_call_usd <= baseline + 0.001", "pass"),
        ("contains.pass_rate >= baseline - 5%", "pass"),
        ("error_rate <= baseline + 5%", "pass"),
    ],
)
def test_every_kind_of_metric_can_be_held_against_a_baseline(made: Made, gate: str, status: str) -> None:
    generator = rng()
    times = generator.normal(100, 3, size=200)
    new = [made(n, record={"ttft_ms": 1.2 * t, "cost_usd": "0.0018"}) for n, t in enumerate(times)]
    old = [made(n, record={"ttft_ms": t, "cost_usd": "0.001"}) for n, t in enumerate(times)]
    decided = one(gate, new, Columns.of(old))
    assert decided.verdict.status == status, decided.verdict.sentence


def test_a_difference_of_percentiles_is_open_where_one_of_them_is(made: Made) -> None:
    few = Columns.of([made(n, record={"ttft_ms": float(n)}) for n in range(50)])
    found = difference(METRICS["p99_ttft_ms"], few, few, rng())
    assert found is not None
    assert (found.low, found.high) == (-math.inf, math.inf)


def test_a_gate_against_a_baseline_rarely_passes_what_is_too_bad(made: Made) -> None:
    """The truth is exactly the margin: passing is an error, and may happen in 2.5 % of the runs."""
    generator, gate, wrong, runs = rng(), parse("pass_rate >= baseline - 5%"), 0, 300
    for _ in range(runs):
        old = generator.random(200) < 0.9
        new = old & (generator.random(200) >= 0.05 / 0.9)
        decided = decide(gate, _paired(new, old))
        wrong += decided.status == "pass"
    assert wrong / runs <= 0.05


def _paired(new: np.ndarray, old: np.ndarray) -> Measured | None:
    from evalkit.stats import paired_rates

    rates = paired_rates(new.tolist(), old.tolist())
    return rates.difference if rates else None


# --- how many more


@given(value=st.floats(1, 100), reach=st.floats(0.1, 50), gap=st.floats(0.01, 50), n=st.integers(2, 10_000))
def test_more_samples_shrink_the_interval_to_the_bound(
    value: float, reach: float, gap: float, n: int
) -> None:
    gate = Gate(METRICS["mean_ttft_ms"], "<=", value + gap)
    verdict = decide(gate, Measured(value, value - reach, value + reach, n))
    if verdict.status != "undecided" or verdict.more is None:
        return
    assert reach * math.sqrt(n / (n + verdict.more)) <= gap * (1 + 1e-6)
    assert f"{verdict.more:,} more sample{'' if verdict.more == 1 else 's'} would" in verdict.sentence


def test_a_difference_says_how_many_more_too() -> None:
    gate = Gate(METRICS["pass_rate"], ">=", Relative("baseline", -0.02))
    verdict = decide(gate, Measured(0.0, -0.04, 0.04, 100))
    assert (verdict.status, verdict.more) == ("undecided", 300)
    assert "if the difference stays" in verdict.sentence
    on_it = decide(gate, Measured(-0.02, -0.04, 0.04, 100))
    assert (on_it.status, on_it.more) == ("undecided", None)


@pytest.mark.parametrize(
    ("gate", "n"), [("pass_rate >= baseline - 5%", 73), ("pass_rate >= baseline - 2%", 189)]
)
def test_so_many_pairs_without_any_difference_pass(gate: str, n: int) -> None:
    for pairs in (1, 10, n - 1):
        verdict = decide(parse(gate), paired_counts(0, 0, pairs).difference)
        assert (verdict.status, verdict.more) == ("undecided", n - pairs)
    assert decide(parse(gate), paired_counts(0, 0, n).difference).status == "pass"


def test_so_many_equal_scores_pass() -> None:
    gate = parse("mean_score >= baseline - 0.05")
    for n, more in ((10, 62), (71, 1), (72, None)):
        side = Values(np.arange(n, dtype=np.uint64), np.full(n, 0.7), np.ones(n), n)
        assert decide(gate, score_difference(side, side, rng())).more == more


@pytest.mark.parametrize(("bound", "more"), [(0.95, 53), (0.8, None)])
def test_so_many_full_marks_pass(bound: float, more: int | None) -> None:
    gate = parse(f"mean_score >= {bound}")
    for value in (1.0, 1.0 - 1e-12):
        full = Values(np.arange(20, dtype=np.uint64), np.full(20, value), np.ones(20), 20)
        assert decide(gate, full.score(rng())).more == more
    enough = Values(np.arange(73, dtype=np.uint64), np.ones(73), np.ones(73), 73)
    assert decide(gate, enough.score(rng())).status == "pass"


def test_where_no_number_of_samples_decides_that_is_said() -> None:
    gate = Gate(METRICS["mean_ttft_ms"], "<=", 100.0)
    on_it = decide(gate, Measured(100.0, 90.0, 110.0, 50))
    near = decide(gate, Measured(100.0 - 1e-6, 90.0, 110.0, 50))
    assert [each.more for each in (on_it, near)] == [None] * 2
    assert "on the bound" in on_it.sentence
    assert "more samples would narrow it" in near.sentence


# --- metrics


def test_several_answers_are_one_observation_of_every_metric(made: Made) -> None:
    rows = [made(n, True, k=k, record={"cost_usd": f"0.00{k + 1}"}) for n in range(10) for k in range(3)]
    columns = Columns.of(rows)
    for name in ("pass_rate", "cost_per_call_usd", "error_rate", "contains.mean_score"):
        found = measure(metric(name), columns, rng())
        assert found is not None
        assert found.n == 10, name
    cost = measure(METRICS["cost_per_call_usd"], columns, rng())
    assert cost is not None
    assert cost.value == pytest.approx(0.002)


def test_percentiles_of_answers_to_the_same_questions_are_less_sure(made: Made) -> None:
    generator = rng()
    hard = generator.lognormal(5, 1, size=60)
    rows = [made(n, True, k=k, record={"ttft_ms": float(hard[n])}) for n in range(60) for k in range(5)]
    alone = [made(n, True, record={"ttft_ms": float(hard[n])}) for n in range(60)]
    both = [measure(METRICS["p50_ttft_ms"], Columns.of(each), rng()) for each in (rows, alone)]
    assert both[0] is not None
    assert both[1] is not None
    assert both[0].high - both[0].low >= 0.8 * (both[1].high - both[1].low), "five copies say nothing new"


@pytest.mark.parametrize(("questions", "answers"), [(20, 5), (20, 10)])
def test_a_percentile_is_no_surer_where_one_question_has_all_that_is_beyond_it(
    made: Made, questions: int, answers: int
) -> None:
    """The true p99 is on the bound: to fail is an error, and may happen in 2.5 % of the runs."""
    generator, wrong, runs = rng(), 0, 100
    gate = parse(f"p99_ttft_ms <= {100 * math.exp(2.3263478740408408 * math.hypot(1, 0.1)):.6f}")
    for _ in range(runs):
        hard = generator.normal(0, 1, questions)[:, None] + generator.normal(0, 0.1, (questions, answers))
        times = 100 * np.exp(hard)
        rows = [
            made(n, True, k=k, record={"ttft_ms": float(times[n, k])})
            for n in range(questions)
            for k in range(answers)
        ]
        wrong += one(str(gate), rows).verdict.status == "fail"
    assert wrong / runs <= 0.06


# --- comparisons


def test_arms_are_compared_within_their_set(made: Made) -> None:
    rows = run(made, ("a", [True] * 5), ("b", [True] * 5)) + run(
        made, ("b", [True] * 5), ("c", [True] * 5), at="t"
    )
    found = compare(Columns.of(rows))
    assert [(each.set, each.a, each.b) for each in found] == [("s", "a", "b"), ("t", "b", "c")]


def test_a_comparison_counts_questions_that_one_side_passed_more_often(made: Made) -> None:
    table = {"a": [(1, 1), (1, 0), (0, 0)], "b": [(1, 0), (1, 1), (0, 0)]}
    rows = [
        made(q, bool(passed), arm=arm, k=k)
        for arm, questions in table.items()
        for q, answers in enumerate(questions)
        for k, passed in enumerate(answers)
    ]
    (found,) = compare(Columns.of(rows))
    assert found.rates is not None
    assert (found.rates.only_a, found.rates.only_b, found.rates.difference.n) == (1, 1, 3)
    assert found.rates.difference.value == 0.0


@pytest.mark.parametrize("free", ["a", "b"])
def test_nothing_is_a_multiple_of_what_costs_nothing(made: Made, free: str) -> None:
    rows = [
        made(n, arm=arm, record={"cost_usd": "0" if arm == free else "0.1"}) for n in range(5) for arm in "ab"
    ]
    (found,) = compare(Columns.of(rows))
    assert found.cost_ratio is None


def test_a_cost_ratio_of_many_pairs_is_that_of_resampling(made: Made) -> None:
    from evalkit.compare import _ratio

    generator = rng()
    a, b = generator.exponential(2, size=6_000), generator.exponential(1, size=6_000)
    many, few = _ratio(a, b, generator), _ratio(a[:4_900], b[:4_900], generator)
    assert many is not None
    assert few is not None
    assert many.low < a.sum() / b.sum() < many.high
    assert math.log(many.high / many.low) == pytest.approx(
        math.log(few.high / few.low) * math.sqrt(4_900 / 6_000), rel=0.08
    )


@pytest.mark.parametrize(
    ("gate", "measured", "said"),
    [
        ("pass_rate >= 0.9", Measured(0.935, 0.892, 0.9616, 40), "93.5% [89.2, 96.2]"),
        ("pass_rate >= baseline", Measured(-0.02, -0.04, 0.01, 40), "-2.0 points [-4.0, +1.0]"),
        ("p99_ttft_ms <= 800", Measured(490.4, 43.21, math.inf, 40), "490 ms [43.2, ∞]"),
        ("cost_per_call_usd <= 1", Measured(0.00123456, 0.001, 0.002, 40), "0.00123 USD [0.001, 0.002]"),
        ("mean_score >= 0.5", None, "–"),
    ],
)
def test_a_verdicts_number_is_brief(gate: str, measured: Measured | None, said: str) -> None:
    assert brief(decide(parse(gate), measured)) == said


def test_what_failed_is_said_first(made: Made) -> None:
    rows = run(made, ("a", [True] * 40), ("b", [False] * 40), ("c", [True, False] * 20))
    console = Console(file=StringIO(), width=200)
    view.gates(console, decide_all([parse("pass_rate >= 45%")], Columns.of(rows)))
    assert isinstance(console.file, StringIO)
    head, *lines = console.file.getvalue().strip().splitlines()

    assert head == "Gates: 1 fail, 1 undecided, 1 pass"
    assert [line.split()[0] for line in lines] == ["b", "c", "a"]


def test_arms_of_which_a_gate_says_the_same_share_a_line(made: Made) -> None:
    rows = [row for at in ("g", "h") for row in run(made, *((arm, [True] * 9) for arm in "abcd"), at=at)]
    console = Console(file=StringIO(), width=200)
    decided = decide_all([parse("pass@5 >= 10%"), parse("pass_rate >= 10%")], Columns.of(rows))
    view.gates(console, decided)
    assert isinstance(console.file, StringIO)
    head, *lines = console.file.getvalue().strip().splitlines()

    assert head == "Gates: 8 undecided, 8 pass"
    assert lines[0].startswith(
        "  a on g, b on g, c on g, d on g, a on h, b on h and 2 more: undecided: pass@5"
    )
    assert lines[1].startswith("  a on g, b on g"), "and each gate has a line of its own"
    assert len(lines) == 2
