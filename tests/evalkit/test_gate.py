"""Gates: how they are read, and what they say of a measurement and its interval."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit import gate as gates
from evalkit.gate import METRICS, Gate, Relative, parse
from evalkit.metric import metric as metric_of
from evalkit.stats import Measured, quantile, wilson
from evalkit.verdict import brief, decide
from guardrails.errors import ConfigError

SHARES = st.floats(0, 1)


@pytest.mark.parametrize(
    ("text", "metric", "op", "bound"),
    [
        ("pass_rate >= 0.90", "pass_rate", ">=", 0.9),
        ("pass_rate>=90%", "pass_rate", ">=", 0.9),
        ("pass_rate ≥ 29 %", "pass_rate", ">=", 0.29),
        ("p99_ttft_ms <= 800", "p99_ttft_ms", "<=", 800.0),
        ("p99_ttft_ms <= 0.8s", "p99_ttft_ms", "<=", 800.0),
        ("p50_e2e_ms < 2 S", "p50_e2e_ms", "<", 2000.0),
        ("error_rate <= 1e-2", "error_rate", "<=", 0.01),
        ("cost_per_call_usd <= .002", "cost_per_call_usd", "<=", 0.002),
        ("cost_per_call_usd <= 0.002 usd", "cost_per_call_usd", "<=", 0.002),
        ("  pii_rate <= 0\n", "pii_rate", "<=", 0.0),
        ("mean_score > 0.5", "mean_score", ">", 0.5),
    ],
)
def test_parse(text: str, metric: str, op: str, bound: float) -> None:
    gate = parse(text)
    assert (gate.metric.name, gate.op, gate.bound) == (metric, op, bound)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("passrate >= 0.9", "did you mean pass_rate?"),
        ("nonsense >= 0.9", "the metrics are pass_rate, error_rate"),
        ("pass_rate >= 90", "did you mean 90%?"),
        ("pass_rate >= 120%", "between 0 and 1"),
        ("pass_rate >= -0.1", "between 0 and 1"),
        ("pass_rate >= 0.9 ms", "does not fit pass_rate"),
        ("p99_ttft_ms <= 5%", "it takes 'ms', 's'"),
        ("mean_score >= 5%", "it takes no unit"),
        ("p99_ttft_ms <= 1e400", "too large"),
        ("pass_rate > 1", "the gate `pass_rate > 1.0` can never hold: pass_rate is from 0 to 1"),
        ("error_rate[x] < 0%", "can never hold"),
        ("p99_ttft_ms <= -1s", "can never hold: p99_ttft_ms is not negative"),
        ("cost_per_call_usd < 0", "can never hold"),
        ("pass_rate == 1", "METRIC OP NUMBER"),
        ("pass_rate >= 0.9 and error_rate <= 1", "METRIC OP NUMBER"),
        ("0.9 <= pass_rate", "METRIC OP NUMBER"),
        ("pass_rate >= nan", "METRIC OP NUMBER"),
        ("pass_rate >= __import__('os')", "METRIC OP NUMBER"),
        ("pass_rate >= " + "9" * 400, "METRIC OP NUMBER"),
        ("", "METRIC OP NUMBER"),
    ],
)
def test_what_cannot_be_read_says_what_to_write(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(text)
    assert said in str(refused.value)


@given(
    metric=st.sampled_from(sorted(METRICS)),
    op=st.sampled_from([">=", "<=", ">", "<"]),
    bound=st.floats(0, 1) | st.floats(-1e9, 1e9),
)
def test_what_is_printed_reads_back(metric: str, op: gates.Op, bound: float) -> None:
    unit = METRICS[metric].unit
    gate = Gate(METRICS[metric], op, min(1.0, abs(bound)) if unit == "share" else bound)
    if gate.satisfiable:
        assert parse(str(gate)) == gate
    else:
        with pytest.raises(ConfigError, match="can never hold"):
            parse(str(gate))


@pytest.mark.parametrize(
    ("text", "gate"),
    [
        ("pass_rate[billing] >= 85%", Gate(METRICS["pass_rate"], ">=", 0.85, tag="billing")),
        ('pass_rate["a ] b"] >= 1', Gate(METRICS["pass_rate"], ">=", 1.0, tag="a ] b")),
        ("p99_ttft_ms <= 0.8s on support", Gate(METRICS["p99_ttft_ms"], "<=", 800.0, set="support")),
        ("p99_ttft_ms <= 800 on support", Gate(METRICS["p99_ttft_ms"], "<=", 800.0, set="support")),
        ('p99_ttft_ms on "a \\"b\\"" <= 8', Gate(METRICS["p99_ttft_ms"], "<=", 8.0, set='a "b"')),
        (
            "pass_rate of vendor on s >= 0.5",
            Gate(METRICS["pass_rate"], ">=", 0.5, set="s", endpoint="vendor"),
        ),
        ("contains.pass_rate >= 0.9", Gate(metric_of("contains.pass_rate"), ">=", 0.9)),
        ('"my judge".mean_score>=0.9', Gate(metric_of("my judge.mean_score"), ">=", 0.9)),
        ("python:a/b.py:f.pass_rate >= 1", Gate(metric_of("python:a/b.py:f.pass_rate"), ">=", 1.0)),
        ("pass@5 >= 0.8", Gate(metric_of("pass@5"), ">=", 0.8)),
        ("pass^3>=.5", Gate(metric_of("pass^3"), ">=", 0.5)),
        ("pass_rate >= baseline", Gate(METRICS["pass_rate"], ">=", Relative("baseline"))),
        ("pass_rate>=baseline-2%", Gate(METRICS["pass_rate"], ">=", Relative("baseline", -0.02))),
        (
            'pass_rate >= "gpt 4" - 2% on s',
            Gate(METRICS["pass_rate"], ">=", Relative("gpt 4", -0.02), set="s"),
        ),
        (
            "p99_ttft_ms <= baseline * 1.1",
            Gate(METRICS["p99_ttft_ms"], "<=", Relative("baseline", times=1.1)),
        ),
        (
            "p99_ttft_ms <= baseline + 10%",
            Gate(METRICS["p99_ttft_ms"], "<=", Relative("baseline", times=1.1)),
        ),
        ("p99_ttft_ms <= baseline + 1s", Gate(METRICS["p99_ttft_ms"], "<=", Relative("baseline", 1000.0))),
        (
            "cost_per_call_usd <= baseline × 2",
            Gate(METRICS["cost_per_call_usd"], "<=", Relative("baseline", times=2.0)),
        ),
    ],
)
def test_parts_of_a_gate(text: str, gate: Gate) -> None:
    assert parse(text) == gate
    assert parse(str(gate)) == gate


NAMES = st.text(min_size=1, max_size=12).filter(lambda name: name.strip() == name)


RELATIVE = st.builds(Relative, NAMES, st.floats(-1, 1)) | st.builds(
    Relative, NAMES, st.just(0.0), st.floats(0.01, 9)
)
ANY_METRIC = [*METRICS.values(), *map(metric_of, ("pass@5", "pass^2", "x y.pass_rate", "x.mean_score"))]


@given(
    gate=st.builds(
        Gate,
        metric=st.sampled_from(ANY_METRIC),
        op=st.sampled_from([">=", "<=", ">", "<"]),
        bound=st.floats(0, 1) | RELATIVE,
        tag=st.none() | NAMES,
        set=st.none() | NAMES,
        endpoint=st.none() | NAMES,
    ).filter(lambda gate: gate.satisfiable)
)
def test_every_gate_that_is_printed_reads_back(gate: Gate) -> None:
    assert parse(str(gate)) == gate


@pytest.mark.parametrize(
    ("given", "gate"),
    [
        ({"gate": "pass_rate >= 0.9"}, Gate(METRICS["pass_rate"], ">=", 0.9)),
        (
            {"gate": "pass_rate >= 90%", "tag": "t", "set": "s", "endpoint": "e", "confidence": 0.9},
            Gate(METRICS["pass_rate"], ">=", 0.9, "t", "s", "e", 0.9),
        ),
        (
            {"gate": "pass_rate", "against": "baseline", "margin": 0.02},
            Gate(METRICS["pass_rate"], ">=", Relative("baseline", -0.02)),
        ),
        (
            {"gate": "error_rate[x]", "against": "old", "margin": "1%"},
            Gate(METRICS["error_rate"], "<=", Relative("old", 0.01), "x"),
        ),
        (
            {"gate": "p99_ttft_ms", "against": "old", "margin": "10%"},
            Gate(METRICS["p99_ttft_ms"], "<=", Relative("old", times=1.1)),
        ),
        ({"gate": "mean_score", "against": "old"}, Gate(METRICS["mean_score"], ">=", Relative("old", -0.0))),
    ],
)
def test_a_mapping_is_a_gate_too(given: dict[str, object], gate: Gate) -> None:
    assert parse(given) == gate


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "needs `gate`"),
        ({"gate": ""}, "not empty"),
        ({"gate": 3}, "is a text"),
        ({"gate": "pass_rate >= 1", "bound": 1}, "its fields are gate, against, margin, confidence"),
        ({"gate": "pass_rate >= 1", "margin": 0.1}, "belongs to `against`"),
        ({"gate": "pass_rate >= 1", "against": "x"}, "is a metric"),
        ({"gate": "pass_rate", "against": "x", "margin": -0.1}, "not negative"),
        ({"gate": "pass_rate", "against": "x", "margin": True}, "not negative"),
        ({"gate": "pass_rate", "against": "x", "margin": "2 ms"}, "does not fit"),
        ({"gate": "pass_rate", "against": "x", "margin": 2}, "did you mean 2%?"),
        ({"gate": "pass_rate >= 1", "confidence": 95}, "from 0.5 to 0.999999"),
        ({"gate": "pass_rate >= 1", "confidence": True}, "from 0.5 to 0.999999"),
        ({"gate": "pass_rate >= 1", "confidence": 0.9999999999999999}, "from 0.5 to 0.999999"),
        ({"gate": "pass_rate >= 1", "confidence": float("nan")}, "from 0.5 to 0.999999"),
        ({"gate": "pass_rate[a] >= 1", "tag": "b"}, "says its tag twice"),
        ("pass_rate[ >= 1", "write pass_rate[TAG]"),
        ('"abc >= 1', "does not end"),
        ("pass_rate >= vendor", "an endpoint in double quotes"),
        ("pass_rate >= baseline -", "METRIC OP NUMBER"),
        ("pass_rate >= baseline - -1", "METRIC OP NUMBER"),
        ("p99_ttft_ms <= baseline * 0", "positive multiple"),
        ("p99_ttft_ms <= baseline - 100%", "leaves nothing"),
        ("pass@0 >= 1", "number of answers"),
        ("pass@x >= 1", "there is no metric"),
        ("pass_rate >= 1 on", "METRIC OP NUMBER"),
        ("pass_rate on a >= 1 on b", "METRIC OP NUMBER"),
    ],
)
def test_what_is_wrong_with_a_gate_is_said(given: object, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(given)  # type: ignore[arg-type]
    assert said in str(refused.value)


@given(st.text(max_size=300))
def test_any_other_text_is_refused_and_nothing_else_happens(text: str) -> None:
    try:
        parse(text)
    except ConfigError:
        return
    assert any(name in text for name in METRICS)


@pytest.mark.parametrize(
    ("text", "low", "value", "high", "status", "admitted"),
    [
        ("pass_rate >= 0.9", 0.9, 0.95, 0.99, "pass", True),
        ("pass_rate > 0.9", 0.9, 0.95, 0.99, "undecided", True),
        ("pass_rate >= 0.9", 0.89, 0.95, 0.99, "undecided", True),
        ("pass_rate >= 0.9", 0.80, 0.85, 0.91, "undecided", False),
        ("pass_rate >= 0.9", 0.80, 0.85, 0.89, "fail", False),
        ("pass_rate >= 0.9", 0.80, 0.85, 0.90, "undecided", False),
        ("pass_rate > 0.9", 0.80, 0.85, 0.90, "fail", False),
        ("p99_ttft_ms <= 800", 700, 750, 800, "pass", True),
        ("p99_ttft_ms < 800", 700, 750, 800, "undecided", True),
        ("p99_ttft_ms <= 800", 700, 750, math.inf, "undecided", True),
        ("p99_ttft_ms <= 800", 801, 850, math.inf, "fail", False),
    ],
)
def test_the_interval_decides(
    text: str, low: float, value: float, high: float, status: str, admitted: bool
) -> None:
    verdict = decide(parse(text), Measured(value, low, high, 100))
    assert (verdict.status, verdict.admitted) == (status, admitted)
    assert verdict.sentence.startswith(f"{status}: ")
    assert "n = 100" in verdict.sentence


@given(bound=SHARES, ends=st.tuples(SHARES, SHARES, SHARES), op=st.sampled_from([">=", "<=", ">", "<"]))
def test_a_verdict_agrees_with_every_value_in_the_interval(
    bound: float, ends: tuple[float, float, float], op: gates.Op
) -> None:
    low, value, high = sorted(ends)
    gate = Gate(METRICS["pass_rate"], op, bound)
    verdict = decide(gate, Measured(value, low, high, 50))
    inside = [gate.admits(point) for point in (low, value, high)]
    expected = "pass" if all(inside) else "undecided" if any(inside) else "fail"
    assert verdict.status == expected
    assert verdict.more is None or verdict.more >= 1


def test_nothing_measured_is_undecided() -> None:
    verdict = decide(parse("cost_per_call_usd <= 0.002"), None)
    assert (verdict.status, verdict.admitted, verdict.more) == ("undecided", None, None)
    assert "nothing was measured" in verdict.sentence


def test_the_number_of_samples_that_would_decide() -> None:
    gate = parse("pass_rate >= 90%")
    verdict = decide(gate, wilson(112, 120))
    assert verdict.status == "undecided"
    assert verdict.more is not None
    assert f"about {verdict.more:,} more samples" in verdict.sentence
    total = 120 + verdict.more
    assert decide(gate, wilson(math.ceil(total * 112 / 120), total)).status == "pass"


def test_weights_make_it_more() -> None:
    plain = decide(parse("pass_rate >= 90%"), Measured(0.93, 0.87, 0.97, 120))
    weighted = decide(parse("pass_rate >= 90%"), Measured(0.93, 0.87, 0.97, 120, effective=60.0))
    assert plain.more is not None
    assert weighted.more is not None
    assert weighted.more + 120 == pytest.approx(2 * (plain.more + 120), abs=2)
    assert "worth 60 independent answers of equal weight" in weighted.sentence


def test_zero_cannot_be_proved_and_the_verdict_says_what_can() -> None:
    none_seen = decide(parse("pii_rate <= 0"), wilson(0, 120))
    assert (none_seen.status, none_seen.admitted, none_seen.more) == ("undecided", True, None)
    assert "no number of samples proves exactly 0%" in none_seen.sentence
    assert "pii_rate <= 3.102%" in none_seen.sentence
    assert decide(parse("pii_rate <= 0"), wilson(1, 120)).status == "fail"
    assert "pass_rate >= " in decide(parse("pass_rate >= 1"), wilson(120, 120)).sentence
    assert decide(parse("pass_rate >= 1"), wilson(119, 120)).status == "fail"


def test_a_value_on_its_bound_is_never_decided() -> None:
    verdict = decide(parse("pass_rate >= 0.5"), wilson(10, 20))
    assert (verdict.status, verdict.admitted, verdict.more) == ("undecided", True, None)
    assert "on the bound" in verdict.sentence


def test_a_percentile_without_an_upper_bound_says_how_many_it_needs() -> None:
    gate = parse("p99_ttft_ms <= 800")
    verdict = decide(gate, quantile([float(value) for value in range(50)], 0.99))
    assert verdict.status == "undecided"
    assert verdict.more is not None
    assert "no upper bound" in verdict.sentence
    enough = quantile([float(value % 700) for value in range(50 + verdict.more)], 0.99)
    assert decide(gate, enough).status == "pass"
    crossing = decide(gate, Measured(790.0, 700.0, 900.0, 500))
    assert crossing.more == 500 * 11**2 - 500, "the upper half of the interval is 11 times too wide"
    assert "about 60,000 more samples would decide if the value stays" in crossing.sentence


def test_a_sentence_speaks_in_the_metrics_unit() -> None:
    def said(gate: str, value: float) -> str:
        return decide(parse(gate), Measured(value, value, value, 10)).sentence

    assert "$0.0021 [$0.0021, $0.0021]" in said("cost_per_call_usd <= 0.002", 0.0021)
    assert "0.5 [0.5, 0.5]" in said("mean_score >= 0.5", 0.5)
    assert "$0.0000032 [$0.0000032, $0.0000032]" in said("cost_per_call_usd <= 0.01", 3.2e-6)
    assert "12350 [12350, 12350]" in said("perplexity.mean_score <= 20000", 12_345.6)
    assert "1e+300 [1e+300, 1e+300]" in said("perplexity.mean_score <= 20000", 1e300)
    assert "0.0000032 USD [" in brief(decide(parse("cost_per_call_usd <= 1"), Measured(3.2e-6, 0.0, 1.0, 9)))
    assert "1,234 ms" in said("p50_e2e_ms <= 2s", 1234.0)
    assert "12.3 ms" in said("p50_tpot_ms <= 20", 12.34)
