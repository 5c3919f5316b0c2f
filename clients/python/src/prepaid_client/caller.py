"""Carries out one request: the gate, the key, the retries, the deadline, the errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from prepaid_client import exact_json
from prepaid_client.errors import AnswerError, Insufficient, NoAnswer, answer_error
from prepaid_client.gate import Gate
from prepaid_client.requests import Request
from prepaid_client.retrying import Retries, is_retried, parse_retry_after
from prepaid_client.transport import Transport

T = TypeVar("T")
API_VERSION = "2026-11-01"
USER_AGENT = "prepaid-client-python/0.1.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Calls the API. `clock` is monotonic, `random` from 0 to 1; `make_key` is unique each time."""

    url: str
    api_key: str
    transport: Transport
    retries: Retries
    gate: Gate
    clock: Callable[[], float]
    random: Callable[[], float]
    make_key: Callable[[], str]

    async def call(self, request: Request[T]) -> T:
        """Send a request until it is answered; return the parsed answer.

        A write is sent with one idempotency key, the caller's or a new one, however often it is
        repeated. Raises an AnswerError, or NoAnswer after the deadline.
        """
        self.gate.check(request.need, self.clock())
        key = request.idempotency_key
        if key is None and request.operation.is_write:
            key = self.make_key()
        try:
            answer: T = await self._until_answered(request, key)
        except Insufficient as refusal:
            if request.need is not None:
                self.gate.close(request.need.organization, refusal, self.clock())
            raise
        if request.opens is not None:
            self.gate.open(request.opens)
        return answer

    async def _until_answered(self, request: Request[T], key: str | None) -> T:
        end = self.clock() + self.retries.deadline_seconds
        failures = 0
        while True:
            seconds = min(self.retries.attempt_seconds_max, max(end - self.clock(), 0.001))
            try:
                response = await self.transport.send(self._build(request, key, seconds))
                answer: T = _parse(response)
            except httpx.RequestError as error:  # the connection, or an answer cut or garbled
                failure: Exception = error
                retry_after = None
            except AnswerError as error:
                if not is_retried(error.status, error.retry_after):
                    raise
                failure = error
                retry_after = error.retry_after
            else:
                return answer
            failures += 1
            left = end - self.clock()
            pause = self.retries.pause(failures, retry_after=retry_after, random=self.random())
            if not self.retries.may_repeat(failures, pause=pause, seconds_left=left):
                raise _last(failure, request, key) from failure
            await self.transport.sleep(pause)

    def _build(self, request: Request[T], key: str | None, seconds: float) -> httpx.Request:
        headers = {
            "Accept": "application/json",
            "Authorization": f"Bearer {self.api_key}",
            "Prepaid-Version": API_VERSION,
            "User-Agent": USER_AGENT,
        }
        if key is not None:
            headers["Idempotency-Key"] = key
        content = None
        if request.body is not None:
            headers["Content-Type"] = "application/json"
            content = exact_json.dumps(request.body).encode()
        return httpx.Request(
            request.operation.method,
            self.url + request.path,
            params=dict(request.query) or None,
            headers=headers,
            content=content,
            extensions={"timeout": httpx.Timeout(seconds).as_dict()},
        )


def _parse(response: httpx.Response) -> Any:
    """Return the parsed body of a success; raise the error of any other answer."""
    try:
        body = exact_json.loads(response.content)
    except ValueError:
        body = None
    if response.is_success and body is not None:
        return body
    raise answer_error(
        response.status_code,
        body,
        request_id=response.headers.get("X-Request-Id"),
        retry_after=parse_retry_after(response.headers.get("Retry-After")),
    )


def _last(failure: Exception, request: Request[T], key: str | None) -> Exception:
    """Return what to raise when a request is not repeated any more."""
    if isinstance(failure, AnswerError):
        return failure
    name = request.operation.name
    detail = f"{name}: no answer ({type(failure).__name__}: {failure})."
    if key is not None:
        detail += f" It may have happened: repeat it with the idempotency key {key}."
    return NoAnswer(detail, idempotency_key=key)
