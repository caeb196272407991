"""The demo: one golden set, two endpoints that differ in quality, speed and price, one answer.

Everything is real – HTTP, SSE, filters, records, statistics – except the models: both endpoints are simulated
in processes of their own on this machine, and say right or wrong answers of the golden set at a set pace.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit import datasets
from evalkit.config import Suite
from evalkit.files import Files
from evalkit.session import Session
from evalkit.sets.spec import GoldenSpec
from guardrails.clock import SYSTEM
from guardrails.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

GOLDEN = "support-desk"
CONCURRENCY = 8
VENDOR_MODEL = "gpt-4.1-mini"
OWN_MODEL = "larkfell-8b"
BANNER = (
    "Simulated: both endpoints are programs on this machine; their quality, their pace and so the difference "
    "between them are chosen."
)


@dataclass(frozen=True, slots=True)
class Gpu:
    """What a self-hosted token costs: the hour's price over the tokens that an hour really serves."""

    usd_per_hour: float = 2.20
    tokens_per_second: float = 1_500.0
    busy: float = 0.35

    @property
    def usd_per_million(self) -> float:
        """USD per million output tokens; input is not charged apart."""
        return self.usd_per_hour / (self.tokens_per_second * self.busy * 3600) * 1e6

    @property
    def sentence(self) -> str:
        """The arithmetic, for people."""
        return (
            f"${self.usd_per_hour:.2f}/h ÷ ({self.tokens_per_second:,.0f} tokens/s × {self.busy:.0%} busy × "
            f"3,600 s) = ${self.usd_per_million:.2f} per million output tokens (assumed, not measured)"
        )


def run_demo(out: Path, consoles: tuple[Console, Console]) -> tuple[Path | None, int]:
    """Run it, writing everything under `out`; the report's path and the exit code."""
    from guardrails.testing import simulate_process

    result, messages = consoles
    gpu = Gpu()
    golden = f"golden:{datasets.path(GOLDEN)}"
    records, prices = out / "records.jsonl", out / "prices.toml"
    try:
        out.mkdir(parents=True, exist_ok=True)
        records.unlink(missing_ok=True)
        prices.write_text(_prices(gpu), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error.strerror}", hint="choose another --out") from None
    messages.print(f"[bold yellow]{BANNER}[/]", highlight=False)
    with ExitStack() as stack:
        vendor = stack.enter_context(simulate_process(vendor_profile(golden)))
        own = stack.enter_context(simulate_process(own_profile(golden)))
        suite = Suite(
            golden=(GoldenSpec(builtin=GOLDEN),),
            endpoints=(
                _endpoint("vendor", vendor.url, VENDOR_MODEL, records),
                {**_endpoint("self-hosted", own.url, OWN_MODEL, records), "prices": str(prices.resolve())},
            ),
            concurrency=CONCURRENCY,
            out=out,
        )
        session = Session.of(suite, None, fresh=True, consoles=consoles)
        report = out / "report.html"
        code = session.run(Files(html=report, json=out / "summary.json"), banner=BANNER)
    result.print(f"\nself-hosted: {gpu.sentence}", style="dim", highlight=False)
    result.print(f"records: {records}", style="dim", highlight=False, soft_wrap=True)
    return report, code


def vendor_profile(answers: str) -> Profile:
    """Right more often, slow to start, quick afterwards."""
    from guardrails.testing import Profile

    return Profile(
        models=(VENDOR_MODEL,),
        ttft_ms=350,
        ttft_sigma=0.3,
        tpot_ms=12,
        tpot_sigma=0.25,
        answers=answers,
        accuracy=0.96,
        seed=2,
    )


def own_profile(answers: str) -> Profile:
    """Wrong more often, quick to start, slower afterwards."""
    from guardrails.testing import Profile

    return Profile(
        models=(OWN_MODEL,),
        ttft_ms=120,
        ttft_sigma=0.2,
        tpot_ms=20,
        tpot_sigma=0.15,
        answers=answers,
        accuracy=0.88,
        seed=5,
    )


def _endpoint(name: str, url: str, model: str, records: Path) -> dict[str, object]:
    return {
        "name": name,
        "url": f"{url}/v1",
        "model": model,
        "filters": {"input": ["pii"], "output": ["pii"]},
        "records": str(records.resolve()),
    }


def _prices(gpu: Gpu) -> str:
    return (
        f"# {gpu.sentence}\n"
        f"as_of = {SYSTEM.wall().date().isoformat()}\n"
        f'[models."{OWN_MODEL}"]\n'
        f"input = 0\noutput = {gpu.usd_per_million:.6f}\n"
    )


if TYPE_CHECKING:
    from guardrails.testing import Profile
