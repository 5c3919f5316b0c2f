"""Load from wrk, a compiled client, so that the client is not what is measured."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

CONNECTIONS = 64
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_MEDIAN = re.compile(r"50%\s+([\d.]+)(us|ms|s)")
_PERCENTILE = re.compile(r"99%\s+([\d.]+)(us|ms|s)")
_RATE = re.compile(r"Requests/sec:\s+([\d.]+)")
_ANSWERS = re.compile(r"(\d+) requests in")

# Each request is read from a file of ready-made ones, so that every one is new. After the last
# comes the first again.
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
local per_second = tonumber(os.getenv("BENCH_PER_SECOND"))
if per_second then
    local ffi = require("ffi")
    ffi.cdef("typedef struct { long s, us; } moment; int gettimeofday(moment *, void *);")
    local clock, due = ffi.new("moment"), nil
    delay = function()
        ffi.C.gettimeofday(clock, nil)
        local now = tonumber(clock.s) + tonumber(clock.us) * 1e-6
        due = (due or now) - math.log(1 - math.random()) / per_second
        return math.max(0, due - now) * 1000
    end
end
done = function(summary)
    io.write(string.format("errors: %d\\n", summary.errors.status + summary.errors.timeout
        + summary.errors.connect + summary.errors.read + summary.errors.write))
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What a run of wrk saw."""

    per_second: float
    p50_seconds: float
    p99_seconds: float
    answers: int


def ensure_installed() -> None:
    """Install wrk from Debian's packages where root can; else say how."""
    if shutil.which("wrk"):
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-y", "-qq", "wrk"], check=True, capture_output=True)
        return
    raise SystemExit("The benchmarks need wrk: apt-get install wrk")


def request(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """Return a raw HTTP request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def write_requests(file: Path, requests: Iterable[bytes]) -> None:
    """Write raw HTTP requests for `run` to send, one after the other."""
    with file.open("wb") as out:
        for raw in requests:
            out.write(b"%08d" % len(raw) + raw)


async def run(
    url: str,
    requests: Path,
    *,
    seconds: int,
    connections: int = CONNECTIONS,
    per_second: float | None = None,
    may_fail: bool = False,
) -> Load:
    """Send the requests as fast as they are answered; fail where any answer is not 200.

    With `may_fail` they may be refused or cut off.

    With `per_second` they are sent at that rate, as by many clients who know nothing of each other:
    all connections share one timetable of random gaps (a Poisson process), and whichever is free
    takes its next entry. So none is in step with another, and a slow answer slows nobody else down.
    """
    script = requests.with_suffix(".lua")
    script.write_text(_SCRIPT, encoding="utf-8")
    paced = {} if per_second is None else {"BENCH_PER_SECOND": str(per_second)}
    process = await asyncio.create_subprocess_exec(
        "wrk", "--latency", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), url,
        env={**os.environ, "BENCH_REQUESTS": str(requests)} | paced,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output = (await process.communicate())[0].decode()
    patterns = (_RATE, _MEDIAN, _PERCENTILE, _ANSWERS)
    rate, p50, p99, answers = (pattern.search(output) for pattern in patterns)
    if (
        process.returncode
        or not (rate and p50 and p99 and answers)
        or ("errors: 0\n" not in output and not may_fail)
    ):
        raise RuntimeError(f"wrk failed:\n{output}")
    p50_seconds, p99_seconds = (float(found[1]) * _SECONDS[found[2]] for found in (p50, p99))
    return Load(float(rate[1]), p50_seconds, p99_seconds, int(answers[1]))
