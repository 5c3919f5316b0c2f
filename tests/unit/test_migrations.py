"""What every migration has in common."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from alembic.util import CommandError

import migrations

VERSIONS = sorted(Path(migrations.__file__).with_name("versions").glob("0*.py"))


@pytest.mark.parametrize("file", VERSIONS, ids=lambda file: file.stem)
def test_a_migration_is_not_taken_back(file: Path) -> None:
    module = importlib.import_module(f"migrations.versions.{file.stem}")
    with pytest.raises(CommandError, match="restore a backup"):
        module.downgrade()
