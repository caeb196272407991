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


async def cancels(question: Question, answer: Answer) -> bool:
    raise asyncio.CancelledError


def cancels_aside(question: Question, answer: Answer) -> bool:
    raise asyncio.CancelledError


def interrupts(question: Question, answer: Answer) -> bool:
    raise KeyboardInterrupt


def hangs(question: Question, answer: Answer) -> bool:
    """As a loop without end would, but for a test that says when it is over."""
    return bool(question.metadata["give"].wait())


async def hangs_awaiting(question: Question, answer: Answer) -> bool:
    """Takes every cancellation for an error of its own, and tries again."""
    while not question.metadata["give"].is_set():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            question.metadata["give"].set()
    return True


OVER = threading.Event()


def embed_never(texts: list[str]) -> list[list[float]]:
    if texts[0] == "cancels":
        raise asyncio.CancelledError
    OVER.wait()
    return []
