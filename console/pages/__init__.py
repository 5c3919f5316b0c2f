"""Every page of the console that needs a session."""

from __future__ import annotations

from console.framework.page import Page
from console.pages import (
    attempts,
    audit,
    dead_letters,
    endpoints,
    event_replay,
    events,
    keys,
    messages,
    organization,
    organization_acts,
    organization_budgets,
    organization_lists,
    organization_statement,
    organizations,
    overview,
    reconciliation,
    requires_action,
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
    *organization_budgets.PAGES,
    *organization_statement.PAGES,
    *transactions.PAGES,
    *attempts.PAGES,
    *requires_action.PAGES,
    *reconciliation.PAGES,
    *messages.PAGES,
    *endpoints.PAGES,
    *audit.PAGES,
    *keys.PAGES,
    *search.PAGES,
    *settings.PAGES,
)
