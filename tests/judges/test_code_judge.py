"""The judge `code`: problems in three formats, answers in Markdown or not, scores that quote nothing."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from guardrails.errors import ConfigError
from judges.code import Code
from judges.judge import Question, answered
from judges.sandbox import NoSandbox, choose
from judges.sandbox.packages import places
from judges.sandbox.problems import Malformed, Problem, blocks, extracted

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("EVALKIT_SHARED") or ROOT.parent / "shared") / "data" / "code"


@pytest_asyncio.fixture
async def code() -> AsyncIterator[Code]:
    try:
        await choose()
    except NoSandbox as error:
        pytest.skip(str(error))
    judge = Code(workers=2)
    yield judge
    await judge.aclose()


def asked(**metadata: Any) -> Question:
    return Question("…", (), (), metadata)


SQUARE = asked(entry_point="square", tests=["assert square(3) == 9", "assert square(-1) == 1"])


@pytest.mark.asyncio
async def test_the_golden_set_small_code_tells_right_from_wrong(code: Code) -> None:
    lines = (ROOT / "datasets/small-code/samples.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    questions = [Question(row["input"], tuple(row["references"]), (), row["metadata"]) for row in rows]
    assert [code.check(question) for question in questions] == [None] * len(rows)
    for name, expected in (("answer", True), ("wrong", False)):
        told = await asyncio.gather(
            *(
                code(question, answered(row["metadata"][name]))
                for question, row in zip(questions, rows, strict=True)
            )
        )
        assert [score.passed for score in told] == [expected] * len(rows)
        assert all(0 < (score.value or 0) <= 1 for score in told), (
            "a plausible wrong answer passes some tests"
        )


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("text", "passed", "said"),
    [
        ("```python\ndef square(x):\n    return x * x\n```", True, "2 of 2 tests pass ("),
        ("def square(x):\n    return x * x", True, "2 of 2"),
        (
            "Sure!\n\n```py\ndef square(x):\n    return 9\n```\nDone.",
            False,
            "1 of 2 tests pass; test 2: a wrong result",
        ),
        ("I cannot do that.", False, "0 of 2 tests pass; the program has a syntax error"),
        ("", False, "0 of 2 tests pass; the program does not define what is asked for"),
        ("```\nimport os\nos._exit(0)\n```", False, "the program ended itself"),
    ],
)
async def test_an_answer_scores_the_share_of_tests_it_passes(
    code: Code, text: str, passed: bool, said: str
) -> None:
    score = await code(SQUARE, answered(text))
    assert score.passed is passed
    assert said in score.reason
    assert "square" not in score.reason
    assert code._ready._chosen is not None
    assert code._ready._chosen.sandbox.title in score.reason


@pytest.mark.asyncio
async def test_faulty_tests_are_an_error_row_not_a_zero(code: Code) -> None:
    score = await code(asked(entry_point="f", tests=["assert ("]), answered("def f(): pass"))
    assert (score.error, score.value, score.passed) == ("reference", None, None)


def test_a_sample_without_tests_is_complained_about_before_any_call() -> None:
    judge = Code()
    for metadata in (
        {},
        {"tests": []},
        {"tests": [3]},
        {"test": "x"},
        {"tests": "x", "entry_point": "not a name"},
    ):
        assert "is no problem with tests" in (judge.check(asked(**metadata)) or "")


def test_without_a_sandbox_every_sample_is_complained_about_with_what_to_do() -> None:
    judge = Code(sandbox="no-such")
    complaint = judge.check(SQUARE)
    assert complaint is not None
    assert "there is no sandbox 'no-such'" in complaint


@pytest.mark.asyncio
async def test_without_a_sandbox_nothing_is_run() -> None:
    score = await Code(sandbox="no-such")(SQUARE, answered("def square(x): return x * x"))
    assert score.error is not None
    assert score.value is None


def test_options_are_checked_and_the_judge_survives_pickling() -> None:
    with pytest.raises(ConfigError, match="positive"):
        Code(cpu=0)
    with pytest.raises(ConfigError, match="not installed"):
        Code(packages=("no-such-package-here",))
    judge = Code(cpu=2)
    assert pickle.loads(pickle.dumps(judge)) == judge


@pytest.mark.asyncio
async def test_declared_packages_can_be_imported_and_others_cannot() -> None:
    try:
        await choose()
    except NoSandbox as error:
        pytest.skip(str(error))
    judge = Code(packages=("numpy",), imports=("numpy",), memory=4096)
    question = asked(entry_point="f", tests=["assert f() == 6"])
    try:
        sums = await judge(question, answered("import numpy as np\ndef f(): return np.arange(4).sum()"))
        assert sums.passed, sums.reason
        other = await judge(question, answered("import yaml\ndef f(): return 6"))
        assert not other.passed
    finally:
        await judge.aclose()


def test_packages_bring_what_they_require() -> None:
    assert {"numpy"} <= {name for name, _ in places(["numpy"])}
    assert {"httpx", "httpcore", "anyio"} <= {name for name, _ in places(["httpx"])}


# --- formats -----------------------------------------------------------------------------------------------


def test_humaneval_completes_its_prompt_and_keeps_its_code_on_the_tests_side() -> None:
    row = {
        "prompt": "import math\ndef f(x):\n    '''doc'''\n",
        "test": "def check(c): assert c(1) == 1",
        "entry_point": "f",
    }
    problem = Problem.of(row)
    program = problem.completed("    return x\n")
    assert program.source == row["prompt"] + "    return x\n"
    assert program.setup == row["prompt"]
    assert program.tests[0].endswith("check(f)")
    whole = problem.answered("```python\ndef f(x):\n    return math.floor(x)\n```")
    assert whole.source.startswith("import math")
    assert problem.answered("    return x\n").source == program.source


def test_mbpp_and_plain_tests_run_in_order() -> None:
    mbpp = Problem.of(
        {"text": "…", "test_list": ["assert f() == 1"], "test_setup_code": "import math", "prompt": "words"}
    )
    assert (mbpp.tests, mbpp.setup, mbpp.prompt) == (("assert f() == 1",), "import math", "")
    plain = Problem.of({"tests": ["assert C()"], "entry_point": "C"}, ["class C:\n    pass\n"])
    assert plain.classes == ("C",)
    assert Problem.of({"tests": ["assert C()"], "entry_point": "C"}, ["def C(): pass\n"]).classes == ()
    assert Problem.cases({"tests": [{"stdin": "a", "stdout": "b"}, {"stdout": "c"}]}) == (
        ("a", "b"),
        ("", "c"),
    )
    for bad in ([], ["x"], [{"stdin": "a"}], [{"stdout": 1}], "x", None):
        with pytest.raises(Malformed):
            Problem.cases({"tests": bad})


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("```python\na = 1\n```", "a = 1\n"),
        ("~~~py\na = 1\n~~~", "a = 1\n"),
        ("````python\n```\n````", "```\n"),
        (
            "first\n```python\ndef f(): 1\n```\nbetter\n```python\ndef f(): 2\n```\nuse\n```python\nf()\n```",
            "def f(): 2\n",
        ),
        ("```python\na = 1\n```\n```python\nb = 2\n```", "a = 1\n\nb = 2\n"),
        ("```bash\npip install x\n```\n```python\ndef f(): 1\n```", "def f(): 1\n"),
        ("```python\ndef f(): 1", "def f(): 1\n"),
        ("Here it is:\nimport re\ndef f(): 1", "import re\ndef f(): 1\n"),
        ("  return 1", "  return 1\n"),
    ],
)
def test_code_is_found_in_an_answer(answer: str, code: str) -> None:
    assert extracted(answer, "f") == code


@given(st.text(st.sampled_from("`~ \npydef()#:x"), max_size=60))
def test_extraction_takes_any_text_and_invents_nothing(answer: str) -> None:
    code = extracted(answer, "f")
    assert set(code.split()) <= set(answer.split())
    assert all(content in answer + "\n" for _, content in blocks(answer) if content.strip())


@pytest.mark.parametrize(
    "text", ["`" * 150_000, "```" + "a" * 150_000 + "`", "```\n" * 40_000, "def \t" * 40_000]
)
def test_extraction_takes_linear_time(text: str) -> None:
    def cost(answer: str) -> float:
        started = time.process_time()
        extracted(answer, "f")
        return time.process_time() - started

    # Sixteen times the text: quadratic work would be 256 times as much, and minutes of it.
    assert (
        min(cost(text) for _ in range(3)) <= 64 * min(cost(text[: len(text) // 16]) for _ in range(5)) + 0.2
    )


# --- published figures -------------------------------------------------------------------------------------


def shared(name: str) -> list[dict[str, Any]]:
    path = SHARED / f"{name}.jsonl.gz"
    if not path.exists():
        pytest.skip(f"{path} is not here: EVALKIT_SHARED names the folder")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


async def passing(programs: dict[str, Any]) -> dict[str, bool]:
    from judges.sandbox import Limits, Pool

    try:
        chosen = await choose()
    except NoSandbox as error:
        pytest.skip(str(error))
    # One solution of MBPP takes 2.5 s of processor time, and more beside other work on the same core.
    async with Pool(chosen.sandbox, limits=Limits(cpu=10, wall=300.0)) as pool:
        results = await asyncio.gather(*(pool.run(each) for each in programs.values()))
    return {task: result.passed for task, result in zip(programs, results, strict=True)}


@pytest.mark.asyncio
async def test_the_canonical_solutions_of_humaneval_pass() -> None:
    rows = shared("HumanEval")
    passed = await passing(
        {row["task_id"]: Problem.of(row).completed(row["canonical_solution"]) for row in rows}
    )
    assert len(passed) == 164
    assert {task for task, ok in passed.items() if not ok} == set()


IN_ONE_PROCESS = """
import json, sys
told = {}
for task, source in json.load(sys.stdin).items():
    try:
        exec(source, {})
        told[task] = True
    except BaseException:
        told[task] = False
