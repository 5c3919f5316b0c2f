"""The ingest edge as an aiohttp application."""

from __future__ import annotations

from aiohttp import web

from shared.config import Settings
from shared.inbox.model import DELIVERY_PATH
from shared.inbox.service import Inbox
from webhooks.endpoint import StripeWebhook

PATH = DELIVERY_PATH


def routes(settings: Settings, inbox: Inbox) -> list[web.RouteDef]:
    """Return the webhook routes."""
    return [web.post(PATH, StripeWebhook(settings, inbox).handle)]
