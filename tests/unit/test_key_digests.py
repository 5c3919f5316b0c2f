"""The digest of a key is remembered by its headers, which a client may fill with anything."""

from __future__ import annotations

from api.framework.authenticator import digest_of, remembered_digest
from shared.access import service as access

KEY = access.KEY_PREFIX + "remembered" * 2


def test_headers_that_are_longer_than_a_key_needs_are_not_remembered() -> None:
    remembered_digest.cache_clear()
    padded = f"Bearer{' ' * 8_000}{KEY}"
    assert digest_of((), (padded,) * 100) == access.digest(KEY)
    assert remembered_digest.cache_info().currsize == 0
    assert digest_of((), (f"Bearer {KEY}",)) == access.digest(KEY)
    assert remembered_digest.cache_info().currsize == 1
