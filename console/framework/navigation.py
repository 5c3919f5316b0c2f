"""The navigation: groups of links to the pages that exist and that the session may open."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Item:
    """A link of the navigation."""

    label: str
    path: str


Groups = Sequence[tuple[str, Sequence[Item]]]

GROUPS: Groups = (
    (
        "Customers",
        (
            Item("Organizations", "/console/organizations"),
            Item("Recharge attempts", "/console/attempts"),
            Item("Needs authentication", "/console/requires-action"),
        ),
    ),
    (
        "Stripe",
        (
            Item("Events", "/console/events"),
            Item("Dead letters", "/console/dead-letters"),
            Item("Reconciliation", "/console/reconciliation"),
        ),
    ),
    (
        "Your app",
        (
            Item("Messages", "/console/messages"),
            Item("Endpoints", "/console/endpoints"),
        ),
    ),
    (
        "Installation",
        (
            Item("Overview", "/console"),
            Item("API keys", "/console/keys"),
            Item("Audit log", "/console/audit"),
            Item("Settings", "/console/settings"),
        ),
    ),
)


def groups(paths: Collection[str]) -> Groups:
    """Return the groups with the items among these paths; empty groups are left out."""
    shown = [(label, [item for item in items if item.path in paths]) for label, items in GROUPS]
    return [(label, items) for label, items in shown if items]
