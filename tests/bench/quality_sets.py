"""The labelled sets that detectors are measured on, as samples: what no model was trained on, and no more.

The data comes from the folder that `EVALKIT_SHARED` names, else `../shared`. Of sets that are trained on,
only the part that `training/` holds out is here, by the training scripts' own functions. Which texts helped
to choose a threshold is written into the sample (`chose`): rates at that threshold are not honest there.
"""

from __future__ import annotations

import gzip
import hashlib
import heapq
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from evalkit.sample import Sample

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "training"))
import jailbreak as jailbreak_training  # noqa: E402
import jailbreak_card  # noqa: E402
import linear  # noqa: E402
import toxicity as toxicity_training  # noqa: E402
from linear import Row  # noqa: E402

PII = ("presidio_synth_v2", "sec_filings_fin5", "btc_h", "wnut17_dev", "wikigold")
KINDS = {  # the sets' words for ours; what is not here is a name, a place, an age: no pattern finds it
    "CREDIT_CARD": "CREDIT_CARD",
    "DATE_TIME": "DATE_TIME",
    "DOMAIN_NAME": "URL",
    "EMAIL_ADDRESS": "EMAIL_ADDRESS",
    "IBAN_CODE": "IBAN_CODE",
    "IP_ADDRESS": "IP_ADDRESS",
    "PHONE_NUMBER": "PHONE_NUMBER",
    "US_DRIVER_LICENSE": "US_DRIVER_LICENSE",
    "US_SSN": "US_SSN",
}
TOXIC = (
    *(name for name in toxicity_training.TOXIC if name != toxicity_training.WORDS),
    "hatecheck",
    "hatemoji_check",
)
ATTACKS = ("deepset_test", "bipia_test", "piguard_valid")
WILD = "wild prompts, unseen clusters"
HARMLESS = (*jailbreak_training.BENIGN, "arena_hard_benign", "hard-benign", "harmful_direct_requests")


def lines(path: str) -> Iterator[dict[str, Any]]:
    """The rows of `data/<path>.jsonl.gz`, one at a time."""
    with gzip.open(linear.shared() / "data" / f"{path}.jsonl.gz", "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def pii(name: str, limit: int | None) -> list[Sample]:
    """Texts with their places."""
    made = (_sample(n, row["text"], places=row["spans"]) for n, row in enumerate(lines(f"pii/{name}"), 1))
    return _some(made, limit)


def secrets(limit: int | None) -> list[Sample]:
    """The literal cases of gitleaks' own tests."""
    rows = enumerate(lines("secrets/gitleaks_literal_cases"), 1)
    return _some((_sample(n, row["text"], label=row["label"]) for n, row in rows), limit)


def toxic(name: str, limit: int | None) -> list[Sample]:
    """The set's dev part; all of it where nothing was trained on it."""
    group = "pair" if name == "paradetox" else ""
    return _rows(_read(f"toxicity/{name}", group), limit, every=name in ("hatecheck", "hatemoji_check"))


def attacks(name: str, limit: int | None) -> list[Sample]:
    """Attacks and, in the same set, harmless texts; all of it is only for measuring."""
    return _rows(_read(f"jailbreak/{name}"), limit, every=True)


def wild(*, fuzz: bool = False) -> list[Sample]:
    """Jailbreaks from the wild that share little with any that was trained on. Few, so there is no limit.

    With `fuzz`, GPTFuzz's templates instead: three texts of each, and so far from independent.
    """
    rows = [row for name in jailbreak_training.WILD for row in linear.rows(f"jailbreak/{name}")]
    away = jailbreak_training.held_out_clusters([row.text for row in rows])
    unseen = (row for row, held in zip(rows, away, strict=True) if held)
    return _rows((row for row in unseen if row.source.startswith("gptfuzz") == fuzz), None, every=True)


def harmless(name: str, limit: int | None) -> list[Sample]:
    """Benign texts; requests for harm are benign here, being neither toxic nor attacks on the application."""
    if name == "hard-benign":
        return _rows(jailbreak_training.hard_benign(), limit, every=True)
    return _rows(_read(f"jailbreak/{name}"), limit, every=name not in jailbreak_training.BENIGN)


def _read(path: str, group: str = "") -> Iterator[Row]:
    source = path.rsplit("/", 1)[-1]
    for row in lines(path):
        key = str(row[group]) if group else " ".join(linear.words(row["text"]))
        yield Row(source, row["text"], int(row["label"]), key, {})


def _rows(rows: Iterable[Row], limit: int | None, *, every: bool) -> list[Sample]:
    kept = (row for row in rows if every or linear.held_out(row))
    return _some(
        (_sample(n, row.text, label=row.label, chose=_chose(row)) for n, row in enumerate(kept, 1)), limit
    )


def _chose(row: Row) -> list[str]:
    """Whose threshold the text took part in choosing."""
    general = row.source in jailbreak_training.BENIGN
    trained = general or row.source in toxicity_training.TOXIC
    arena = row.source == "arena_hard_benign" and jailbreak_card.chooses(row)
    hard = arena or row.source == "hard-benign"
    by = {"toxicity": trained and toxicity_training.chooses(row), "jailbreak": general or hard}
    return [name for name, took_part in by.items() if took_part]


def _sample(number: int, text: str, **metadata: Any) -> Sample:
    return Sample(str(number), text, metadata=metadata)


def _some(samples: Iterable[Sample], limit: int | None) -> list[Sample]:
    """At most `limit`, by a hash of their texts, so that the start of a file has no say."""
    if limit is None:
        return list(samples)
    picked = heapq.nsmallest(limit, samples, key=_digest)
    return sorted(picked, key=lambda sample: int(sample.id))


def _digest(sample: Sample) -> bytes:
    return hashlib.sha256((sample.input or "").encode("utf-8", "surrogatepass")).digest()
