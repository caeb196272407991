"""A policy in plain words, for the person who has to answer for it: `guardrails policy check`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from types import FunctionType
from urllib.parse import urlsplit

from guardrails.filters.policy import DIRECTIONS, Direction, Otherwise, Rule, Rulebook

_WHERE: dict[Direction, str] = {
    "input": "What is asked (input): every text of a request, before anything is sent.",
    "output": "What is answered (output): text, reasoning and refusals, while they stream.",
    "tool_arguments": "What tools are called with (tool_arguments): once the arguments are whole.",
    "tool_results": "What tools answered (tool_results): in the next request.",
}
_NEVER = (
    "Images, a vendor's own parts and fields, and schemas of tools pass; records say `not_scanned`.",
    "Each text is looked at by itself: what is spread over two messages is not found.",
)


def explain(book: Rulebook) -> str:
    """The policy in words: what is done, what happens when a detector fails, and what is not covered."""
    lines: list[str] = []
    for direction in DIRECTIONS:
        lines += [*_direction(book, direction), ""]
    lines += ["Not covered:", *(f"  - {text}" for text in (*_gaps(book), *_NEVER))]
    return "\n".join(lines)


def _direction(book: Rulebook, direction: Direction) -> Iterator[str]:
    yield _WHERE[direction]
    rules = book.of(direction)
    if getattr(book, direction) is None:
        side = "output" if direction == "tool_arguments" else "input"
        yield f"  As for {side}: {', '.join(rule.name for rule in rules)}." if rules else "  Nothing."
        return
    if not rules:
        yield "  Nothing. It passes, and records say so."
    for rule in rules:
        yield f"  - {rule.name}: {_done(rule)}"
        for line in _details(rule, direction):
            yield f"      {line}"


def _done(rule: Rule) -> str:
    words = {
        "block": "the call is blocked",
        "reask": f"the model is asked again, up to {rule.times} times; then the call is blocked",
        "redact": "each finding is replaced by its kind, as in <EMAIL_ADDRESS>",
        "replace": f"each finding is replaced by {rule.text!r}",
        "pseudonymize": "each finding is replaced by a token, and comes back in the answer",
        "flag": "findings are written into the record, and nothing else",
    }
    done = words[rule.action]
    return f"in the shadow: recorded as if {done}, and nothing is done." if rule.shadow else f"{done}."


# --- a detector's own options ------------------------------------------------------------------------------

# Lists whose items are said. Of all others only the count is: what is denied may itself be a secret.
_LISTED = frozenset({"entities", "hosts", "kinds", "labels", "scripts"})
_WORDS = frozenset({"kind", "model", "rules", "scope", "source"})
_FUNCTIONS = frozenset({"function", "model"})
_ELSEWHERE = frozenset({"name", "stride", "context", "reach", "fine"})
_MOST = 20


def _options(detector: object) -> Iterator[str]:
    """How the detector looks: numbers, kinds and hosts, never a pattern or a word that it looks for."""
    from guardrails.filters.normal import Normalized

    if isinstance(detector, Normalized):
        yield f"Finds values in disguise too{', [at] and (dot) included' if detector.spelled else ''}."
        detector = detector.detector
    if not is_dataclass(detector):
        return
    own = [each.name for each in fields(detector) if each.init and each.name not in _ELSEWHERE]
    parts = [said for name in own if (said := _option(name, getattr(detector, name)))]
    if parts:
        yield f"Options: {'; '.join(parts)}."


def _option(name: str, value: object) -> str:
    plain = name.replace("_", " ")
    match value:
        case bool():
            return f"{plain} {'yes' if value else 'no'}"
        case int() | float():
            return f"{plain} {value:g}"
        case str() if name == "url":
            address = urlsplit(value)  # without what may be a key in it
            return f"url {address.scheme}://{address.hostname}{address.path}"
        case str() if name in _WORDS:
            return f"{plain} {value}" if value else ""
        case FunctionType():
            return f"{plain} {value.__module__}:{value.__qualname__}" if name in _FUNCTIONS else ""
        case tuple() | list() | frozenset() if name in _LISTED:
            more = f" and {len(value) - _MOST} more" if len(value) > _MOST else ""
            return f"{plain} {', '.join(map(str, sorted(value)[:_MOST]))}{more}" if value else f"no {plain}"
        case tuple() | list() | frozenset():
            return "; ".join(_counted(plain, list(value)))
        case Mapping():
            return f"{plain} with {_many(len(value), 'keyword')}"
        case None if name == "threshold":
            return "threshold by default, see the model's card"
        case _:
            return ""


def _counted(name: str, values: list[object]) -> Iterator[str]:
    """How many there are; of kinds of one's own, what they are called and are made of."""
    if values and not all(is_dataclass(each) and hasattr(each, "kind") for each in values):
        yield _many(len(values), name.removesuffix("s"))
        return
    for each in values:
        counts = [
            _many(len(listed), part.removesuffix("s"))
            for part in ("patterns", "words")
            if (listed := getattr(each, part, ()))
        ]
        yield f"{name} {getattr(each, 'kind', '')} ({', '.join(counts)})"


def _many(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def _details(rule: Rule, direction: Direction) -> Iterator[str]:
    yield from _options(rule.detector)
    if rule.kinds is not None:
        yield f"Only {', '.join(rule.kinds)}."
    if rule.threshold:
        yield f"Only with a score of at least {rule.threshold:g}."
    if rule.roles is not None and direction in ("input", "tool_results"):
        yield f"Only what these roles say: {', '.join(rule.roles)}."
    if rule.sample < 1:
        yield f"Asked in {rule.sample:.0%} of the calls."
    if rule.acts:
        if rule.budget_ms is not None:
            yield f"After {rule.budget_ms:g} ms without an answer: {_failing(rule.on_exceeded)}."
        yield f"When it breaks: {_failing(rule.on_crash)}."
    else:
        yield "When it breaks: the call passes, and its record says `not_scanned`."
    if direction == "output":
        yield _held(rule)


def _failing(otherwise: Otherwise) -> str:
    match otherwise:
        case "block":
            return "the call is blocked"
        case "pass_and_flag":
            return "the call passes, and its record says `not_scanned`"
        case _:
            return f"{otherwise.name} looks instead; if that breaks too, the call is blocked"


def _held(rule: Rule) -> str:
    if not rule.acts:
        return "Holds nothing back: it looks at the whole text once that has left."
    if rule.action == "reask" or rule.whole:
        return "Holds the whole answer back until it is judged."
    if not rule.judges:
        return "Holds back what a finding could still reach into, about 100 characters."
    if rule.hold == "sentence":
        return "Holds each sentence back until it is judged together with what came before it."
    return f"Judges every {rule.steps} characters; what left before a finding is not taken back."


def _gaps(book: Rulebook) -> Iterator[str]:
    for direction in DIRECTIONS:
        name = direction.replace("_", " ")
        rules = book.of(direction)
        if not rules:
            yield f"Nobody looks at the {name}."
        elif not any(rule.acts for rule in rules):
            yield f"Nothing is ever changed or blocked in the {name}: its rules only record."
        for rule in rules:
            if rule.acts and rule.sample < 1:
                yield f"{rule.name} looks at {rule.sample:.0%} of the {name} only."
            if rule.acts and "pass_and_flag" in (rule.on_crash, rule.on_exceeded):
                yield f"When {rule.name} gives no answer, the {name} passes unseen by it."
    judges = [rule for rule in book.output if rule.acts and rule.judges and not rule.whole]
    for rule in judges:
        if rule.hold == "stride" and rule.action != "reask":
            yield f"What {rule.name} only understands from what follows has left by then (hold: stride)."
