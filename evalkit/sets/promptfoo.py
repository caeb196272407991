"""promptfoo's test files: `tests` with `vars` and `assert`, in YAML or JSON.

Assertions become scorers of ours. One that has no counterpart is a problem, never left out: a test that asks
for less than it says would pass too often. What is covered: `contains`, `icontains`, their `-all` and `-any`,
`equals`, `regex`, `starts-with`, `is-json`, `is-refusal`, `latency`, `cost`, each also with `not-`. What is
not: judging models, scripts, weights and thresholds of tests, `file://`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Any

from evalkit.rows import Problems, Row, shown
from evalkit.sets.mapping import Mapping as Fields
from evalkit.sets.mapping import Unfit
from evalkit.sets.template import Template, TemplateError, is_template
from guardrails.source import load_yaml

MAX_COMBINATIONS = 1_000
_QUESTION = ("input", "question", "prompt", "query", "message")
_INSTEAD = (
    "keep one, as text, or say with `fields: {input: …}` what is asked, and write variants in the suite"
)
_PATH = re.compile(
    r"(?:[a-z]:)?[\w.~@+/\\*?\[\]-]*[\w*\]]\.(?P<suffix>txt|jsonl?|ya?ml|md|csv|j2|py|m?js|ts)"
    r"(?P<behind>\*|:[\w.]+)?",
    re.IGNORECASE,
)
"""A name or a pattern of files, where the prompts stand that the file itself does not hold."""

_SCRIPTS = frozenset({"py", "js", "mjs", "ts"})
_FILLED = re.compile(r"\{\{[^{}]*\}\}")


def read(path: Path, problems: Problems, *, own: bool = True) -> Iterator[Row | str]:
    """A row for each test (and each combination of its lists), and last of all the file's sha256.

    `own`: whether the file's prompt makes the question; the suite's `fields` say it otherwise.
    """
    source = load_yaml(path)  # bounded: size, depth, what aliases unfold to
    data = source.data if isinstance(source.data, dict) else {"tests": source.data}
    tests, default = data.get("tests"), data.get("defaultTest") or {}
    base = ("tests",) if isinstance(source.data, dict) else ()
    if not isinstance(tests, list):
        said = "is text: name that file as the golden set" if isinstance(tests, str) else "must be a list"
        problems.add(source.line(base) or 1, "tests", said)
        tests = []
    prompt = None
    if own:
        try:
            prompt = _prompt(data.get("prompts"), path.parent)
        except Unfit as error:
            problems.add(source.line(("prompts",)) or 1, error.place, error.message)
    for number, test in enumerate(tests):
        line = source.line((*base, number)) or 1
        try:
            rows = list(_expanded(_merged(test, default), prompt))
        except Unfit as error:
            problems.add(line, error.place, error.message)
            continue
        for count, row in enumerate(rows, start=1):
            suffix = f"-{count}" if len(rows) > 1 else ""
            yield Row(line, {"id": f"test-{number + 1}{suffix}", **row})
    yield hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass(frozen=True, slots=True)
class Adapter:
    """A test as the fields of a sample. `fields`, if given, say which variable is what."""

    fields: Fields | None

    def __call__(self, row: Row, file: str) -> Any:
        """Raises `Unfit`."""
        test = row.fields
        values = test["vars"]
        if self.fields is not None:
            made = self.fields(Row(row.line, {**values, "id": test["id"]}), file)
        else:
            made = {"id": test["id"], "input": _question(values, test["prompt"])}
        metadata = {"vars": values, **test["metadata"], **made.get("metadata", {})}
        if test["description"]:
            metadata["description"] = test["description"]
        scorers, references = _scorers(test["assert"], values)
        if scorers:
            metadata["scorer"] = scorers[0] if len(scorers) == 1 else {"all": scorers}
        if references and not made.keys() & {"reference", "references"}:
            made["references"] = references
        return {**made, "metadata": metadata}


def _merged(test: Any, default: Any) -> dict[str, Any]:
    """The test with what `defaultTest` says for all of them. Raises `Unfit`."""
    if not isinstance(test, dict) or not isinstance(default, dict):
        raise Unfit("test", "must be an object with vars and assert")
    for name in ("threshold", "options", "assertScoringFunction"):
        if test.get(name, default.get(name)):
            raise Unfit(name, "changes how a test is judged, and has no counterpart here: leave it out")
    parts: dict[str, Any] = {}
    for name in ("vars", "metadata"):
        parts[name] = {**_object(default, name, "defaultTest."), **_object(test, name)}
    asserted = [*_list(default, "assert", "defaultTest."), *_list(test, "assert")]
    return {**parts, "assert": asserted, "description": test.get("description") or ""}


def _object(test: dict[str, Any], name: str, place: str = "") -> dict[str, Any]:
    value = test.get(name) or {}
    if not isinstance(value, dict):
        raise Unfit(f"{place}{name}", "must be an object")
    return value


def _list(test: dict[str, Any], name: str, place: str = "") -> list[Any]:
    value = test.get(name) or []
    if not isinstance(value, list):
        raise Unfit(f"{place}{name}", "must be a list")
    return value


def _expanded(test: dict[str, Any], prompt: str | None) -> Iterator[dict[str, Any]]:
    """A variable that is a list stands for one test for each of its values. Raises `Unfit`."""
    values = test["vars"]
    for name, value in values.items():
        if any(isinstance(each, str) and each.startswith("file://") for each in _several(value)):
            raise Unfit(f"vars.{shown(str(name))}", "names a file; write its text here")
    combinations = list(islice(product(*map(_several, values.values())), MAX_COMBINATIONS + 1))
    if len(combinations) > MAX_COMBINATIONS:
        raise Unfit("vars", f"make more than {MAX_COMBINATIONS:,} combinations")
    for combination in combinations:
        yield {**test, "vars": dict(zip(values, combination, strict=True)), "prompt": prompt}


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) and value else [value]


def _prompt(prompts: Any, folder: Path) -> str | None:
    """The file's prompt; None without one. Raises `Unfit` for several, and for one that is no text."""
    prompts = prompts if isinstance(prompts, list) else [] if prompts is None else [prompts]
    if not prompts:
        return None
    if len(prompts) > 1:
        raise Unfit("prompts", f"are {len(prompts):,}, and a set asks each question once: {_INSTEAD}")
    prompt = prompts[0]
    if not isinstance(prompt, str) or not prompt.strip():
        raise Unfit("prompts[0]", f"is no text: {_INSTEAD}")
    if _names_a_file(prompt.strip(), folder):
        raise Unfit("prompts[0]", f"names a file: {_INSTEAD}")
    if _is_conversation(prompt):
        raise Unfit("prompts[0]", f"is a conversation: {_INSTEAD}")
    return prompt


