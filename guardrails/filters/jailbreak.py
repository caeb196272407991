"""Known jailbreak and injection patterns, by an embedded linear model and a few rules.

It knows the wordings that people have used so far: overrides ("ignore your instructions"), attempts to get at
the system prompt, personas without rules, fake system messages, orders hidden in documents. An attack in new
words, or one that is only spread over several harmless messages, passes. Plain harmful requests are not its
subject. The card beside the weights (`weights/jailbreak.md`) has the numbers, family by family.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from guardrails.errors import ConfigError
from guardrails.filters import jailbreak_rules
from guardrails.filters.detector import Finding
from guardrails.filters.jailbreak_patterns import RULES
from guardrails.filters.jailbreak_rules import Match
from guardrails.filters.linear import LONGEST, STRIDE, Features, LinearModel, Window, blocks

MOST = 6.0  # what all rules together add to a window's log odds
LENGTH = 2.0  # what 400 characters lose: over more n-grams sums spread wider, harmless ones too
UNKNOWN = 2.0  # and what they lose besides if no rule matches: a long prompt of known kind has many wordings
_EDGE = 1e-6  # scores are rounded to six places


@dataclass(frozen=True, slots=True)
class Jailbreak:
    """Finds windows of about 400 characters that hold an attack (a `Detector`); the kind is JAILBREAK.

    `threshold` is the least score of a finding. The default was chosen on harmless text that the model has
    not seen; the card says how. Scores order texts, 0.5 means nothing in particular.

    It judges what it is given: a finding covers a window, `reach` promises nothing beyond a break.
    """

    scope: ClassVar[str] = "text"
    stride: ClassVar[int] = 200
    context: ClassVar[int] = 400  # a window
    read: ClassVar[Callable[[str], Iterable[Features]]] = staticmethod(blocks)

    threshold: float | None = None
    name: str = field(default="jailbreak", init=False)
    reach: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise ConfigError(
                f"jailbreak: threshold is {self.threshold}, but scores lie above 0 and up to 1",
                hint="leave it out for the one that the model card describes",
            )

    def warm(self) -> None:
        """Load now what the first detection would load: numpy, the weights, the rules. Safe in any thread."""
        self.score("a")

    def score(self, text: str) -> float:
        """The score of the worst window of the text; 0 for an empty text."""
        rules = jailbreak_rules.matches(text)
        return max((w.score for block in Features.of(text) for w in scored(block, rules)), default=0.0)

    def detect(self, text: str) -> list[Finding]:
        """Every window of at least `threshold`."""
        return self.detect_read(text, blocks(text))

    def detect_read(self, text: str, read: Iterable[Features]) -> list[Finding]:
        """`detect`, from features that other models use too."""
        rules = jailbreak_rules.matches(text)
        return [finding for block in read for finding in self.judge(block, rules)]

    def judge(self, block: Features, rules: Sequence[Match]) -> list[Finding]:
        """What `detect` finds, from features that other models use too and from the text's rule matches."""
        least = LinearModel.load("jailbreak").threshold if self.threshold is None else self.threshold
        return [
            Finding("JAILBREAK", window.start, window.end, window.score, self.name)
            for window in scored(block, rules)
            if window.score >= least
        ]


def scored(block: Features, rules: Sequence[Match], model: LinearModel | None = None) -> list[Window]:
    """The block's windows: the model's log odds, less what a full window loses, plus what rules add."""
    windows = (model or LinearModel.load("jailbreak")).spans(block)
    return [_weighed(window, rules) for window in windows]


def _weighed(window: Window, rules: Sequence[Match]) -> Window:
    here = {match.rule for match in rules if match.start < window.end and match.end > window.start}
    added = min(MOST, sum(RULES[rule].weight for rule in here))
    full = min(1.0, (window.end - window.start) / (LONGEST * STRIDE))
    added -= (LENGTH if here else LENGTH + UNKNOWN) * full
    score = min(max(window.score, _EDGE), 1 - _EDGE)
    odds = math.log(score / (1 - score)) + added
    return window._replace(score=round(1 / (1 + math.exp(-odds)), 6))
