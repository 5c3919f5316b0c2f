"""Build the documentation site: stage the pages, then run the site generator in strict mode.

The pages read well on GitHub, where they link to the source code. The site has no source code:
staging turns these links into links to the repository, or into plain text where the repository
has no public address. Run it as `python -m docs.build`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build"
STAGE = BUILD / "docs"
SITE = BUILD / "site"
# Pages that stand at the top of the repository, with their names on the site.
TOP_PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
ASSETS = ("*.svg", "*.png", "*.css", "*.yml")
# GitHub draws these diagrams. The site shows their text: it loads no script from another host.
DIAGRAM = re.compile(r"^```mermaid\nstateDiagram-v2\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"^[ ]*```.*?^[ ]*```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")


def staged() -> dict[Path, Path]:
    """Return each file of the site: where it stands in the repository, and in the stage."""
    docs = ROOT / "docs"
    pages = {ROOT / name: STAGE / target for name, target in TOP_PAGES.items()}
    for pattern in ("*.md", *ASSETS):
        for file in sorted(docs.rglob(pattern)):
            name = "index.md" if file.name == "README.md" else file.name
            pages[file] = STAGE / file.relative_to(docs).parent / name
    return pages


def repository() -> str | None:
    """Return the repository's public address: in CI, GitHub's own variables say it."""
    server, name = os.environ.get("GITHUB_SERVER_URL"), os.environ.get("GITHUB_REPOSITORY")
    return f"{server}/{name}" if server and name else None


def with_links(text: str, page: Path, pages: dict[Path, Path], address: str | None) -> str:
    """Return a page with each relative link as the site has it. Code blocks stay as they are."""

    def replace(found: re.Match[str]) -> str:
        target, _, anchor = found["target"].partition("#")
        if "://" in target or target.startswith("mailto:") or not target:
            return found[0]
        file = (page.parent / target).resolve()
        fragment = f"#{anchor}" if anchor else ""
        if file in pages:
            path = os.path.relpath(pages[file], pages[page].parent)
            return f"{found['image']}[{found['text']}]({path}{fragment})"
        if address is None:
            return found["text"]
        return f"[{found['text']}]({address}/blob/main/{file.relative_to(ROOT)}{fragment})"

    parts, end = [], 0
    for block in FENCE.finditer(text):
        parts += [LINK.sub(replace, text[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*parts, LINK.sub(replace, text[end:])])


def stage() -> None:
    """Write the pages into build/docs, and the settings beside it."""
    shutil.rmtree(STAGE, ignore_errors=True)
    STAGE.mkdir(parents=True)
    shutil.copyfile(ROOT / "docs/zensical.toml", BUILD / "zensical.toml")
    pages, address = staged(), repository()
    for source, target in pages.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".md":
            text = DIAGRAM.sub(
                lambda found: f"```text\n{dedent(found[1])}```", source.read_text(encoding="utf-8")
            )
            target.write_text(with_links(text, source, pages, address), encoding="utf-8")
        else:
            shutil.copyfile(source, target)


def problems() -> list[str]:
    """Return what the generator does not report: unrendered code blocks, foreign hosts."""
    found = []
    for page in sorted(SITE.rglob("*.html")):
        text = page.read_text(encoding="utf-8")
        name = page.relative_to(SITE)
        if "```" in text:
            found.append(f"{name}: a code block was not rendered; indent it by four spaces")
        if "<td>- " in text:
            found.append(f"{name}: a table swallows a list; put a blank line after the table")
        loaded = re.findall(
            r"<(?:script|link|img)\b[^>]*?(?:src|href)=\"?(https?://[^\s\">]+)", text
        )
        found += [f"{name}: loads {host}" for host in loaded]
    return found


def main() -> int:
    """Build the site into build/site."""
    stage()
    shutil.rmtree(SITE, ignore_errors=True)
    built = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=BUILD,
        check=False,
    )
    if built.returncode:
        return built.returncode
    found = problems()
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
