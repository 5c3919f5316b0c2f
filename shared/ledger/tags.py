"""Tags of usage: short texts of the caller, such as a project, to group and limit usage by."""

from __future__ import annotations

import re
from collections.abc import Sequence

TAGS_MAX = 8
TAG_LENGTH_MAX = 64
TAG_FORM = r"^[\w.:/@-]+$"
_TAG = re.compile(TAG_FORM)


def tags_refusal(tags: Sequence[str]) -> str | None:
    """Say what is wrong with tags, in a sentence; None when the ledger can take them."""
    if len(tags) > TAGS_MAX:
        return f"tags: at most {TAGS_MAX}"
    if len(set(tags)) < len(tags):
        return "tags: must differ from each other"
    if any(len(tag) > TAG_LENGTH_MAX or not _TAG.fullmatch(tag) for tag in tags):
        return f"tags: 1 to {TAG_LENGTH_MAX} letters, digits, or any of _.:/@- each"
    return None
