"""What a log line must not show, in whatever form it comes."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from shared.config import LogFormat
from shared.logging import (
    CUT,
    LINE_LENGTH_MAX,
    MASK,
    SECRET_LENGTH_MAX,
    TEXT_LENGTH_MAX,
    TRACE_LENGTH_MAX,
    configure,
    mask,
)
from tests.fixtures.logs import log_plainly

CARD = "4242424242424242"
SECRETS = {
    "secret key": "sk_test_51Habcdefghijklmnop",
    "live key": "sk_live_51Habcdefghijklmnop",
    "restricted key": "rk_live_51Habcdefghijklmnop",
    "our key": "ppk_Ab-cd_efghijklmnopqrstuvwxyz0123456789",
    "webhook secret": "whsec_0123456789abcdef",
    "our webhook secret": "whsec_Ab+/cdefghijklmnopqrstuvwxyz01==",
    "client secret": "pi_3Habc_secret_0123456789",
    "signature": "v1=5257a869e7ecebeda32affa62cdca3fa51cad7e77a0e56ff536d0ce8e108d8bd",
    "card": CARD,
    "card in groups": "4242 4242 4242 4242",
    "card with hyphens": "4242-4242-4242-4242",
    "card digit by digit": "4-2-4-2-4-2-4-2-4-2-4-2-4-2-4-2",
    "card of 13 digits": "4222222222222",
    "American Express": "378282246310005",
}


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Configure logging as a process does, on a stream; put it back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure(LogFormat.JSON, "DEBUG", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    log_plainly()


def record(stream: io.StringIO) -> dict[str, Any]:
    (line,) = stream.getvalue().splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


@pytest.mark.parametrize(
    "around",
    ["{}", "a {} b", "key={}", "({})", "'{}'", "{}.", "{},", "\n{}", "'a\\n{}'", "'\\t{}'"],
)
@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_is_hidden_wherever_it_stands_in_a_text(kind: str, around: str) -> None:
    secret = SECRETS[kind]
    masked = mask(around.format(secret))
    assert secret.removeprefix("v1=") not in masked
    assert MASK in masked


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "Not a URL: https://x.test/pay/kJ3-xY_2bQ9sV7tR1mN5wZ8/done",
            "https://x.test/pay/[masked]/d",
        ),
        ("'postgresql://127.0.0.1/db?user=x&password=hunter2'", "user=x&password=[masked]'"),
    ],
)
def test_what_is_secret_in_an_address_is_hidden(text: str, shown: str) -> None:
    masked = mask(text)
    assert shown in masked
    assert "hunter2" not in masked


@pytest.mark.parametrize("around", ["{}", "first line\n{}", "tab\t{}", '"{}"', "{}.\n", "\\{}"])
@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_is_hidden_in_a_log_line(stream: io.StringIO, kind: str, around: str) -> None:
    secret = SECRETS[kind]
    structlog.get_logger("test").info("event", detail=around.format(secret))
    assert secret.removeprefix("v1=") not in stream.getvalue()
    assert MASK in record(stream)["detail"]


@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_in_an_exceptions_own_words_is_hidden_in_its_trace(
    stream: io.StringIO, kind: str
) -> None:
    secret = SECRETS[kind]

    def fail() -> None:
        raise ValueError("line one\n" + secret)

    try:
        fail()
    except ValueError:
        structlog.get_logger("test").exception("failed")
    assert secret.removeprefix("v1=") not in stream.getvalue()
    assert "ValueError" in record(stream)["exception"]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:hunter2@localhost/x",
        "redis://:hunter2@localhost:6379/0",
        "connect to postgresql://user:hunter2@localhost/x failed",
    ],
)
def test_a_password_in_an_address_is_hidden(url: str) -> None:
    assert "hunter2" not in mask(url)
    assert "localhost" in mask(url)


@pytest.mark.parametrize(
    "name",
    ["secret", "client_secret", "Authorization", "stripe_signature", "api_key", "apiKey", "cvc"],
)
def test_a_field_that_is_named_like_a_secret_is_hidden_whatever_it_holds(
    stream: io.StringIO, name: str
) -> None:
    structlog.get_logger("test").info("event", **{name: "hunter2"})
    assert record(stream)[name] == MASK


@pytest.mark.parametrize(
    "harmless",
    [
        "evt_1PabcDEFghiJKLmnoPQRstuv",
        "01890a5d-ac96-774b-bcce-b302099a8057",
        "ct_01890a5dac96774bbcceb302099a8057",
        "req_0123456789abcdef00000001",
        "2026-01-31T12:00:00.000000Z",
        "postgresql://localhost/x",
        "12345678901234.123456789",
        "the secret of a good test",
    ],
)
def test_what_is_no_secret_is_left_as_it_is(harmless: str) -> None:
    assert mask(harmless) == harmless


@given(text=st.text())
def test_masking_twice_is_masking_once(text: str) -> None:
    assert mask(mask(text)) == mask(text)


@pytest.mark.parametrize("value", [int(CARD), -int(CARD), [int(CARD)], {"a": int(CARD)}, 10**18])
def test_a_line_with_a_long_number_stays_json(stream: io.StringIO, value: Any) -> None:
    structlog.get_logger("test").info("event", value=value)
    assert record(stream)["event"] == "event"


def test_a_line_says_when_how_grave_and_what(stream: io.StringIO) -> None:
    structlog.get_logger("test").warning("it.happened", organization="acme")
    found = record(stream)
    assert (found["event"], found["level"], found["organization"]) == (
        "it.happened",
        "warning",
        "acme",
    )
    assert found["timestamp"].endswith("Z")


def test_a_library_logs_in_the_same_form(stream: io.StringIO) -> None:
    logging.getLogger("library").warning("with %s", SECRETS["secret key"])
    found = record(stream)
    assert (found["event"], found["logger"]) == (f"with {MASK}", "library")


def test_a_library_is_quiet_below_warnings(stream: io.StringIO) -> None:
    logging.getLogger("library").info("chatter")
    assert stream.getvalue() == ""


def test_a_person_at_a_terminal_sees_no_secret_either(stream: io.StringIO) -> None:
    configure(LogFormat.CONSOLE, "INFO", stream)
    structlog.get_logger("test").info("event", detail=SECRETS["secret key"], api_key="hunter2")
    assert SECRETS["secret key"] not in stream.getvalue()
    assert "hunter2" not in stream.getvalue()


@pytest.mark.parametrize("kind", SECRETS)
def test_r1_no_part_of_a_secret_that_a_cut_has_torn_is_shown(kind: str) -> None:
    secret = SECRETS[kind]
    for shown in range(len(secret)):
        masked = mask("x" * (TEXT_LENGTH_MAX - 1 - shown) + f" {secret} and more" + " x" * 2_000)
        assert masked.rstrip(CUT).strip("x ") == ""
        assert len(masked) <= TEXT_LENGTH_MAX


def test_r1_no_part_of_a_torn_password_is_shown() -> None:
    for shown in range(40):
        text = "x" * (TEXT_LENGTH_MAX - shown) + "postgresql://user:hunter2hunter2@localhost/x"
        assert "hunter" not in mask(text + "x" * TEXT_LENGTH_MAX)


@pytest.mark.parametrize("kind", SECRETS)
def test_r1_a_long_trace_keeps_its_beginning_and_its_end_without_a_torn_secret(
    stream: io.StringIO, kind: str
) -> None:
    secret = SECRETS[kind]
    for moved in range(0, len(secret), 7):
        end = "y" * (TRACE_LENGTH_MAX // 2 - SECRET_LENGTH_MAX - moved)
        stream.seek(0)
        stream.truncate()
        trace = f"Traceback {secret} {'x' * 10**6} {secret} {end} the end"
        structlog.get_logger("test").error("failed", exception=trace)
        found = record(stream)["exception"]
        assert found.startswith(f"Traceback {MASK} x")
        assert found.endswith("y the end")
        assert len(found) <= TRACE_LENGTH_MAX
        assert secret.removeprefix("v1=") not in found


@pytest.mark.parametrize(
    "value",
    [
        "x" * 10**6,
        "\0" * 10**6,
        {"x" * 10**6: 1},
        {f"name {number}": "x" * 100 for number in range(10_000)},
        ["x" * 10] * 10**5,
        [{}] * 10**6,
        10**5_000,
        -(2**63) - 1,
        ValueError("x" * 10**6),
    ],
    ids=lambda value: type(value).__name__,
)
def test_r1_a_line_is_bounded_whatever_is_in_it(stream: io.StringIO, value: Any) -> None:
    structlog.get_logger("test").info("event", value=value, of="a name")
    assert record(stream)["event"] == "event"
    characters = LINE_LENGTH_MAX + 2 * TEXT_LENGTH_MAX
    assert len(stream.getvalue()) <= 6 * characters  # an escape is six


def test_r1_a_value_however_deep_or_round_is_a_line(stream: io.StringIO) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    circle: dict[str, Any] = {}
    circle["again"] = circle
    structlog.get_logger("test").info("event", deep=deep, circle=circle)
    assert CUT in json.dumps(record(stream), ensure_ascii=False)
