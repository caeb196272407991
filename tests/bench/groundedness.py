"""How well the support score tells supported answers from others, measured by evalkit's own runner.

    EVALKIT_SHARED=../shared python tests/bench/groundedness.py [--limit N] [--write PAGE …]

Every labelled answer of `data/groundedness` is played back by an endpoint and judged by the score, and by
trivial baselines; the tables are made from the run's trials. Each source is judged by a model trained without
it (`training/groundedness.py` fits it here), each part of SummEdits also by one trained without that part,
and the sets that nobody trains on by the shipped model as well. A baseline's threshold is set on the same
rows, once by the same rule as the score's and once without regard to length. `--write` replaces what stands
under "Measured".
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from evalkit.config import Suite
from evalkit.detection import Counts, Place, auc, places
from evalkit.evaluate import evaluate
from evalkit.plan import Part, Plan, Target
from evalkit.prompts import Prompt, PromptSpec
from evalkit.sample import GoldenSet, Sample
from evalkit.scoring import Judges, Scoring
from evalkit.stats import Measured
from evalkit.trial import Trial
from guardrails.call import Request
from guardrails.client import Llm
from guardrails.endpoints.function import FunctionEndpoint
from judges.grounding.model import Model
from judges.grounding.support import support
from judges.judge import Answer, Question, Score

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "training"))
import groundedness as training  # noqa: E402
from groundedness import Row  # noqa: E402

RESAMPLES = 2000
STRATA = 5

# --- what judges: the score, and what is trivial -----------------------------------------------------------


def words(text: str) -> list[str]:
    return "".join(c if c.isalnum() else " " for c in text.lower()).split()


def length(row: Row) -> float:
    return float(len(row.answer))


def new_words(row: Row) -> float:
    """Overlap alone, turned: the share of the answer's words that the context does not have."""
    said, known = words(row.answer), set(words(row.context))
    return sum(word not in known for word in said) / max(1, len(said))


def new_pairs(row: Row) -> float:
    """The same of pairs of words."""
    said, known = words(row.answer), words(row.context)
    pairs, there = list(pairwise(said)), set(pairwise(known))
    return sum(pair not in there for pair in pairs) / max(1, len(pairs))


TRIVIAL: Mapping[str, Callable[[Row], float]] = {
    "length": length,
    "word overlap": new_words,
    "pair overlap": new_pairs,
}


@dataclass(frozen=True, slots=True)
class Judged:
    """A judge of one number: 1 − risk in the words of a `Score`, and a verdict by its threshold."""

    name: str
    risk: Callable[[Row], float] = field(repr=False)
    threshold: float
    rows: Mapping[str, Row] = field(repr=False)

    def check(self, question: Question, /) -> str | None:
        return None if question.metadata.get("row") in self.rows else "no such row"

    async def __call__(self, question: Question, answer: Answer, /) -> Score:
        risk = self.risk(self.rows[question.metadata["row"]])
        return Score(-risk, risk < self.threshold, "measured")


def by_model(model: Model) -> Callable[[Row], float]:
    return lambda row: 1 - support(row.answer, row.context, model=model).score


Judges_ = Mapping[str, tuple[Callable[[Row], float], float]]


def against(train: Sequence[Row], model: Model) -> Judges_:
    """The score by this model, and the baselines with thresholds from the same rows."""
    found = {"support": (by_model(model), 0.5)}
    for name, risk in TRIVIAL.items():
        risks = np.array([risk(row) for row in train])
        found[name] = risk, training.offset(risks, train)
        slope, at = training.divide(risks, train)
        found[f"{name}, by length"] = by_length(risk, slope), at
    return found


def by_length(risk: Callable[[Row], float], slope: float) -> Callable[[Row], float]:
    return lambda row: risk(row) - slope * training.length(len(row.answer))


# --- running -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Result:
    """One answer: its row, and what each judge gave it: (risk, said to be unsupported)."""

    row: Row
    said: Mapping[str, tuple[float, bool]]


