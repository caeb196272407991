"""How good the default filters are, measured by evalkit's own runner on public labelled sets.

    python tests/bench/filter_quality.py [--limit 1500 | --full] [--out FOLDER] [--write docs/filters.md]

Each detector is an endpoint that answers a text with its findings as JSON; judges hold the answer against the
label; every answer is a trial like any other (kept in `--out`). The tables are made from these trials. See
`quality_sets` for what is measured on; `evalkit.detection` for the measures. `--write` replaces what stands
under "Measured" in a page.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import quality_sets
from quality_sets import KINDS

from evalkit.config import Suite
from evalkit.detection import Counts, Place, auc, places, recall_at, verdicts
from evalkit.evaluate import evaluate
from evalkit.plan import Part, Plan, Target
from evalkit.prompts import Prompt, PromptSpec
from evalkit.sample import GoldenSet, Sample
from evalkit.scoring import Judges, Scoring
from evalkit.stats import Measured, wilson
from evalkit.trial import Trial
from guardrails.call import Request
from guardrails.client import Llm
from guardrails.endpoints.function import FunctionEndpoint
from guardrails.filters import Detector, Pii, scan
from guardrails.filters.jailbreak import Jailbreak
from guardrails.filters.secrets import Secrets
from guardrails.filters.toxicity import Toxicity
from judges.judge import Answer, Judge, Question, Score

DETECTORS: dict[str, Detector] = {d.name: d for d in (Pii(), Secrets(), Toxicity(), Jailbreak())}

# --- a detector as an endpoint, a label as a judge ---------------------------------------------------------


def target(name: str) -> Target:
    """The detector as something that can be asked. It looks at a text as the filters do."""
    detector = DETECTORS[name]
    score: Callable[[str], float] | None = getattr(detector, "score", None)

    async def answer(request: Request) -> str:
        text = request.messages[-1].text
        found = scan(text, detector.detect, detector.reach)
        said = [{"kind": f.kind, "start": f.start, "end": f.end, "score": f.score} for f in found]
        return json.dumps({"findings": said, "score": score(text) if score is not None else None})

    return Target(Llm(FunctionEndpoint(answer, name=name), name=name), name, {"detector": repr(detector)})


@dataclass(frozen=True, slots=True)
class Flagged:
    """Passes when there is a finding exactly where the label says that there should be one."""

    name: str = "flagged"

    def check(self, question: Question, /) -> str | None:
        return None if "label" in question.metadata else "the sample has no label"

    async def __call__(self, question: Question, answer: Answer, /) -> Score:
        said = bool(json.loads(answer.text)["findings"])
        return Score.verdict(said == bool(question.metadata["label"]), "flagged" if said else "not flagged")


@dataclass(frozen=True, slots=True)
class Placed:
    """Passes when every labelled place of a kind that patterns find is found, and nothing else of these."""

    name: str = "placed"

    def check(self, question: Question, /) -> str | None:
        return None if "places" in question.metadata else "the sample has no places"

    async def __call__(self, question: Question, answer: Answer, /) -> Score:
        total = sum(counted(question.metadata["places"], answer.text).values(), Counts())
        missed, wrong = total.wanted - total.found, total.said - total.right
        return Score.verdict(not missed and not wrong, f"{missed} missed, {wrong} too many")


def counted(labelled: Sequence[dict[str, Any]], answer: str) -> dict[str, Counts]:
    """Places found and right, by our kind."""
    wanted = [Place(KINDS[p["type"]], p["start"], p["end"]) for p in labelled if p["type"] in KINDS]
    return dict(places(wanted, said(answer)))


def said(answer: str) -> list[Place]:
    """The places in a detector's answer."""
    return [Place(f["kind"], f["start"], f["end"]) for f in json.loads(answer)["findings"]]


# --- running -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Result:
    """One sample with what one detector answered."""

    sample: Sample
    trial: Trial

    @property
    def answer(self) -> str:
        """The findings as JSON. A failed call would make every figure wrong: it ends the script."""
        if self.trial.answer is None or self.trial.judge_errors:
            raise SystemExit(f"{self.trial.endpoint}, sample {self.trial.sample}: {self.trial.error}")
        return self.trial.answer.text

    @property
    def label(self) -> bool:
        return bool(self.sample.metadata["label"])

    @property
    def flagged(self) -> bool:
        return bool(json.loads(self.answer)["findings"])

    @property
    def score(self) -> float:
        return float(json.loads(self.answer)["score"])

    @property
    def unseen(self) -> bool:
        """Whether the detector's threshold was chosen without this text."""
        return self.trial.endpoint not in self.sample.metadata["chose"]


Results = dict[str, list[Result]]


