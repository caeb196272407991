"""What the lint finds in a golden set, what it leaves alone, and that it quotes nothing."""

from __future__ import annotations

import gc
import gzip
import json
import random
import tracemalloc
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer import Typer
from typer.testing import CliRunner

from evalkit import datasets
from evalkit.sets import command, corpus, grams, lint, overlap, texts
from evalkit.sets.lint import Report
from evalkit.sets.texts import leaks
from guardrails.errors import ConfigError
from guardrails.filters.detector import Finding
from guardrails.filters.pii import ENTITIES, Pii

VERSES = (
    "the quick brown fox jumps over the lazy dog while seven green turtles sleep under an old stone bridge "
    "near the quiet river that runs through our small town every single spring"
)


PII = Pii(entities=tuple(kind for kind in ENTITIES if kind != "URL")).detect


def linted(tmp_path: Path, rows: list[dict[str, Any]], **options: Any) -> Report:
    rows = [{"id": f"q{number}", **row} for number, row in enumerate(rows, start=1)]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return lint.lint("s.jsonl", tmp_path, **options)


def found(report: Report) -> list[tuple[str, str, str]]:
    return [(finding.level, finding.check, finding.place) for finding in report.findings]


def test_a_good_set_has_no_findings(tmp_path: Path) -> None:
    rows = [{"input": f"{word} is what?", "reference": "Seven"} for word in VERSES.split()[:20]]
    rows = [
        dict(row, reference=f"answer {n}") for n, row in enumerate({r["input"]: r for r in rows}.values())
    ]
    report = linted(tmp_path, rows)
    assert report.findings == []
    assert report.samples == len(rows)


def test_duplicates_and_contradictions(tmp_path: Path) -> None:
    report = linted(
        tmp_path,
        [
            {"input": "What is it?", "reference": "A cat"},
            {"input": "what  is it?", "reference": "a cat"},
            {"input": "What is it?", "reference": "A dog"},
            {"input": "What is it?", "reference": "A dog", "context": ["Other."]},
        ],
    )
    assert found(report) == [("error", "contradiction", "s.jsonl:3"), ("warning", "duplicate", "s.jsonl:2")]
    assert report.findings[0].said == "asks the same as s.jsonl:1 and has other references"


def test_a_question_is_the_same_in_any_form(tmp_path: Path) -> None:
    asked = "Which mountain is the tallest, says Ren\u00e9?"
    rows: list[dict[str, Any]] = [
        {"input": asked, "reference": "Everest"},
        {"messages": [{"role": "user", "content": asked}], "reference": "K2"},
        {"input": asked.replace("\u00e9", "e\u0301").replace("tall", "t\u200ball"), "reference": "everest"},
        {
            "messages": [{"role": "system", "content": "Of Europe."}, {"role": "user", "content": asked}],
            "reference": "Elbrus",
        },
    ]
    assert found(linted(tmp_path, rows)) == [
        ("error", "contradiction", "s.jsonl:2"),
        ("warning", "duplicate", "s.jsonl:3"),
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is x\u00b2?", "What is x2?"),
        ("Simplify 2\u2075", "Simplify 25"),
        ("What is 10\u207b\u00b3?", "What is 10\u22123?"),
        ("Is it \u211d?", "Is it R?"),
        ("Is \u2167 even?", "Is VIII even?"),
        ("Write \u00bd so", "Write 1\u20442 so"),
    ],
)
def test_a_power_or_a_sign_is_no_other_way_to_write_a_letter(tmp_path: Path, one: str, other: str) -> None:
    rows = [{"input": one, "reference": "a"}, {"input": other, "reference": "b"}]
    assert found(linted(tmp_path, rows)) == []
    assert texts.flat(one) != texts.flat(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("\uff32\uff25\uff2e\uff25\u3000\uff12\uff1f", "rene 2?"),
        ("\uff76\uff9e\uff70", "ガー"),
        ("Re\u0301n\u00ade", "r\u00e9ne"),
        ("STRASSE", "stra\u00dfe"),
    ],
)
def test_width_case_and_composition_are_folded(one: str, other: str) -> None:
    assert texts.flat(one) == texts.flat(other)


def test_every_character_of_another_width_is_folded() -> None:
    forms = ("<wide>", "<narrow>")
    every = {code for code in range(0x110000) if unicodedata.decomposition(chr(code)).startswith(forms)}
    assert texts._WIDTHS.keys() == every