def measured(name: str, rows: Sequence[Row], judges: Judges_) -> list[Result]:
    """Play the answers back and judge them, by evalkit's runner."""
    known = {str(number): row for number, row in enumerate(rows)}

    async def replay(request: Request) -> str:
        return known[request.messages[-1].text].answer

    made = tuple(Judged(each, risk, at, known) for each, (risk, at) in judges.items())
    samples = tuple(Sample(number, number, metadata={"row": number}) for number in known)
    suite = Suite.model_validate({"golden": name, "endpoints": [{"name": "replay"}], "concurrency": 1})
    scoring = Scoring((), name, _made={"": Judges(made, "groundedness")})
    target = Target(Llm(FunctionEndpoint(replay, name="replay"), name="replay"), "replay", {})
    part = Part(GoldenSet(name, Path(name), samples, ""), scoring, 0)
    trials: list[Trial] = []
    plan = Plan(suite, (part,), (target,), (Prompt.of(PromptSpec()),))
    asyncio.run(evaluate(plan, seen=trials.append))
    return [Result(known[trial.sample], _said(trial)) for trial in trials]


def _said(trial: Trial) -> dict[str, tuple[float, bool]]:
    if trial.error or trial.judge_errors:
        raise SystemExit(f"sample {trial.sample} was not judged")
    return {name: (-float(score.value), not score.passed) for name, score in trial.scores.items()}


# --- measures ----------------------------------------------------------------------------------------------


def balanced(results: Sequence[Result], judge: str) -> Measured:
    """Balanced accuracy; the interval is that of a bootstrap of contexts, whose answers belong together."""
    rates = _resampled(results, judge)
    low, high = np.quantile(rates, (0.025, 0.975))
    return Measured(_rate(results, judge), float(low), float(high), len(results))


def gained(results: Sequence[Result], judge: str, other: str) -> Measured:
    """The difference of two balanced accuracies on the same answers, by the same bootstrap."""
    spread = _resampled(results, judge) - _resampled(results, other)
    low, high = np.quantile(spread, (0.025, 0.975))
    value = _rate(results, judge) - _rate(results, other)
    return Measured(value, float(low), float(high), len(results))


def _cells(results: Sequence[Result], judge: str) -> Any:
    """For each context: found, unsupported, let pass, supported."""
    contexts = {context: n for n, context in enumerate(dict.fromkeys(r.row.context for r in results))}
    cells = np.zeros((len(contexts), 4))
    for result in results:
        flagged, label = result.said[judge][1], result.row.label
        cells[contexts[result.row.context]] += (flagged and label, label, not (flagged or label), 1 - label)
    return cells


def _balanced(cells: Any) -> Any:
    return (cells[..., 0] / np.maximum(1, cells[..., 1]) + cells[..., 2] / np.maximum(1, cells[..., 3])) / 2


def _rate(results: Sequence[Result], judge: str) -> float:
    return float(_balanced(_cells(results, judge).sum(axis=0)))


def _resampled(results: Sequence[Result], judge: str) -> Any:
    cells = _cells(results, judge)
    return _balanced(_draws(len(cells)) @ cells)


@lru_cache(maxsize=1)
def _draws(contexts: int) -> Any:
    rng = np.random.default_rng(7)
    return rng.multinomial(contexts, np.full(contexts, 1 / contexts), size=RESAMPLES)


def area(results: Sequence[Result], judge: str) -> Measured | None:
    sides = [[r.said[judge][0] for r in results if r.row.label == label] for label in (1, 0)]
    return auc(*sides)


