"""Functions that the tests of `python` and `similar` load from this file."""

from __future__ import annotations

import asyncio
import math
import threading
from typing import Any

from judges.judge import Answer, Question, Score

THREADS: list[str] = []


def is_short(question: Question, answer: Answer) -> bool:
    THREADS.append(threading.current_thread().name)
    return len(answer.text) < 10


async def share_of_vowels(question: Question, answer: Answer) -> float:
    await asyncio.sleep(0)
    return sum(letter in "aeiou" for letter in answer.text) / max(1, len(answer.text))


def whatever(question: Question, answer: Answer) -> Any:
    return question.metadata["give"]


def as_score(question: Question, answer: Answer) -> Score:
    return Score(0.25, None, "a quarter")


def raises(question: Question, answer: Answer) -> bool:
    raise ValueError(f"cannot judge {answer.text}")


def exits(question: Question, answer: Answer) -> bool:
    raise SystemExit(3)


def stops(question: Question, answer: Answer) -> bool:
    raise StopIteration


async def exits_later(question: Question, answer: Answer) -> bool:
    raise SystemExit(3)


class Callable:
    async def __call__(self, question: Question, answer: Answer) -> int:
        return 1


an_object = Callable()
not_a_function = 3


def embed(texts: list[str]) -> list[list[float]]:
    """Counts of letters: texts with the same letters point the same way."""
    return [[1e-9, *(float(text.lower().count(letter)) for letter in "abcdefghij")] for text in texts]


async def embed_badly(texts: list[str]) -> Any:
    kind = texts[0]
    return {
        "too few": [],
        "zeros": [[0.0]] * len(texts),
        "nan": [[math.nan]] * len(texts),
        "lengths": [[1.0], [1.0, 2.0]],
        "words": [["x"]] * len(texts),
        "nothing": None,
    }[kind]
