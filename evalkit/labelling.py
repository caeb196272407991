"""A person labels a run's answers, one key each: what to show next, and what a key does.

Nothing here reads a terminal. `Desk` holds the answers in their order and the file that labels go to.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Literal

from evalkit.content import whole
from evalkit.labels import adjudication, answer_id, majority, read
from evalkit.trial import Trial
from guardrails.errors import ConfigError

Key = Literal["y", "n", "s", "u", "q"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person has to know to label an answer. `content` is the digest of the sample as it is now."""

    question: str = field(repr=False)
    passages: tuple[str, ...] = field(default=(), repr=False)
    content: str = ""


UNKNOWN = Asked("")


@dataclass(frozen=True, slots=True)
class Case:
    """An answer to label: nothing in it tells which model gave it, or what a judge said."""

    id: str
    set: str
    sample: str
    question: str = field(repr=False)
    answer: str = field(repr=False)
    passages: tuple[str, ...] = field(default=(), repr=False)


def cases(rows: Iterable[Trial], questions: Mapping[tuple[str, str], Asked], seed: int) -> list[Case]:
    """The different answers of a run in an order that the seed decides; equal answers are one case.

    A question that is not what the row answered is not shown.
    """
    found = {}
    for row in rows:
        if row.answer is not None:
            name = answer_id(row)
            text = row.answer.text or row.answer.refusal
            asked = questions.get((row.set, row.sample), UNKNOWN)
            if row.content and asked.content and whole(row.content) != whole(asked.content):
                asked = UNKNOWN
            found[name] = Case(name, row.set, row.sample, asked.question, text, asked.passages)
    shuffled = [found[name] for name in sorted(found)]
    Random(seed).shuffle(shuffled)  # noqa: S311 - an order, not a secret
    return shuffled


@dataclass(slots=True)
class Desk:
    """The cases that `rater` has yet to label. Every label is in the file before the next case is shown.

    Opening it again goes on where the file ends: what this rater has labelled there is not shown again.
    A case that was skipped comes again the next time. `u` takes back the last key, as far as this sitting.
    """

    todo: Sequence[Case]
    path: Path
    rater: str
    weight: str = "gold"
    at: int = 0
    before: int = 0
    _written: list[tuple[int, bytes] | None] = field(default_factory=list)

    @classmethod
    def open(cls, every: Sequence[Case], path: Path, rater: str, weight: str = "gold") -> Desk:
        """Read what is labelled already. Raises `ConfigError` when the file cannot be used."""
        done = {each.answer for each in read(path) if each.rater == rater} if path.exists() else set()
        todo = [case for case in every if case.id not in done]
        return cls(todo, path, rater, weight, before=len(every) - len(todo))

    @classmethod
    def adjudicate(cls, every: Sequence[Case], path: Path, rater: str, weight: str = "gold") -> Desk:
        """Only what raters differ on, the most disputed first, whoever labelled it before.

        Nothing tells who said what. Raises `ConfigError` when the file cannot be used.
        """
        by_id = {case.id: case for case in every}
        verdicts = majority(each for each in read(path) if each.answer in by_id)
        return cls([by_id[each.names[0]] for each in adjudication(verdicts)], path, rater, weight)

    @property
    def case(self) -> Case | None:
        """What to show; None when all is done."""
        return self.todo[self.at] if self.at < len(self.todo) else None

    @property
    def labelled(self) -> int:
        """Labels of this sitting."""
        return sum(each is not None for each in self._written)

    def press(self, key: str) -> bool:
        """Do what a key says; whether to go on. A key that means nothing does nothing."""
        if key == "u" and self._written:
            self._take_back()
        elif (case := self.case) is not None and key in ("y", "n", "s"):
            self._written.append(None if key == "s" else self._write(case, key == "y"))
            self.at += 1
        return key != "q" and self.case is not None

    def _write(self, case: Case, label: bool) -> tuple[int, bytes]:
        """Append the label; where the file ended before, and what was written."""
        row = {"rater": self.rater, "answer": case.id, "set": case.set, "sample": case.sample}
        said = json.dumps({**row, "label": label, "weight": self.weight}, ensure_ascii=False) + "\n"
        line = said.encode("utf-8", "replace")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as file:
                end = file.seek(0, os.SEEK_END)
                if end:
                    file.seek(end - 1)
                    line = line if file.read(1) == b"\n" else b"\n" + line
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ConfigError(
                f"{self.path} cannot be written: {error.strerror}", hint="--labels FILE"
            ) from None
        return end, line

    def _take_back(self) -> None:
        """Take the label out of the file, unless somebody else has written behind it.

        A rater's last label is what counts, so that the label that follows replaces it.
        """
        written = self._written.pop()
        self.at -= 1
        if written is None:
            return
        end, line = written
        with self.path.open("rb+") as file:
            file.seek(end)
            if file.read(len(line) + 1) == line:
                file.truncate(end)
