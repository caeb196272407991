"""What is wrong with a golden set that loads: duplicates, leaks, personal data, overlap with a corpus.

One pass over the samples, and a second look only at those that a hash pairs up. Findings name places and
kinds; no finding quotes a text. They are hints for people: a heuristic that is unsure keeps quiet.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from evalkit.sample import GoldenSet, GoldenSetError, Sample, load
from evalkit.sets.pages import Samples
from evalkit.sets.texts import Detect, flat, leaks, personal, prompt_of

if TYPE_CHECKING:
    from evalkit.sets.grams import Hashes
    from evalkit.sets.overlap import Compared, Runs

Level = Literal["error", "warning", "note"]

SIMILAR = 0.8  # of the runs of two texts together
LONG = 8_000  # characters of a reference: some 2,000 tokens
FEW = 10  # samples of a tag
KEPT = 200  # findings of each check


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to look at. `place` is `file:line`, empty for the set as a whole."""

    level: Level
    check: str
    place: str
    said: str


@dataclass(slots=True)
class Report:
    """What was found: the first findings of each check, and the number of all by level and check."""

    name: str
    samples: int = 0
    findings: list[Finding] = field(default_factory=list)
    counts: Counter[tuple[Level, str]] = field(default_factory=Counter)
    corpus: dict[str, Any] | None = None

    def add(self, level: Level, check: str, place: str, said: str) -> None:
        """Count a finding, and keep it when it is among the first of its check."""
        self.counts[level, check] += 1
        if self.counts[level, check] <= KEPT:
            self.findings.append(Finding(level, check, place, said))

    def count(self, level: Level) -> int:
        """How many findings there are of a level."""
        return sum(count for (each, _), count in self.counts.items() if each == level)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "name": self.name,
            "samples": self.samples,
            "counts": {f"{level}:{check}": count for (level, check), count in sorted(self.counts.items())},
            "findings": [asdict(finding) for finding in self.findings],
            "corpus": self.corpus,
        }


def lint(
    spec: Any,
    folder: Path | None = None,
    *,
    against: Sequence[Path] = (),
    detect: Detect | None = None,
) -> Report:
    """Look at the golden set that `spec` names; `against` are the files or folders of a training corpus.

    `detect` finds personal data (`guardrails.filters.pii.Pii().detect`); None leaves that check out. A set
    that does not load gives its problems as errors. Raises `ConfigError` when there is nothing to read.
    """
    try:
        golden = load(spec, folder)
    except GoldenSetError as error:
        return _unloadable(error)
    report = Report(golden.name, len(golden))
    look = _Look(golden, report, detect, _runs() if against else None)
    for number, sample in enumerate(golden.samples):
        look.at(number, sample)
    look.duplicates()
    look.leaks()
    look.references()
    look.tags()
    if look.runs is not None:
        from evalkit.sets.overlap import compare

        look.overlaps(compare(look.runs, against), against)
    order: dict[str, int] = {"error": 0, "warning": 1, "note": 2}
    report.findings.sort(key=lambda finding: (order[finding.level], finding.check))
    return report


def _unloadable(error: GoldenSetError) -> Report:
    if error.count == 1 and error.problems[0].line == 0:
        raise error  # no such file, and the like
    report = Report(error.name)
    for problem in error.problems:
        place = f"{problem.file or error.name}:{problem.line}"
        named = problem.field or "a column without a name"
        report.add("error", "unusable", place, f"{named}: {problem.reason}")
    report.counts["error", "unusable"] = error.count
    return report


def _runs() -> Runs:
    from evalkit.sets.overlap import Runs

    return Runs()


def _number(*texts: str) -> int:
    joined = "\0".join(texts).encode("utf-8", "replace")
    return int.from_bytes(hashlib.blake2b(joined, digest_size=8).digest(), "big")


_NOTHING = _number()
"""The number of no references at all."""


