"""Every page of the console that needs a session."""

from __future__ import annotations

from console.framework.page import Page
from console.pages import (
    attempts,
    dead_letters,
    event_replay,
    events,
    keys,
    overview,
    requires_action,
)

PAGES: tuple[Page, ...] = (
    *overview.PAGES,
    *events.PAGES,
    *event_replay.PAGES,
    *dead_letters.PAGES,
    *attempts.PAGES,
    *requires_action.PAGES,
    *keys.PAGES,
)
