"""What ends a pytest session with golden sets: a pass rate with its interval, times, tokens and cost.

The pass rate is of the tests marked golden that passed or failed, whatever they failed by, but not of those
that could not begin because nobody said who is to be asked; times and costs are of the calls that those tests
made by the plugin's `endpoint`. Works under pytest-xdist: what is summed up travels with the reports.

pytest loads this file in every session of an environment that has evalkit, so it imports nothing heavy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

PROPERTY = "evalkit"
GOLDEN = "golden"
"""What a golden test's property says, beside those of its calls."""

UNASKED = "without an endpoint"
"""What a property says of a test that could not begin, because nobody said who is to be asked."""


@dataclass(slots=True)
class _Test:
    """What the reports of one golden test said."""

    words: set[str] = field(default_factory=set)
    calls: Sequence[Mapping[str, Any]] = ()

    @property
    def word(self) -> str:
        """What counts: a test that failed anywhere has failed, and one expected to fail says nothing."""
        order = "failed", "xfailed", "xpassed", "passed", "skipped", UNASKED
        return next((word for word in order if word in self.words), "")


class Summary:
    """Gathers what the reports of golden tests say, from workers too."""

    def __init__(self) -> None:
        self.tests: dict[str, _Test] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what a report says of a golden test."""
        said = [value for name, value in report.user_properties if name == PROPERTY]
        if GOLDEN in said:
            test = self.tests.setdefault(report.nodeid, _Test())
            # Each report has those of the reports before it too, which a test that is run again keeps.
            test.calls = [value for value in said if isinstance(value, Mapping)]
        elif report.nodeid not in self.tests:
            return
        # That a worker died is a report without properties, of a test that had begun.
        if report.failed or report.skipped or report.when == "call":
            expected = "x" if hasattr(report, "wasxfail") else ""
            word = "failed" if expected and report.skipped else report.outcome
            self.tests[report.nodeid].words.add(UNASKED if UNASKED in said else expected + word)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print it, where there was a golden test."""
        words = Counter(test.word for test in self.tests.values() if test.word)
        if words:
            terminalreporter.section("golden sets")
            calls = [call for test in self.tests.values() for call in test.calls]
            for line in summary(words, calls):
                terminalreporter.write_line(line)


def summary(tests: Mapping[str, int], calls: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is printed in the end, with n and intervals. Of a failed call there is only its `error`.

    `tests` counts them by pytest's words; the rate is of those that passed or failed.
    """
    from evalkit import words
    from evalkit.stats import wilson

    passed, ran = tests.get("passed", 0), tests.get("passed", 0) + tests.get("failed", 0)
    lines = ["no pass rate: no test ran"]
    if ran:
        lines = [f"pass rate {words.percent(wilson(passed, ran))} (n = {ran}, 95% interval)"]
    uncounted = "skipped", "xfailed", "xpassed", UNASKED
    rest = [f"{tests[word]} {word}" for word in uncounted if tests.get(word)]
    if rest:
        lines[0] += f"; not counted: {', '.join(rest)}"
    if errors := Counter(str(call["error"]) for call in calls if "error" in call):
        lines[0] += f"; failed calls: {words.counts(errors)}"
    if answered := [call for call in calls if "error" not in call]:
        lines += _of_calls(answered)
    return lines


def _of_calls(calls: Sequence[Mapping[str, Any]]) -> list[str]:
    """Times, tokens and cost of calls that were answered."""
    from evalkit import words
    from evalkit.stats import quantile

    def times(name: str) -> str:
        values = [float(call[name]) for call in calls if call[name] is not None]
        if not values:
            return "unknown"
        half, most = (words.ms(quantile(values, q)) for q in (0.5, 0.99))
        return f"p50 {half}, p99 {most} (n = {len(values)})"

    costs = [float(call["cost_usd"]) for call in calls if call["cost_usd"] is not None]
    unknown = len(calls) - len(costs)
    estimated = " (estimated)" if any("estimate" in str(call["token_source"]) for call in calls) else ""
    spent = (
        sum(int(call["input_tokens"]) for call in calls),
        sum(int(call["output_tokens"]) for call in calls),
    )
    cost = f"${sum(costs):.4g}" if costs else "unknown"
    return [
        f"TTFT {times('ttft_ms')}; TPOT {times('tpot_ms')}",
        f"tokens {spent[0]:,} in, {spent[1]:,} out{estimated}; cost {cost}"
        + (f", unknown for {unknown} of {len(calls)} calls" if costs and unknown else ""),
    ]