def measured(name: str, samples: Sequence[Sample], detectors: Sequence[str], out: Path) -> Results:
    """Every detector's results on a set, by the runner."""
    judge: Judge = Placed() if "places" in samples[0].metadata else Flagged()
    asked = {"golden": name, "endpoints": [{"name": d} for d in detectors], "concurrency": 1, "out": out}
    suite = Suite.model_validate(asked)
    golden = GoldenSet(name, Path(name), tuple(samples), "")
    scoring = Scoring((), name, _made={"": Judges((judge,), judge.name)})  # no file names these judges
    plan = Plan(suite, (Part(golden, scoring, 0),), tuple(map(target, detectors)), (Prompt.of(PromptSpec()),))
    trials: list[Trial] = []
    asyncio.run(evaluate(plan, seen=trials.append))
    by_id = {sample.id: sample for sample in samples}
    rows: Results = {detector: [] for detector in detectors}
    for trial in trials:
        rows[trial.endpoint].append(Result(by_id[trial.sample], trial))
    return rows


# --- tables ------------------------------------------------------------------------------------------------


def shown(value: Measured | None) -> str:
    return "–" if value is None else f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}]"


def table(head: Sequence[str], body: Iterable[Sequence[object]]) -> str:
    rows = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows) + "\n"


def pii_by_kind(results: Sequence[Result]) -> str:
    total: dict[str, Counts] = {}
    for result in results:
        for kind, counts in counted(result.sample.metadata["places"], result.answer).items():
            total[kind] = total.get(kind, Counts()) + counts
    body = [
        (kind, c.wanted, shown(c.recall()), c.said, shown(c.precision())) for kind, c in sorted(total.items())
    ]
    labelled = sum((c for kind, c in total.items() if kind in KINDS.values()), Counts())
    body.append(
        (
            "all labelled kinds",
            labelled.wanted,
            shown(labelled.recall()),
            labelled.said,
            shown(labelled.precision()),
        )
    )
    return table(("kind", "n labelled", "recall", "n found", "precision"), body)


def pii_unlabelled(name: str, results: Sequence[Result]) -> tuple[object, ...]:
    """What is found where only names are labelled: what touches a name is wrong, of the rest nobody knows."""
    found: Counter[str] = Counter()
    wrong = names = 0
    for result in results:
        own = [p for p in result.sample.metadata["places"] if p["type"] not in KINDS]
        names += len(own)
        for place in said(result.answer):
            found[place.kind] += 1
            wrong += any(p["start"] < place.end and place.start < p["end"] for p in own)
    share = wilson(sum(result.flagged for result in results), len(results))
    kinds = ", ".join(f"{count} {kind}" for kind, count in found.most_common(4))
    return name, len(results), names, shown(share), wrong, kinds or "–"


def quality(name: str, positives: Sequence[Result], negatives: Sequence[Result]) -> tuple[object, ...]:
    """AUC, recall at 1 % of these negatives, and rates at the shipped threshold on what it did not see."""
    scores = [r.score for r in positives], [r.score for r in negatives]
    flagged = [
        wilson(sum(r.flagged for r in side if r.unseen), sum(r.unseen for r in side))
        for side in (positives, negatives)
    ]
    size = f"{len(positives):,} / {len(negatives):,}"
    few = min(len(positives), len(negatives)) < 20
    measures = ("–", "–") if few else (shown(auc(*scores)), shown(recall_at(*scores)))
    at = " / ".join(f"{m.n if m else 0:,}" for m in flagged)
    return name, size, *measures, at, *map(shown, flagged)


def sides(results: Sequence[Result]) -> tuple[list[Result], list[Result]]:
    return [r for r in results if r.label], [r for r in results if not r.label]


def alarms(name: str, results: Results) -> tuple[object, ...]:
    cells = []
    size = 0
    for detector in DETECTORS:
        rows = results[detector]
        unseen = [r for r in rows if r.unseen]
        used = unseen or rows
        size = max(size, len(used))
        share = wilson(sum(r.flagged for r in used), len(used))
        cells.append(f"{shown(share)} n={len(used):,}{'' if unseen else ' †'}")
    return name, *cells


HEAD = ("set", "n (1 / 0)", "AUC", "recall at 1 % FPR", "n at the threshold", "recall", "false positives")


