"""What the benchmarks post to."""

from __future__ import annotations

from shared.db.pool import connect
from shared.organizations import service as organizations


async def create_organization(database_url: str, slug: str) -> str:
    """Create an organization to post to; return its id."""
    connection = await connect(database_url, application_name="prepaid-bench")
    organization = await organizations.create(connection, slug=slug, name=slug)
    await connection.close()
    return str(organization.id)
