"""Every page of the console that needs a session."""

from __future__ import annotations

from console.framework.page import Page
from console.pages import (
    keys,
    organization,
    organization_acts,
    organization_lists,
    organizations,
    overview,
)

PAGES: tuple[Page, ...] = (
    *overview.PAGES,
    *organizations.PAGES,
    *organization.PAGES,
    *organization_lists.PAGES,
    *organization_acts.PAGES,
    *keys.PAGES,
)