def report(limit: int | None, out: Path) -> str:
    run = partial(measured, out=out)
    parts = []
    synth, *named = [
        (name, run(name, quality_sets.pii(name, limit), ["pii"])["pii"]) for name in quality_sets.PII
    ]
    parts += ["### Personal data\n", PII_NOTE.format(name=synth[0], n=len(synth[1])), pii_by_kind(synth[1])]
    head = ("set", "n", "names labelled", "texts with a finding", "findings on a name", "found most")
    parts += [NAMES_NOTE, table(head, [pii_unlabelled(*each) for each in named])]

    found = run("gitleaks_literal_cases", quality_sets.secrets(limit), ["secrets"])["secrets"]
    counts = verdicts((r.label, r.flagged) for r in found)
    parts += ["### Secrets\n", SECRETS_NOTE]
    row = (
        "gitleaks_literal_cases",
        counts.wanted,
        shown(counts.recall()),
        counts.said,
        shown(counts.precision()),
    )
    parts.append(table(("set", "n with a secret", "recall", "n flagged", "precision"), [row]))

    toxic = [
        (name, run(name, quality_sets.toxic(name, limit), ["toxicity"])["toxicity"])
        for name in quality_sets.TOXIC
    ]
    parts += [
        "### Toxicity\n",
        SCORES_NOTE,
        table(HEAD, [quality(name, *sides(rows)) for name, rows in toxic]),
    ]

    benign = {
        name: run(name, quality_sets.harmless(name, limit), list(DETECTORS)) for name in quality_sets.HARMLESS
    }
    wild = run("wild", quality_sets.wild(), ["jailbreak"])["jailbreak"]
    fuzz = run("gptfuzz", quality_sets.wild(fuzz=True), ["jailbreak"])["jailbreak"]
    general = [r for name, rows in benign.items() if name.startswith("benign_") for r in rows["jailbreak"]]
    body = [
        quality(f"{quality_sets.WILD} / general text †", wild, general),
        quality(f"{quality_sets.WILD} / arena_hard_benign", wild, benign["arena_hard_benign"]["jailbreak"]),
        quality(f"{quality_sets.WILD} / hard-benign", wild, benign["hard-benign"]["jailbreak"]),
        quality(
            "gptfuzz_templates_x3, unseen clusters / arena_hard_benign",
            fuzz,
            benign["arena_hard_benign"]["jailbreak"],
        ),
    ]
    of_set = {
        name: run(name, quality_sets.attacks(name, limit), ["jailbreak"]) for name in quality_sets.ATTACKS
    }
    body += [quality(name, *sides(rows["jailbreak"])) for name, rows in of_set.items()]
    parts += ["### Jailbreaks and injections\n", table(HEAD, body)]
    heading = [f"{name}, texts with a finding" for name in DETECTORS]
    parts += [
        "### On benign text\n",
        BENIGN_NOTE,
        table(("set", *heading), [alarms(*each) for each in benign.items()]),
    ]
    return "\n".join(parts)


PII_NOTE = """\
`{name}` (n = {n:,} texts, made from templates: the intervals are too narrow). A place counts as
found when a finding of its kind shares a character with it. Kinds: as they are called, and DOMAIN_NAME is
our URL. Not looked for without a language model, and not counted: PERSON, STREET_ADDRESS, GPE, ORGANIZATION,
TITLE, AGE, NRP, ZIP_CODE. A finding of a kind that the set does not label counts as wrong. Missed are years
and weekdays that stand alone (labelled as dates), telephone numbers in national formats outside the default
regions or without an area code, and card numbers of rarer issuers (12 or 19 digits, among others).
"""
NAMES_NOTE = """\
The other sets label names of people, places and organisations only, of which patterns find none (recall 0
by design). What is found beside the names may be right: it is listed, not judged.
"""
SECRETS_NOTE = "The rules were tuned on these cases: this is the best that can be expected, not a forecast.\n"
SCORES_NOTE = """\
AUC with DeLong's interval; recall at the score that 1 % of the same set's negatives exceed, with an interval
that allows for that score being uncertain too (with fewer than 437 negatives nothing bounds it from below).
Then recall and false positives at the shipped threshold, on the texts that did not help to choose it.
"""
BENIGN_NOTE = """\
The share of texts with a finding at the shipped thresholds, Wilson's interval. For toxicity and jailbreaks
these are false positives (†: on these texts the threshold was chosen). The jailbreak threshold was also
chosen so that at most 4.5 % of hard-benign are flagged: that row is no forecast. Personal data and secrets
in benign text may be real: dates, links and sample keys are.
"""


def written(page: Path, section: str) -> None:
    """Replace what stands under "Measured", the last heading of a page."""
    before, heading, _ = page.read_text(encoding="utf-8").partition("## Measured\n")
    if not heading:
        raise SystemExit(f"{page} has no heading ## Measured")
    page.write_text(f"{before}{heading}\n{section}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--limit", type=int, default=1500, help="texts of a set at most")
    parser.add_argument("--full", action="store_true", help="all texts of every set")
    parser.add_argument("--out", type=Path, help="keep the runs in this folder")
    parser.add_argument("--write", type=Path, help="put the tables under ## Measured of this page")
    asked = parser.parse_args()
    begun = time.perf_counter()
    for detector in DETECTORS.values():
        detector.detect("warm")
    limit = None if asked.full else asked.limit
    with tempfile.TemporaryDirectory() as folder:
        tables = report(limit, asked.out or Path(folder))
    size = "--full" if asked.full else f"--limit {asked.limit}"
    texts = "All texts" if asked.full else f"At most {asked.limit:,} texts"
    section = (
        f"`python tests/bench/filter_quality.py {size}`, {datetime.now(UTC):%Y-%m-%d}. Intervals are 95 %;\n"
        f"n is the number of texts (or places) behind a figure. {texts} of each set's part\n"
        f"that no model was trained on. The models' settings were compared on some of them (their cards say\n"
        f"on which), so that these figures are a little optimistic.\n\n{tables}"
    )
    print(section)
    print(f"{time.perf_counter() - begun:.0f} s")
    if asked.write:
        written(asked.write, section)


if __name__ == "__main__":
    main()
