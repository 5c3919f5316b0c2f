"""The field `tags` of transactions, usage and holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec

from shared.ledger import posting_errors
from shared.ledger.origin import TAGS
from shared.ledger.tags import TAG_FORM, TAG_LENGTH_MAX, TAGS_MAX, tags_refusal

Tags = Annotated[
    list[
        Annotated[
            str,
            msgspec.Meta(
                extra_json_schema={"pattern": TAG_FORM, "minLength": 1, "maxLength": TAG_LENGTH_MAX}
            ),
        ]
    ],
    msgspec.Meta(extra_json_schema={"maxItems": TAGS_MAX, "uniqueItems": True}),
]


def metadata_of(tags: Sequence[str] | None, where: tuple[str | int, ...]) -> dict[str, Any]:
    """Return the reserved metadata of tags; raise ValidationError for those that are not valid."""
    if not tags:
        return {}
    if error := tags_refusal(tags):
        raise posting_errors.invalid_field(error, where)
    return {TAGS: list(tags)}


def of_metadata(metadata: Mapping[str, Any]) -> list[str]:
    """Return the tags of stored metadata."""
    tags: list[str] = metadata.get(TAGS, [])
    return tags
