"""The page of a transaction: from a debit through its grants to Stripe's receipt, and the row."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from console.pages import transactions as page_module
from shared.ids import new_id, transaction_public_id
from shared.ledger.origin import TAGS
from shared.organizations import service as organizations
from shared.organizations.model import Organization
from tests.fixtures.console import ConsoleBrowser, ShownPage
from tests.fixtures.ledger import grant, limit_overdraft, post, usage
from tests.fixtures.product import payment
from tests.integration.events import apply
from worker.drainer import Drainer

if TYPE_CHECKING:
    from shared.db.pool import Pool

HOSTILE = "<script>alert(1)</script>&\"'<b>"
USES = "Debits that this credit paid for"


def path(transaction_id: UUID) -> str:
    return f"/console/transactions/{transaction_id}"


def drawn(page: ShownPage) -> list[list[str]]:
    """Return each path of the drawing: the part, then the kind and text of each box."""
    return [
        [
            " ".join(item.select_one(".flow-part").get_text(" ").split()),  # type: ignore[union-attr]
            *(" ".join(step.get_text(" ").split()) for step in item.select(".step")),
        ]
        for item in page.soup.select("ol.flow > li")
    ]


async def first(pool: Pool) -> UUID:
    found: UUID = await pool.fetchval("SELECT id FROM credit_transactions ORDER BY seq LIMIT 1")
    return found


async def test_a_debit_leads_to_its_grants_payment_charge_receipt_and_event(
    operator: ConsoleBrowser, organization: Organization, drainer: Drainer
) -> None:
    await apply(operator.pool, drainer, payment("1"))
    await operator.pool.execute(
        "UPDATE stripe_payments SET receipt_url = 'https://pay.stripe.com/receipts/1'"
    )
    (_, debit) = await post(
        operator.pool, grant(organization, 2, priority=1, promotional=True), usage(organization, 5)
    )
    page = await operator.get(path(debit.id))
    assert drawn(page) == [
        [
            "2 credits",
            "Grant grant #2 0 of 2 left",
            "Payment promotional Stripe has no payment of this grant.",
        ],
        [
            "3 credits",
            "Grant purchase #1 7 of 10 left",
            "PaymentIntent pi_1 10.00 USD",
            "Charge ch_1 receipt at Stripe",
            "Event evt_1 payment_intent.succeeded, applied",
        ],
    ]
    links = {a.get_text(strip=True): a["href"] for a in page.soup.select(".step a")}
    assert links["ch_1"] == "https://pay.stripe.com/receipts/1"
    assert links["evt_1"] == "/console/events/evt_1"
    assert links["purchase #1"] == path(await first(operator.pool))
    widths = [float(str(part["width"])) for part in page.soup.select(".flow-bar rect")]
    assert widths == [256.0, 384.0]


async def test_debt_is_a_part_of_the_drawing(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    await limit_overdraft(operator.pool, organization.id, 100)
    (_, debit) = await post(operator.pool, grant(organization, 2), usage(organization, 5))
    page = await operator.get(path(debit.id))
    assert [part[:2] for part in drawn(page)] == [
        ["2 credits", "Grant grant #1 0 of 2 left"],
        ["3 credits", "Debt unpaid debt No grant covers this part."],
    ]


async def test_a_debit_of_many_grants_is_drawn_in_part(
    operator: ConsoleBrowser, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_module, "SOURCES_MAX", 3)
    grants = [grant(organization, 1) for _ in range(5)]
    *_, debit = await post(operator.pool, *grants, usage(organization, "4.5"))
    page = await operator.get(path(debit.id))
    assert len(drawn(page)) == 3
    assert "1.5 more come from further grants" in page.text


async def test_a_credit_shows_what_brought_it_and_what_it_paid_for_in_pages(
    operator: ConsoleBrowser, organization: Organization, drainer: Drainer
) -> None:
    await apply(operator.pool, drainer, payment("1", amount_received=100_00, amount=100_00))
    await post(operator.pool, *(usage(organization, 1) for _ in range(60)))
    page = await operator.get(path(await first(operator.pool)))
    steps = [" ".join(step.get_text(" ").split()) for step in page.soup.select(".step")]
    assert steps[:2] == ["Ledger row purchase #1", "PaymentIntent pi_1 100.00 USD"]
    rows = page.rows(USES)
    assert [rows[0][0], rows[-1][0]] == ["2", "51"]
    page = await operator.get(str(page.one("a[rel=next]")["href"]))
    assert [row[0] for row in page.rows(USES)] == [str(seq) for seq in range(52, 62)]


async def test_the_row_shows_its_hash_key_and_origin(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    key = await operator.make_key("usage")
    (made,) = await post(
        operator.pool,
        grant(
            organization, 5, key="order-1", key_id=UUID(key["id"]), request_id="req_1",
            metadata={"model": {"name": "x"}, TAGS: ["team:a", "<b>"]},
        ),
    )  # fmt: skip
    page = await operator.get(path(made.id))
    row = await operator.pool.fetchrow("SELECT * FROM credit_transactions")
    assert row is not None
    facts = dict(
        zip(
            (" ".join(name.get_text().split()) for name in page.soup.select(".facts dt")),
            (" ".join(value.get_text(" ").split()) for value in page.soup.select(".facts dd")),
            strict=True,
        )
    )
    assert facts["Hash"] == row["hash"].hex()
    assert facts["Seq"] == "1"
    assert facts["Idempotency key"] == "order-1"
    assert facts["API key"] == f"usage key 1 {key['id']}"
    assert facts["Request"] == "req_1"
    assert facts["Tags"] == "team:a, <b>"
    assert "prepaid:" not in page.one(".payload").get_text()


async def test_a_transaction_opens_by_both_forms_of_its_id(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    (made,) = await post(operator.pool, grant(organization, 5))
    name = transaction_public_id(made.id)
    for form in (str(made.id), name):
        assert (await operator.get(f"/console/transactions/{form}")).title == name
    for unknown in (str(new_id()), "none", "ct_none", "%00"):
        page = await operator.get(f"/console/transactions/{unknown}")
        assert page.status in {400, 404}, unknown


@pytest.mark.parametrize(
    "url", [HOSTILE, "javascript:alert(1)", 'https://pay.stripe.com/"><script>alert(1)</script>']
)
async def test_html_in_every_stored_field_is_shown_escaped(
    operator: ConsoleBrowser, organization: Organization, drainer: Drainer, url: str
) -> None:
    await apply(operator.pool, drainer, payment("1"))
    await operator.pool.execute(
        "UPDATE stripe_payments SET charge_id = $1, receipt_url = $2", HOSTILE, url
    )
    await operator.pool.execute("UPDATE stripe_events SET type = $1", HOSTILE)
    await operator.pool.execute("UPDATE organizations SET name = $1", HOSTILE)
    fields = dict.fromkeys(("description", "category", "user_id", "key"), HOSTILE)
    (debit,) = await post(
        operator.pool,
        usage(organization, 5, metadata={HOSTILE: [HOSTILE]}, request_id=HOSTILE, **fields),
    )
    for shown in (debit.id, await first(operator.pool)):
        page = await operator.get(path(shown))
        assert page.status == 200
        assert page.soup.find_all(["script", "b"]) == []
        assert HOSTILE in page.soup.get_text()
        links = [str(link["href"]) for link in page.soup.select("main a")]
        assert all(link.startswith(("/console", "https://pay.stripe.com/")) for link in links)


async def test_a_bound_session_opens_the_transactions_of_its_own_organization_alone(
    stranger: ConsoleBrowser, organization: Organization, drainer: Drainer
) -> None:
    async with stranger.pool.acquire() as connection, connection.transaction():
        other = await organizations.create(connection, slug="other", name="Other")
    await apply(stranger.pool, drainer, payment("1"))
    (own,) = await post(stranger.pool, usage(organization, 5))
    (foreign,) = await post(stranger.pool, grant(other, 5))
    await stranger.sign_in("read", organization)
    page = await stranger.get(path(own.id))
    assert page.status == 200
    assert page.soup.select('main a[href^="/console/events"]') == []
    page = await stranger.get(path(foreign.id))
    assert (page.status, page.text) == (404, (await stranger.get(path(new_id()))).text)


async def test_a_balance_of_decimals_is_drawn_exactly(
    operator: ConsoleBrowser, organization: Organization
) -> None:
    amount = Decimal("0.000000001")
    *_, debit = await post(
        operator.pool, grant(organization, amount), grant(organization, 1), usage(organization, 1)
    )
    parts = [part[0] for part in drawn(await operator.get(path(debit.id)))]
    assert parts == ["0.000000001 credits", "0.999999999 credits"]