def _names_a_file(prompt: str, folder: Path) -> bool:
    """`node.js` alone is a library, unless a script of that name lies beside the tests."""
    if prompt.startswith("file://"):
        return True
    path = _PATH.fullmatch(prompt)
    if path is None:
        return False
    bare = not path["behind"] and not re.search(r"[/\\*?]", prompt)
    if bare and path["suffix"].lower() in _SCRIPTS:
        return os.path.exists(folder / prompt)  # noqa: PTH110 # Path's raises for a name that is too long
    return True


def _is_conversation(prompt: str) -> bool:
    """Whether it is a list of messages in JSON; what will be filled in may stand for any value."""
    if not prompt.lstrip().startswith("["):
        return False
    try:
        messages = json.loads(_FILLED.sub("0", prompt))
    except (ValueError, RecursionError):
        return False
    return any(isinstance(each, dict) for each in messages)


def _question(values: Mapping[str, Any], prompt: str | None) -> Any:
    if prompt is not None:
        return _rendered(prompt, values, "prompts[0]")
    for name in _QUESTION:
        if name in values:
            return values[name]
    if len(values) == 1:
        return next(iter(values.values()))
    raise Unfit("vars", "are several: say with `fields: {input: …}` which is the question")


def _rendered(text: str, values: Mapping[str, Any], place: str) -> str:
    if not is_template(text):
        return text
    try:
        return Template(text).render(values)
    except TemplateError as error:
        raise Unfit(place, f"the template {error.message}") from None


