"""What does a sample cost us, scored, recorded and stored, beside Inspect AI in the same run?

    python tests/bench/runner.py [--samples 1000 10000] [--inspect PYTHON] [--memory] [--delay]

One-line samples against an endpoint on loopback that answers at once (over SSE for us, as we always do;
in one piece for Inspect and for bare aiohttp). Each run is a process of its own. Printed: CPU of the whole
process divided by the samples, start-up included, as a library (`evalkit`) and as a command, with table and
progress (`evalkit run`); the slope between the two sizes, which leaves it out;
wall; peak RSS. `--inspect` is the Python of an environment that has inspect-ai; left out, it is not measured.
`--memory` runs 100,000 samples too, `--delay` 1,000 samples at 100 concurrent against an endpoint that takes
200 ms (ideal 2.0 s). Ratios hold on a busy machine; figures in ms do not.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SERVER = r"""
import asyncio, sys
delay = float(sys.argv[2])
def event(text): return b"data: " + text + b"\n\n"
head = b'{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":'
stream = (
    event(head + b'[{"index":0,"delta":{"role":"assistant","content":"ANSWER 42"},"finish_reason":null}]}')
    + event(head + b'[{"index":0,"delta":{},"finish_reason":"stop"}]}')
    + event(head + b'[],"usage":{"prompt_tokens":20,"completion_tokens":3,"total_tokens":23}}')
    + event(b"[DONE]")
)
whole = (b'{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"ANSWER 42"},"finish_reason":"stop"}],"usage":{"prompt_tokens":20,'
    b'"completion_tokens":3,"total_tokens":23}}')
def reply(kind, body):
    return b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n" % (kind, len(body)) + body
stream, whole = reply(b"text/event-stream", stream), reply(b"application/json", whole)
async def serve(reader, writer):
    try:
        while True:
            lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
            length = next((int(l.split(b":")[1]) for l in lines if l.startswith(b"content-length:")), 0)
            body = await reader.readexactly(length)
            if delay:
                await asyncio.sleep(delay)
            writer.write(stream if b'"stream":true' in body.replace(b" ", b"") else whole)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionResetError):
        pass
    finally:
        writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]), limit=1 << 20, backlog=4096)
    print("ready", flush=True)
    await server.serve_forever()
asyncio.run(main())
"""

OURS = r"""
import asyncio, resource, sys, time
from pathlib import Path
golden, url, concurrency = sys.argv[1], sys.argv[2], int(sys.argv[3])
from evalkit.config import Suite
from evalkit.evaluate import evaluate
endpoint = {"url": url, "model": "m"}
suite = Suite(golden=golden, endpoints=[endpoint], concurrency=concurrency, out=Path(golden).parent)
outcome = asyncio.run(evaluate(suite))
assert outcome.endpoints[0].pass_rate.value == 1, outcome
"""

COMMAND = r"""
import sys
from pathlib import Path
golden, url, concurrency = sys.argv[1:]
from evalkit.cli import main
main(["run", "--golden", golden, "--endpoint", url, "--model", "m", "--concurrency", concurrency,
    "--out", str(Path(golden).parent), "--fresh"])
"""

RAW = r"""
import asyncio, json, sys
golden, url, concurrency = sys.argv[1], sys.argv[2], int(sys.argv[3])
async def main():
    import aiohttp
    samples = iter([json.loads(line) for line in open(golden)])
    out = open(golden + ".raw", "w")
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency)) as session:
        async def work():
            for sample in samples:
                body = {"model": "m", "messages": [{"role": "user", "content": sample["input"]}]}
                async with session.post(url + "/chat/completions", json=body) as response:
                    text = (await response.json())["choices"][0]["message"]["content"]
                    out.write(json.dumps({"id": sample["id"], "out": text, "score": "42" in text}) + "\n")
        await asyncio.gather(*(work() for _ in range(concurrency)))
