"""Golden sets inside of pytest: a test for each sample, an endpoint, a judge, and a line that sums them up.

@pytest.mark.golden("support.jsonl", where=["refunds"], limit=50)
@pytest.mark.asyncio
async def test_support(sample, endpoint, judge):
    answer = await endpoint.ask(sample)
    assert await judge(sample, answer)

`pytest --evalkit-endpoint policy.yaml` (a policy, a suite's endpoint or a base URL, with `--evalkit-model`)
says who is asked; so do `evalkit_endpoint` and `evalkit_model` in pytest's ini file, and a fixture `endpoint`
of your own. In tests that are not async, `endpoint.ask_now(…)` and `judge.now(…)` do the same. Works under
pytest-xdist: what is summed up travels with the reports.

pytest loads this file in every session of an environment that has evalkit, so it imports nothing else.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from evalkit.sample import Sample
    from guardrails.call import Request
    from guardrails.client import Answer, Llm
    from judges.judge import Score

T = TypeVar("T")
PROPERTY = "evalkit"
NUMBERS = ("ttft_ms", "tpot_ms", "e2e_ms", "input_tokens", "output_tokens", "cost_usd", "token_source")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options and their ini words."""
    group = parser.getgroup("evalkit", "golden sets")
    group.addoption("--evalkit-endpoint", metavar="POLICY|URL", help="who is asked by `endpoint`")
    group.addoption("--evalkit-model", metavar="NAME", help="the model at that URL")
    parser.addini("evalkit_endpoint", "a policy file (beside the ini file) or a base URL")
    parser.addini("evalkit_model", "the model at that URL")


def pytest_configure(config: pytest.Config) -> None:
    """The mark."""
    config.addinivalue_line(
        "markers",
        "golden(set, *, where, limit, fields): a test for each sample of a golden set, as `sample`",
    )
    if not hasattr(config, "workerinput"):  # a worker of xdist reports to the process that shows
        config.pluginmanager.register(_Summary(), "evalkit-summary")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for each sample."""
    mark = metafunc.definition.get_closest_marker("golden")
    if mark is None:
        return
    from evalkit.sample import load
    from guardrails.errors import ConfigError

    if "sample" not in metafunc.fixturenames:
        raise pytest.UsageError(
            f"{metafunc.definition.nodeid}: marked golden, but takes no argument `sample`"
        )
    if len(mark.args) != 1:
        raise pytest.UsageError(f"{metafunc.definition.nodeid}: write @pytest.mark.golden('set.jsonl')")
    given = mark.args[0]
    spec = {**(given if isinstance(given, Mapping) else _place(str(given))), **mark.kwargs}
    try:
        golden = load({name: each for name, each in spec.items() if each is not None}, _folder(metafunc))
    except ConfigError as error:
        raise pytest.UsageError(f"{metafunc.definition.nodeid}: {error}") from None
    metafunc.parametrize("sample", list(golden.samples), ids=[one.id for one in golden.samples])


def _place(name: str) -> dict[str, str]:
    from evalkit import datasets

    return {"builtin": name} if name in datasets.names() else {"path": name}


def _folder(metafunc: pytest.Metafunc) -> Path:
    return Path(str(metafunc.definition.path)).parent


# --- fixtures ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An `Llm` made from `config` for each call, so that no connection outlives a test's event loop."""

    config: Any
    properties: list[tuple[str, object]] = field(default_factory=list, repr=False)

    async def ask(
        self, what: Sample | Request | str, *, system: str | None = None, **sampling: Any
    ) -> Answer:
        """Ask a sample's question (with its passages and tools), a request or a text. Raises as `Llm.ask`.

        A call that fails counts in the summary, and its traceback begins in the test.
        """
        __tracebackhide__ = True
        from guardrails.errors import GuardrailsError

        try:
            return await self._asked(what, system, sampling)
        except GuardrailsError as error:
            self.properties.append((PROPERTY, {"error": error.kind}))
            raise error.with_traceback(None) from None

    async def _asked(
        self, what: Sample | Request | str, system: str | None, sampling: dict[str, Any]
    ) -> Answer:
        from evalkit.sample import Sample
        from guardrails.config import build

        llm: Llm = build(self.config)
        async with llm:
            if isinstance(what, Sample):
                what = what.request(system=system, **sampling)
                system, sampling = None, {}
            answer = await llm.ask(what, system=system, **sampling)
        record = answer.record.as_dict()
        self.properties.append((PROPERTY, {name: record[name] for name in NUMBERS}))
        return answer

    def ask_now(self, what: Sample | Request | str, *, system: str | None = None, **sampling: Any) -> Answer:
        """`ask`, in a test that is not async."""
        __tracebackhide__ = True
        from guardrails.errors import GuardrailsError

        try:
            return _now(self.ask(what, system=system, **sampling))
        except GuardrailsError as error:
            raise error.with_traceback(None) from None


