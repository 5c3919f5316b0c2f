"""Stripe's library, without the HTTP clients that it imports where they are installed.

Every request goes out through aiohttp. `requests`, which the library brings, and `httpx` would take
a tenth of a process's start and 10 MiB of its memory.
"""

from shared.optional_imports import without

with without("requests", "httpx"):
    import stripe

__all__ = ["stripe"]
