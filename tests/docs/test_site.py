"""The documentation site is complete, and the pages use the words of the glossary."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped] # its stubs are not among the dependencies

from docs.build import STAGE, staged, with_links
from shared.events import rules
from shared.outbound.model import MessageType

ROOT = Path(__file__).parents[2]
SETTINGS: dict[str, Any] = tomllib.loads((ROOT / "docs/zensical.toml").read_text(encoding="utf-8"))
DECISIONS = sorted((ROOT / "docs/adr").glob("[0-9]*.md"))

# Words that were replaced, as regular expressions. They must not come back in code, SQL or docs.
RETIRED_WORDS = (
    r"CameTo|Became",
    r"Doorbell",
    r"CardDetached",
    r"[Ss]urface [A-D]|[Ss]hape [A-D]",
    r"CardTold|DefaultTold|SubscriptionTold|MandateTold|AttemptMoved",
    r"NotNow",
    r"Settlement",
    r"Terms",
    r"Forgetter|Describer|Closer",
    r"organization_names",
    r"OrganizationAnswer|OrganizationNames|\w+Shown",
    r"carry_out|by_hand|told_at|OurFault|PostingOutcome",
    r"notification_endpoints|shared\.notifications|shared/notifications",
    r"from ops|api/operations|api\.operations",
    r"_card_told|_attempt_moved|_ASKING|ASKED_AT_ONCE_MAX|_settle_purchases|_keep_described",
    r"detached_of_nobody|due_beside_paused|unflushed",
)
# Words that the pages do not use, although the code may.
RETIRED_WORDS_OF_DOCS = (
    r"[Ll]ots?",
    r"[Tt]ells? of",
    r"[Cc]omes? to the same",
    r"[Bb]y hand",
    r"[Ff]or want of",
    r"[Aa]new",
    r"[Hh]ouses?",
    r"[Nn]obody's failure",
)
DOCS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
ROOMS = ("api", "bench", "cli", "docs", "migrations", "sandbox", "shared", "webhooks", "worker")
SOURCES = sorted(
    file
    for room in (*ROOMS, "tests")
    for pattern in ("*.py", "*.sql", "*.md")
    for file in (ROOT / room).rglob(pattern)
    if file != Path(__file__)
)


def pages_of(entries: list[Any]) -> list[str]:
    """Return the pages of a part of the navigation, in order."""
    pages: list[str] = []
    for entry in entries:
        if isinstance(entry, str):
            pages.append(entry)
        else:
            for part in entry.values():
                pages += pages_of(part)
    return pages


def hits(words: tuple[str, ...], files: list[Path]) -> list[str]:
    """Return the lines that hold one of the words."""
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(words)})(?!\w)")
    return [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in files
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]


def test_every_page_is_in_the_navigation_of_the_site_once() -> None:
    listed = pages_of(SETTINGS["project"]["nav"])
    pages = [str(page.relative_to(STAGE)) for page in staged().values() if page.suffix == ".md"]
    assert sorted(listed) == sorted(pages)


def test_the_site_loads_no_font_from_elsewhere() -> None:
    assert SETTINGS["project"]["theme"]["font"] is False


@pytest.mark.parametrize("page", DOCS, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_block_inside_a_list_is_indented_by_four_spaces(page: Path) -> None:
    """GitHub accepts two or three; the site's generator ends the list there."""
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"^ {2,3}(?:```|\|).*$", text, re.MULTILINE) == []


def test_the_list_of_decisions_has_each_with_its_title() -> None:
    rows = re.findall(
        r"^\| (\d+) \| \[(.+)\]\((.+)\) \|",
        (ROOT / "docs/adr/README.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    titles = []
    for page in DECISIONS:
        heading = page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        number, title = heading.split(". ", 1)
        titles.append((number, title, page.name))
    assert rows == titles


@pytest.mark.parametrize(
    ("link", "address", "expected"),
    [
        ("[a](states.md#hold)", None, "[a](states.md#hold)"),
        ("[a](../README.md)", None, "[a](index.md)"),
        ("[a](adr/README.md)", None, "[a](adr/index.md)"),
        ("[`f`](../shared/ids.py)", None, "`f`"),
        ("[a](../shared/ids.py)", "https://h/o", "[a](https://h/o/blob/main/shared/ids.py)"),
        ("[a](https://stripe.com)", None, "[a](https://stripe.com)"),
        ("```\n[a](../shared/ids.py)\n```", None, "```\n[a](../shared/ids.py)\n```"),
    ],
)
def test_a_link_of_a_page_leads_to_its_place_on_the_site(
    link: str, address: str | None, expected: str
) -> None:
    assert with_links(link, ROOT / "docs/api.md", staged(), address) == expected


def test_the_page_of_event_types_lists_each_type_that_is_handled_once() -> None:
    page = (ROOT / "docs/event-types.md").read_text(encoding="utf-8")
    listed = re.findall(r"`([a-z_.]+)`", "".join(re.findall(r"^\| (`[^|]+)\|", page, re.MULTILINE)))
    assert sorted(listed) == sorted(rules._READERS)  # noqa: SLF001 - the table itself


def test_the_page_of_event_types_names_each_type_that_is_always_ignored() -> None:
    page = (ROOT / "docs/event-types.md").read_text(encoding="utf-8")
    marked = set(re.findall(r"^\| `([a-z_.]+)` \| Ignored\.", page, re.MULTILINE))
    ignored = {
        event_type
        for event_type, reader in rules._READERS.items()  # noqa: SLF001 - the table itself
        if reader.__qualname__.startswith("_ignored.")
    }
    assert marked == ignored


def test_the_page_of_messages_lists_each_type_once() -> None:
    page = (ROOT / "docs/messages.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `([a-z_.]+)` \|", page, re.MULTILINE)) == sorted(MessageType)


def test_retired_words_do_not_come_back() -> None:
    assert hits(RETIRED_WORDS, SOURCES) == []


def test_the_pages_do_not_use_retired_words() -> None:
    assert hits(RETIRED_WORDS_OF_DOCS, DOCS) == []


def test_a_retired_word_would_be_found() -> None:
    page = ROOT / "docs/glossary.md"
    assert hits((r"organization",), [page])
    assert not hits((r"organizat",), [page])


def test_ci_on_github_calls_the_one_entry_of_ci() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    commands = [step["run"] for step in workflow["jobs"]["check"]["steps"] if "run" in step]
    assert commands == [".ci/run"]
    assert workflow["permissions"] == {"contents": "read"}


@pytest.mark.parametrize("name", ["bug", "feature"])
def test_an_issue_form_has_fields_with_ids_that_differ(name: str) -> None:
    form = yaml.safe_load((ROOT / f".github/ISSUE_TEMPLATE/{name}.yml").read_text(encoding="utf-8"))
    assert form["name"]
    assert form["description"]
    fields = [field["id"] for field in form["body"] if field["type"] != "markdown"]
    assert fields
    assert len(fields) == len(set(fields))