@dataclass(frozen=True, slots=True)
class Judged:
    """What the judges said of one answer; true when all said yes.

    A judge that failed has not said yes. One that gives a value without a verdict takes no part, and by such
    ones alone an answer has not passed.
    """

    scores: Mapping[str, Score]

    def __bool__(self) -> bool:
        scores = self.scores.values()
        verdicts = [score.passed for score in scores if score.passed is not None]
        if any(score.error is not None for score in scores) or not all(verdicts):
            return False
        return bool(verdicts) or not scores

    def __repr__(self) -> str:
        # What pytest shows when `assert await judge(…)` fails.
        said = (f"{name}: {score.error or ''} {score.reason}" for name, score in self.scores.items())
        return f"<{'passed' if self else 'not passed'} – {'; '.join(said)}>"


@dataclass(frozen=True, slots=True)
class JudgeAnswers:
    """The fixture `judge`: by the judges named, else by the sample's own, else by `contains`."""

    folder: Path

    async def __call__(self, sample: Sample, answer: Answer | str, *judges: str | dict[str, Any]) -> Judged:
        """Judge an answer to a sample. Raises `ConfigError` for a judge that cannot judge this sample."""
        from evalkit.scoring import Scoring
        from judges.judge import Answer as Seen

        scoring = Scoring(tuple(judges), "the golden set", folder=self.folder)
        scoring.check([sample], ())
        seen = Seen(answer) if isinstance(answer, str) else Seen.of(answer.response, answer.record.as_dict())
        try:
            return Judged(await scoring.judges(sample).score(sample.question(), seen))
        finally:
            await scoring.aclose()

    def now(self, sample: Sample, answer: Answer | str, *judges: str | dict[str, Any]) -> Judged:
        """The same, in a test that is not async."""
        return _now(self(sample, answer, *judges))


def _now(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


@pytest.fixture
def endpoint(request: pytest.FixtureRequest) -> Endpoint:
    """Who is asked: `--evalkit-endpoint`, or `evalkit_endpoint` in the ini file."""
    config = request.config
    target = config.getoption("--evalkit-endpoint") or _from_ini(config)
    if not target:
        pytest.fail(
            "no endpoint: give --evalkit-endpoint POLICY.yaml, or a URL and --evalkit-model", pytrace=False
        )
    model = config.getoption("--evalkit-model") or config.getini("evalkit_model") or ""
    made = {"url": target, "model": model} if "://" in target else target
    return Endpoint(made, request.node.user_properties)


def _from_ini(config: pytest.Config) -> str:
    given = str(config.getini("evalkit_endpoint") or "")
    return (
        given if "://" in given or not given or config.inipath is None else str(config.inipath.parent / given)
    )


@pytest.fixture
def judge(request: pytest.FixtureRequest) -> JudgeAnswers:
    """Judges answers: `assert await judge(sample, answer)`, or with judges such as `"exact"` named."""
    return JudgeAnswers(request.path.parent)


# --- the summary -------------------------------------------------------------------------------------------


class _Summary:
    """Gathers what the reports of golden tests say, from workers too."""

    def __init__(self) -> None:
        self.passed: list[bool] = []
        self.calls: list[Mapping[str, Any]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        calls = [value for name, value in report.user_properties if name == PROPERTY]
        if report.when == "call" and calls:
            self.passed.append(report.passed)
            self.calls += [value for value in calls if isinstance(value, Mapping)]

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.calls:
            terminalreporter.section("golden sets")
            for line in summary(self.passed, self.calls):
                terminalreporter.write_line(line)


def summary(passed: Sequence[bool], calls: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is printed in the end, with n and intervals. Of a failed call there is only its `error`."""
    from evalkit import words
    from evalkit.stats import quantile, wilson

    errors = Counter(str(call["error"]) for call in calls if "error" in call)
    calls = [call for call in calls if "error" not in call]

    def times(name: str) -> str:
        values = [float(call[name]) for call in calls if call[name] is not None]
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
    failed = f"; failed calls: {words.counts(errors)}" if errors else ""
    rate = wilson(sum(passed), len(passed))
    return [
        f"pass rate {words.percent(rate)} (n = {len(passed)}, 95% interval){failed}",
        f"TTFT {times('ttft_ms')}; TPOT {times('tpot_ms')}",
        f"tokens {spent[0]:,} in, {spent[1]:,} out{estimated}; cost {cost}"
        + (f", unknown for {unknown} of {len(calls)} calls" if costs and unknown else ""),
    ]