@given(st.text())
def test_canonical_equivalents_are_the_same(text: str) -> None:
    assert texts.flat(text) == texts.flat(unicodedata.normalize("NFD", text))
    assert texts.flat(text) == texts.flat(unicodedata.normalize("NFC", text))


def test_the_same_words_may_ask_something_else(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(b"x")
    rows: list[dict[str, Any]] = [
        {"input": VERSES, "reference": "A cat", "attachments": ["a.png"]},
        {"input": VERSES, "reference": "A dog", "attachments": ["b.png"]},
        {"input": "Hello.", "user": {"goal": "get a refund for the lamp"}, "reference": "Refunded"},
        {"input": "Hello.", "user": {"goal": "cancel the contract"}, "reference": "Cancelled"},
    ]
    assert found(linted(tmp_path, rows)) == []
    rows += [{"input": "What?", "reference": "x"}, {"input": "What?"}]
    assert [check for _, check, _ in found(linted(tmp_path, rows))] == ["duplicate", "no_reference"]


def test_near_duplicates_are_told_once_each(tmp_path: Path) -> None:
    words = VERSES.split()
    changed = " ".join([*words[:-1], "winter"])
    rows = [
        {"input": text, "reference": "x"} for text in (VERSES, changed, VERSES.upper() + "!", "short one")
    ]
    report = linted(tmp_path, rows)
    assert found(report) == [
        ("warning", "near_duplicate", "s.jsonl:2"),
        ("warning", "near_duplicate", "s.jsonl:3"),
    ]
    assert report.findings[0].said.endswith("the same as s.jsonl:1")


def test_texts_without_spaces_are_compared_by_letters(tmp_path: Path) -> None:
    text = (
        "日本の首都はどこですか教えてくださいお願いいたします東京都庁の住所も知りたいですよろしくお願いします"
    )
    rows = [{"input": text, "reference": "x"}, {"input": text + "ね", "reference": "x"}]
    assert found(linted(tmp_path, rows)) == [("warning", "near_duplicate", "s.jsonl:2")]


def test_leaked_answers(tmp_path: Path) -> None:
    report = linted(
        tmp_path,
        [
            {"input": "Is Canberra the capital, by the way?", "reference": "Canberra"},
            {"input": "Name the capital.", "reference": "Canberra", "context": ["It is Canberra."]},
            {"input": "Which?\nA) Sydney\nB) Hobart", "reference": "Hobart"},
            {"input": "Add 1200 and 34.", "reference": "1200"},
            {"input": "Is anything there?", "reference": "thing"},
        ],
    )
    assert found(report) == [("warning", "leaked_answer", "s.jsonl:1")]
    assert "Canberra" not in report.findings[0].said


@pytest.mark.parametrize(
    ("reference", "prompt", "leaked"),
    [
        ("Zorkmopolis", "Wer? Zork\u200bmopolis ist.", True),
        ("Zork\u00admopolis", "Wer? Zorkmopolis ist.", True),
        ("cafe\u0301roma", "Is caf\u00e9roma good?", True),
        ("Quixotran", "Is it \uff31\uff35\uff29\uff38\uff2f\uff34\uff32\uff21\uff2e?", True),
        ("東京です", "日本の首都は東京です。首都はどこですか", True),
        ("東京", "日本の首都は東京です。首都はどこですか", True),
        ("กรุงเทพ", "เมืองหลวงคือกรุงเทพครับ", True),
        ("はい", "はいですかいいえですか", False),
        ("東", "東京はどこですか", False),
        ("Tokyo", "首都はTokyoです", True),
        ("Tokyo", "the Tokyoites", False),
        ("thing", "Is any\u200bthing there?", False),
    ],
)
def test_an_answer_is_seen_however_it_is_written(reference: str, prompt: str, leaked: bool) -> None:
    assert leaks(reference, prompt, {}) is leaked


@pytest.mark.parametrize(
    ("reference", "prompt", "leaked"),
    [
        ("上海", "北京和上海哪个更大？", False),
        ("北京", "北京和上海哪个更大？", False),
        ("上海", "是北京还是上海？", False),
        ("上海", "上海是大城市。北京和广州哪个更大？", True),
        ("上海", "北京和上海哪个更大？上海更大。", True),
        ("東京", "東京と大阪はどちらが大きいですか。", False),
        ("大阪", "東京または大阪を選んでください。", False),
        ("positive", "Is this review positive or negative?", False),
        ("lighter", "Is ice heavier or lighter than water?", False),
        ("Canberra", "Is it Canberra or not?", True),
        ("Canberra", "Is Canberra the capital, yes or no?", True),
        ("Canberra", "Canberra it is. Is that a town or a city?", True),
        ("Canberra", "Is the fork near Canberra?", True),
    ],
)
def test_a_choice_that_the_question_offers_is_no_leak(reference: str, prompt: str, leaked: bool) -> None:
    assert leaks(reference, prompt, {}) is leaked


def test_a_label_that_many_samples_share_is_no_leak(tmp_path: Path) -> None:
    rows = [
        {
            "input": f"Is this positive or negative? Film number {n}.",
            "reference": ("positive", "negative")[n % 2],
        }
        for n in range(8)
    ]
    assert "leaked_answer" not in {finding.check for finding in linted(tmp_path, rows).findings}


@given(st.text(max_size=40), st.text(max_size=20))
def test_a_leak_is_a_whole_word_and_looking_never_fails(prompt: str, reference: str) -> None:
    assert leaks(reference, prompt, {}) in (True, False)
    assert not leaks("answerword", f"{prompt}xanswerwordx", {})
    assert leaks("answerword", f"say: answerword. {prompt}", {}) == (not _listed(prompt))


def _listed(prompt: str) -> bool:
    return len(texts._OPTION.findall(f"say: answerword. {prompt}")) >= 2


def test_references_that_lack_or_are_too_long(tmp_path: Path) -> None:
    report = linted(
        tmp_path,
        [
            {"input": "one"},
            {"input": "two", "reference": "x" * 8_001},
            {"input": "three", "metadata": {"scorer": "refusal"}},
        ],
    )
    assert found(report) == [
        ("warning", "long_reference", "s.jsonl:2"),
        ("warning", "no_reference", "s.jsonl:1"),
        ("note", "no_reference", "s.jsonl:3"),
    ]
    assert found(linted(tmp_path, [{"input": "one"}])) == [("note", "no_reference", "")]


def test_unbalanced_tags(tmp_path: Path) -> None:
    rows = [{"input": f"number {n}", "reference": str(n), "tags": ["all"]} for n in range(12)]
    rows[0]["tags"] = ["all", *(f"t{n}" for n in range(10_000))]
    (finding,) = linted(tmp_path, rows).findings
    assert finding.check == "tags"
    assert "10,000 of 10,001 tags have fewer than 10 samples: t0 (1)" in finding.said
    assert "the largest, all, has 12" in finding.said
    assert len(finding.said) < 300


def spy(text: str) -> list[Finding]:
    at = text.find("SECRET")
    return [] if at < 0 else [Finding("PERSON", at, at + 6, 1.0, "spy")]


def test_a_tag_that_looks_like_several_is_told_once(tmp_path: Path) -> None:
    tags = ["a,b", "a,b", ["c;d", "a"], ["a", "b"]]
    rows = [{"input": f"number {n}", "reference": str(n), "tags": tag} for n, tag in enumerate(tags)]
    report = linted(tmp_path, rows)
    assert found(report) == [("warning", "tags", "s.jsonl:1"), ("warning", "tags", "s.jsonl:3")]
    said = "one tag is 'a,b': write several as a list, or in CSV with `|` between them"
    assert report.findings[0].said == said


def test_personal_data_by_kind_and_place(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"input": "SECRET?", "references": ["x", "SECRET"], "context": ["SECRET"], "turns": ["SECRET"]},
        {"messages": [{"role": "user", "content": "x" * 19_998 + "SECRET"}], "reference": "y"},
    ]
    report = linted(tmp_path, rows, detect=spy)
    said = [(finding.place, finding.said) for finding in report.findings if finding.check == "pii"]
    assert said == [
        ("s.jsonl:1", "PERSON in input"),
        ("s.jsonl:1", "PERSON in references[1]"),
        ("s.jsonl:1", "PERSON in context[0]"),
        ("s.jsonl:1", "PERSON in turns[0]"),
        ("s.jsonl:2", "PERSON in messages[0]"),
    ]


