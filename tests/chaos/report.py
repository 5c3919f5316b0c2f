"""The table that a chaos run prints."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tests.chaos import plan
from tests.chaos.plan import Fault, FaultKind
from tests.chaos.records import Records
from tests.chaos.recovery import Recovery, Takeover
from tests.chaos.setting import Setting

VIOLATIONS_SHOWN_MAX = 10


@dataclass
class Result:
    """What a run came to. `checks` has the violations by what must not be."""

    setting: Setting
    faults: list[Fault]
    records: Records
    checks: dict[str, list[str]]
    recoveries: list[Recovery]
    takeovers: list[Takeover]
    starts: list[float]
    settled_seconds: float

    @property
    def ok(self) -> bool:
        """Whether every guarantee held."""
        return not any(self.checks.values())


def repeat_command(seed: int, seconds: float) -> str:
    """Return the command that runs the same plan again."""
    return f"make chaos SECONDS={seconds:g} SEED={seed}"


def lines(result: Result) -> list[str]:
    """Return the table, line by line."""
    setting = result.setting
    journal, product = result.records.journal, result.records.product
    kinds = Counter(fault.kind for fault in result.faults)
    messages = Counter(message.type for message in product.messages)
    durations = sorted(event.seconds for event in product.events.values())
    figures = [
        ("faults", f"{len(result.faults)}"),
        *((f"  {kind}", f"{times}") for kind, times in sorted(kinds.items())),
        (
            "requests / accepted / never answered",
            _three(journal.requests, journal.accepted, journal.unanswered),
        ),
        (
            "events acknowledged / stored",
            f"{len(journal.acknowledged):,} / {len(product.events):,}",
        ),
        ("event, from its 200 to its end", percentiles(durations)),
        *_payments(result.records),
        ("recharge attempts and top-ups", f"{len(product.attempts):,}"),
        ("ledger rows / holds", f"{len(product.rows):,} / {len(product.holds):,}"),
        ("messages to the app", f"{len(product.messages):,}"),
        *((f"  {kind}", f"{times}") for kind, times in sorted(messages.items())),
        ("settled after the last fault", f"{result.settled_seconds:.1f} s"),
    ]
    figures.append(("start of a process, alone", percentiles(sorted(result.starts))))
    figures += [_recovery(*group) for group in _groups(result.recoveries)]
    figures.append(_takeovers(result))
    width = max(len(name) for name, _ in figures)
    text = [f"{name:{width}}  {value}" for name, value in figures]
    text += [f"left out: {kind}: {why}" for kind, why in result.setting.machine.left_out.items()]
    text += [f"{name:{width}}  {len(found)}" for name, found in result.checks.items()]
    for name, found in result.checks.items():
        text += [f"VIOLATION  {name}: {each}" for each in found[:VIOLATIONS_SHOWN_MAX]]
    verdict = "every guarantee held" if result.ok else "BROKEN"
    return [
        *text,
        f"seed {setting.seed}: {verdict}. Again: {repeat_command(setting.seed, setting.seconds)}",
    ]


def _three(first: int, second: int, third: int) -> str:
    return f"{first:,} / {second:,} / {third:,}"


def _groups(recoveries: list[Recovery]) -> list[tuple[str, list[Recovery]]]:
    kinds = ("web", "worker", *plan.SERVERS)
    groups = [(k, [r for r in recoveries if r.fault.target.startswith(k)]) for k in kinds]
    killed = [r for r in recoveries if r.fault.kind is FaultKind.KILL]
    groups += [("kill -9 alone", killed), ("all", recoveries)]
    return [(name, found) for name, found in groups if found]


def percentiles(durations: list[float]) -> str:
    """Return what half, 99 % and all of some sorted durations do not exceed."""
    if not durations:
        return "-"
    at = [
        durations[min(len(durations) - 1, int(share * len(durations)))] for share in (0.5, 0.99, 1)
    ]
    return f"p50 {at[0]:.1f} s, p99 {at[1]:.1f} s, longest {at[2]:.1f} s ({len(durations)})"


def _payments(records: Records) -> list[tuple[str, str]]:
    """Return how many payments were captured and returned, by what they were for."""
    payments = list(records.stripe.payments.values())
    groups = {
        "payments captured / returned in part or whole": payments,
        "  of checkouts": [p for p in payments if p.attempt is None and p.invoice is None],
        "  of invoices": [p for p in payments if p.invoice is not None],
        "  of recharges and top-ups": [p for p in payments if p.attempt is not None],
    }
    return [
        (name, f"{len(found):,} / {sum(p.returned_minor > 0 for p in found):,}")
        for name, found in groups.items()
    ]


def _takeovers(result: Result) -> tuple[str, str]:
    """Return how long what a killed worker had leased waited for another worker."""
    found = result.takeovers
    name = f"events of a killed worker, leases of {result.setting.lease_seconds} s"
    most = max((takeover.events for takeover in found), default=0)
    durations = sorted(takeover.seconds for takeover in found)
    return name, f"{percentiles(durations)}, at most {most} events"


def _recovery(name: str, found: list[Recovery]) -> tuple[str, str]:
    return f"recovery: {name}", percentiles(sorted(recovery.seconds for recovery in found))
