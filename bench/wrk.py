"""Load from wrk, a compiled client, so that the client is not what is measured."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from sandbox.signed_events import payment_intent_succeeded, signature

CONNECTIONS = 64
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_PERCENTILE = re.compile(r"99%\s+([\d.]+)(us|ms|s)")
_RATE = re.compile(r"Requests/sec:\s+([\d.]+)")

# Each request is read from a file of ready-made ones, so that every event is new and signed.
_SCRIPT = """
local file = io.open(os.getenv("BENCH_REQUESTS"), "rb")
request = function()
    local length = file:read(8)
    if not length then
        file:seek("set")
        length = file:read(8)
    end
    return file:read(tonumber(length))
end
done = function(summary)
    io.write(string.format("errors: %d\\n", summary.errors.status + summary.errors.timeout
        + summary.errors.connect + summary.errors.read + summary.errors.write))
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What a run of wrk saw."""

    requests_per_second: float
    p99_seconds: float


def ensure_installed() -> None:
    """Install wrk from Debian's packages where root can; else say how."""
    if shutil.which("wrk"):
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-y", "-qq", "wrk"], check=True, capture_output=True)
        return
    raise SystemExit("The benchmarks need wrk: apt-get install wrk")


def write_requests(file: Path, *, name: str, count: int, organization: str, secret: str) -> None:
    """Write so many signed deliveries, each of an event of its own, as raw HTTP requests."""
    with file.open("wb") as out:
        for index in range(count):
            body = payment_intent_succeeded(
                f"{name}{index}", organization=organization, padded=True
            )
            head = (
                f"POST /v1/webhooks/stripe HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                f"Content-Type: application/json; charset=utf-8\r\n"
                f"Stripe-Signature: {signature(body, secret)}\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            ).encode()
            out.write(b"%08d" % (len(head) + len(body)) + head + body)


async def run(url: str, requests: Path, *, seconds: int, connections: int = CONNECTIONS) -> Load:
    """Send the requests as fast as they are answered; fail where any answer is not 200."""
    script = requests.with_suffix(".lua")
    script.write_text(_SCRIPT, encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        "wrk", "--latency", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), url,
        env={**os.environ, "BENCH_REQUESTS": str(requests)},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output = (await process.communicate())[0].decode()
    rate, p99 = _RATE.search(output), _PERCENTILE.search(output)
    if process.returncode or rate is None or p99 is None or "errors: 0\n" not in output:
        raise RuntimeError(f"wrk failed:\n{output}")
    return Load(float(rate[1]), float(p99[1]) * _SECONDS[p99[2]])