def test_personal_data_in_metadata(tmp_path: Path) -> None:
    deep: dict[str, Any] = {
        "from": {"mail": ["SECRET", "is SECRET"]},
        "of": {"SECRET x": 1, "y z": "is SECRET", "秘密": "他是SECRET"},
        "n": 3,
    }
    report = linted(tmp_path, [{"input": "x", "reference": "y", "metadata": deep}], detect=spy)
    assert [finding.said for finding in report.findings] == [
        "PERSON in metadata.from.mail[1]",
        "PERSON in a name in metadata.of",
        "PERSON in metadata.of.(2)",
        "PERSON in metadata.of.秘密",
    ]
    report = linted(tmp_path, [{"input": "SECRET", "reference": "y", "metadata": deep}], detect=spy)
    assert [finding.said for finding in report.findings] == ["PERSON in input"]


METADATA = {
    "created": "2024-05-01T10:00:00Z",
    "day": "on 2024-05-01",
    "doc_id": "550e8400-e29b-41d4-a716-446655440000",
    "version": "1.2.3.4",
    "note": "since version 1.2.3.4, or 350000 of them",
    "commit": "0674152",
    "timestamp": "1714550400",
    "sha": "d41d8cd98f00b204e9800998ecf8427e",
    "isbn": "978-3-16-148410-0",
    "doc-id": "doc-17",
}