def matched(results: Sequence[Result], judge: str) -> Measured | None:
    """The AUC among answers of about the same length: the mean over fifths by length, by their size."""
    ordered = sorted(results, key=lambda r: len(r.row.answer))
    fifths = [ordered[len(ordered) * n // STRATA : len(ordered) * (n + 1) // STRATA] for n in range(STRATA)]
    found = [(len(fifth), a) for fifth in fifths if (a := area(fifth, judge)) is not None]
    total = sum(size for size, _ in found)
    if not total:
        return None
    value = sum(size * a.value for size, a in found) / total
    spread = sum((size * (a.high - a.low) / 2) ** 2 for size, a in found) ** 0.5 / total
    return Measured(value, max(0.0, value - spread), min(1.0, value + spread), total)


def shown(value: Measured | None, digits: int = 3) -> str:
    if value is None:
        return "–"
    return f"{value.value:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"


def points(value: Measured) -> str:
    return f"{100 * value.value:+.1f} [{100 * value.low:+.1f}, {100 * value.high:+.1f}]"


def table(head: Sequence[str], body: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


HEAD = ("set", "n (1 / 0)", "AUC", "AUC, length-matched", "balanced accuracy", "best trivial", "gain, points")


def line(name: str, results: Sequence[Result]) -> tuple[object, ...]:
    labels = [r.row.label for r in results]
    best = max((name for name in results[0].said if name != "support"), key=lambda each: _rate(results, each))
    return (
        name,
        f"{sum(labels):,} / {len(labels) - sum(labels):,}",
        shown(area(results, "support")),
        shown(matched(results, "support")),
        shown(balanced(results, "support")),
        f"{shown(balanced(results, best))} ({best})",
        points(gained(results, "support", best)),
    )


def parts(results: Sequence[Result]) -> Iterator[tuple[str, list[Result]]]:
    groups = sorted({r.row.group for r in results})
    for group in groups if len(groups) > 1 else ():
        yield group.partition("/")[2], [r for r in results if r.row.group == group]


def marked(rows: Sequence[Row], model: Model) -> tuple[Counts, int, int, int]:
    """Annotated spans that a span of ours touches, and characters: both, ours, theirs."""
    total, both, ours, theirs = Counts(), 0, 0, 0
    for row in rows:
        wanted = [Place("u", s["start"], s["end"]) for s in row.facts["spans"]]
        said = [Place("u", s.start, s.end) for s in support(row.answer, row.context, model=model).spans]
        total += places(wanted, said).get("u", Counts())
        a, b = ({c for p in side for c in range(p.start, p.end)} for side in (wanted, said))
        both, ours, theirs = both + len(a & b), ours + len(b), theirs + len(a)
    return total, both, ours, theirs


# --- the report --------------------------------------------------------------------------------------------


def unseen(train: Sequence[Row], every: Mapping[str, Sequence[Row]]) -> tuple[list[Any], list[Any], str]:
    """The lines of each source by a model without it, those of the baselines, and what is said of spans."""
    lines: list[Any] = []
    trivial: list[Any] = []
    spans = ""
    for source in sorted(set(training.SOURCE.values())):
        rest = [row for row in train if row.source != source]
        model = training.trained(rest)
        for name in (name for name, of in SOURCES.items() if of == source):
            results = measured(name, every[name], against(rest, model))
            lines += [
                line(f"**{name}**", results),
                *(line(f"– {each}", some) for each, some in parts(results)),
            ]
            for each in TRIVIAL:
                rates = [shown(balanced(results, judge)) for judge in (each, f"{each}, by length")]
                trivial.append((name, each, shown(area(results, each)), *rates))
        if source == "ragtruth":
            spans = of_spans(every["ragtruth_train66"], model)
    return lines, trivial, spans


def by_domain(train: Sequence[Row], rows: Sequence[Row]) -> list[Any]:
    """SummEdits, each domain by a model that has seen the other ones."""
    results: list[Result] = []
    for group in sorted({row.group for row in rows}):
        rest = [row for row in train if row.group != group]
        judges = against(rest, training.trained(rest))
        results += measured(group, [row for row in rows if row.group == group], judges)
    return [line("**summedits**", results), *(line(f"– {each}", some) for each, some in parts(results))]


SOURCES = training.SOURCE | training.MEASURED
TRIVIAL_HEAD = ("set", "baseline", "AUC", "balanced accuracy", "balanced accuracy, threshold by length")


def report(limit: int | None) -> str:
    train = training.training_rows()
    every = {name: training.rows(name)[:limit] for name in SOURCES}
    lines, trivial, spans = unseen(train, every)
    shipped = against(train, Model.load())
    held = [line(name, measured(name, every[name], shipped)) for name in training.MEASURED]
    sections = {
        "Sources that the model has not seen": table(HEAD, lines),
        "SummEdits, each domain by a model that has seen the others": table(
            HEAD, by_domain(train, every["summedits"])
        ),
        "The shipped model on sets that it was not trained on": table(HEAD, held),
        "What is trivial, on sources that were not seen": table(TRIVIAL_HEAD, trivial),
        "Spans and time": f"{spans}\n{of_time(every['ragtruth_train66'])}",
    }
    return "\n".join(f"### {title}\n\n{body}" for title, body in sections.items())


def of_spans(rows: Sequence[Row], model: Model) -> str:
    counts, both, ours, theirs = marked(rows, model)
    touched, touching = shown(counts.recall()), shown(counts.precision())
    return f"""\
Spans against the {counts.wanted:,} that RAGTruth's annotators marked, in {len(rows):,} answers, by a model
without RAGTruth: {touched} of theirs are touched by one of ours,
{touching} of our {counts.said:,} touch one of theirs. Of the characters
that we mark ({ours:,}) {both / max(1, ours):.3f} are theirs, of theirs ({theirs:,})
we mark {both / max(1, theirs):.3f}.
"""


def of_time(rows: Sequence[Row]) -> str:
    spent = []
    support("a", "b")
    for number, row in enumerate(rows[:200]):
        context = (row.context * (4000 // len(row.context) + 1))[:4000]
        begun = time.process_time()
        support(row.answer, [context, str(number)])
        spent.append(time.process_time() - begun)
    size = median(len(row.answer) for row in rows[:200])
    middle, late = 1000 * median(spent), 1000 * float(np.quantile(spent, 0.95))
    return f"""\
CPU time of one answer ({size:,.0f} characters in the median) against 4,000 characters of context, about 1,000
tokens, {len(spent)} answers of RAGTruth: median {middle:.1f} ms, 95th percentile {late:.1f} ms.
"""


def written(page: Path, section: str) -> None:
    before, heading, rest = page.read_text(encoding="utf-8").partition("## Measured\n")
    if not heading:
        raise SystemExit(f"{page} has no heading ## Measured")
    after = rest[rest.find("\n## ") :] if "\n## " in rest else ""
    page.write_text(f"{before}{heading}\n{section}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--limit", type=int, help="answers of a set at most, from its start")
    parser.add_argument("--write", type=Path, nargs="*", default=[], help="pages to put the tables into")
    asked = parser.parse_args()
    begun = time.process_time()
    head = f"`python tests/bench/groundedness.py`, {datetime.now(UTC):%Y-%m-%d}"
    section = (
        f"{head}{'' if asked.limit is None else f', --limit {asked.limit}'}.\n{NOTE}\n{report(asked.limit)}"
    )
    print(section)
    print(f"{time.process_time() - begun:.0f} s of CPU")
    for page in asked.write:
        written(page, section)


NOTE = """\
Label 1 is an unsupported answer. Intervals are 95 %: DeLong's for AUC; for balanced accuracy and gains a
bootstrap of contexts, whose answers belong together. Thresholds are never set on what is measured: a
baseline's on the same training rows, once by the same rule as the score's ("by length") and once without
regard to length. "Best trivial" is the best of length, word overlap and pair overlap with either on that very
line, picked with hindsight. The task alone (QA or summary) tells nothing within a line, and has a balanced
accuracy of 0.5 there.
"""

if __name__ == "__main__":
    main()
