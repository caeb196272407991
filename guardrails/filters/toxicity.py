"""Explicit toxicity and profanity, by an embedded linear model: insults, slurs, threats, obscene words.

It knows words and spellings. Hate that is only implied passes; a quoted, negated or reclaimed slur is found
like any other. The card beside the weights (`weights/toxicity.md`) has the numbers, per kind of text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from guardrails.errors import ConfigError
from guardrails.filters.detector import Finding
from guardrails.filters.linear import Features, LinearModel, blocks


@dataclass(frozen=True, slots=True)
class Toxicity:
    """Finds windows of about 400 characters that are toxic (a `Detector`); the kind is TOXICITY.

    `threshold` is the least score of a finding. The default was chosen on general benign text, at 1 % false
    positives; scores are calibrated on the training sets' mixture, so 0.5 means nothing in particular.

    It judges what it is given: a finding covers a window, `reach` promises nothing beyond a break.
    """

    scope: ClassVar[str] = "text"
    stride: ClassVar[int] = 200
    context: ClassVar[int] = 400  # a window
    read: ClassVar[Callable[[str], Iterable[Features]]] = staticmethod(blocks)

    threshold: float | None = None
    name: str = field(default="toxicity", init=False)
    reach: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise ConfigError(
                f"toxicity: threshold is {self.threshold}, but scores lie above 0 and up to 1",
                hint="leave it out for the one at 1 % false positives on benign text",
            )

    def warm(self) -> None:
        """Load now what the first detection would load: numpy and the weights. Safe in any thread."""
        self.score("a")

    def score(self, text: str) -> float:
        """The probability that the worst window of the text is toxic; 0 for an empty text."""
        return LinearModel.load("toxicity").score(text)

    def detect(self, text: str) -> list[Finding]:
        """Every window of at least `threshold`."""
        return self.detect_read(text, blocks(text))

    def detect_read(self, text: str, read: Iterable[Features]) -> list[Finding]:
        """`detect`, from features that other models use too."""
        return [finding for block in read for finding in self.judge(block)]

    def judge(self, block: Features) -> list[Finding]:
        """What `detect` finds, from features that other models use too."""
        model = LinearModel.load("toxicity")
        least = model.threshold if self.threshold is None else self.threshold
        return [
            Finding("TOXICITY", window.start, window.end, window.score, self.name)
            for window in model.spans(block)
            if window.score >= least
        ]