def test_ids_and_dates_in_metadata_are_no_personal_data(tmp_path: Path) -> None:
    rows = [{"input": "What is it?", "reference": "y", "metadata": METADATA}]
    assert found(linted(tmp_path, rows, detect=PII)) == []


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("jane.doe@example.com", "EMAIL_ADDRESS"),
        ("mailto:jane.doe@example.com", "EMAIL_ADDRESS"),
        ("4111111111111111", "CREDIT_CARD"),
        ("4111-1111-1111-1111", "CREDIT_CARD"),
        ("DE89370400440532013000", "IBAN_CODE"),
        ("GB29-NWBK-6016-1331-9268-19", "IBAN_CODE"),
        ("NO9386011117947", "IBAN_CODE"),
        ("reach her at +49 30 901820", "PHONE_NUMBER"),
        ("her phone is 2125550123", "PHONE_NUMBER"),
        ("her ssn is 536-90-4399", "US_SSN"),
    ],
)
def test_what_proves_itself_in_metadata_is_told(tmp_path: Path, value: str, kind: str) -> None:
    rows = [{"input": "What is it?", "reference": "y", "metadata": {**METADATA, "by": value}}]
    said = [finding.said for finding in linted(tmp_path, rows, detect=PII).findings]
    assert f"{kind} in metadata.by" in said


def test_most_metadata_is_not_looked_at_closely(tmp_path: Path) -> None:
    seen: list[str] = []

    def detect(text: str) -> list[Finding]:
        seen.append(text)
        return []

    linted(tmp_path, [{"input": "x", "reference": "y", "metadata": dict(METADATA)}], detect=detect)
    assert seen == ["x", "y", METADATA["day"], METADATA["note"], METADATA["isbn"]]


@pytest.mark.parametrize(("name", "most"), [("support-desk", 57), ("small-code", 3), ("short-facts", 1)])
def test_metadata_adds_no_findings_to_the_built_in_sets(name: str, most: int) -> None:
    assert lint.lint(name, detect=PII).count("warning") <= most


def test_no_finding_quotes_a_text(tmp_path: Path) -> None:
    rows = [
        {
            "input": f"zqxinput {VERSES} zqxanswer jane@zqx.example",
            "reference": "zqxanswer",
            "context": ["zqx"],
        },
        {"input": f"zqxinput {VERSES} zqxanswer jane@zqx.example", "reference": "zqxother"},
        {"input": f"zqxinput {VERSES} jane@zqx.example"},
    ]
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(VERSES, encoding="utf-8")
    report = linted(tmp_path, rows, detect=spy, against=[corpus])
    assert len(report.findings) > 4
    assert "zqx" not in json.dumps(report.as_dict())


def test_a_set_that_does_not_load_is_told_whole(tmp_path: Path) -> None:
    (tmp_path / "s.jsonl").write_text('{"id": "a"}\n{"id": "b", "input": "x", "reference": ""}\n', "utf-8")
    report = lint.lint("s.jsonl", tmp_path)
    assert found(report) == [("error", "unusable", "s.jsonl:1"), ("error", "unusable", "s.jsonl:2")]
    assert report.findings[1].said.startswith("reference[0]: must not be blank: leave it out")
    with pytest.raises(ConfigError, match="no such file"):
        lint.lint("t.jsonl", tmp_path)


