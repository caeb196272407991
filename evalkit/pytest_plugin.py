"""Golden sets inside of pytest: a test for each sample, an endpoint, a judge, and a line that sums them up.

@pytest.mark.golden("support.jsonl", where=["refunds"], limit=50)
@pytest.mark.asyncio
async def test_support(sample, endpoint, judge):
    answer = await endpoint.ask(sample)
    assert await judge(sample, answer)

`pytest --evalkit-endpoint policy.yaml` (a policy, a suite's endpoint or a base URL, with `--evalkit-model`)
says who is asked; so do `evalkit_endpoint` and `evalkit_model` in pytest's ini file, and a fixture `endpoint`
of your own. In tests that are not async, `endpoint.ask_now(…)` and `judge.now(…)` do the same.

A test that failed shows its question, what was expected, what was answered and what the judges said.

What ends the session is in `evalkit.pytest_summary`.

pytest loads this file in every session of an environment that has evalkit, so it imports nothing heavy.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from evalkit.pending import Pending
from evalkit.pytest_summary import GOLDEN, PROPERTY, UNASKED, Summary

if TYPE_CHECKING:
    from evalkit.sample import Sample
    from guardrails.call import Request
    from guardrails.client import Answer, Llm
    from judges.judge import Score

CHOSEN = ("where", "limit", "fields")
"""What the mark takes beside the set. The rest of what a suite may say of one goes into a mapping."""

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
        config.pluginmanager.register(Summary(), "evalkit-summary")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for each sample."""
    marks = list(metafunc.definition.iter_markers_with_node("golden"))
    if not marks:
        return
    nearest, mark = marks[0]
    if sum(node is nearest for node, _ in marks) > 1:  # a class's mark gives way to its method's own
        raise _mistake(
            metafunc,
            "marked golden more than once; write one mark, whose set may be a pattern such as "
            "'sets/*.jsonl', or a test for each set",
        )
    from evalkit.sample import load
    from guardrails.errors import ConfigError

    if "sample" not in metafunc.fixturenames:
        raise _mistake(metafunc, "marked golden, but takes no argument `sample`")
    if len(mark.args) != 1:
        raise _mistake(metafunc, "write @pytest.mark.golden('set.jsonl')")
    if unknown := [name for name in mark.kwargs if name not in CHOSEN]:
        raise _mistake(metafunc, _untaken(unknown[0], mark.kwargs[unknown[0]]))
    given = mark.args[0]
    spec = {**(given if isinstance(given, Mapping) else _place(str(given))), **mark.kwargs}
    try:
        golden = load({name: each for name, each in spec.items() if each is not None}, _folder(metafunc))
    except ConfigError as error:
        raise _mistake(metafunc, str(error)) from None
    metafunc.parametrize("sample", list(golden.samples), ids=[one.id for one in golden.samples])


def _mistake(metafunc: pytest.Metafunc, said: str) -> Exception:
    """An error that pytest shows as its message alone: where in our code it was raised helps nobody."""
    return pytest.Collector.CollectError(f"{metafunc.definition.nodeid}: {said}")


def _untaken(name: str, value: Any) -> str:
    """That the mark does not take a word. `tags` would give every sample the tag, and choose none."""
    if name in ("tag", "tags"):
        listed = [value] if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else []
        filters = repr({"any": listed or ["…"]})
        return f"golden takes no {name!r}; to take the samples that have a tag, write where={filters}"
    return (
        f"golden takes {', '.join(CHOSEN)}, and no {name!r}; samples are chosen by their tags with "
        "where={'any': ['…']}; what else a suite's `golden` may say goes into a mapping: "
        "golden({'path': 'set.jsonl', …})"
    )


def _place(name: str) -> dict[str, str]:
    from evalkit import datasets

    return {"builtin": name} if name in datasets.names() else {"path": name}


def _folder(metafunc: pytest.Metafunc) -> Path:
    return Path(str(metafunc.definition.path)).parent


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let the reports of a golden test say that it is one, and what failed: another process may read them."""
    if item.get_closest_marker("golden") is None:
        return (yield)
    mine = PROPERTY, GOLDEN
    if mine not in item.user_properties:
        item.user_properties.append(mine)
    report = yield
    sample = getattr(item, "funcargs", {}).get("sample")
    if report.when == "call" and report.failed and sample is not None:
        judged = item.stash.get(JUDGED, [])
        report.sections.append(("golden sample", "\n".join(_told(sample, judged))))
    return report


JUDGED = pytest.StashKey[list[tuple[str, "Judged"]]]()
"""The answers that a test had judged, and what was said of them."""

LONGEST = 800
"""Characters of a question or an answer that a failed test shows; of what was expected, a quarter."""


def _told(sample: Sample, judged: list[tuple[str, Judged]]) -> Iterator[str]:
    """A failed test's sample for people: what was asked, expected and answered, and what the judges said."""
    yield f"sample:   {_shown(sample.id, LONGEST)}"
    yield f"question: {_shown(sample.question().prompt, LONGEST)}"
    if sample.references:
        more = f" (or one of {len(sample.references) - 1} more)" if len(sample.references) > 1 else ""
        yield f"expected: {_shown(sample.references[0], LONGEST // 4)}{more}"
    for text, said in judged:
        yield f"answer:   {_shown(text, LONGEST)}"
        for name, score in said.scores.items():
            verdict = "no verdict" if score.passed is None else "passed" if score.passed else "failed"
            yield f"  {name}: {score.error or verdict}: {_shown(score.reason, LONGEST)}"


def _shown(text: str, most: int) -> str:
    """Text of others for a terminal or a CI job's log, where a line that begins with `::` is a command."""
    from evalkit.progress import printable

    cut = text if len(text) <= most else f"{text[:most]} … (cut here)"
    return "\n        | ".join(map(printable, cut.splitlines()))


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
        said = (
            f"{name}: {score.error} – {score.reason}" if score.error else f"{name}: {score.reason}"
            for name, score in self.scores.items()
        )
        return f"<{'passed' if self else 'not passed'} – {'; '.join(said)}>"


@dataclass(frozen=True, slots=True)
class JudgeAnswers:
    """The fixture `judge`: by the judges named, else by the sample's own, else by `contains`."""

    folder: Path
    seen: list[tuple[str, Judged]] = field(default_factory=list, repr=False, compare=False)

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
            judged = Judged(await scoring.judges(sample).score(sample.question(), seen))
        finally:
            await scoring.aclose()
        self.seen.append((seen.text or seen.refusal, judged))
        return judged

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
        request.node.user_properties.append((PROPERTY, UNASKED))
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
    return JudgeAnswers(request.path.parent, request.node.stash.setdefault(JUDGED, []))
