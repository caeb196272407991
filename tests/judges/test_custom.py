"""python: a function of one's own, its results, its failures, and how it is loaded."""

from __future__ import annotations

import asyncio
import math
import pickle
import threading
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from guardrails.errors import ConfigError
from judges.judge import Answer, Question, Score
from judges.registry import judge

FUNCTIONS = Path(__file__).parent / "sample_functions.py"


def score(function: str, answer: str = "hello", give: Any = None, **options: Any) -> Score:
    made = judge({"python": {"target": f"{FUNCTIONS}:{function}", **options}})
    return asyncio.run(made(Question("?", metadata={"give": give}), Answer(answer)))


def test_functions_and_what_they_return() -> None:
    assert score("is_short") == Score(1.0, True, "the function says yes")
    assert score("share_of_vowels") == Score(0.4, False, "the function says 0.4")
    assert score("share_of_vowels", threshold=0.4).passed
    assert score("share_of_vowels", threshold=None).passed is None
    assert score("as_score") == Score(0.25, None, "a quarter")
    assert score("an_object").passed


@pytest.mark.parametrize(
    ("give", "said"),
    [
        ({"value": 0.7}, Score(0.7, True, "")),
        ({"value": 0.7, "passed": False, "reason": "rude"}, Score(0.7, False, "rude")),
        ({"passed": True, "reason": "kind"}, Score(1.0, True, "kind")),
        ({"value": True}, Score(1.0, True, "")),
        ({"value": 0.7, "reason": "x" * 600}, Score(0.7, True, "x" * 500)),
        ({"value": np.float64(0.7), "passed": np.bool_(False)}, Score(0.7, False, "")),
        ({"value": 1, "reason": None}, Score(1.0, True, "")),
    ],
)
def test_dicts(give: Any, said: Score) -> None:
    assert score("whatever", give=give) == said


@pytest.mark.parametrize(
    "give",
    [
        None,
        "yes",
        [],
        math.nan,
        math.inf,
        {},
        {"score": 1},
        {"value": "1"},
        {"value": math.nan},
        {"passed": 1},
        {"reason": "x"},
    ],
)
def test_other_results_are_error_rows(give: Any) -> None:
    assert score("whatever", give=give).error == "result"


@pytest.mark.parametrize(
    ("give", "value", "passed"),
    [
        (np.bool_(True), 1.0, True),
        (np.int64(0), 0.0, False),
        (np.float32(0.5), 0.5, True),
        (np.array(0.25), 0.25, False),
        (Decimal("0.5"), 0.5, True),
        (Fraction(1, 4), 0.25, False),
    ],
)
def test_numbers_of_other_kinds_are_numbers(give: Any, value: float, passed: bool) -> None:
    said = score("whatever", give=give)
    assert (said.value, said.passed) == (value, passed)


@pytest.mark.parametrize(
    ("give", "said"),
    [
        (10**400, "the function gave a number that no float can hold: it returns"),
        ({"value": 10**400}, "as passed, and has a number that no float can hold"),
        (Decimal("NaN"), "the function gave a number that is not finite: it returns"),
        (np.array([0.5, 0.5]), "the function gave a ndarray: it returns"),
        (None, "the function gave None: it returns"),
    ],
)
def test_a_result_that_cannot_be_used_is_named(give: Any, said: str) -> None:
    found = score("whatever", give=give)
    assert found.error == "result"
    assert said in found.reason


def test_a_function_of_other_arguments_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def one(answer): return True\n")
    with pytest.raises(ConfigError, match=r"mine\.py:one cannot be called with a question and an answer"):
        judge({"python": "mine.py:one"}, folder=tmp_path)


def test_a_decorated_function_takes_what_its_decorator_takes(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from functools import wraps\n"
        "def of_text(function):\n"
        "    @wraps(function)\n"
        "    def scorer(question, answer):\n"
        "        return function(answer.text)\n"
        "    return scorer\n"
        "@of_text\n"
        "def polite(text): return 'please' in text\n"
    )
    polite = judge({"python": "mine.py:polite"}, folder=tmp_path)
    assert asyncio.run(polite(Question(), Answer("please"))).passed


def polite(question: Question, answer: Answer) -> bool:
    return "please" in answer.text


def test_a_function_itself_is_known_by_its_name_and_its_lines(tmp_path: Path) -> None:
    made = judge(polite)
    assert made.name == "polite"
    assert asyncio.run(made(Question(), Answer("yes, please"))).passed
    assert repr(made) == repr(judge({"python": {"target": polite}})) == repr(pickle.loads(pickle.dumps(made)))
    assert repr(made) != repr(judge({"python": f"{__name__}:polite"})), "that one has no digest"
    stale = {"python": {"target": f"{__name__}:polite", "source": "0" * 16}}
    assert repr(judge(stale)) == repr(made), "what judges is the function as it is"

    other = ModuleType("other_polite")
    file = tmp_path / "other_polite.py"
    file.write_text("def polite(question, answer):\n    return True\n")
    exec(compile(file.read_text(), str(file), "exec"), vars(other))
    with pytest.raises(ConfigError, match="may be a function of a module, and polite is none"):
        judge(other.polite)


