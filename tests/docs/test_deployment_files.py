"""The Procfile, the compose file and the image start, confine and hold what the code needs."""

from __future__ import annotations

import re
from typing import Any

import yaml  # type: ignore[import-untyped] # its stubs are not among the dependencies

from shared.config import load
from shared.http import server
from shared.payments.client import STRIPE_SECONDS_MAX
from tests.fixtures.documents import (
    NEEDED,
    ROOT,
    arguments,
    compose_text,
    env_example,
    parse,
    variables_read_by_config,
)


def test_the_procfile_starts_what_exists() -> None:
    lines = (ROOT / "Procfile").read_text(encoding="utf-8").splitlines()
    processes = dict(line.split(": ", 1) for line in lines)
    assert set(processes) == {"release", "web", "worker"}
    for command in processes.values():
        program, *words = arguments(command)
        assert program == "prepaid"
        parse(words)


def compose() -> Any:
    return yaml.safe_load(compose_text())


def test_the_compose_file_starts_what_exists() -> None:
    document = compose()
    ours = {n: s for n, s in document["services"].items() if s["image"] == "prepaid"}
    assert set(ours) == {"release", "web", "worker"}
    for service in ours.values():
        program, *words = service["command"]
        assert program == "prepaid"
        parse(words)
        assert set(service["environment"]) <= set(env_example())
        assert "user" not in service  # the image's own, which is not root


def test_the_compose_file_waits_for_services_that_it_has() -> None:
    document = compose()
    services = document["services"]
    for service in services.values():
        for name, wait in service.get("depends_on", {}).items():
            assert name in services
            if wait["condition"] == "service_healthy":
                assert "test" in services[name]["healthcheck"]
    assert services["web"]["depends_on"]["release"]["condition"] == "service_completed_successfully"
    assert services["worker"]["depends_on"] == services["web"]["depends_on"]
    volumes = [v.split(":")[0] for s in services.values() for v in s.get("volumes", [])]
    assert set(volumes) == set(document["volumes"])


# What the compose file decides: its servers.
ADDRESSES = {"DATABASE_URL", "PREPAID_DIRECT_DATABASE_URL", "REDIS_URL"}
# What the image or the compose file decides: where a process listens inside its container.
FIXED_BY_COMPOSE = {"HOST", "PORT", "PREPAID_OPERATIONS_PORT", "PREPAID_WORKER_PORT"}


def test_r5_the_compose_file_passes_every_variable_of_the_settings_to_web_and_worker() -> None:
    services = compose()["services"]
    for name in ("web", "worker"):
        environment = services[name]["environment"]
        assert set(environment) - FIXED_BY_COMPOSE == variables_read_by_config() - FIXED_BY_COMPOSE
        for variable in set(environment) - FIXED_BY_COMPOSE - ADDRESSES:
            assert re.fullmatch(rf"\$\{{{variable}:[-?].*\}}", environment[variable]), variable


def test_no_variable_gives_a_service_the_direct_address_of_another_database() -> None:
    """DATABASE_URL is that of the compose file's own PostgreSQL; a half of a pair could be set."""
    services = compose()["services"]
    for name in ("release", "web", "worker"):
        environment = services[name]["environment"]
        assert "@postgres:5432/prepaid" in environment["DATABASE_URL"]
        assert environment["PREPAID_DIRECT_DATABASE_URL"] == ""


def test_r5_the_compose_file_reads_no_variable_that_the_example_lacks() -> None:
    assert set(re.findall(r"\$\{([A-Z_]+)", compose_text())) <= set(env_example())


def test_r5_web_and_worker_have_a_password_that_is_not_the_owners() -> None:
    services = compose()["services"]
    owners = "${POSTGRES_PASSWORD:"
    assert owners in services["release"]["environment"]["DATABASE_URL"]
    for name in ("web", "worker"):
        assert owners not in str(services[name])
        assert (
            "prepaid_app:${POSTGRES_APP_PASSWORD:" in services[name]["environment"]["DATABASE_URL"]
        )
    assert owners not in str(compose()["configs"])


def test_r5_every_service_is_confined() -> None:
    for name, service in compose()["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["pids_limit"], name
        assert service["mem_limit"], name
        assert "/tmp" in service["tmpfs"] or name == "valkey", name  # noqa: S108 - a mount's path
        assert service.get("image") == "prepaid" or service["user"] not in {"root", "0"}, name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name


def test_r5_valkey_asks_for_a_password_that_no_command_line_shows() -> None:
    services = compose()["services"]
    assert "requirepass ${VALKEY_PASSWORD:?" in compose()["configs"]["valkey"]["content"]
    assert services["web"]["environment"]["REDIS_URL"].startswith("redis://:${VALKEY_PASSWORD:?")
    for service in services.values():
        assert "PASSWORD" not in str(service.get("command"))


def test_valkey_refuses_writes_before_it_is_out_of_memory_and_evicts_nothing() -> None:
    document = compose()
    content = document["configs"]["valkey"]["content"]
    limit = int(document["services"]["valkey"]["mem_limit"].removesuffix("m"))
    (most,) = re.findall(r"^maxmemory (\d+)mb$", content, re.MULTILINE)
    assert int(most) < limit
    assert "maxmemory-policy noeviction\n" in content


def test_docker_waits_longer_than_a_process_takes_to_stop() -> None:
    services = compose()["services"]
    grace = {name: int(services[name]["stop_grace_period"][:-1]) for name in ("web", "worker")}
    drain = load(NEEDED).drain_seconds
    assert grace["web"] > drain + 2 * server.SHUTDOWN_SECONDS_MAX
    assert grace["worker"] > STRIPE_SECONDS_MAX + server.SHUTDOWN_SECONDS_MAX


PROGRAMS = {
    "postgres:18": {"pg_isready"},
    "valkey/valkey:9": {"valkey-server", "valkey-cli"},
    "prepaid": {"python", "prepaid"},
}


def test_every_health_check_runs_a_program_of_its_image() -> None:
    for name, service in compose()["services"].items():
        check = service.get("healthcheck", {}).get("test")
        if check is not None:
            program = check[1].split()[0]
            assert program in PROGRAMS[service["image"]], name


SECRETS = (
    "POSTGRES_PASSWORD", "POSTGRES_APP_PASSWORD", "VALKEY_PASSWORD", "STRIPE_API_KEY",
    "STRIPE_WEBHOOK_SECRETS",
)  # fmt: skip


def test_the_compose_file_refuses_to_start_without_its_secrets() -> None:
    for name in SECRETS:
        used = re.findall(rf"\$\{{{name}[^}}]*\}}", compose_text())
        assert used
        assert all(use.startswith(f"${{{name}:?") for use in used)


def test_the_image_copies_what_exists_and_locks_what_it_installs() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE)
    copied = [path for paths in copies for path in paths.split()]
    assert copied
    assert [path for path in copied if not (ROOT / path).exists()] == []
    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert [path for path in copied if f"!{path}" not in kept] == []
    assert "--require-hashes" in dockerfile
    assert re.search(r"^USER (?!root)", dockerfile, re.MULTILINE)


def test_the_image_has_every_house_that_is_packaged() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    include = re.findall(r"^include = \[(.+)\]$", pyproject, re.MULTILINE)[0]
    for house in re.findall(r'"(\w+)\*"', include):
        assert f"COPY {house} {house}\n" in dockerfile
    assert "sandbox" not in include
    assert "sandbox" not in dockerfile
