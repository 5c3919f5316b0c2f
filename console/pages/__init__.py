"""Every page of the console that needs a session."""

from __future__ import annotations

from console.framework.page import Page
from console.pages import dead_letters, event_replay, events, keys, overview

PAGES: tuple[Page, ...] = (
    *overview.PAGES,
    *events.PAGES,
    *event_replay.PAGES,
    *dead_letters.PAGES,
    *keys.PAGES,
)