def test_a_function_without_a_name_is_refused() -> None:
    def inner(question: Question, answer: Answer) -> bool:
        return True

    for function in (lambda question, answer: True, inner, partial(polite), Answer):
        with pytest.raises(ConfigError, match=r"a scorer may be a function of a module, and .* is none"):
            judge(function)


def test_an_exception_is_an_error_row_with_its_type_and_place() -> None:
    said = score("raises", "my answer")
    assert said.error == "exception"
    assert said.reason.startswith("the function raised ValueError at sample_functions.py:")
    assert "my answer" not in said.reason


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "function", ["exits", "exits_later", "stops", "cancels", "cancels_aside", "interrupts"]
)
def test_nothing_that_a_function_raises_ends_the_run_or_hangs_it(function: str) -> None:
    assert score(function).error == "exception"


def test_plain_functions_run_in_a_thread() -> None:
    made = judge({"python": f"{FUNCTIONS}:is_short"})
    asyncio.run(made(Question(), Answer("x")))
    seen: list[str] = made._function.__globals__["THREADS"]  # type: ignore[attr-defined] # the loaded file's own
    assert seen[-1] != threading.current_thread().name


@pytest.mark.timeout(10)
@pytest.mark.parametrize("function", ["hangs", "hangs_awaiting"])
def test_a_function_that_does_not_return_is_an_error_row(function: str) -> None:
    over = threading.Event()
    try:
        said = score(function, give=over, timeout=0.05)
    finally:
        over.set()
    assert said == Score.unjudged("timeout", "the function did not return in 0.05 s")


def test_a_function_has_two_minutes_and_its_limit_is_no_part_of_a_row_s_key() -> None:
    made = [judge({"python": {"target": "operator:eq", **more}}) for more in ({}, {"timeout": 7})]
    assert [each.timeout for each in made] == [120, 7]  # type: ignore[attr-defined] # of this kind
    assert pickle.loads(pickle.dumps(made[1])).timeout == 7
    assert repr(made[0]) == repr(made[1])
    for wrong in (0, -1, math.inf, math.nan):
        with pytest.raises(ConfigError, match="timeout must be a positive number of seconds"):
            judge({"python": {"target": "operator:eq", "timeout": wrong}})


def test_modules_work_too() -> None:
    made = judge({"python": "operator:eq"})
    assert made.name == "eq"
    assert asyncio.run(made(Question(), Answer("x"))).passed is False


def test_relative_paths_count_from_the_suites_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def yes(question, answer):\n    return True\n")
    made = judge({"python": "mine.py:yes"}, folder=tmp_path)
    assert asyncio.run(made(Question(), Answer("x"))).passed
    again = pickle.loads(pickle.dumps(made))
    assert asyncio.run(again(Question(), Answer("x"))).passed
    with pytest.raises(ConfigError, match=r"mine\.py cannot be read.*suite file's folder"):
        judge({"python": "mine.py:yes"}, folder=tmp_path / "elsewhere")


def test_a_changed_file_is_another_judge(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def f(question, answer):\n    return     1\n")
    before = judge({"python": f"{file}:f"})
    file.write_text("def f(question, answer):\n    return not 1\n"[:-1] + " ")  # as long as before
    after = judge({"python": f"{file}:f"})
    assert repr(before) != repr(after)
    assert asyncio.run(after(Question(), Answer("x"))).passed is False


def test_dataclasses_in_the_file_work(tmp_path: Path) -> None:
    text = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    text += "@dataclass\nclass A:\n    x: int\n"
    (tmp_path / "mine.py").write_text(text + "def f(question, answer):\n    return A(1).x == 1\n")
    made = judge({"python": "mine.py:f"}, folder=tmp_path)
    assert asyncio.run(made(Question(), Answer("x"))).passed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\ndef f(:\n", r"broken\.py:2: "),
        ("x = 1\nimport no_such_module\n", r"ModuleNotFoundError at broken\.py:2: No module named"),
        ("raise SystemExit(3)\n", "SystemExit"),
        ("def g(q, a): ...\n", "has no function 'f'.*it has g"),
        ("f = 3\n", "'f' is a int, not a function"),
        ("\0", "broken"),
    ],
)
def test_a_broken_file_is_said_at_load(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "broken.py").write_text(text)
    for _ in range(2):  # a failure leaves nothing behind that a second load would find
        with pytest.raises(ConfigError, match=said):
            judge({"python": "broken.py:f"}, folder=tmp_path)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("nothing", "names no function"),
        ("a:b c", "names no function"),
        ("no_such_package.module:f", "PYTHONPATH"),
        ("json:no_such", "has no function"),
        ("/no/such/file.py:f", "cannot be read"),
    ],
)
def test_a_bad_target_is_refused(target: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        judge({"python": target})


def test_a_file_may_import_what_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "beside_the_scorer.py").write_text("LONGEST = 3\n", encoding="utf-8")
    (tmp_path / "scorer.py").write_text(
        "from beside_the_scorer import LONGEST\n"
        "def short(question, answer):\n    return len(answer.text) <= LONGEST\n",
        encoding="utf-8",
    )
    made = judge({"python": f"{tmp_path}/scorer.py:short"})
    assert [asyncio.run(made(Question("q"), Answer(text))).passed for text in ("yes", "maybe")] == [
        True,
        False,
    ]
