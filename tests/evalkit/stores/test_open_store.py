"""Opening a store: what cannot work says what to do, without the password; old files become today's."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, event, inspect, text

from evalkit.stores import Run, Store, Unreachable, as_found, open_store, tables
from evalkit.stores.sqlite import _Held, _locked, _seems_locked, open_file
from evalkit.stores.store import RunHeld
from evalkit.trial import Failure, Trial
from guardrails.errors import ConfigError
from judges.judge import Answer, Score


def refused(url: str | Path, **options: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        open_store(url, **options)
    assert caught.value.hint
    assert "not-to-be-seen" not in str(caught.value)
    assert caught.value.__cause__ is None
    return caught.value


# --- places ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["{}", "sqlite:///{}"])
def test_a_path_is_a_file_whose_folders_are_made(tmp_path: Path, form: str) -> None:
    path = tmp_path / "deep" / "er" / "runs.db"
    store = open_store(form.format(path))
    assert store.place == str(path)
    assert path.is_file()
    store.close()


def test_a_store_that_is_closed_is_one_file(tmp_path: Path) -> None:
    """Whoever copies `runs.db` alone, as a CI job's cache may, has all rows of a run that ended by itself."""
    store = open_store(tmp_path / "runs.db")
    run = store.create(Run("r", "r", "d", "running", datetime.now(UTC)))

    def append(number: int) -> None:
        store.append([Trial(run.id, f"s{number}", "e", f"k{number}", "now")])

    with ThreadPoolExecutor(4) as pool:  # each with a connection of its own
        list(pool.map(append, range(20)))
    reader = store.trials(run.id)
    next(reader)
    assert (tmp_path / "runs.db-wal").exists()

    store.close()

    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["runs.db"]
    (tmp_path / "copy.db").write_bytes((tmp_path / "runs.db").read_bytes())
    copy = open_store(tmp_path / "copy.db")
    assert len(list(copy.trials(run.id))) == 20
    copy.close()


def test_a_store_that_is_only_looked_at_is_not_made(tmp_path: Path) -> None:
    assert "no runs are kept" in refused(tmp_path / "absent" / "runs.db", create=False).message
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert refused(tmp_path).hint == f"name a file in it: {tmp_path / 'runs.db'}"


