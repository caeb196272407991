"""Golden sets inside of pytest: a test for each sample, an endpoint, a judge, and a line that sums them up.

@pytest.mark.golden("support.jsonl", where=["refunds"], limit=50)
@pytest.mark.asyncio
async def test_support(sample, endpoint, judge):
    answer = await endpoint.ask(sample)
    assert await judge(sample, answer)

`pytest --evalkit-endpoint policy.yaml` (a policy, a suite's endpoint or a base URL, with `--evalkit-model`)
says who is asked; so do `evalkit_endpoint` and `evalkit_model` in pytest's ini file, and a fixture `endpoint`
of your own. In tests that are not async, `endpoint.ask_now(…)` and `judge.now(…)` do the same.

The summary's pass rate is of the tests marked golden that passed or failed, whatever they failed by; its
times and costs are of the calls that those tests made by the `endpoint` of this file. Works under
pytest-xdist: what is summed up travels with the reports.

pytest loads this file in every session of an environment that has evalkit, so it imports nothing heavy.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from evalkit.pending import Pending

if TYPE_CHECKING:
    from evalkit.sample import Sample
    from guardrails.call import Request
    from guardrails.client import Answer, Llm
    from judges.judge import Score

PROPERTY = "evalkit"
GOLDEN = "golden"
"""What a golden test's property says, beside those of its calls."""

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
    marks = list(metafunc.definition.iter_markers_with_node("golden"))
    if not marks:
        return
    nearest, mark = marks[0]
    if sum(node is nearest for node, _ in marks) > 1:  # a class's mark gives way to its method's own
        raise pytest.UsageError(
            f"{metafunc.definition.nodeid}: marked golden more than once; write one mark, whose set may be a "
            "pattern such as 'sets/*.jsonl', or a test for each set"
        )
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


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> None:
    """Let the reports of a golden test say that it is one: another process may read them."""
    mine = PROPERTY, GOLDEN
    if item.get_closest_marker("golden") is not None and mine not in item.user_properties:
        item.user_properties.append(mine)


# --- fixtures ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An `Llm` made from `config` for each call, so that no connection outlives a test's event loop."""

    config: Any
    properties: list[tuple[str, object]] = field(default_factory=list, repr=False)

    def ask(
        self, what: Sample | Request | str, *, system: str | None = None, **sampling: Any
    ) -> Pending[Answer]:
        """Ask a sample's question (with its passages and tools), a request or a text. Raises as `Llm.ask`.

        A call that fails counts in the summary, and its traceback begins in the test.
        """
        return Pending(
            lambda: self._counted(what, system, sampling), "endpoint.ask(…)", "endpoint.ask_now(…)"
        )

    async def _counted(
        self, what: Sample | Request | str, system: str | None, sampling: dict[str, Any]
    ) -> Answer:
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

        _no_loop("endpoint.ask_now(…)", "await endpoint.ask(…)")
        try:
            return asyncio.run(self._counted(what, system, sampling))
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

    def __call__(
        self, sample: Sample, answer: Answer | str, *judges: str | dict[str, Any]
    ) -> Pending[Judged]:
        """Judge an answer to a sample. Raises `ConfigError` for a judge that cannot judge this sample."""
        __tracebackhide__ = True
        _check_answer(answer)
        return Pending(lambda: self._judged(sample, answer, judges), "judge(…)", "judge.now(…)")

    async def _judged(
        self, sample: Sample, answer: Answer | str, judges: tuple[str | dict[str, Any], ...]
    ) -> Judged:
        from evalkit.scoring import Scoring
        from judges.judge import Answer as Seen

        scoring = Scoring(judges, "the golden set", folder=self.folder)
        scoring.check([sample], ())
        seen = Seen(answer) if isinstance(answer, str) else Seen.of(answer.response, answer.record.as_dict())
        try:
            return Judged(await scoring.judges(sample).score(sample.question(), seen))
        finally:
            await scoring.aclose()

    def now(self, sample: Sample, answer: Answer | str, *judges: str | dict[str, Any]) -> Judged:
        """The same, in a test that is not async."""
        __tracebackhide__ = True
        _check_answer(answer)
        _no_loop("judge.now(…)", "await judge(…)")
        return asyncio.run(self._judged(sample, answer, judges))


def _check_answer(answer: object) -> None:
    """Raises `TypeError` for what is no answer. One that an endpoint of the user's own gives may only look
    like ours."""
    __tracebackhide__ = True
    if isinstance(answer, Pending):
        bool(answer)  # says what is to be written
    if inspect.iscoroutine(answer):
        answer.close()  # or Python would warn of it, beside the error
    if inspect.isawaitable(answer):
        raise TypeError("the answer that `judge` got was not awaited: write `await` before what asks for it")
    if not isinstance(answer, str) and not (hasattr(answer, "response") and hasattr(answer, "record")):
        raise TypeError(
            "`judge` takes the answer that `endpoint.ask` gives, or a text; what it got is "
            + ("None" if answer is None else f"of the type {type(answer).__name__}")
        )


def _no_loop(call: str, instead: str) -> None:
    """Raises `RuntimeError` in a test that is async, where `call` cannot wait for its own loop."""
    __tracebackhide__ = True
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(f"{call} is for tests that are not async: in this one, write `{instead}`")


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


@dataclass(slots=True)
class _Test:
    """What the reports of one golden test said."""

    words: set[str] = field(default_factory=set)
    calls: Sequence[Mapping[str, Any]] = ()

    @property
    def word(self) -> str:
        """What counts: a test that failed anywhere has failed, and one expected to fail says nothing."""
        order = "failed", "xfailed", "xpassed", "passed", "skipped"
        return next((word for word in order if word in self.words), "")


class _Summary:
    """Gathers what the reports of golden tests say, from workers too."""

    def __init__(self) -> None:
        self.tests: dict[str, _Test] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
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
            self.tests[report.nodeid].words.add(expected + word)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
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
    rest = [f"{tests[word]} {word}" for word in ("skipped", "xfailed", "xpassed") if tests.get(word)]
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