@pytest.mark.parametrize("name", datasets.names())
def test_the_built_in_sets_have_no_errors(name: str) -> None:
    assert lint.lint(name).count("error") == 0


# --- overlap -----------------------------------------------------------------------------------------------


def corpus_of(tmp_path: Path, name: str, content: str) -> Path:
    file = tmp_path / name
    raw = content.encode()
    file.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    return file


@pytest.mark.parametrize("name", ["c.txt", "c.txt.gz", "c.jsonl", "c.jsonl.gz"])
def test_overlap_with_a_corpus(tmp_path: Path, name: str) -> None:
    words = VERSES.split()
    rows = [
        {"input": VERSES, "reference": "x"},
        {"input": " ".join(words[:13]).upper() + "?!", "reference": "y"},
        {"input": " ".join(words[:12]) + " otherwise", "reference": "z"},
        {"input": "too short to say", "reference": "x"},
        {"input": " ".join(words[14:22]), "reference": "x"},
    ]
    text = "first line\nThe quick, brown fox jumps -- over the lazy dog\nwhile seven green turtles sleep"
    content = text + "\n" if ".txt" in name else json.dumps({"meta": 3, "deep": [{"text": text}]}) + "\n"
    report = linted(tmp_path, rows, against=[corpus_of(tmp_path, name, content)])
    overlaps = [finding for finding in report.findings if finding.check == "overlap"]
    assert [finding.place for finding in overlaps] == ["s.jsonl:1", "s.jsonl:2"]
    line = 2 if ".txt" in name else 1
    assert overlaps[1].said == (
        f"1 of 1 runs of words stand in the corpus, first at {tmp_path / name}:{line}"
    )
    assert report.corpus is not None
    assert report.corpus["samples_compared"] == 4
    assert report.corpus["samples_too_short"] == 1
    assert report.corpus["samples_overlapping"] == 2
    assert report.corpus["documents"] == 1
    assert report.corpus["words"] == 16


def test_a_text_of_8_to_12_words_is_looked_for_whole(tmp_path: Path) -> None:
    text = " ".join(VERSES.split()[:8])
    report = linted(
        tmp_path, [{"input": text}, {"input": text[4:]}], against=[corpus_of(tmp_path, "c.txt", VERSES)]
    )
    assert [finding.place for finding in report.findings if finding.check == "overlap"] == ["s.jsonl:1"]


def test_no_run_goes_on_from_one_document_to_the_next(tmp_path: Path) -> None:
    words = VERSES.split()
    halves = [{"text": " ".join(words[:7])}, {"text": " ".join(words[7:13])}]
    corpus = corpus_of(tmp_path, "c.jsonl", "".join(json.dumps(half) + "\n" for half in halves))
    report = linted(tmp_path, [{"input": " ".join(words[:13])}], against=[corpus])
    assert report.corpus is not None
    assert report.corpus["samples_overlapping"] == 0


def test_what_many_samples_share_is_boilerplate(tmp_path: Path) -> None:
    rows = [{"input": f"{VERSES} {n}"} for n in range(11)]
    corpus = corpus_of(tmp_path, "c.txt", VERSES)
    report = linted(tmp_path, rows, against=[corpus])
    assert report.corpus is not None
    assert report.corpus["samples_overlapping"] == 0
    assert linted(tmp_path, rows[:10], against=[corpus]).corpus["samples_overlapping"] == 10  # type: ignore[index]


def test_runs_are_found_across_pieces_of_a_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "_WORDS", 20)
    words = VERSES.split()
    numbers = random.Random(1)
    filler = [" ".join(numbers.choices(words, k=numbers.randrange(1, 9))) for _ in range(200)]
    lines = [*filler, " ".join(words[:6]), " ".join(words[6:13]), *filler]
    corpus = corpus_of(tmp_path, "c.txt", "\n".join(lines))
    report = linted(tmp_path, [{"input": " ".join(words[:13])}], against=[corpus])
    (finding,) = [finding for finding in report.findings if finding.check == "overlap"]
    assert finding.said.endswith("c.txt:201")
    assert report.corpus is not None
    assert report.corpus["words"] == sum(len(line.split()) for line in lines)


