"""Every page of the console that needs a session."""

from __future__ import annotations

from console.framework.page import Page
from console.pages import audit, keys, overview

PAGES: tuple[Page, ...] = (
    *overview.PAGES,
    *audit.PAGES,
    *keys.PAGES,
)
