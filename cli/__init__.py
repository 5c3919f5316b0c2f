"""The `prepaid` command. It imports structlog first, without `rich`, which no log line needs."""

from shared.optional_imports import without

with without("rich"):
    import structlog  # noqa: F401
