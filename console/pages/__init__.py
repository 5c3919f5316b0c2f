"""Every page of the console that needs a session."""

from __future__ import annotations

from console.framework.page import Page
from console.pages import (
    audit,
    dead_letters,
    event_replay,
    events,
    keys,
    organization,
    organization_acts,
    organization_lists,
    organizations,
    overview,
    search,
    settings,
    transactions,
)

PAGES: tuple[Page, ...] = (
    *overview.PAGES,
    *events.PAGES,
    *event_replay.PAGES,
    *dead_letters.PAGES,
    *organizations.PAGES,
    *organization.PAGES,
    *organization_lists.PAGES,
    *organization_acts.PAGES,
    *transactions.PAGES,
    *audit.PAGES,
    *keys.PAGES,
    *search.PAGES,
    *settings.PAGES,
)