# --- the checks --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Look:
    """What the pass over the samples collects: a few numbers each, no texts."""

    golden: GoldenSet
    report: Report
    detect: Detect | None
    runs: Runs | None
    asked: array[int] = field(default_factory=lambda: array("Q"))
    right: array[int] = field(default_factory=lambda: array("Q"))
    bands: array[int] = field(default_factory=lambda: array("Q"))
    labels: Counter[int] = field(default_factory=Counter)
    leaking: list[tuple[int, int]] = field(default_factory=list)
    unanswered: list[int] = field(default_factory=list)
    tagged: Counter[str] = field(default_factory=Counter)

    def place(self, number: int) -> str:
        samples = self.golden.samples
        return samples.place(number) if isinstance(samples, Samples) else samples[number].id

    def at(self, number: int, sample: Sample) -> None:
        """Look at one sample."""
        from evalkit.sets.grams import BANDS, bands, shingles

        prompt = prompt_of(sample)
        images = [f"{each.url}{each.path}" for each in sample.attachments]
        around = [*sample.context, *images, *(tool.name for tool in sample.tools)]
        self.asked.append(_number(flat(prompt), *map(flat, around)))
        self.right.append(_number(*sorted(map(flat, sample.references))))
        # The same words about another image are no likeness: such samples meet nobody.
        near = (
            range(number * BANDS, (number + 1) * BANDS)
            if images
            else bands(shingles(_compared(sample))).tolist()
        )
        self.bands.extend(near)
        for tag in sample.tags:
            if tag not in self.tagged and ("," in tag or ";" in tag):
                said = f"one tag is {tag[:40]!r}: write several as a list, or in CSV with `|` between them"
                self.report.add("warning", "tags", self.place(number), said)
        self.tagged.update(set(sample.tags))
        if not sample.references:
            self.unanswered.append(number)
        for reference in sample.references:
            label = _number(flat(reference))
            self.labels[label] += 1
            if leaks(reference, prompt, sample.metadata):
                self.leaking.append((number, label))
            if len(reference) > LONG:
                said = f"a reference has {len(reference):,} characters: no answer is that long"
                self.report.add("warning", "long_reference", self.place(number), said)
        if self.detect is not None:
            for said in personal(sample, self.detect):
                self.report.add("warning", "pii", self.place(number), said)
        if self.runs is not None:
            self.runs.add(number, (prompt, *sample.references))

    def duplicates(self) -> None:
        """The same question twice: with the same answers a duplicate, with others a contradiction."""
        first: dict[int, int] = {}
        exact = bytearray(len(self.asked))
        for number, asked in enumerate(self.asked):
            earlier = first.setdefault(asked, number)
            if earlier == number:
                continue
            exact[number] = 1
            if (
                _NOTHING in (self.right[earlier], self.right[number])
                or self.right[earlier] == self.right[number]
            ):
                said = f"asks the same as {self.place(earlier)}"
                self.report.add("warning", "duplicate", self.place(number), said)
            else:
                said = f"asks the same as {self.place(earlier)} and has other references"
                self.report.add("error", "contradiction", self.place(number), said)
        first.clear()
        self._near(exact)

    def _near(self, exact: bytearray) -> None:
        import numpy as np

        from evalkit.sets.grams import BANDS, candidates, shingles, similarity

        @lru_cache(maxsize=512)
        def runs(number: int) -> Hashes:
            return shingles(_compared(self.golden.samples[number]))

        table = np.frombuffer(self.bands, dtype=np.uint64).reshape(-1, BANDS)
        said_already = bytearray(exact)
        for earlier, later in candidates(table):
            if said_already[later] or exact[earlier]:
                continue
            share = similarity(runs(earlier), runs(later))
            if share >= SIMILAR:
                said_already[later] = 1
                said = f"is {share:.0%} the same as {self.place(earlier)}"
                self.report.add("warning", "near_duplicate", self.place(later), said)

    def leaks(self) -> None:
        """References in their own prompts; a text that is the answer of many samples is a label."""
        usual = max(3, len(self.golden) // 100)
        for number, label in self.leaking:
            if self.labels[label] < usual:
                said = "the prompt holds the reference word for word"
                self.report.add("warning", "leaked_answer", self.place(number), said)

    def references(self) -> None:
        """Samples without references, where others have some."""
        none, n = len(self.unanswered), len(self.golden)
        if none == n:
            self.report.add("note", "no_reference", "", f"none of the {n:,} samples has a reference")
            return
        for number in self.unanswered:
            scored = "scorer" in self.golden.samples[number].metadata
            said = "has no reference" + (", and a scorer of its own" if scored else "")
            self.report.add("note" if scored else "warning", "no_reference", self.place(number), said)

    def tags(self) -> None:
        """Tags with too few samples to say anything about them."""
        few = sorted((count, tag) for tag, count in self.tagged.items() if count < FEW)
        if not few or len(self.golden) < FEW:
            return
        largest, most = self.tagged.most_common(1)[0]
        named = ", ".join(f"{tag[:40]} ({count})" for count, tag in few[:5])
        more = f" and {len(few) - 5:,} more" if len(few) > 5 else ""
        said = (
            f"{len(few):,} of {len(self.tagged):,} tags have fewer than {FEW} samples: {named}{more}; "
            f"the largest, {largest[:40]}, has {most:,}"
        )
        self.report.add("warning", "tags", "", said)

    def overlaps(self, compared: Compared, against: Sequence[Path]) -> None:
        """Samples that have runs of words in common with the corpus, and what was not read of it."""
        assert self.runs is not None, "they were compared"
        for health in compared.flawed:
            if health.unread:
                self.report.add("error", "corpus", str(health.file), "not one line of it could be read")
            for place, said in health.said():
                self.report.add("warning", "corpus", place, said)
        checkable = self.runs.checkable
        for overlap in compared.overlaps:
            share = f"{overlap.found:,} of {overlap.runs:,}"
            said = f"{share} runs of words stand in the corpus, first at {overlap.place}"
            self.report.add("warning", "overlap", self.place(overlap.sample), said)
        self.report.corpus = {
            "files": [str(each) for each in against],
            "documents": compared.documents,
            "words": compared.words,
            "samples_compared": checkable,
            "samples_too_short": self.runs.short,
            "samples_overlapping": len(compared.overlaps),
            "share": len(compared.overlaps) / checkable if checkable else None,
        }


def _compared(sample: Sample) -> str:
    return "\n".join((prompt_of(sample), *sample.context))
