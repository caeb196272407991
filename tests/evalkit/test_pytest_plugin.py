"""The pytest plugin, run as a user runs it: pytest in a folder of its own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from evalkit.pytest_plugin import JudgeAnswers, Judged
from evalkit.sample import Sample
from guardrails.testing import Profile, simulate_process
from judges.judge import Score

INI = "[pytest]\naddopts = --strict-markers\nasyncio_default_fixture_loop_scope = function\n"
TEST = """
import pytest

@pytest.mark.golden("golden.jsonl"{more})
def test_answers(sample, endpoint, judge):
    answer = endpoint.ask_now(sample)
    assert judge.now(sample, answer)
"""
LINES = [
    {"id": f"s{i}", "input": f"question {i}", "reference": "yes" if i else "never", "tags": [f"t{i % 2}"]}
    for i in range(4)
]
SAMPLE = Sample("s1", "question 1", references=("yes",))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "golden.jsonl").write_text("".join(json.dumps(x) + "\n" for x in LINES), encoding="utf-8")
    (tmp_path / "test_golden.py").write_text(TEST.format(more=""), encoding="utf-8")
    (tmp_path / "pytest.ini").write_text(INI, encoding="utf-8")
    return tmp_path


def pytest_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    # Not by its entry point: the plugin may be run from a checkout that was installed before it had one.
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", *arguments]
    if not _installed():
        command += ["-p", "evalkit.pytest_plugin"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100)


def _installed() -> bool:
    from importlib.metadata import entry_points

    return any(each.value == "evalkit.pytest_plugin" for each in entry_points(group="pytest11"))


@pytest.mark.e2e
@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_every_sample_is_a_test_and_the_session_is_summed_up(folder: Path, workers: tuple[str, ...]) -> None:
    with simulate_process(Profile(answers="fixed:oh yes")) as server:
        done = pytest_in(
            folder, "--evalkit-endpoint", f"{server.url}/v1", "--evalkit-model", "m", *workers, "-rf"
        )

    said = done.stdout
    assert done.returncode == 1, said + done.stderr
    assert "test_answers[s0]" in said
    assert "1 failed, 3 passed" in said
    assert "pass rate 75.0% [30.1, 95.4] (n = 4, 95% interval)" in said
    assert "TTFT p50" in said
    assert "tokens" in said
    assert "cost unknown" in said


@pytest.mark.parametrize("ask", ["endpoint.ask_now(sample)", "await endpoint.ask(sample)"])
def test_a_call_that_fails_counts_and_is_told_shortly(folder: Path, ask: str) -> None:
    head = "async def" if "await" in ask else "def"
    mark = "@pytest.mark.asyncio\n" if "await" in ask else ""
    (folder / "test_golden.py").write_text(
        f"import pytest\n@pytest.mark.golden('golden.jsonl')\n{mark}"
        f"{head} test_answers(sample, endpoint):\n    if sample.id != 's0':\n        {ask}\n",
        encoding="utf-8",
    )

    done = pytest_in(folder, "--evalkit-endpoint", "http://127.0.0.1:1/v1", "--evalkit-model", "m")

    said = done.stdout
    assert "3 failed, 1 passed" in said
    assert "pass rate 25.0% [4.6, 69.9] (n = 4, 95% interval); failed calls: 3×connect" in said
    assert "TTFT" not in said, "no call was answered"
    assert "refuses connections" in said
    assert "endpoints/http.py" not in said, "where in our code it was raised helps nobody"


OWN = """
import asyncio, types, pytest

class Own:
    def ask_now(self, sample):
        return "oh yes"

    async def ask(self, sample):
        return "oh yes"

@pytest.fixture
def endpoint():
    return Own()
