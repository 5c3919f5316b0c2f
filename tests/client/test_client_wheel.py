"""What the client ships: a wheel of its own, typed, that needs httpx alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILD = "import setuptools.build_meta as build; build.build_wheel(r'{folder}')"
NOT_SOURCES = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")


def test_the_wheel_holds_the_package_and_needs_httpx_alone(tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    shutil.copytree(ROOT / "clients/python", sources, ignore=NOT_SOURCES)
    build = [sys.executable, "-c", BUILD.format(folder=tmp_path)]
    subprocess.run(build, cwd=sources, check=True, capture_output=True)
    (built,) = tmp_path.glob("prepaid_client-*.whl")
    wheel = zipfile.ZipFile(built)
    package = ROOT / "clients/python/src"
    files = {str(file.relative_to(package)) for file in package.glob("prepaid_client/**/*.py")}
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == files | {"prepaid_client/py.typed"}
    (metadata,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
    needs = Parser().parsestr(wheel.read(metadata).decode()).get_all("Requires-Dist") or []
    assert [need.partition(";")[0].strip() for need in needs if "extra ==" not in need] == [
        "httpx<1,>=0.27"
    ]
    assert any(name.endswith("/licenses/LICENSE") for name in wheel.namelist())


def test_the_versions_agree() -> None:
    text = (ROOT / "clients/python/pyproject.toml").read_text(encoding="utf-8")
    caller = (ROOT / "clients/python/src/prepaid_client/caller.py").read_text(encoding="utf-8")
    changes = (ROOT / "clients/python/CHANGELOG.md").read_text(encoding="utf-8")
    version = text.partition('version = "')[2].partition('"')[0]
    assert f'"prepaid-client-python/{version}"' in caller
    assert f"\n## {version}\n" in changes


def test_the_image_leaves_the_client_out() -> None:
    for name in ("Dockerfile", ".dockerignore"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "clients" not in text
        assert "examples" not in text
