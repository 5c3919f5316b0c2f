"""The folder of the embedded servers: its lock, its records, its place outside."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from cli.environment import home_path
from sandbox import external_data
from sandbox.account import Account
from sandbox.external_data import HomeError
from sandbox.home import Home, HomeInUseError, ServerRecord


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep what root puts outside of a closed folder (pytest's own) inside of it after all."""
    monkeypatch.setattr(external_data, "BASE", tmp_path)
    return tmp_path


def test_the_variable_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert home_path({}) == tmp_path / ".prepaid"
    assert home_path({"PREPAID_HOME": ""}) == tmp_path / ".prepaid"
    assert home_path({"PREPAID_HOME": "/somewhere"}) == Path("/somewhere")


def test_one_at_a_time(tmp_path: Path) -> None:
    with Home(tmp_path / "home"), pytest.raises(HomeInUseError, match="PREPAID_HOME"):
        Home(tmp_path / "home")
    with Home(tmp_path / "home") as home:
        home.remove()
    assert not (tmp_path / "home").exists()


def test_records_are_kept_and_private(tmp_path: Path) -> None:
    with Home(tmp_path / "home") as home:
        assert home.record("valkey") is None
        home.save("valkey", ServerRecord(password="secret", port=1))
        home.save("valkey", ServerRecord(password="secret", port=2))
    with Home(tmp_path / "home") as home:
        assert home.record("valkey") == ServerRecord(password="secret", port=2)
    saved = tmp_path / "home" / "valkey.json"
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600


def test_a_home_that_cannot_be_made_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HomeError, match=r"PREPAID_HOME: .*file/home cannot be used"):
        Home(tmp_path / "file" / "home")


def test_a_damaged_record_is_refused_in_one_line(tmp_path: Path) -> None:
    with Home(tmp_path / "home") as home:
        (home.path / "valkey.json").write_text("")
        with pytest.raises(HomeError, match=r"valkey\.json is damaged"):
            home.record("valkey")


class TestOutside:
    def test_a_planted_folder_is_refused(self, base: Path) -> None:
        home = base / "home"
        place = external_data.place_for(home, Account(1, 1))
        place.symlink_to("/etc")
        with pytest.raises(HomeError, match="is not a folder of this user"):
            external_data.place_for(home, Account(1, 1))
        with pytest.raises(HomeError, match="is not a folder of this user"):
            external_data.prepare(place, home)

    def test_what_a_deleted_home_left_goes_when_it_is_made_again(self, base: Path) -> None:
        place = external_data.place_for(base / "home", Account(1, 1))
        external_data.prepare(place, base / "home")
        assert external_data.place_for(base / "home", Account(1, 1)) == place
        assert not place.exists()

    def test_places_without_a_home_go_after_a_while(self, base: Path) -> None:
        kept, fresh, orphan = (base / name for name in ("kept", "fresh", "orphan"))
        places = {
            home: external_data.place_for(home, Account(1, 1)) for home in (kept, fresh, orphan)
        }
        for home, place in places.items():
            external_data.prepare(place, home)
        for place in (places[kept], places[orphan]):
            os.utime(place / external_data.OWNER, (0, 0))
        kept.mkdir()
        (kept / external_data.LINK).symlink_to(places[kept])

        external_data.remove_orphans()

        assert places[kept].exists()
        assert places[fresh].exists()
        assert not places[orphan].exists()
