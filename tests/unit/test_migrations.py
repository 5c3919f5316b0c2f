"""What every migration has in common."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from alembic.util import CommandError

import migrations
from migrations import runner
from migrations.head import HEAD

VERSIONS = sorted(Path(migrations.__file__).with_name("versions").glob("0*.py"))


@pytest.mark.parametrize("file", VERSIONS, ids=lambda file: file.stem)
def test_a_migration_is_not_taken_back(file: Path) -> None:
    module = importlib.import_module(f"migrations.versions.{file.stem}")
    with pytest.raises(CommandError, match="restore a backup"):
        module.downgrade()


def test_the_head_that_processes_compare_the_schema_with_is_alembics() -> None:
    scripts = ScriptDirectory.from_config(runner._config())  # noqa: SLF001
    assert scripts.get_current_head() == HEAD