"""
GOLDEN = "@pytest.mark.golden('golden.jsonl')\n"
ASYNC = f"{GOLDEN}@pytest.mark.asyncio\nasync "
AWAIT_JUDGE = "judge(…) was not awaited, and has no result: write `await judge(…)`, or `judge.now(…)`"
AWAIT_ASK = "endpoint.ask(…) was not awaited, and has no result: write `await endpoint.ask(…)`"
AWAITING_FORGOTTEN = [
    (f"{GOLDEN}def test_a(sample, judge):\n    assert judge(sample, 'wrong')", AWAIT_JUDGE),
    (f"{ASYNC}def test_a(sample, judge):\n    assert judge(sample, 'wrong')", AWAIT_JUDGE),
    (
        f"{ASYNC}def test_a(sample, judge):\n    assert judge(sample, 'wrong').scores",
        f"no `scores`: {AWAIT_JUDGE}",
    ),
    (f"{ASYNC}def test_a(sample, judge):\n    assert judge(sample, 'wrong') != 'no'", AWAIT_JUDGE),
    (f"{ASYNC}def test_a(sample, endpoint):\n    assert endpoint.ask(sample)", AWAIT_ASK),
    (
        f"{ASYNC}def test_a(sample, endpoint):\n    assert 'a' in endpoint.ask(sample).text",
        f"no `text`: {AWAIT_ASK}",
    ),
    (f"{ASYNC}def test_a(sample, endpoint):\n    assert 'a' in endpoint.ask(sample)", AWAIT_ASK),
    (
        f"{ASYNC}def test_a(sample, endpoint, judge):\n    assert await judge(sample, endpoint.ask(sample))",
        AWAIT_ASK,
    ),
    (
        f"{OWN}{ASYNC}def test_a(sample, endpoint, judge):\n    await judge(sample, endpoint.ask(sample))",
        "the answer that `judge` got was not awaited",
    ),
    (
        f"{ASYNC}def test_a(sample, endpoint):\n    endpoint.ask_now(sample)",
        "endpoint.ask_now(…) is for tests that are not async: in this one, write `await endpoint.ask(…)`",
    ),
    (
        f"{ASYNC}def test_a(sample, judge):\n    assert judge.now(sample, 'x')",
        "judge.now(…) is for tests that are not async: in this one, write `await judge(…)`",
    ),
    (
        f"{GOLDEN}def test_a(sample, judge):\n    assert judge.now(sample, None)",
        "TypeError: `judge` takes the answer that `endpoint.ask` gives, or a text; what it got is None",
    ),
    (
        f"{ASYNC}def test_a(sample, judge):\n    assert await judge(sample, 3)",
        "or a text; what it got is of the type int",
    ),
]


def test_what_is_used_without_await_is_an_error_that_says_so(folder: Path) -> None:
    """All cases in one session: each starts pytest anew otherwise."""
    for number, (test, _) in enumerate(AWAITING_FORGOTTEN):
        (folder / f"test_{number}.py").write_text(f"import pytest\n{test}\n", encoding="utf-8")
    (folder / "test_golden.py").unlink()

    done = pytest_in(
        folder, "--evalkit-endpoint", "http://127.0.0.1:1/v1", "--evalkit-model", "m", "-k", "s1", "-rf"
    )

    said = done.stdout + done.stderr
    assert f"{len(AWAITING_FORGOTTEN)} failed" in said
    assert "never awaited" not in said
    # A section for each test that failed, with its traceback.
    _, *sections = said.partition("short test summary")[0].split("_ test_a[s1] _")
    assert len(sections) == len(AWAITING_FORGOTTEN)
    by_file = {each.partition("\ntest_")[2].partition(".py")[0]: each for each in sections}
    for number, (_, part) in enumerate(AWAITING_FORGOTTEN):
        assert part in " ".join(by_file[str(number)].split()), by_file[str(number)]
    assert "pytest_plugin.py" not in said, "where in our code it was raised helps nobody"


def test_who_does_nothing_with_it_is_warned(folder: Path) -> None:
    with pytest.warns(
        RuntimeWarning, match="judge(…) was never awaited".replace("(", r"\(").replace(")", r"\)")
    ):
        JudgeAnswers(folder)(SAMPLE, "yes")


def test_what_is_to_be_awaited_may_be_a_task(folder: Path) -> None:
    judge = JudgeAnswers(folder)

    async def together() -> list[Judged]:
        task: asyncio.Task[Judged] = asyncio.create_task(judge(SAMPLE, "yes"))
        return [await task, *await asyncio.gather(judge(SAMPLE, "no"), judge(SAMPLE, "oh yes"))]

    assert [bool(each) for each in asyncio.run(together(), debug=True)] == [True, False, True]
    assert bool(asyncio.run(judge(SAMPLE, "yes")))
    judge(SAMPLE, "yes").close()  # nothing is told of it


KINDS = f"""{OWN}
@pytest.fixture
def broken(sample):
    if sample.id == "s3":
        raise OSError("no database")