@pytest.mark.parametrize(
    "url",
    [
        "a\0b",
        Path("a\0b/runs.db"),
        "a\ud800b",
        "sqlite:///a%00b",
        "sqlite:///a\0b",
        "~nobody-of-that-name/runs.db",
        "x" * 300,
        "postgresql://u:not-to-be-seen@127.0.0.1:9/a%00b",
        "postgresql://u:not-to-be-seen@a\0b:9/db",
    ],
)
def test_what_can_be_no_path_is_said(
    url: str | Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(url)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("dear diary, " * 500)
    assert "no SQLite database" in refused(path).message
    assert path.read_text() == "dear diary, " * 500


def test_somebody_elses_database_is_left_alone(tmp_path: Path, url: str) -> None:
    _execute(url, "CREATE TABLE runs (whose TEXT)")
    assert "other tables named runs" in refused(url).message
    with _connected(url) as connection:
        assert inspect(connection).get_table_names() == ["runs"]


def test_a_newer_schema_asks_for_a_newer_evalkit(store: Store, url: str) -> None:
    _execute(url, "UPDATE schema_version SET version = 99")
    error = refused(url)
    assert "its schema is 99" in error.message
    assert "pip install -U" in error.hint


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no such modes there")
def test_a_read_only_folder_says_so(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    open_store(tmp_path / "runs.db").close()
    tmp_path.chmod(0o555)
    code = (
        "import os, sys\n"
        "from evalkit.stores import open_store\n"
        "open_store(sys.argv[1]).close()\n"  # imports all, before root becomes somebody without rights
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "for name in sys.argv[2:]:\n"
        "    try: open_store(name)\n"
        "    except Exception as error: print(type(error).__name__, error)\n"
    )
    for folder in tmp_path.parents:  # somebody without rights has to get there at all
        if folder.stat().st_uid == os.getuid() and str(folder).startswith("/tmp/"):
            folder.chmod(folder.stat().st_mode | 0o111)
    paths = [str(tmp_path / name) for name in ("runs.db", "new.db", "new/runs.db")]
    paths.insert(0, str(tmp_path_factory.mktemp("before") / "runs.db"))
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True)
    tmp_path.chmod(0o755)
    said = done.stdout.splitlines()
    assert len(said) == 3, done.stderr
    for line in said:
        assert line.startswith("ConfigError")
        assert "choose another place with --out or --store" in line


READS = (
    "import os, sys\n"
    "from evalkit.stores import as_found, open_store\n"
    "open_store(sys.argv[1]).close()\n"  # imports all, before root becomes somebody without rights
    "if os.geteuid() == 0: os.setuid(65534)\n"
    "store = open_store(sys.argv[2], create=False)\n"
    "run = store.find('latest')\n"
    "print(as_found(store, run).status, len(list(store.trials(run.id))), len(store.tallies(run.id)))\n"
    "for write in (lambda: store.tag(run.id, add=['x']), lambda: store.delete(run.id),\n"
    "              lambda: store.writing(run.id).__enter__()):\n"
    "    try: write()\n"
    "    except Exception as error: print(type(error).__name__, error)\n"
    "store.close()\n"
)


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no such modes there")
@pytest.mark.parametrize("killed", [False, True], ids=["whole", "killed"])
def test_a_store_that_cannot_be_written_can_be_read(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, killed: bool
) -> None:
    """Such as an artifact of CI; after `kill -9`, its last rows are in a file beside it."""
    home = tmp_path / "with ? and #"
    store = open_store(home / "runs.db")
    run = store.create(Run("r", "r", "d", "running", datetime.now(UTC)))
    store.append([Trial(run.id, f"s{n}", "e", f"k{n}", "now") for n in range(3)])
    if not killed:
        store.close()
    assert (home / "runs.db-wal").exists() is killed
    for path in home.iterdir():
        path.chmod(0o555 if path.is_dir() else 0o444)
    for folder in (home, *tmp_path.parents, tmp_path):  # somebody without rights has to get there at all
        if folder.stat().st_uid == os.getuid() and str(folder).startswith("/tmp/"):
            folder.chmod(folder.stat().st_mode | 0o111)
    home.chmod(0o555)
    words = [sys.executable, "-c", READS, str(tmp_path_factory.mktemp("before") / "runs.db")]
    done = subprocess.run([*words, str(home / "runs.db")], capture_output=True, text=True)
    home.chmod(0o755)
    store.close()
    first, *refused = done.stdout.splitlines()
    assert first == "killed 3 1", done.stderr
    assert len(refused) == 3
    assert all("cannot be written" in line and line.startswith("ConfigError") for line in refused)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:not-to-be-seen@h/db",
        "sqlite://",
        "sqlite://host/file.db",
        "postgresql://u:not-to-be-seen@h:port/db",
        "://",
        "http://u:not-to-be-seen@h/",
    ],
)
def test_urls_that_are_none_of_ours(url: str) -> None:
    assert "postgresql://USER:PASSWORD@HOST" in refused(url).hint


# --- files that go away ------------------------------------------------------------------------------------


@pytest.mark.parametrize("again", [False, True], ids=["gone", "another"])
def test_a_file_that_is_removed_meanwhile_is_missed(tmp_path: Path, again: bool) -> None:
    """Its open connections go on as if nothing were the matter, and all rows are gone when they end."""
    home = tmp_path / "home"
    store = open_store(home / "runs.db")
    run = store.create(Run("r", "r", "d", "running", datetime.now(UTC)))
    store.append([Trial(run.id, "s", "e", "k", "now")])
    shutil.rmtree(home)
    if again:
        open_store(home / "runs.db").close()

    with pytest.raises(ConfigError, match="was removed or replaced"):
        store.append([Trial(run.id, "s", "e", "other", "now")])
    with pytest.raises(ConfigError, match="was removed or replaced"):
        store.update(replace(run, status="complete"))
    store.close()