json.dump(told, sys.stdout)
"""


@pytest.mark.asyncio
async def test_the_solutions_of_mbpp_score_as_they_do_in_one_process_with_their_tests() -> None:
    """Prompts and bodies here are indented differently, so a solution is its `def` line and its body."""
    rows = shared("mbpp_sanitized")
    sources = {
        row["task_id"]: f"{row['prompt'].splitlines()[0]}\n{row['canonical_solution']}" for row in rows
    }
    wholes = {
        row["task_id"]: f"{sources[row['task_id']]}\n{row['test']}\ncheck({row['entry_point']})"
        for row in rows
    }
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", IN_ONE_PROCESS],
        input=json.dumps(wholes),
        capture_output=True,
        text=True,
    )
    last = done.stdout.splitlines()[-1]  # the programs print, too
    told = json.loads(last[last.index("{") :])
    passed = await passing({row["task_id"]: Problem.of(row).solved(sources[row["task_id"]]) for row in rows})
    assert len(passed) == 427
    assert {task for task in passed if passed[task] != told[task]} == set()
    assert sum(passed.values()) == 340, "the other programs of this file lack their imports"


# Where the published flag says that a solution passed and we say that it did not. Both call `math` without
# importing it: the evaluation that set the flags ran them where it was imported already.
WITHOUT_MATH = {
    "ldb_seed_starcoder": {"HumanEval/106", "HumanEval/133"},
    "reflexion_gpt4_simple": {"HumanEval/133"},
}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("ldb_seed_gpt35", 121),
        ("ldb_seed_codellama", 81),
        ("ldb_seed_starcoder", 64),
        ("reflexion_gpt4_simple", 141),
    ],
)
async def test_published_generations_score_as_published(name: str, count: int) -> None:
    """Those evaluations ran solution and test with `typing` imported, and without the prompt."""
    problems = {row["task_id"]: row for row in shared("HumanEval")}
    flags = {row["task_id"]: row["is_solved"] for row in shared(name)}
    assert sum(flags.values()) == count
    programs, with_math = {}, {}
    for row in shared(name):
        problem = Problem.of({**problems[row["task_id"]], "prompt": ""})
        source = f"from typing import *\n{row['solution']}"
        programs[row["task_id"]] = problem.solved(source)
        if row["task_id"] in WITHOUT_MATH.get(name, ()):
            with_math[row["task_id"]] = problem.solved(f"import math\n{source}")
    passed = await passing(programs)
    assert {task for task in flags if passed[task] != flags[task]} == WITHOUT_MATH.get(name, set())
    assert all((await passing(with_math)).values())


DROPPED = """
import asyncio, gc
from judges.code import Code
from judges.judge import Question, answered
judge = Code(workers=1)
question = Question("", (), (), {"entry_point": "f", "tests": ["assert f() == 1"]})
print(asyncio.run(judge(question, answered("def f(): return 1"))).passed)
gc.collect()
"""


@pytest.mark.e2e
def test_a_judge_that_nobody_closes_ends_quietly_with_its_event_loop() -> None:
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", DROPPED]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.stdout.strip() == "None":
        pytest.skip("no sandbox works here")
    assert (done.stdout.strip(), done.stderr) == ("True", "")
