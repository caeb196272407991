"""What a simulated model says: an answer source by its name.

`echo`, `lorem:WORDS`, `fixed:TEXT`, `replay:FILE` (recorded answers in turn) and `golden:FILE` (knows the
answers of a golden set, and gives them with a chosen accuracy).
"""

from __future__ import annotations

import itertools
import json
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from guardrails.call import Request
from guardrails.errors import ConfigError

Source = Callable[[Request, int], str]
"""From a request, and the number of one of its choices counted from 0, to the answer's text."""

NAMES = ("echo", "lorem:WORDS", "fixed:TEXT", "replay:FILE", "golden:FILE")

_LOREM = (
    "lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore et "
    "dolore magna aliqua enim ad minim veniam quis nostrud exercitation ullamco laboris nisi ex ea commodo "
    "consequat duis aute irure in reprehenderit voluptate velit esse cillum fugiat nulla pariatur"
)
_WORD = re.compile(r"\w+|[^\w\s]")
_UNKNOWN = "I do not know."


def source(spec: str, *, accuracy: float = 1.0, seed: int = 0) -> Source:
    """The source that `spec` names. Raises `ConfigError` for an unknown name or an unreadable file."""
    name, _, value = spec.partition(":")
    if name == "echo" and not value:
        return lambda request, _: prompt_of(request)
    if name == "lorem":
        if value and not value.isdecimal():
            raise ConfigError(f"lorem needs a number of words, not {value!r}", kind="answers")
        text = lorem(int(value or 100))
        return lambda request, _: text
    if name == "fixed":
        return lambda request, _: value
    if name == "replay" and value:
        return Replay(_texts(value))
    if name == "golden" and value:
        return Golden(_samples(value), accuracy=accuracy, seed=seed)
    raise ConfigError(
        f"unknown answer source {spec!r}", kind="answers", hint=f"use one of: {', '.join(NAMES)}"
    )


def prompt_of(request: Request) -> str:
    """The text of the last turn of the user, empty when there is none."""
    return next((m.text for m in reversed(request.messages) if m.role == "user"), "")


def lorem(words: int) -> str:
    """That many words of filler, always the same."""
    return " ".join(itertools.islice(itertools.cycle(_LOREM.split()), words))


class Replay:
    """Recorded answers, one after the other, round and round."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self._next = 0

    def __call__(self, request: Request, choice: int) -> str:
        """The next answer, whatever was asked."""
        text = self._texts[self._next % len(self._texts)]
        self._next += 1
        return text


@dataclass(frozen=True, slots=True)
class Known:
    """A golden sample as far as a simulated model knows it."""

    id: str
    prompt: str = field(repr=False)
    right: str = field(repr=False)
    wrong: str = field(default=_UNKNOWN, repr=False)


class Golden:
    """Answers of a golden set, right with probability `accuracy`.

    The sample is the one whose prompt shares the most words with the request's last user turn (rare words
    count more, long prompts are discounted), since prompts may arrive redacted or wrapped in a template.
    Whether an answer is right depends on the seed, the sample, the choice, and which of several askings it
    is: the request's own `seed` if it has one, else a count per sample. No shared word: "I do not know."
    """

    def __init__(self, samples: Sequence[Known], *, accuracy: float = 1.0, seed: int = 0) -> None:
        self._samples = samples
        self._accuracy = accuracy
        self._seed = seed
        self._asked: Counter[str] = Counter()
        self._exact = {sample.prompt: n for n, sample in reversed(list(enumerate(samples)))}
        self._index: dict[str, list[int]] = {}
        bags = [set(_bag(sample.prompt)) for sample in samples]
        for number, bag in enumerate(bags):
            for word in bag:
                self._index.setdefault(word, []).append(number)
        self._weight = {word: math.log(1 + len(samples) / len(at)) for word, at in self._index.items()}
        self._norm = [math.sqrt(sum(self._weight[word] for word in bag)) or 1.0 for bag in bags]
        self.nearest = lru_cache(maxsize=4096)(self._nearest)

    def __call__(self, request: Request, choice: int) -> str:
        """The right or the wrong answer of the nearest sample."""
        sample = self.nearest(prompt_of(request))
        if sample is None:
            return _UNKNOWN
        if request.sampling.seed is not None:
            asking = f"seed {request.sampling.seed}"
        else:
            self._asked[sample.id] += choice == 0
            asking = str(self._asked[sample.id])
        draw = random.Random(f"{self._seed}/{sample.id}/{asking}/{choice}").random()  # noqa: S311 - no secret
        return sample.right if draw < self._accuracy else sample.wrong

    def _nearest(self, prompt: str) -> Known | None:
        if (exact := self._exact.get(prompt)) is not None:
            return self._samples[exact]
        scores: dict[int, float] = {}
        for word in sorted(set(_bag(prompt))):  # sorted: sums of floats depend on their order
            weight = self._weight.get(word, 0.0)
            for number in self._index.get(word, ()):
                scores[number] = scores.get(number, 0.0) + weight
        if not scores:
            return None
        return self._samples[max(scores, key=lambda n: (scores[n] / self._norm[n], -n))]


def _bag(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _lines(path: str) -> list[tuple[int, Mapping[str, Any]]]:
    """The JSON objects of a JSONL file with their line numbers."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the answers in {path}: {error}", kind="answers") from None
    found: list[tuple[int, Mapping[str, Any]]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                value = json.loads(line)
            except ValueError:
                value = None
            if not isinstance(value, dict):
                raise ConfigError(f"{path}, line {number}: no JSON object", kind="answers")
            found.append((number, value))
    if not found:
        raise ConfigError(
            f"{path} has no line", kind="answers", hint="give a JSONL file with one object a line"
        )
    return found


def _texts(path: str) -> list[str]:
    texts = []
    for number, line in _lines(path):
        text = line.get("answer", line.get("text"))
        if not isinstance(text, str):
            raise ConfigError(f"{path}, line {number}: no text under `answer` or `text`", kind="answers")
        texts.append(text)
    return texts


def _samples(path: str) -> list[Known]:
    return [_known(line, f"{path}, line {number}", number) for number, line in _lines(path)]


def _known(line: Mapping[str, Any], place: str, number: int) -> Known:
    metadata = line.get("metadata")
    facts: Mapping[str, Any] = metadata if isinstance(metadata, dict) else {}
    references = line.get("references") or line.get("reference") or ()
    first = references[0] if isinstance(references, list) else references
    prompt = line.get("input") or _last_user(line.get("messages"))
    right = facts.get("answer") or first
    if not (isinstance(prompt, str) and prompt):
        raise ConfigError(f"{place}: the sample has no prompt under `input` or `messages`", kind="answers")
    if not isinstance(right, str):
        raise ConfigError(
            f"{place}: the sample has no answer under `metadata.answer` or `references`", kind="answers"
        )
    return Known(str(line.get("id", number)), prompt, right, str(facts.get("wrong") or _UNKNOWN))


def _last_user(messages: object) -> str:
    """The text of the last user message, whose content is a string or a list of parts."""
    turns = messages if isinstance(messages, list) else []
    for turn in reversed(turns):
        if isinstance(turn, dict) and turn.get("role") == "user":
            content = turn.get("content")
            parts = content if isinstance(content, list) else [{"text": content or ""}]
            return "".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))
    return ""