asyncio.run(main())
"""

INSPECT = r"""
import json, os, sys
import tiktoken
class Words:
    def encode(self, text, **_): return text.split()
    encode_ordinary = encode
# It would download a vocabulary; it only counts tokens with it.
tiktoken.get_encoding = tiktoken.encoding_for_model = lambda name: Words()
from inspect_ai import Task, eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import get_model
from inspect_ai.scorer import includes
from inspect_ai.solver import generate
golden, url, concurrency = sys.argv[1], sys.argv[2], int(sys.argv[3])
samples = [json.loads(line) for line in open(golden)]
data = MemoryDataset([Sample(input=s["input"], target=s["reference"], id=s["id"]) for s in samples])
model = get_model("openai-api/mock/m", base_url=url, api_key="x")
log = eval(Task(dataset=data, solver=generate(), scorer=includes()), model=model, display="none",
    log_dir=golden + ".logs", max_connections=concurrency)[0]
assert log.status == "success", log.error
"""


@contextmanager
def serving(delay: float) -> Iterator[str]:
    """The endpoint in a process of its own; its base URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(port), str(delay)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


def measured(python: str, code: str, golden: Path, url: str, concurrency: int) -> tuple[float, float, float]:
    """CPU seconds, wall seconds and peak MiB of a process that runs `code`."""
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    began = time.perf_counter()
    process = subprocess.Popen(
        [python, "-c", code, str(golden), url, str(concurrency)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL if code is COMMAND else None,  # where its progress goes
        env={**plain, "OPENAI_API_KEY": "x"},
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = status
    if status:
        raise SystemExit(f"it ended with {status}")
    return used.ru_utime + used.ru_stime, time.perf_counter() - began, used.ru_maxrss / 1024


def golden(folder: Path, n: int) -> Path:
    """A set of `n` one-line samples."""
    path = folder / f"{n}.jsonl"
    with path.open("w", encoding="utf-8") as out:
        for i in range(n):
            text = f"What is 40+2? case {i}. End with ANSWER n"
            out.write(json.dumps({"id": f"s{i}", "input": text, "reference": "42"}) + "\n")
    return path


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--samples", type=int, nargs="+", default=[1_000, 10_000])
    options.add_argument("--inspect", metavar="PYTHON")
    options.add_argument("--memory", action="store_true")
    options.add_argument("--delay", action="store_true")
    chosen = options.parse_args()
    systems = [
        ("raw aiohttp", sys.executable, RAW),
        ("evalkit", sys.executable, OURS),
        ("evalkit run", sys.executable, COMMAND),
    ]
    if chosen.inspect:
        systems.append(("inspect-ai", chosen.inspect, INSPECT))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        print(f"{'':12} {'n':>8} {'CPU ms each':>12} {'slope':>7} {'wall s':>7} {'RSS MiB':>8}")
        with serving(0) as url:
            for name, python, code in systems:
                before: tuple[int, float] | None = None
                sizes = [
                    *chosen.samples,
                    *([100_000] if chosen.memory and name.startswith("evalkit") else []),
                ]
                for n in sizes:
                    cpu, wall, rss = measured(python, code, golden(folder, n), url, 20)
                    slope = "" if before is None else f"{1e3 * (cpu - before[1]) / (n - before[0]):7.3f}"
                    print(
                        f"{name:12} {n:8,} {1e3 * cpu / n:12.3f} {slope:>7} {wall:7.1f} {rss:8.0f}",
                        flush=True,
                    )
                    before = n, cpu
        if chosen.delay:
            print("\n1,000 samples, 100 concurrent, 200 ms each (ideal 2.0 s)")
            with serving(0.2) as url:
                for name, python, code in systems:
                    path = golden(folder, 1_000)
                    _, wall, _ = measured(python, code, path, url, 100)
                    print(f"{name:12} {wall:7.1f} s with start-up", flush=True)


if __name__ == "__main__":
    main()