def test_a_corpus_is_a_folder_too_and_a_wrong_one_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    (folder / "deep").mkdir(parents=True)
    with pytest.raises(ConfigError, match="holds no corpus"):
        linted(tmp_path, [{"input": VERSES}], against=[folder])
    (folder / "deep" / "a.md").write_text(VERSES, encoding="utf-8")
    report = linted(tmp_path, [{"input": VERSES}], against=[folder])
    assert [finding.check for finding in report.findings] == ["overlap", "no_reference"]
    with pytest.raises(ConfigError, match="does not exist"):
        linted(tmp_path, [{"input": VERSES}], against=[tmp_path / "nowhere"])
    (folder / "bad.jsonl.gz").write_bytes(b"nonsense")
    with pytest.raises(ConfigError, match="cannot be read"):
        linted(tmp_path, [{"input": VERSES}], against=[folder])


def corpus_findings(report: Report) -> list[tuple[str, str, str]]:
    return [
        (finding.level, finding.place, finding.said)
        for finding in report.findings
        if finding.check == "corpus"
    ]


def test_what_is_not_read_of_a_corpus_is_told(tmp_path: Path) -> None:
    good = json.dumps({"text": VERSES})
    rows = corpus_of(tmp_path, "c.jsonl", f"\ufeff{good}\n{{bad\n\n{good[:-3]}\n{good}\n")
    plain = tmp_path / "d.txt"
    plain.write_bytes(b"fine\ncaf\xe9 " + VERSES.encode() + b"\n\0binary\nfine\n\xe9\xe8\xe9\n")
    report = linted(tmp_path, [{"input": VERSES, "reference": "x"}], against=[rows, plain])
    assert corpus_findings(report) == [
        (
            "warning",
            f"{rows}:2",
            "is no JSON: compared as it stands, with its escapes; the file has 2 such lines",
        ),
        (
            "warning",
            f"{plain}:3",
            (
                "is no text in UTF-8 (but in UTF-16, or no text at all): the line was left out; "
                "the file has 2 such lines"
            ),
        ),
        ("warning", f"{plain}:2", "holds bytes that are not UTF-8: words with them cannot be found"),
    ]
    assert report.corpus is not None
    assert report.corpus["samples_overlapping"] == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.txt", VERSES.encode("utf-16")),
        ("c.jsonl", b"{bad\n[worse\n"),
        ("c.md", b"\xff\xfe\xe9\n\xe9\xe8\n"),
    ],
)
def test_a_file_of_which_nothing_could_be_read_is_an_error(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    report = linted(tmp_path, [{"input": VERSES, "reference": "x"}], against=[tmp_path / name])
    first, second = corpus_findings(report)
    assert first == ("error", str(tmp_path / name), "not one line of it could be read")
    assert second[:2] == ("warning", f"{tmp_path / name}:1")
    code, _ = run(str(tmp_path / "s.jsonl"), "--no-pii", "--against", str(tmp_path / name))
    assert code == 1


@pytest.mark.parametrize("most", range(1, 9))
def test_a_character_across_two_pieces_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(corpus, "_PIECE", most)
    text = "größer 東京\n😀 x\n"
    health = corpus.Health(corpus_of(tmp_path, "c.txt", text))
    assert "".join(text for _, text in corpus._lines(health, most)) == text
    assert list(health.said()) == []


# --- the arithmetic ----------------------------------------------------------------------------------------

TEXTS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=30)


@given(TEXTS, st.integers(1, 6))
def test_runs_are_equal_when_their_words_are(letters: list[str], n: int) -> None:
    made = grams.grams(grams.words(" ".join(letters)), n).tolist()
    plain = [tuple(letters[at : at + n]) for at in range(len(letters) - n + 1)]
    assert len(made) == len(plain)
    assert len(set(plain)) == len(set(made)) == len(set(zip(plain, made, strict=True)))


@given(TEXTS, TEXTS)
def test_similarity_is_jaccards(one: list[str], other: list[str]) -> None:
    def runs(letters: list[str]) -> set[tuple[str, ...]]:
        n = min(grams.RUN, len(letters))
        return {tuple(letters[at : at + n]) for at in range(len(letters) - n + 1)}

    first, second = grams.shingles(" ".join(one)), grams.shingles(" ".join(other))
    if len(one) >= grams.RUN <= len(other):
        expected = len(runs(one) & runs(other)) / len(runs(one) | runs(other))
        assert grams.similarity(first, second) == pytest.approx(expected)
    assert grams.similarity(first, first) == 1.0


