"""The table of attacks: what was tried in which sandbox, and whether it was contained.

    python tests/judges/sandbox_report.py [--json] [SANDBOX ...]

Exit code 1 when an attack was not contained or left a pool unhealthy, or when no sandbox works here.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[2]), str(HERE.parent)]

from sandbox_attacks import ATTACKS, Attempt, attempt, battlefield  # noqa: E402

from judges.sandbox import Pool  # noqa: E402
from judges.sandbox.choose import SANDBOXES, UNSAFE, tried  # noqa: E402


async def attacked(name: str, workers: int = 2) -> list[Attempt]:
    """Every attack, one after another on one pool, as samples of a run would come."""
    with battlefield() as field:
        async with Pool(SANDBOXES[name], workers=workers) as pool:
            return [await attempt(pool, field, attack) for attack in ATTACKS]


async def report(names: list[str]) -> dict[str, list[Attempt]]:
    """The attempts in each of these sandboxes that works here; says which do not, and why."""
    found = {}
    for name in names or [each for each in SANDBOXES if each != UNSAFE]:
        finding = await tried(SANDBOXES[name])
        if finding.works:
            found[name] = await attacked(name)
        else:
            print(f"{name}: not tried: {finding.reason}", file=sys.stderr)
    return found


def printed(name: str, attempts: list[Attempt]) -> None:
    title = SANDBOXES[name].title
    print(
        f"\n{title}, as user {os.geteuid()}, Linux {platform.release()}, Python {platform.python_version()}\n"
    )
    for each in attempts:
        sign = "contained" if each.contained else "NOT CONTAINED"
        health = "" if each.healthy else "  AND THE POOL IS UNWELL"
        print(f"{each.attack.group:<10} {each.attack.name:<52} {each.result.kind:<11} {sign}{health}")
    groups = Counter(each.attack.group for each in attempts if each.contained)
    good = sum(each.contained and each.healthy for each in attempts)
    counts = ", ".join(f"{group} {count}" for group, count in groups.items())
    print(f"\n{good} of {len(attempts)} contained, each followed by a right and a wrong program ({counts})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("sandboxes", nargs="*", metavar="SANDBOX")
    given = parser.parse_args()
    found = asyncio.run(report(given.sandboxes))
    if given.json:
        plain = {
            name: [[each.attack.name, each.result.kind, each.contained, each.healthy] for each in attempts]
            for name, attempts in found.items()
        }
        print(json.dumps({"uid": os.geteuid(), "sandboxes": plain}))
    else:
        for name, attempts in found.items():
            printed(name, attempts)
    sound = all(each.contained and each.healthy for attempts in found.values() for each in attempts)
    sys.exit(0 if found and sound else 1)


if __name__ == "__main__":
    main()
