"""Reports of usage, grouped by dimension."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal


class Dimension(enum.StrEnum):
    """What usage is totalled by. The names are stored and shown to clients."""

    MODEL = "model"
    USER = "user"
    CATEGORY = "category"
    KEY = "key"
    TAG = "tag"


class GroupBy(enum.StrEnum):
    """What a report is grouped by: the dimensions, and days in UTC."""

    MODEL = "model"
    USER = "user"
    CATEGORY = "category"
    KEY = "key"
    TAG = "tag"
    DAY = "day"


class ReportSource(enum.StrEnum):
    """What a report was added up from: totals of hours, or the rows themselves."""

    TOTALS = "totals"
    ROWS = "rows"


@dataclass(frozen=True, slots=True)
class Setting:
    """The dimensions that an organization turned on, and since when each usage has them."""

    dimensions: frozenset[Dimension] = frozenset()
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRequest:
    """A report of the whole hours from `start` until `end`, of usage that has all `values`."""

    start: datetime
    end: datetime
    group_by: frozenset[GroupBy]
    values: dict[Dimension, str] = field(default_factory=dict)
    groups_max: int

    @property
    def dimensions(self) -> frozenset[Dimension]:
        """The dimensions that it needs."""
        grouped = {Dimension(name) for name in self.group_by if name is not GroupBy.DAY}
        return frozenset(grouped | set(self.values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """A sum of usage. `cost` is in credits."""

    quantity: Decimal
    cost: Decimal
    transactions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Group(Usage):
    """The usage of a group: a value for each dimension that a report is grouped by, or none.

    `is_rest`: the usage beyond the limit of subjects in an hour, of no known value.
    """

    day: datetime | None
    values: dict[Dimension, str | None]
    is_rest: bool


@dataclass(frozen=True, slots=True)
class Report:
    """The groups with the highest cost, days in their order, and the sum of all usage.

    Usage with several tags is part of the group of each, and once of the total. `is_truncated`:
    there are more groups.
    """

    source: ReportSource
    groups: list[Group]
    total: Usage
    is_truncated: bool
