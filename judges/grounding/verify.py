"""A model of yours says whether claims follow from a text: NLI, HHEM, LettuceDetect, or a function.

    # verifiers.py, beside the suite file; the suite says `groundedness: {verifier: "verifiers.py:check"}`
    from judges.grounding.verify import Nli
    check = Nli("models/deberta-v3-nli")

A verifier is a callable, async or not, from a text and claims about it to the probability that each claim
follows. The adapters load a model from a folder on this machine at their first call, and never look for one
anywhere else. What they need (`transformers`, `lettucedetect`) is not installed with this package. A premise
is about `PREMISE` characters of the context, since most of these models read no more than 512 tokens at once.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from guardrails.errors import ConfigError
from judges.calling import TIMEOUT, called
from judges.grounding.words import sentences

PREMISE = 1_500
"""Characters of context in one question to a verifier."""

MAX_PAIRS = 2_000
"""Pairs of a premise and a claim that are asked about for one answer."""


class Verifier(Protocol):
    """Says how probably each claim follows from the premise: one number from 0 to 1 for each, in order."""

    def __call__(
        self, premise: str, claims: Sequence[str], /
    ) -> Sequence[float] | Awaitable[Sequence[float]]:
        """Ask about all claims at once."""


class Unverified(Exception):
    """The verifier gave something that is no probabilities, or was asked too much. Quotes nothing."""


async def verify(verifier: Verifier, passages: Sequence[str], claims: Sequence[str]) -> list[float]:
    """For each claim the highest probability that any part of the passages gave it.

    Raises `Unverified` for an answer that is no probabilities, or for more than `MAX_PAIRS` questions; what
    `called` raises comes through: one premise has `calling.TIMEOUT` seconds.
    """
    best = [0.0] * len(claims)
    parts = list(premises(passages))
    if len(parts) * len(claims) > MAX_PAIRS:
        raise Unverified(f"{len(parts):,} parts of context and {len(claims):,} claims are too many pairs")
    for premise in parts:
        said = list(await called(verifier, premise, list(claims), within=TIMEOUT))
        if len(said) != len(claims):
            raise Unverified(f"the verifier gave {len(said):,} probabilities for {len(claims):,} claims")
        best = [max(old, _probability(new)) for old, new in zip(best, said, strict=True)]
    return best


def premises(passages: Sequence[str], size: int = PREMISE) -> Iterator[str]:
    """Parts of each passage: whole sentences, up to `size` characters."""
    for passage in passages:
        start = end = None
        for first, last in sentences(passage):
            if start is None or end is None:
                start = first
            elif last - start > size:
                yield passage[start:end]
                start = first
            end = last
        if start is not None:
            yield passage[start:end]


def _probability(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise Unverified(f"the verifier gave a {type(value).__name__}, not a probability") from None
    if not (math.isfinite(number) and -1e-6 <= number <= 1 + 1e-6):
        raise Unverified("the verifier gave a number that is no probability")
    return min(1.0, max(0.0, number))


# --- adapters ----------------------------------------------------------------------------------------------

_loading = threading.Lock()


@dataclass(frozen=True, slots=True)
class _Local:
    """A model in the folder `path`. `made` is the loaded thing, for those who load it themselves."""

    path: str
    made: Any = field(default=None, repr=False, compare=False)
    _held: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)

    def _loaded(self, load: Callable[[str], Any]) -> Any:
        if self.made is not None:
            return self.made
        with _loading:
            if not self._held:
                self._held.append(load(_folder(self.path)))
            return self._held[0]


@dataclass(frozen=True, slots=True)
class Nli(_Local):
    """A sequence classifier over (premise, claim) with a label like `entailment`, by transformers.

    `supports` are the labels, in small letters, whose probabilities add up to support.
    """

    supports: tuple[str, ...] = ("entailment", "entails", "supported", "consistent")

    def __call__(self, premise: str, claims: Sequence[str]) -> list[float]:
        """Asks the pipeline, all claims in one batch. Raises `Unverified` when no label says support."""
        pipeline = self._loaded(_classifier)
        said = pipeline([{"text": premise, "text_pair": claim} for claim in claims])
        return [self._support(row) for row in said]

    def _support(self, row: Sequence[Mapping[str, Any]]) -> float:
        found = [float(each["score"]) for each in row if str(each["label"]).lower() in self.supports]
        if not found:
            raise Unverified("none of the model's labels is one of `supports`")
        return math.fsum(found)


@dataclass(frozen=True, slots=True)
class Hhem(_Local):
    """Vectara's HHEM-2.1-open and its like: a model with `predict([(premise, claim), …])`.

    Such a folder brings code of its own, which runs in this process: `trust_code` has to say that it may.
    """

    trust_code: bool = False

    def __call__(self, premise: str, claims: Sequence[str]) -> list[float]:
        """Asks the model, all claims in one batch."""
        if self.made is None and not self.trust_code:
            raise ConfigError(
                "HHEM's folder brings code that would run here", hint="look at it, then set trust_code=True"
            )
        model = self._loaded(_sequence_model)
        return [float(score) for score in model.predict([(premise, claim) for claim in claims])]


@dataclass(frozen=True, slots=True)
class LettuceDetect(_Local):
    """A token classifier by lettucedetect: support is 1 − the confidence of the surest unsupported span."""

    def __call__(self, premise: str, claims: Sequence[str]) -> list[float]:
        """Asks the detector, claim by claim."""
        detector = self._loaded(_lettuce)
        return [
            1
            - max((float(span["confidence"]) for span in self._spans(detector, premise, claim)), default=0.0)
            for claim in claims
        ]

    @staticmethod
    def _spans(detector: Any, premise: str, claim: str) -> Sequence[Mapping[str, Any]]:
        found: Sequence[Mapping[str, Any]] = detector.predict(
            context=[premise], answer=claim, output_format="spans"
        )
        return found


def _folder(path: str) -> str:
    if not Path(path).is_dir():
        raise ConfigError(
            f"there is no folder {path[:80]!r} with a model",
            hint="download it first: nothing is fetched here",
        )
    return path


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        library = name.partition(".")[0]
        raise ConfigError(f"{library} is not installed", hint=f"pip install {library}") from None


def _classifier(path: str) -> Any:
    return _library("transformers").pipeline(
        "text-classification", model=path, tokenizer=path, top_k=None, truncation="only_first"
    )


def _sequence_model(path: str) -> Any:
    kind = _library("transformers").AutoModelForSequenceClassification
    return kind.from_pretrained(path, trust_remote_code=True, local_files_only=True)


def _lettuce(path: str) -> Any:
    inference = _library("lettucedetect.models.inference")
    return inference.HallucinationDetector(method="transformer", model_path=path)
