"""JSON with exact numbers: a Decimal is written digit by digit, and every fraction read as one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any


def loads(content: bytes) -> Any:
    """Parse JSON; a number without a fraction is an int, any other a Decimal."""
    return json.loads(content, parse_float=Decimal)


def dumps(value: Any) -> str:
    """Write a value as JSON. Raises ValueError on a number that JSON does not have."""
    match value:
        case Decimal():
            if not value.is_finite():
                raise ValueError(f"{value} is not a JSON number")
            return format(value, "f")
        case Mapping():
            return f"{{{','.join(f'{json.dumps(str(k))}:{dumps(v)}' for k, v in value.items())}}}"
        case list() | tuple():
            return f"[{','.join(map(dumps, value))}]"
        case _:
            return json.dumps(value, allow_nan=False)