SMALL = """
import resource, sys
from datetime import UTC, datetime
from evalkit.stores import Run, open_store
from evalkit.trial import Trial
store = open_store(sys.argv[1])
run = store.create(Run("r", "r", "d", "running", datetime.now(UTC)))
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
try:
    for n in range(1000):
        store.append([Trial(run.id, f"s{n}", "e", "k" * 2000 + str(n), "now")])
except Exception as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such limits there")
def test_a_file_that_may_not_grow_is_none_to_begin_another_run_in(tmp_path: Path) -> None:
    """All that is kept is paid for, and goes on where there is room."""
    words = [sys.executable, "-c", SMALL, str(tmp_path / "runs.db")]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert "runs.db cannot be written: disk I/O error – make room" in said
    assert "then go on with --resume" in said


# --- PostgreSQL --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:not-to-be-seen@127.0.0.1:9/db",
        "postgres://u@127.0.0.1:9/db?password=not-to-be-seen",
        "postgresql+psycopg://u:not-to-be-seen@/db?host=/nowhere",
    ],
)
def test_a_server_that_cannot_be_reached(url: str) -> None:
    pytest.importorskip("psycopg", reason="PostgreSQL's driver is not installed")
    error = refused(url)
    assert "cannot be reached" in error.message
    assert "is the server running" in error.hint


def test_a_wrong_password_is_not_repeated(postgres: Any) -> None:
    wrong = postgres.url().replace("not-to-be-seen", "not-to-be-seen-either")
    error = refused(wrong)
    assert "password authentication failed" in error.message


def test_a_schema_that_is_absent(postgres: Any) -> None:
    assert "search path" in refused(postgres.url("absent")).message


def test_a_database_that_cannot_hold_every_text(postgres: Any) -> None:
    import psycopg

    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    assert "LATIN1" in refused(postgres.url().replace("/postgres?", "/latin?")).message


def _cut_off(postgres: Any) -> None:
    """The server ends all connections, as when it restarts, or a firewall forgets those that are idle."""
    import psycopg

    everyone = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'evalkit'"
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        assert len(connection.execute(everyone).fetchall()) >= 2


def test_a_store_outlives_its_connections(postgres: Any) -> None:
    """The server goes away and comes back between two batches; the run is held anew."""
    url = postgres.schema()
    store, other = open_store(url), open_store(url)
    run = store.create(Run("r", "r", "d", "running", datetime(2026, 1, 1, tzinfo=UTC)))
    with store.writing(run.id):
        store.append([Trial(run.id, "s", "e", "before", "")])
        _cut_off(postgres)
        assert not other.held(run.id)
        store.append([Trial(run.id, "s", "e", "after", "")])
        assert other.held(run.id)
    assert {trial.key for trial in store.trials(run.id)} == {"before", "after"}
    with store.writing(run.id):
        pass
    store.close()
    other.close()


def test_a_server_that_is_away_is_told_from_one_that_refuses(postgres: Any) -> None:
    """What is away may be back in a moment."""
    import psycopg

    with pytest.raises(Unreachable):
        open_store("postgresql://u@127.0.0.1:9/db")
    url = postgres.schema()
    store = open_store(url)
    run = store.create(Run("r", "r", "d", "running", datetime(2026, 1, 1, tzinfo=UTC)))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP TABLE trials")
    with pytest.raises(ConfigError) as caught:
        store.append([Trial(run.id, "s", "e", "late", "")])
    assert not isinstance(caught.value, Unreachable)
    store.close()


def test_a_run_that_was_lost_to_another_is_not_written(postgres: Any) -> None:
    url = postgres.schema()
    store, other = open_store(url), open_store(url)
    run = store.create(Run("r", "r", "d", "running", datetime(2026, 1, 1, tzinfo=UTC)))
    with store.writing(run.id):
        _cut_off(postgres)
        with other.writing(run.id):
            for _ in range(2):
                with pytest.raises(RunHeld, match="is being written by another process"):
                    store.append([Trial(run.id, "s", "e", "late", "")])
    assert not list(store.trials(run.id))
    store.close()
    other.close()


def test_a_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert "evalkit-guardrails[postgres]" in refused("postgresql://u:not-to-be-seen@h/db").hint


def test_a_driver_is_loaded_only_where_it_is_used(tmp_path: Path) -> None:
    code = (
        "import sys; from evalkit.stores import open_store; assert 'sqlalchemy' not in sys.modules\n"
        "open_store(sys.argv[1]); assert 'psycopg' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "runs.db")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


# --- locks of a file ---------------------------------------------------------------------------------------


@contextmanager
def looked_at(path: Path) -> Iterator[Callable[[], None]]:
    """A lock file at which another process looks, until what this gives is called."""
    path.touch()
    file = os.open(path, os.O_RDONLY)
    fcntl.flock(file, fcntl.LOCK_SH)
    try:
        yield lambda: fcntl.flock(file, fcntl.LOCK_UN)
    finally:
        os.close(file)


def test_two_that_look_do_not_take_each_other_for_a_writer(tmp_path: Path) -> None:
    store = open_store(tmp_path / "runs.db")
    run = store.create(Run("r", "r", "d", "running", datetime(2026, 1, 1, tzinfo=UTC)))
    with store.writing(run.id):
        (lock,) = (tmp_path / "runs.db.locks").iterdir()
        assert as_found(store, run).status == "running"
    with looked_at(lock):
        assert as_found(store, run).status == "killed"
    store.close()


def test_whoever_begins_is_not_refused_because_somebody_looks(tmp_path: Path) -> None:
    pauses: list[float] = []
    with looked_at(tmp_path / "lock") as end:

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 3:
                end()

        with _locked(tmp_path / "lock", tries=4, pause=pause):
            assert _seems_locked(tmp_path / "lock")
    assert len(pauses) == 3
    assert not _seems_locked(tmp_path / "lock")
    with looked_at(tmp_path / "lock"), pytest.raises(_Held), _locked(tmp_path / "lock", tries=4, pause=pause):
        raise AssertionError("it is held all the time")
    assert len(pauses) == 6, "it was tried four times"


# --- old databases -----------------------------------------------------------------------------------------

VERSION_1 = """
CREATE TABLE schema_version (version INTEGER NOT NULL);
CREATE TABLE runs (
    id TEXT NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL, status TEXT NOT NULL,
    started_at TEXT NOT NULL, ended_at TEXT, planned BIGINT NOT NULL, info TEXT NOT NULL, PRIMARY KEY (id)
);
CREATE INDEX ix_runs_digest ON runs (digest);
CREATE INDEX ix_runs_started_at ON runs (started_at);
CREATE TABLE tags (
    run TEXT NOT NULL, tag TEXT NOT NULL, PRIMARY KEY (run, tag),
    FOREIGN KEY(run) REFERENCES runs (id) ON DELETE CASCADE
);
CREATE INDEX ix_tags_tag ON tags (tag);
CREATE TABLE trials (
    run TEXT NOT NULL, "key" TEXT NOT NULL, ask TEXT NOT NULL, content TEXT NOT NULL,
    "set" TEXT NOT NULL, sample TEXT NOT NULL, endpoint TEXT NOT NULL, prompt TEXT NOT NULL,
    k INTEGER NOT NULL, place BIGINT NOT NULL,
    started_at TEXT NOT NULL, weight DOUBLE NOT NULL, passed BOOLEAN, done BOOLEAN NOT NULL,
    measured BOOLEAN NOT NULL, cost_usd DOUBLE, size BIGINT NOT NULL, tags TEXT NOT NULL, error TEXT,
    scores TEXT NOT NULL, record TEXT, answer TEXT, PRIMARY KEY (run, "key"),
    FOREIGN KEY(run) REFERENCES runs (id) ON DELETE CASCADE
);
CREATE INDEX trials_in_order ON trials (run, place, "key", size);
CREATE INDEX trials_by_ask ON trials (ask) WHERE measured = 1;
INSERT INTO schema_version VALUES (1);
INSERT INTO runs VALUES (
    '20261121-120000-old', 'old', 'd', 'complete', '2026-11-21T12:00:00.000000+00:00', NULL, 1, '{"a":1}'
);
INSERT INTO tags VALUES ('20261121-120000-old', 'baseline');
INSERT INTO trials VALUES (
    '20261121-120000-old', 'key', 'ask', 'c', 'facts', 's', 'e', '', 0, 0, '2026-11-21T12:00:00', 1.0,
    1, 1, 1, 0.5, 99, '["a"]', NULL, '{"exact":{"value":1.0,"passed":true,"reason":"same","error":null}}',
    '{"cost_usd":0.5}', '{"text":"yes"}'
);
"""
"""A file as version 1 made it: written down once, never changed."""


def old_file(path: Path) -> Path:
    with sqlite3.connect(path) as connection:
        connection.executescript(VERSION_1)
    connection.close()
    return path


def test_a_file_of_version_1_is_read_and_written_by_this_version(tmp_path: Path) -> None:
    store = open_store(old_file(tmp_path / "runs.db"))
    run = store.find("baseline")
    assert (run.id, run.trials, run.info) == ("20261121-120000-old", 1, {"a": 1})
    (trial,) = store.trials(run.id)
    assert trial.answer is not None
    assert (trial.answer.text, trial.passed, trial.tags) == ("yes", True, ("a",))
    assert store.answers(["ask"])["ask"].record == {"cost_usd": 0.5}
    store.append([Trial(run.id, "t", "e", "other", "2026", place=1)])
    assert len(list(store.trials(run.id))) == 2
    store.close()


def test_an_old_file_becomes_what_a_new_one_is(tmp_path: Path) -> None:
    """Whoever changes a table has to add the step that changes it in old files."""
    old, new = old_file(tmp_path / "old.db"), tmp_path / "new.db"
    for path in (old, new):
        open_store(path).close()
    assert _shape(f"sqlite:///{old}") == _shape(f"sqlite:///{new}")


def test_a_run_of_version_1_that_goes_on_says_what_it_cost(url: str) -> None:
    """On both kinds, with rows that were written before the columns were there."""
    store = open_store(url)
    run = store.create(Run("r", "r", "d", "stopped", datetime(2026, 1, 1, tzinfo=UTC)))
    record = {"cost_usd": "0.5", "wasted_usd": "0"}
    failed = Trial(run.id, "s", "e", "k", "", record=record, error=Failure("reset", "it broke"))
    store.append([failed])
    store.close()
    _take_back_to_version_1(url)
    again = open_store(url)
    again.append([replace(failed, record={**record, "cost_usd": "2"}, error=None)])
    assert again.replaced(run.id) == {("", "e"): Decimal("0.5")}
    again.close()


def test_a_run_of_version_1_says_what_its_judges_were_paid(url: str) -> None:
    """Of rows of more than one piece, and of scores whose JSON orjson has no word for."""
    store = open_store(url)
    run = store.create(Run("r", "r", "d", "stopped", datetime(2026, 1, 1, tzinfo=UTC)))
    score = Score(None, None, "half \ud800", "timeout", cost_usd=0.5)
    free, unknown = replace(score, cost_usd=0.0), replace(score, cost_usd=None, calls=1)
    count = tables.PIECE + 1
    rows = [
        Trial(run.id, f"s{n}", "e", f"k{n}", "", place=n, record={"id": n}, scores={"a": score, "b": free})
        for n in range(count)
    ]
    others = [
        Trial(run.id, "s", "e", "free", "", scores={"a": free}),
        Trial(run.id, "s", "e", "unknown", "", scores={"a": unknown, "b": score}),
        Trial(run.id, "s", "e", "unjudged", ""),
    ]
    store.append([*rows, *others])
    store.close()
    _take_back_to_version_1(url)
    again = open_store(url)
    assert sum(each.judging_usd for each in again.tallies(run.id, judging=True)) == 0.5 * (count + 1)
    again.append([replace(each, scores={"a": Score(1.0, True, "fine", cost_usd=0.5)}) for each in rows])
    assert again.replaced(run.id) == {("", "e"): Decimal("0.5") * count}, "each was judged twice"
    again.close()


def _take_back_to_version_1(url: str) -> None:
    for statement in (
        "DROP INDEX trials_replaced",
        "ALTER TABLE trials DROP COLUMN judging_usd",
        "ALTER TABLE trials DROP COLUMN replaced_usd",
        "ALTER TABLE trials DROP COLUMN known_usd",
        "UPDATE schema_version SET version = 1",
    ):
        _execute(url, statement)


def test_steps_are_taken_one_by_one_and_a_failing_one_leaves_nothing(url: str) -> None:
    """The table of steps is a parameter: two of them, the second of which fails at first."""
    open_store(url).close()
    broken, now = True, tables.VERSION

    def second(connection: Connection) -> None:
        connection.execute(text("ALTER TABLE runs ADD COLUMN note TEXT"))

    def third(connection: Connection) -> None:
        connection.execute(text("ALTER TABLE runs ADD COLUMN more TEXT"))
        if broken:
            connection.execute(text("ALTER TABLE runs ADD COLUMN more TEXT"))

    def step() -> int | None:
        with _connected(url) as connection:
            return tables.step_up(connection, steps={now + 1: second, now + 2: third}, target=now + 2)

    assert step() == now + 1
    with pytest.raises(Exception, match="more"):
        step()
    with _connected(url) as connection:
        assert tables.version_of(connection) == now + 1
        names = {column["name"] for column in inspect(connection).get_columns("runs")}
    assert "note" in names
    assert "more" not in names
    broken = False
    assert (step(), step()) == (now + 2, None)


@pytest.mark.parametrize("version", ["0", "-1", "'abc'", "2.5"])
def test_a_schema_that_was_never_is_damage(tmp_path: Path, version: str) -> None:
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    open_store(url).close()
    _execute(url, f"UPDATE schema_version SET version = {version}")
    assert f"the store {tmp_path / 'runs.db'} is damaged" in refused(url).message


def test_a_schema_of_no_version_is_damage(store: Store, url: str) -> None:
    _execute(url, "DELETE FROM schema_version")
    assert "is damaged: its schema_version" in refused(url).message


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE runs SET info = '[1]'",
        "UPDATE runs SET info = '{'",
        "UPDATE runs SET started_at = 'garbage'",
        "UPDATE runs SET started_at = '2026-11-21'",
        "UPDATE runs SET ended_at = ''",
        "UPDATE trials SET scores = '[1]'",
        "UPDATE trials SET scores = '{\"exact\": 1}'",
        'UPDATE trials SET scores = \'{"exact": {"value": 1}}\'',
        "UPDATE trials SET scores = '{'",
        "UPDATE trials SET tags = '5'",
        "UPDATE trials SET record = '[1]'",
        "UPDATE trials SET answer = '[1]'",
        "UPDATE trials SET error = '[1]'",
    ],
)
def test_what_cannot_be_read_back_is_damage(store: Store, url: str, change: str) -> None:
    run = store.create(Run("r", "r", "d", "running", datetime.now(UTC)))
    score = Score.verdict(True, "fine")
    store.append([Trial(run.id, "s", "e", "k", "now", answer=Answer("yes"), scores={"exact": score})])
    _execute(url, change.replace(":", r"\:"))
    with pytest.raises(ConfigError, match=r"the store .* is damaged: ") as caught:
        list(store.trials(store.find("r").id))
    assert "--store" in caught.value.hint


@pytest.mark.parametrize(
    "change", ["planned = 'many'", "info = ' ' || replace(hex(zeroblob(50000)), '00', '[')"]
)
def test_a_file_holds_what_its_columns_do_not_allow(tmp_path: Path, change: str) -> None:
    store = open_file(tmp_path / "runs.db")
    store.create(Run("r", "r", "d", "running", datetime.now(UTC)))
    _execute(f"sqlite:///{tmp_path / 'runs.db'}", f"UPDATE runs SET {change}")
    with pytest.raises(ConfigError, match="is damaged: its table of runs"):
        store.runs()


def test_rows_that_a_step_cannot_read_are_damage(tmp_path: Path) -> None:
    path = old_file(tmp_path / "runs.db")
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE trials SET scores = '{\"cost_usd\"'")
    connection.close()
    assert "is damaged: its rows" in refused(path).message


def test_deleted_answers_are_not_left_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    store = open_store(path)
    for name in ("goes", "stays"):
        run = store.create(Run(name, name, "d", "complete", datetime(2026, 1, 1, tzinfo=UTC)))
        store.append(
            [Trial(run.id, f"s{n}", "e", f"k{n}", "", answer=Answer(f"it {name} {n}")) for n in range(99)]
        )
    store.delete("goes")
    store.close()
    held = b"".join(file.read_bytes() for file in tmp_path.iterdir() if file.is_file())
    assert b"it stays 98" in held
    assert b"it goes" not in held


def test_queries_use_their_indexes(tmp_path: Path) -> None:
    """SQLite uses a partial index only where the question repeats its condition."""
    store = open_file(tmp_path / "runs.db")
    store.create(Run("r", "r", "d", "running", datetime.now(UTC)))
    asked: list[str] = []
    store._engine.dialect.do_execute = _spying(store._engine.dialect.do_execute, asked)  # type: ignore[method-assign]
    store.answers(["a"])
    list(store.trials("r"))
    list(store.trials("r", failing=True))
    store.done("r")
    store.replaced("r")
    store.measured("r", ["k"])
    store.close()
    with sqlite3.connect(tmp_path / "runs.db") as connection:
        for statement in asked:
            if "FROM trials" in statement:
                marks = ["x"] * statement.count("?")
                plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", marks).fetchall()
                assert all("SCAN" not in detail for *_, detail in plan), (statement, plan)
    connection.close()
    assert len(asked) >= 6


def _spying(execute: Any, asked: list[str]) -> Any:
    def spy(cursor: Any, statement: str, *rest: Any) -> None:
        asked.append(statement)
        execute(cursor, statement, *rest)

    return spy


# --- beneath -----------------------------------------------------------------------------------------------


@contextmanager
def _connected(url: str) -> Iterator[Connection]:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    if engine.dialect.name == "sqlite":  # whose driver would otherwise commit before DDL
        event.listen(engine, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def _execute(url: str, statement: str) -> None:
    with _connected(url) as connection:
        connection.execute(text(statement))


def _shape(url: str) -> dict[str, Any]:
    """Tables, columns, keys and indexes, as far as they matter."""
    with _connected(url) as connection:
        seen = inspect(connection)
        shape: dict[str, Any] = {}
        for table in sorted(seen.get_table_names()):
            given = seen.get_columns(table)
            shape[table] = {
                "columns": [(column["name"], str(column["type"]), column["nullable"]) for column in given],
                "key": seen.get_pk_constraint(table)["constrained_columns"],
                "indexes": sorted(
                    (index["name"], index["column_names"]) for index in seen.get_indexes(table)
                ),
                "foreign": [each["options"] for each in seen.get_foreign_keys(table)],
            }
        return shape


def test_a_run_survives_closing(url: str) -> None:
    first = open_store(url)
    run = first.create(Run("r", "r", "d", "running", datetime(2026, 1, 1, tzinfo=UTC)))
    first.close()
    second = open_store(url)
    assert second.find("r") == run
    second.close()
