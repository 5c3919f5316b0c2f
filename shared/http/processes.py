"""The metrics of all web processes on one port, whichever of them is asked.

Each process counts for itself. It serves its own metrics on a socket in a folder that they share,
with its number as the label `process`; who is asked for the metrics asks all and joins the answers.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import aiohttp
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import REGISTRY, Collector
from prometheus_client.samples import Sample

log = structlog.get_logger()

Exposition = Callable[[], Awaitable[bytes]]
LABEL = "process"
METRICS_PATH = "/metrics"
ANSWER_SECONDS_MAX = 2.5
_FAMILY = b"# HELP "


class _Labelled(Collector):
    """The metrics of this process, each with its number."""

    def __init__(self, number: int) -> None:
        self._label = {LABEL: str(number)}

    def collect(self) -> Iterator[Metric]:
        for metric in REGISTRY.collect():
            labelled = Metric(metric.name, metric.documentation, metric.type, metric.unit)
            labelled.samples = [
                Sample(sample.name, {**self._label, **sample.labels}, *sample[2:])
                for sample in metric.samples
            ]
            yield labelled


def exposition(number: int | None) -> bytes:
    """Return the metrics of this process as text, labelled with its number if it has one."""
    if number is None:
        return generate_latest()
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Labelled(number))
    return generate_latest(registry)


def join(expositions: Iterable[bytes]) -> bytes:
    """Return several processes' metrics as one text, in which each family occurs once."""
    families: dict[bytes, list[bytes]] = {}
    for text in expositions:
        for family in text.split(_FAMILY)[1:]:
            help_line, type_line, samples = family.split(b"\n", 2)
            families.setdefault(help_line + b"\n" + type_line, []).append(samples)
    return b"".join(
        _FAMILY + head + b"\n" + b"".join(samples) for head, samples in families.items()
    )


@contextmanager
def shared_folder() -> Iterator[Path]:
    """Create the folder of the sockets, and delete it at the end.

    It stays locked: systemd-tmpfiles deletes nothing in a locked folder, however old it is.
    """
    with tempfile.TemporaryDirectory(prefix="prepaid-") as folder:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            yield Path(folder)
        finally:
            os.close(descriptor)


class WebProcesses:
    """The web processes on one port: this one, its number, and the folder of their sockets."""

    def __init__(self, number: int, folder: Path) -> None:
        self.number = number
        self._folder = folder
        self._file = folder / f"{number}.sock"
        self._inode: int | None = None

    @asynccontextmanager
    async def publishing(self, own: Exposition) -> AsyncIterator[None]:
        """Serve this process's metrics to the others, in place of the process it replaces."""

        async def answer(_request: web.Request) -> web.Response:
            return web.Response(body=await own())

        app = web.Application()
        app.add_routes([web.get(METRICS_PATH, answer)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await self._listen(runner)
            yield
        finally:
            if self._is_own(self._file):
                self._file.unlink(missing_ok=True)
            await runner.cleanup()

    async def _listen(self, runner: web.AppRunner) -> None:
        """Listen on the socket of this number; without the folder, only the others miss it."""
        starting = self._folder / f"{self.number}.starting"
        try:
            await web.UnixSite(runner, str(starting)).start()
            self._inode = starting.stat().st_ino
            starting.rename(self._file)
        except OSError as error:
            log.warning("metrics.not_published", error=repr(error))

    async def metrics(self, own: Exposition) -> bytes:
        """Return the metrics of all processes; one that does not answer is left out and logged.

        Its own are among them whether or not the folder has its socket.
        """
        files = self._files()
        asked = [own() if self._is_own(file) else _ask(file) for file in files]
        if self._file not in files:
            asked.append(own())
        answers = await asyncio.gather(*asked)
        return join(answer for answer in answers if answer is not None)

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("*.sock"))

    def _is_own(self, file: Path) -> bool:
        """Whether a socket is this process's: not that of its successor with the same number."""
        with suppress(FileNotFoundError):
            return file.stat().st_ino == self._inode
        return False


async def _ask(file: Path) -> bytes | None:
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS_MAX)
    connector = aiohttp.UnixConnector(str(file))
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.get(f"http://process{METRICS_PATH}") as response,
        ):
            return await response.read()
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        log.warning("metrics.process_silent", process=file.stem, error=type(error).__name__)
        return None