{GOLDEN}def test_kinds(sample, endpoint, judge, broken):
    assert judge.now(sample, endpoint.ask_now(sample))

{GOLDEN}def test_never_asks(sample):
    assert sample.id != "s2"

{GOLDEN}@pytest.mark.skip
def test_skipped(sample): pass

{GOLDEN}@pytest.mark.xfail
def test_expected(sample):
    assert sample.id == "s0"

def test_of_something_else(endpoint):
    assert 0
"""


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_the_pass_rate_is_of_golden_tests_whatever_they_failed_by(
    folder: Path, workers: tuple[str, ...]
) -> None:
    (folder / "test_golden.py").write_text(KINDS, encoding="utf-8")

    said = pytest_in(folder, *workers).stdout

    assert "3 failed, 5 passed, 4 skipped, 3 xfailed, 1 xpassed, 1 error" in said
    rest = "not counted: 4 skipped, 3 xfailed, 1 xpassed"
    assert f"pass rate 62.5% [30.6, 86.3] (n = 8, 95% interval); {rest}\n" in said
    assert "TTFT" not in said, "nobody knows of those calls"
    assert "cost" not in said


def test_calls_are_those_of_golden_tests(folder: Path) -> None:
    made = "from evalkit.pytest_plugin import NUMBERS, PROPERTY\n"
    call = "{**dict.fromkeys(NUMBERS), 'ttft_ms': 5.0, 'input_tokens': 1, 'output_tokens': 2}"
    record = f"request.node.user_properties.append((PROPERTY, {call}))"
    (folder / "test_golden.py").write_text(
        f"import pytest\n{made}{GOLDEN}def test_a(sample, request):\n    {record}\n"
        f"def test_other(request):\n    {record}\n",
        encoding="utf-8",
    )

    said = pytest_in(folder).stdout

    assert "(n = 4, 95% interval)\nTTFT p50 " in said
    assert "(n = 4); TPOT unknown\n" in said
    assert "tokens 4 in, 8 out; cost unknown" in said


def test_a_session_of_skipped_tests_has_no_rate_and_one_without_golden_tests_no_summary(folder: Path) -> None:
    test = folder / "test_golden.py"
    test.write_text(f"import pytest\n{GOLDEN}@pytest.mark.skip\ndef test_a(sample): pass\n", encoding="utf-8")
    assert "no pass rate: no test ran; not counted: 4 skipped" in pytest_in(folder).stdout

    test.write_text("def test_a(): pass\n", encoding="utf-8")
    assert "golden sets" not in pytest_in(folder).stdout


def test_a_worker_that_dies_has_failed_its_test(folder: Path) -> None:
    code = f"import os, pytest\n{GOLDEN}def test_a(sample):\n    if sample.id == 's2':\n        os._exit(1)\n"
    (folder / "test_golden.py").write_text(code, encoding="utf-8")

    said = pytest_in(folder, "-n", "1").stdout

    assert "pass rate 75.0% [30.1, 95.4] (n = 4, 95% interval)" in said


def test_a_method_may_have_another_mark_than_its_class(folder: Path) -> None:
    (folder / "test_golden.py").write_text(
        f"import pytest\n{GOLDEN}class TestA:\n"
        "    @pytest.mark.golden('golden.jsonl', limit=1)\n    def test_a(self, sample): pass\n",
        encoding="utf-8",
    )

    assert "1 passed" in pytest_in(folder).stdout


def test_a_value_without_a_verdict_has_not_passed() -> None:
    yes, value, lost = Score.verdict(True, ""), Score(0.4, None, ""), Score.unjudged("timeout", "")

    assert bool(Judged({}))
    assert bool(Judged({"a": yes, "b": value}))
    assert not Judged({"b": value})
    assert not Judged({"a": yes, "b": lost})


def test_samples_are_chosen_by_tag_and_limit(folder: Path) -> None:
    (folder / "test_golden.py").write_text(TEST.format(more=", where='t1', limit=1"), encoding="utf-8")

    done = pytest_in(folder, "--collect-only")

    assert "test_answers[s1]" in done.stdout
    assert "s0" not in done.stdout
    assert "s3" not in done.stdout


@pytest.mark.parametrize(
    ("test", "part"),
    [
        ("@pytest.mark.golden('gone.jsonl')\ndef test_a(sample): pass", "gone.jsonl: there is no such file"),
        ("@pytest.mark.golden('golden.jsonl')\ndef test_a(): pass", "takes no argument `sample`"),
        (
            f"{GOLDEN}@pytest.mark.golden('other.jsonl')\ndef test_a(sample): pass",
            "marked golden more than once; write one mark",
        ),
        ("@pytest.mark.golden\ndef test_a(sample): pass", "write @pytest.mark.golden('set.jsonl')"),
        ("@pytest.mark.golden('golden.jsonl')\ndef test_a(sample, endpoint): pass", "no endpoint: give"),
        (
            "@pytest.mark.golden('golden.jsonl')\ndef test_a(sample, judge): assert judge.now(sample, 'x')",
            "<not passed – contains: 0 of 1",
        ),
        (
            "@pytest.mark.golden('golden.jsonl', tags=['t1'])\ndef test_a(sample): pass",
            "golden takes no 'tags'; to take the samples that have a tag, write where={'any': ['t1']}",
        ),
        (
            "@pytest.mark.golden('golden.jsonl', name='x')\ndef test_a(sample): pass",
            "golden takes where, limit, fields, and no 'name'; samples are chosen by their tags with where=",
        ),
    ],
)
def test_what_is_wrong_is_said(folder: Path, test: str, part: str) -> None:
    (folder / "test_golden.py").write_text(f"import pytest\n{test}\n", encoding="utf-8")

    done = pytest_in(folder)

    assert done.returncode != 0
    assert part in done.stdout + done.stderr
    assert "pluggy" not in done.stdout + done.stderr, "where in our code it was raised helps nobody"


def test_a_test_that_nobody_gave_an_endpoint_is_in_no_rate(folder: Path) -> None:
    test = folder / "test_golden.py"
    asks = f"import pytest\n{GOLDEN}def test_a(sample, endpoint): pass\n"
    test.write_text(asks, encoding="utf-8")
    assert "no pass rate: no test ran; not counted: 4 without an endpoint" in pytest_in(folder).stdout

    test.write_text(f"{asks}{GOLDEN}def test_b(sample): pass\n", encoding="utf-8")
    assert "(n = 4, 95% interval); not counted: 4 without an endpoint" in pytest_in(folder).stdout


@pytest.mark.parametrize("workers", [(), ("-n", "1")])
def test_a_test_that_failed_shows_its_question_and_what_was_answered(
    folder: Path, workers: tuple[str, ...]
) -> None:
    test = "def test_a(sample, judge): assert judge.now(sample, 'never' if sample.id == 's0' else 'no' * 600)"
    (folder / "test_golden.py").write_text(f"import pytest\n{GOLDEN}{test}\n", encoding="utf-8")

    said = pytest_in(folder, *workers).stdout

    shown = f"sample:   s1\nquestion: question 1\nexpected: yes\nanswer:   {'no' * 400} … (cut here)\n"
    assert f"{shown}  contains: failed: 0 of 1 references found\n" in said
    assert "question 0" not in said, "its test has passed"


def test_the_plugin_loads_nothing_heavy() -> None:
    code = (
        "import sys, evalkit.pytest_plugin\n"
        "print(sorted({'numpy', 'httpx', 'aiohttp', 'pydantic', 'sqlalchemy', 'jinja2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
