"""One answer as a judge sees it, and as a store keeps it so that it can be judged again without a call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from guardrails.call import (
    Choice,
    Image,
    Message,
    OpaquePart,
    Part,
    Reasoning,
    Response,
    Text,
    ToolResult,
    ToolUse,
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a judge sees of one answer. `Answer("text")` is enough for judges of text.

    `logprobs` are the natural log-probabilities of the answer's tokens, None when the endpoint gave none.
    `turns` is the whole conversation of a sample with several turns, this answer included. `record` is
    `CallRecord.as_dict()` (ttft_ms, findings, cost_usd, …); None when nothing was measured.

    No repr shows any of the texts. Half a surrogate pair, which is legal in JSON and in no file, is never in
    an `Answer.of` a response: it became a question mark.
    """

    text: str = field(repr=False)
    tool_calls: tuple[ToolUse, ...] = ()
    finish_reason: str | None = None
    refusal: str = field(default="", repr=False)
    logprobs: tuple[float, ...] | None = field(default=None, repr=False)
    turns: tuple[Message, ...] = field(default=(), repr=False)
    record: Mapping[str, Any] | None = field(default=None, repr=False, hash=False)

    @classmethod
    def of(
        cls,
        response: Response,
        record: Mapping[str, Any] | None = None,
        turns: tuple[Message, ...] = (),
        *,
        choice: int = 0,
    ) -> Self:
        """The answer in a collected response; `choice` numbers the answers when n > 1."""
        chosen = response.choices[choice] if response.choices else Choice()
        return cls(
            text=_whole(chosen.text),
            tool_calls=tuple(
                ToolUse(_whole(use.id), _whole(use.name), _whole(use.arguments)) for use in chosen.tool_calls
            ),
            finish_reason=chosen.finish_reason,
            refusal=_whole(chosen.refusal),
            logprobs=log_probabilities(chosen.logprobs),
            turns=turns,
            record=record,
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values. `record` is left out: a row holds it beside the answer."""
        return {
            "text": self.text,
            "tool_calls": [_plain_part(use) for use in self.tool_calls],
            "finish_reason": self.finish_reason,
            "refusal": self.refusal,
            "logprobs": None if self.logprobs is None else list(self.logprobs),
            "turns": [_plain_turn(turn) for turn in self.turns],
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any], record: Mapping[str, Any] | None = None) -> Self:
        """What `as_dict` wrote. Raises `ValueError`, `KeyError`, `TypeError` or `AttributeError` for else."""
        logprobs = plain.get("logprobs")
        uses = (_part({**use, "type": "tool_use"}) for use in plain.get("tool_calls", ()))
        return cls(
            text=str(plain["text"]),
            tool_calls=tuple(use for use in uses if isinstance(use, ToolUse)),
            finish_reason=plain.get("finish_reason"),
            refusal=str(plain.get("refusal", "")),
            logprobs=None if logprobs is None else tuple(float(each) for each in logprobs),
            turns=tuple(_turn(turn) for turn in plain.get("turns", ())),
            record=record,
        )


def answered(answer: str | Answer) -> Answer:
    """A bare text as an `Answer`; an `Answer` as it is."""
    return Answer(answer) if isinstance(answer, str) else answer


MOST = 1e300
"""What a log probability's size stays below."""


def log_probabilities(given: Iterable[Any]) -> tuple[float, ...] | None:
    """The numbers in what endpoints call `logprobs`; None when there are none, or one that is no number.

    Read are OpenAI's chat shape (`{"content": [{"logprob": −0.1}, …]}`, which vLLM, SGLang and llama.cpp use
    too), the older shape of completions (`{"token_logprobs": [−0.1, …]}`), and bare numbers.
    """
    found: list[float] = []
    for each in given:
        for number in _numbers(each):
            if isinstance(number, bool) or not isinstance(number, int | float):
                return None
            if not abs(number) < MOST:  # NaN and infinities, too, and integers that no float holds
                return None
            found.append(float(number))
    return tuple(found) or None


def _numbers(given: Any) -> Iterator[Any]:
    if not isinstance(given, Mapping):
        yield given
        return
    content = given.get("content")
    if isinstance(content, list):
        for token in content:
            yield token.get("logprob") if isinstance(token, Mapping) else None
    older = given.get("token_logprobs")
    if isinstance(older, list):
        yield from older


def _whole(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


# --- turns as plain values ---------------------------------------------------------------------------------


def _plain_turn(turn: Message) -> dict[str, Any]:
    plain: dict[str, Any] = {"role": turn.role, "parts": [_plain_part(part) for part in turn.parts]}
    return plain | ({"extra": dict(turn.extra)} if turn.extra else {})


def _turn(plain: Mapping[str, Any]) -> Message:
    return Message(str(plain["role"]), tuple(_part(part) for part in plain["parts"]), plain.get("extra", {}))


def _plain_part(part: Part) -> dict[str, Any]:
    plain: dict[str, Any]
    match part:
        case Text(text):
            plain = {"type": "text", "text": text}
        case Image(url):
            plain = {"type": "image", "url": url}
        case Reasoning(text):
            plain = {"type": "reasoning", "text": text}
        case ToolUse(id_, name, arguments):
            plain = {"type": "tool_use", "id": id_, "name": name, "arguments": arguments}
        case ToolResult(id_, parts, is_error):
            inner = [_plain_part(each) for each in parts]
            plain = {"type": "tool_result", "id": id_, "parts": inner, "is_error": is_error}
        case OpaquePart(raw):
            return {"type": "opaque", "raw": dict(raw)}
    return plain | ({"extra": dict(part.extra)} if part.extra else {})


def _part(plain: Mapping[str, Any]) -> Part:
    extra = plain.get("extra", {})
    match plain["type"]:
        case "text":
            return Text(plain["text"], extra)
        case "image":
            return Image(plain["url"], extra)
        case "reasoning":
            return Reasoning(plain["text"], extra)
        case "tool_use":
            return ToolUse(plain["id"], plain["name"], plain["arguments"], extra)
        case "tool_result":
            inner = (_part(each) for each in plain["parts"])
            parts = tuple(each for each in inner if isinstance(each, Text | Image | OpaquePart))
            return ToolResult(plain["id"], parts, plain["is_error"], extra)
        case "opaque":
            return OpaquePart(plain["raw"])
    raise ValueError("a part of a turn is of no known type")
