"""What the edge of the API does with a request before any operation has it."""

from __future__ import annotations

from api import edge
from shared.errors import InvalidRequestError
from tests.fixtures.api import ApiClient
from tests.fixtures.operations import check_refused

PATH = "/v1/organizations"


async def test_a_version_that_is_named_twice_is_400(api_client: ApiClient) -> None:
    named = (edge.VERSION_HEADER, edge.API_VERSION)
    assert (await api_client.call("GET", PATH, headers=[named])).status == 200
    for other in (edge.API_VERSION, "2020-01-01"):
        twice = [named, (edge.VERSION_HEADER, other)]
        check_refused(await api_client.call("GET", PATH, headers=twice), InvalidRequestError)
