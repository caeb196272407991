"""The built-in golden sets: where they are, what their cards say, and that nobody changed them unnoticed.

`python -m evalkit.datasets` checks the sets against `manifest.json`; with `--write`, a maintainer who changed
a set on purpose (and raised its card's version) writes the manifest again.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evalkit.meant import did_you_mean
from guardrails.errors import ConfigError

MANIFEST = "manifest.json"
SAMPLES = "samples.jsonl"
CARD = "CARD.md"


@dataclass(frozen=True, slots=True)
class Card:
    """What a set's CARD.md says at its top. `samples` counts them, `scorer` names the default judge."""

    name: str
    version: str
    licence: str
    language: str
    samples: int
    scorer: str
    purpose: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A set in the manifest: its version, its number of samples, the hashes of its two files."""

    version: str
    samples: int
    samples_sha256: str
    card_sha256: str


def folder() -> Path:
    """Where the sets are: in the installed package, or beside it in a checkout or an editable install."""
    here = Path(__file__).resolve().parent
    packaged = here / "_datasets"
    return packaged if packaged.is_dir() else here.parent / "datasets"


def names(root: Path | None = None) -> list[str]:
    """The names of the built-in sets, in order."""
    return sorted(file.parent.name for file in (root or folder()).glob(f"*/{SAMPLES}"))


def path(name: str, root: Path | None = None) -> Path:
    """The samples of a set, as a file for `evalkit.sample.load`. Raises `ConfigError` for an unknown name."""
    known = names(root)
    if name not in known:
        raise ConfigError(
            f"there is no built-in set {name[:40]!r}",
            hint=f"the built-in sets are {', '.join(known)}{did_you_mean(name, known)}"
            if known
            else "this installation has none",
        )
    return (root or folder()) / name / SAMPLES


def card(name: str, root: Path | None = None) -> Card:
    """The top of a set's card. Raises `ConfigError` when it is missing or incomplete."""
    import yaml

    file = path(name, root).with_name(CARD)
    try:
        opening, front, _ = file.read_text(encoding="utf-8").split("---\n", 2)
        said = {} if opening.strip() else yaml.safe_load(front)
        return _card(said)
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = str(error) if type(error) is ValueError and "card" in str(error) else type(error).__name__
        raise ConfigError(
            f"the card of {name} cannot be read: {reason}",
            hint="CARD.md starts with ---, the fields name to purpose in YAML, and ---",
        ) from None


def _card(said: Any) -> Card:
    fields = said if isinstance(said, dict) else {}
    kinds = dict.fromkeys(Card.__annotations__, str) | {"samples": int}
    wrong = [name for name, kind in kinds.items() if type(fields.get(name)) is not kind]
    if wrong:
        raise ValueError(f"the card lacks or misspells {', '.join(wrong)}")
    return Card(**{name: fields[name] for name in kinds})


# --- the manifest ------------------------------------------------------------------------------------------


def check(root: Path | None = None) -> list[str]:
    """What does not agree between the sets, their cards and the manifest; empty when all does."""
    root = root or folder()
    try:
        manifest = json.loads((root / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return [f"{MANIFEST} cannot be read ({type(error).__name__})"]
    found = names(root)
    problems = [
        f"{name}: is in {MANIFEST}, and there is no such set" for name in manifest if name not in found
    ]
    for name in found:
        if name not in manifest:
            problems.append(f"{name}: is not in {MANIFEST}")
            continue
        problems += _differences(name, manifest[name], root)
    return problems


def _differences(name: str, listed: dict[str, Any], root: Path) -> list[str]:
    try:
        entry, says = _entry(name, root), card(name, root)
    except ConfigError as error:
        return [f"{name}: {error}"]
    problems = [
        f"{name}: {key} is {value}, {MANIFEST} says {listed.get(key)}"
        for key, value in asdict(entry).items()
        if listed.get(key) != value
    ]
    if says.name != name:
        problems.append(f"{name}: its card is that of {says.name}")
    if says.samples != entry.samples:
        problems.append(f"{name}: its card counts {says.samples} samples, the file has {entry.samples}")
    return problems


def _entry(name: str, root: Path) -> Entry:
    samples = path(name, root)
    raw = samples.read_bytes()
    return Entry(
        version=card(name, root).version,
        samples=sum(1 for line in raw.splitlines() if line.strip()),
        samples_sha256=hashlib.sha256(raw).hexdigest(),
        card_sha256=hashlib.sha256(samples.with_name(CARD).read_bytes()).hexdigest(),
    )


def write(root: Path | None = None) -> Path:
    """Write the manifest from the sets as they are. For maintainers."""
    root = root or folder()
    entries = {name: asdict(_entry(name, root)) for name in names(root)}
    file = root / MANIFEST
    file.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
    return file


def main(arguments: list[str], root: Path | None = None) -> int:
    """`python -m evalkit.datasets [--write]`: 0 when all agrees, 1 when not, 2 for another argument."""
    if arguments not in ([], ["--write"]):
        sys.stderr.write("usage: python -m evalkit.datasets [--write]\n")
        return 2
    if arguments:
        sys.stdout.write(f"wrote {write(root)}\n")
    problems = check(root)
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