# --- assertions --------------------------------------------------------------------------------------------

Made = Callable[[Any], Any]


def _contains(*, fold: bool, every: bool = False) -> Made:
    def make(value: Any) -> Any:
        words = value if isinstance(value, list) else [value]
        plain = [str(word) for word in words if isinstance(word, str | int | float)]
        if len(plain) != len(words) or not plain or not all(plain):
            return None
        return {"contains": {"words": plain, "all": every, "casefold": fold, "whitespace": False}}

    return make


def _text(make: Made) -> Made:
    return lambda value: make(str(value)) if isinstance(value, str | int | float) and str(value) else None


def _number(make: Made) -> Made:
    return lambda value: make(value) if isinstance(value, int | float) and value > 0 else None


def _quoted(text: str) -> str:
    import re2

    return str(re2.escape(text))


_COUNTERPARTS: Mapping[str, Made] = {
    "contains": _text(_contains(fold=False)),
    "icontains": _text(_contains(fold=True)),
    "contains-any": _contains(fold=False),
    "icontains-any": _contains(fold=True),
    "contains-all": _contains(fold=False, every=True),
    "icontains-all": _contains(fold=True, every=True),
    "equals": _text(lambda text: {"regex": {"pattern": _quoted(text.strip()), "full": True}}),
    "starts-with": _text(lambda text: {"regex": {"pattern": r"\A" + _quoted(text)}}),
    "regex": _text(lambda text: {"regex": {"pattern": text}}),
    "is-json": lambda value: (
        {"json_schema": {"schema": value or {}, "fence": False}}
        if value is None or isinstance(value, dict)
        else None
    ),
    "is-refusal": lambda value: "refusal",
    "latency": _number(lambda value: {"latency": {"e2e_ms": value}}),
    "cost": _number(lambda value: {"cost": {"max_usd": value}}),
}
_THRESHOLD = frozenset({"latency", "cost"})


def _scorers(asserted: Any, values: Mapping[str, Any]) -> tuple[list[Any], list[str]]:
    """The scorers of a test's assertions, and the answers that they say are right. Raises `Unfit`."""
    scorers, references = [], []
    for number, each in enumerate(asserted if isinstance(asserted, list) else [asserted]):
        place = f"assert[{number}]"
        if not isinstance(each, dict) or not isinstance(each.get("type"), str):
            raise Unfit(place, "must be an object with a type")
        kind = each["type"].removeprefix("not-")
        denied = kind != each["type"]
        if kind not in _COUNTERPARTS:
            known = ", ".join(sorted(_COUNTERPARTS))
            raise Unfit(f"{place}.type", f"has no counterpart here; what has one: {known}")
        if odd := each.keys() & {"threshold", "weight", "transform"} - ({"threshold"} & _allowed(kind)):
            raise Unfit(f"{place}.{min(odd)}", "has no counterpart here: leave it out")
        value = each.get("threshold" if kind in _THRESHOLD else "value")
        value = _rendered(value, values, f"{place}.value") if isinstance(value, str) else value
        made = _COUNTERPARTS[kind](value)
        if made is None:
            raise Unfit(f"{place}.value", f"is nothing that {kind} can compare with")
        scorers.append({"not": made} if denied else made)
        if kind in ("equals", "contains", "icontains") and not denied:
            references.append(str(value))
    return scorers, references


def _allowed(kind: str) -> frozenset[str]:
    return frozenset({"threshold"}) if kind in _THRESHOLD else frozenset()
