"""CPU per stream of 100 events: ours, with a record made for every call, beside other clients in one run.

    python tests/bench/call_path.py [--seconds 3] [--kinds httpx-aio-orjson,openai,litellm] [--conc 1,64,256]

The mock server and the peers' clients are the scripts in `$EVALKIT_SHARED/peers/call_path` (or
`../shared/peers/call_path`). A peer whose package is not installed is left out and named. Each cell is a
process of its own; `cpu` is user + system time of the client process per stream.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve()
SHARED = Path(os.environ.get("EVALKIT_SHARED") or HERE.parents[3] / "shared")
PEERS = SHARED / "peers" / "call_path"
KINDS = "aiohttp-orjson,httpx-aio-orjson,httpx2-orjson,openai,litellm"


async def ours(mode: str, concurrency: int, seconds: float, port: int) -> dict[str, object]:
    """The same measurement as the peers' script makes, for our client."""
    import guardrails
    from guardrails import Call, Delta, Request

    records = []
    segment = "paced" if mode.startswith("paced") else "burst"
    llm = guardrails.endpoint(
        f"http://127.0.0.1:{port}/{segment}/v1", model="gpt-4o-mini", key="x", sinks=(records.append,)
    )
    request = Request.of("Say token a hundred times, please. " * 4)
    bad = 0

    async def one() -> None:
        nonlocal bad
        tokens = 0
        async with llm(Call(request)) as stream:
            async for event in stream:
                if type(event) is Delta and event.text:
                    tokens += 1
        bad += tokens != 100

    async def worker(until: float) -> int:
        done = 0
        while time.perf_counter() < until:
            await one()
            done += 1
        return done

    async def run(span: float) -> int:
        until = time.perf_counter() + span
        return sum(await asyncio.gather(*(worker(until) for _ in range(concurrency))))

    await run(0.6)
    records.clear()
    gc.collect()
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    done = await run(seconds)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert len(records) == done, "a record for every call"
    await llm.aclose()
    return {
        "kind": "ours",
        "conc": concurrency,
        "n": done,
        "cpu_ms": 1e3 * cpu / done,
        "rps": done / wall,
        "bad": bad,
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cell(kind: str, mode: str, concurrency: int, seconds: float, port: int) -> dict[str, object] | None:
    if kind == "ours":
        command = [sys.executable, str(HERE), "--cell", f"{mode}:{concurrency}", "--seconds", str(seconds)]
        command += ["--port", str(port)]
    else:
        script = str(PEERS / "client_multi.py")
        command = [sys.executable, script, kind, "asyncio", str(seconds), str(port), f"{mode}:{concurrency}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 + 4 * seconds)
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if not rows:
        print(f"  {kind}: left out ({(done.stderr.strip().splitlines() or ['no output'])[-1][:80]})")
        return None
    return dict(rows[-1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--kinds", default=KINDS)
    parser.add_argument("--conc", default="1,64,256")
    parser.add_argument("--modes", default="burst,paced")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--cell")
    options = parser.parse_args()
    if options.cell:
        mode, _, concurrency = options.cell.partition(":")
        print(json.dumps(asyncio.run(ours(mode, int(concurrency), options.seconds, options.port))))
        return 0
    if not PEERS.is_dir():
        print(f"the peers' scripts are not at {PEERS}: set EVALKIT_SHARED")
        return 2
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, str(PEERS / "mock_server.py"), str(port)], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    if not server.stdout.readline():
        print("the mock server did not start: pip install uvloop")
        return 2
    try:
        for mode in options.modes.split(","):
            table(mode, options, port)
    finally:
        server.kill()
        server.wait()
    return 0


def table(mode: str, options: argparse.Namespace, port: int) -> None:
    levels = [int(level) for level in options.conc.split(",")]
    print(f"\n{mode}: CPU ms per stream of 100 events (ratio to ours), by concurrency")
    base: dict[int, float] = {}
    for kind in ["ours", *filter(None, options.kinds.split(","))]:
        cells = []
        for level in levels:
            row = cell(kind, mode, level, options.seconds, port)
            if row is None:
                break
            cpu = float(str(row["cpu_ms"]))
            base.setdefault(level, cpu)
            flaw = f" {row['bad']} bad" if row["bad"] else ""
            cells.append(f"{cpu:8.2f} ({cpu / base[level]:5.1f}x, n={row['n']}{flaw})")
        if cells:
            print(f"  {kind:18s}" + "".join(cells), flush=True)


if __name__ == "__main__":
    sys.exit(main())