def test_texts_meet_in_a_band_as_often_as_the_formula_says() -> None:
    numbers = np.random.default_rng(7)

    def met(share: float) -> float:
        hits = 0
        for _ in range(400):
            both = round(200 * share)
            pool = numbers.integers(0, 2**63, 400 - both, dtype=np.uint64)
            one, other = pool[:200], np.concatenate([pool[:both], pool[200:]])
            hits += bool((grams.bands(one) == grams.bands(other)).any())
        return hits / 400

    # 200 runs each, so that sharing 178 is a similarity of 178/222 = 0.80 and sharing 80 one of 0.25
    assert met(178 / 200) > 0.97
    assert met(80 / 200) < 0.05


def test_pairs_come_with_the_earlier_row_first() -> None:
    table = np.array([[1, 9], [2, 8], [1, 7], [3, 8], [1, 6]], dtype=np.uint64)
    assert sorted(grams.candidates(table)) == [(0, 2), (0, 4), (1, 3), (2, 4)]


# --- the command -------------------------------------------------------------------------------------------


def run(*arguments: str) -> tuple[int, str]:
    app = Typer()
    app.command()(command.lint)
    done = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def test_the_command_says_what_it_found_and_exits_by_it(tmp_path: Path) -> None:
    rows = [
        {"input": "Is it Canberra [or not]?", "reference": "Canberra"},
        {"input": "What?", "reference": "x"},
    ]
    linted(tmp_path, rows)
    file = str(tmp_path / "s.jsonl")
    code, said = run(file, "--no-pii")
    assert code == 0
    assert "leaked_answer" in said
    assert "s.jsonl:1" in said
    assert "s: 2 samples, 0 errors, 1 warnings, 0 notes" in said
    assert run(file, "--no-pii", "--strict")[0] == 1
    linted(tmp_path, [*rows, {"input": "What?", "reference": "y"}])
    code, said = run(file, "--no-pii", "--json")
    assert code == 1
    assert json.loads(said)["counts"] == {"error:contradiction": 1, "warning:leaked_answer": 1}
    corpus = corpus_of(tmp_path, "c.txt", VERSES)
    assert "overlap: 0 of 0 samples with 32 words" in run(file, "--no-pii", "--against", str(corpus))[1]


def test_the_command_finds_personal_data(tmp_path: Path) -> None:
    linted(tmp_path, [{"input": "Mail jane.doe@example.com now.", "reference": "x"}])
    code, said = run(str(tmp_path / "s.jsonl"))
    assert code == 0
    assert "EMAIL_ADDRESS in input" in said
    assert "jane" not in said


def test_the_command_reads_foreign_rows(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("q,a\nIs it Canberra?,Canberra\n", encoding="utf-8")
    file = str(tmp_path / "s.csv")
    code, said = run(file, "--no-pii", "--field", "input=q", "--field", "reference={{ a }}")
    assert code == 0
    assert "leaked_answer  s.csv:2" in said
    code, said = run(file, "--no-pii", "--field", "input=nosuch")
    assert code == 1
    assert "s.csv:2" in said
    with pytest.raises(ConfigError, match="has no `=`"):
        command._rules(["input"])


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    def peak(lines: int) -> int:
        corpus = corpus_of(tmp_path, f"{lines}.txt", f"{VERSES} and more\n" * lines)
        gc.collect()
        tracemalloc.start()
        linted(tmp_path, [{"input": VERSES}], against=[corpus])
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(10)
    assert peak(12_000) < 1.1 * peak(4_000)


def test_only_the_first_findings_are_shown(tmp_path: Path) -> None:
    linted(tmp_path, [{"input": "Same?", "reference": "x"}] * 300)
    code, said = run(str(tmp_path / "s.jsonl"), "--no-pii")
    assert code == 0
    assert said.count("asks the same as") == command.SHOWN
    assert "… 279 more: warning duplicate" in said
    report = lint.lint("s.jsonl", tmp_path)
    assert (len(report.findings), report.count("warning")) == (lint.KEPT, 299)
