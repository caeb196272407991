"""What did the judge say? From a reply that nobody trusts to one verdict, or to why there is none.

A verdict is a JSON object that fits the schema and repeats the call's case word, which stands in no text that
is judged. So an object that a reply merely copies out of the answer is no verdict, wherever it stands. One
object has to be left: a second one, or a second value of one key, and nobody knows which is meant.

Pure, and bounded: in the reply's length, in depth, and in how many beginnings are tried.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from guardrails.errors import GuardrailsError
from guardrails.schema import Schema, TooManySteps
from judges.llm.prompt import plain

MAX_REPLY = 64_000
"""Characters of a reply: reading stops there, and the stream is closed."""

MAX_DEPTH = 32
MAX_OBJECTS = 50

CASE = {"type": "string", "description": "the case word"}


class Unreadable(GuardrailsError):
    """A reply without a verdict. The message is for the judge, too, and quotes nothing of the reply."""

    default_kind = "unreadable"


def with_case(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema as a model gets it: with the case word first, all fields required, no others."""
    properties = {"case": CASE, **schema["properties"]}
    return {**schema, "properties": properties, "required": list(properties), "additionalProperties": False}


def manual(schema: Mapping[str, Any], case: str) -> str:
    """How the reply has to look, in words: for models that no schema is forced on, and for the others too."""
    return (
        "Reply with one JSON object and nothing else: no text before or after it, no second object. Its keys "
        f"are {', '.join(with_case(schema)['properties'])}, in this order, under this JSON schema:\n"
        f'{plain(with_case(schema))}\nThe value of "case" is "{case}".'
    )


def read(reply: str, schema: Schema, case: str) -> dict[str, Any]:
    """The verdict in a reply, without its case word. `schema` is one that `with_case` made.

    Raises `Unreadable`.
    """
    if len(reply) > MAX_REPLY:
        raise Unreadable(f"the reply is longer than {MAX_REPLY:,} characters")
    text = reply.encode("utf-8", "replace").decode()
    if _depth(text) > MAX_DEPTH:
        raise Unreadable(f"the reply is nested deeper than {MAX_DEPTH} levels")
    found = _objects(text)
    ours = [each for each in found if isinstance(each.get("case"), str) and each["case"].strip() == case]
    if not ours:
        raise Unreadable(
            'no JSON object in the reply has the right "case"' if found else "the reply holds no JSON object"
        )
    if len(ours) > 1:
        raise Unreadable("the reply holds more than one verdict")
    verdict = {**ours[0], "case": case}
    if (complaint := misfit(verdict, schema)) is not None:
        raise Unreadable(f"the JSON object does not fit the schema: {complaint}")
    return {key: value for key, value in verdict.items() if key != "case"}


def misfit(verdict: Mapping[str, Any], schema: Schema) -> str | None:
    """Why a verdict, its case word included, does not fit the schema; None when it does."""
    try:
        return schema.complaint(json.dumps(verdict))
    except TooManySteps:
        return "the schema takes too many steps on it"
    except RecursionError:
        return "it is nested too deeply"


def _objects(text: str) -> list[dict[str, Any]]:
    """The outermost JSON objects in a text, from left to right."""
    found: list[dict[str, Any]] = []
    at = text.find("{")
    for _ in range(MAX_OBJECTS):
        if at < 0:
            return found
        try:
            value, end = _DECODER.raw_decode(text, at)
        except json.JSONDecodeError:
            end = at + 1
        except (ValueError, RecursionError) as error:
            said = str(error) if isinstance(error, _Twice) else "JSON with a number that cannot be read"
            raise Unreadable(f"the reply holds {said}") from None
        else:
            found.append(value)
        at = text.find("{", end)
    raise Unreadable(f"the reply holds more than {MAX_OBJECTS} beginnings of a JSON object")


class _Twice(ValueError):
    pass


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise _Twice("an object that has one key twice")
    return made


def _refuse(word: str) -> Any:
    raise ValueError


def _finite(digits: str) -> float:
    if not math.isfinite(value := float(digits)):
        raise ValueError
    return value


def _integer(digits: str) -> int:
    if len(digits) > 20:
        raise ValueError
    return int(digits)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_once, parse_constant=_refuse, parse_float=_finite, parse_int=_integer
)


def _depth(text: str) -> int:
    """How deep brackets stand open at most, those in strings counted as well."""
    deepest = depth = 0
    for char in text:
        if char in "{[":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "}]":
            depth = max(0, depth - 1)
    return deepest
