"""The `groundedness` filter: marks what in an answer the request's own documents do not support.

    filters:
      output:
        - groundedness: {action: flag}
        - groundedness: {action: block, threshold: 0.3, on_crash: pass_and_flag}
        - groundedness: {action: {reask: 1}, source: tools}
        - groundedness: {action: redact, hold: sentence, stride: 1}      # sentence by sentence

It is a plug-in: guardrails finds it by its entry point, asks `about(request)` once a call, and uses what that
gives. What an answer may be based on comes from the request (`source`):

- `tools`: what tools answered.
- `marked`: what stands in the messages of the system, the developer and the user between `<context>`,
  `<document>`, `<documents>`, `<passage>` or `<source>` and its end tag.
- `messages`: everything that the system, the developer, the user and tools said, the question included.
- `auto`: tools and marked; where there is neither, `messages`, if these have at least `LEAST` characters.

A request without any of that cannot be judged: `detect` raises `NoContext`. Nor can an answer beyond the
bounds of `support`: `TooLong`. The rule's `on_crash` says what happens (the call is blocked, unless it is
`pass_and_flag`; a rule that only flags notes that the answer was not scanned). Documents that a vendor's own
parts carry (`OpaquePart`) are not read, and `normalize` does not go with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from guardrails.call import Message, Request, Text, ToolResult
from guardrails.errors import ConfigError
from guardrails.filters.detector import Finding
from judges.grounding.features import Context
from judges.grounding.support import THRESHOLD, indexed, support
from judges.judge import reaches

Source = Literal["auto", "tools", "marked", "messages"]

KIND = "UNSUPPORTED"
LEAST = 200
_SPEAKERS = frozenset({"system", "developer", "user"})
_TAG = re.compile(r"<(/?)(context|documents?|passage|source)\b[^<>]{0,200}>", re.IGNORECASE)


class NoContext(Exception):
    """The request holds nothing that an answer could be compared with."""


@dataclass(frozen=True, slots=True)
class Groundedness:
    """Finds what the request's documents do not support (a `Detector`): kind UNSUPPORTED, score 1 − support.

    An answer whose support is at least `threshold` has no findings; of others, the spans that speak against
    it. In a stream the whole answer waits, unless its rule says `hold: sentence` and `stride: 1`. What stands
    before the first span of a blocked answer leaves: `action: reask` lets nothing of it out.
    """

    scope: ClassVar[str] = "text"
    stride: ClassVar[int] = 0
    context: ClassVar[int] = 600  # a sentence
    channels: ClassVar[tuple[str, ...]] = ("text",)

    threshold: float = THRESHOLD
    source: Source = "auto"
    name: str = field(default="groundedness", init=False)
    reach: int = field(default=0, init=False)
    _passages: tuple[str, ...] | None = field(default=None, init=False, repr=False)
    _known: list[Context] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ConfigError(
                f"groundedness: threshold is {self.threshold:g}, but support lies between 0 and 1",
                hint=f"leave it out for {THRESHOLD:g}",
            )
        if self.source not in ("auto", "tools", "marked", "messages"):
            raise ConfigError(
                f"groundedness: unknown source {self.source[:40]!r}",
                hint="use auto, tools, marked or messages",
            )

    def about(self, request: Request) -> Groundedness:
        """The detector for answers to this request."""
        bound = replace(self)
        object.__setattr__(bound, "_passages", tuple(passages(request, self.source)))
        return bound

    def warm(self) -> None:
        """Load now what the first detection would load: numpy and the weights. Safe in any thread."""
        support("a word", "a word")

    def detect(self, text: str) -> list[Finding]:
        """The unsupported spans. Raises `NoContext` when there is nothing to compare with."""
        if not self._passages:
            raise NoContext("the request holds no documents")
        if not self._known:  # a stream asks again and again
            self._known.append(indexed(self._passages))
        found = support(text, self._known[0], threshold=self.threshold)
        if reaches(found.score, self.threshold):
            return []
        if not found.spans:  # no sentence is that bad, all of them together are
            return [Finding(KIND, 0, len(text), 1 - found.score, self.name)]
        return [Finding(KIND, span.start, span.end, 1 - span.support, self.name) for span in found.spans]


def passages(request: Request, source: Source = "auto") -> list[str]:
    """What answers to the request may be based on."""
    tools = [text for message in request.messages for text in _tool_texts(message)]
    said = [
        part.text
        for message in request.messages
        if message.role in _SPEAKERS
        for part in message.parts
        if isinstance(part, Text)
    ]
    marked = [block for text in said for block in blocks(text)]
    wide = source == "messages" or (source == "auto" and not (tools or marked) and _long(said))
    chosen = {"tools": tools, "marked": marked}.get(source, tools + marked)
    return [text for text in (said + tools if wide else chosen) if text.strip()]


def _long(texts: list[str]) -> bool:
    return sum(map(len, texts)) >= LEAST


def blocks(text: str) -> Iterator[str]:
    """What stands between a document's tags and their end; the outermost counts, an open one to the end."""
    depth, start, outer = 0, 0, ""
    for tag in _TAG.finditer(text):
        kind = tag[2].lower()
        if depth and kind != outer:
            continue
        if not tag[1]:
            if not depth:
                start, outer = tag.end(), kind
            depth += 1
        elif depth:
            depth -= 1
            if not depth:
                yield text[start : tag.start()]
    if depth:
        yield text[start:]


def _tool_texts(message: Message) -> Iterator[str]:
    for part in message.parts:
        if isinstance(part, ToolResult):
            yield from (inner.text for inner in part.parts if isinstance(inner, Text))
        elif message.role == "tool" and isinstance(part, Text):
            yield part.text
