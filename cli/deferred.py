"""Commands whose modules are imported when they run, so that each process imports only its own."""

from __future__ import annotations

import functools
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

PACKAGE = "cli.commands"


class DeferredCommand(TyperCommand):
    """The entry of a command, or of a group of commands, in the list of `prepaid --help`.

    `target` names what to import: `ledger` is the module whose `app` is the group `prepaid ledger`,
    `grants:adjust` a function that is one command. `additions` are modules with a `register` that
    add their commands to the group.
    """

    def __init__(self, name: str, help_: str, target: str, *additions: str) -> None:
        super().__init__(name, help=help_)
        self._target = target
        self._additions = additions

    @functools.cached_property
    def command(self) -> Any:
        """Import the command itself."""
        module, _, function = self._target.partition(":")
        found = import_module(f"{PACKAGE}.{module}")
        if function:
            app = typer.Typer()
            app.command(self.name)(getattr(found, function))
            return get_group(app).commands[str(self.name)]
        for addition in self._additions:
            import_module(f"{PACKAGE}.{addition}").register(found.app)
        return get_group(found.app)


_DEFERRED = (
    DeferredCommand("migrate", "The database schema. Without a subcommand: up.", "migrate"),
    DeferredCommand("orgs", "Organizations: the customers who own credits.", "organizations"),
    DeferredCommand("keys", "API keys for client apps.", "keys"),
    DeferredCommand(
        "events", "Stripe events: the inbox and its dead letters.", "events", "event_replay"
    ),
    DeferredCommand("ledger", "The ledger: verify it, explain it, anchor it.", "ledger"),
    DeferredCommand("finance", "The books: close a month.", "finance"),
    DeferredCommand(
        "statement",
        "Print an organization's credits in a month: opening, each reason for a change, closing.",
        "statement:statement",
    ),
    DeferredCommand("recharge", "Auto-recharge: rules, suspensions and attempts.", "recharge"),
    DeferredCommand(
        "endpoints", "Webhook endpoints: where outbound messages are sent.", "endpoints"
    ),
    DeferredCommand(
        "messages",
        "Outbound messages to your app, and dead letters.",
        "messages",
        "message_replay",
    ),
    DeferredCommand("grants", "Grants: credits with a priority and an expiry.", "grants"),
    DeferredCommand(
        "adjust",
        "Correct a balance, up or down; an amount below 0 follows --:"
        " adjust acme --reason … -- -5.",
        "grants:adjust",
    ),
    DeferredCommand(
        "bind", "Bind a Stripe customer or a captured payment to an organization.", "bind:bind"
    ),
    DeferredCommand(
        "budgets", "Budgets: limits on what a user, a key, a category or a tag uses.", "budgets"
    ),
    DeferredCommand("alerts", "Alerts: the balances below which credits.low is sent.", "alerts"),
    DeferredCommand(
        "prices",
        "Price books: versions of prices for usage.",
        "prices",
        "organization_prices",
    ),
    DeferredCommand("privacy", "Personal data outside the ledger.", "privacy"),
    DeferredCommand("audit", "The audit log: who did what, to what, and why.", "audit"),
    DeferredCommand("console", "The operator console, /console of a web process.", "console"),
    DeferredCommand("stripe", "The Stripe account that Prepaid works with.", "stripe_endpoint"),
    DeferredCommand(
        "reconcile",
        "Compare Stripe's events, payments, refunds, disputes and cards"
        " with what is recorded here.",
        "reconcile:reconcile",
    ),
)


class CommandLine(TyperGroup):
    """`prepaid`: the commands that are given, and those that are imported when they run."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for command in _DEFERRED:
            self.add_command(command)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the command that the arguments name, imported."""
        name, command, rest = super().resolve_command(ctx, args)
        if isinstance(command, DeferredCommand):
            command = command.command
        return name, command, rest
