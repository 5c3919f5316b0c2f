"""A payment method is described before it is charged: by its events, or by asking Stripe."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.fixtures.product import event_states, payment
from tests.integration.test_event_cards import (
    CUSTOMER,
    apply,
    card,
    cards,
    customer,
    known,
    recharging,
    state,
    tell,
    the_default,
)
from tests.integration.test_event_owners import set_up
from tests.integration.test_event_ties import method
from worker.payment_method_fetcher import PaymentMethodFetcher

if TYPE_CHECKING:
    from collections.abc import Collection

    from shared.db.pool import Pool
    from shared.organizations.model import Organization
    from shared.payments.lookup import StripeLookup
    from tests.fixtures.stripe_answers import StripeAnswers
    from worker.drainer import Drainer

LINK: dict[str, Any] = {
    "id": "pm_1",
    "object": "payment_method",
    "type": "link",
    "customer": CUSTOMER,
    "link": {"email": "buyer@example.com"},
}
SAVING: dict[str, Any] = {
    "customer": CUSTOMER,
    "payment_method": "pm_1",
    "setup_future_usage": "off_session",
}


@pytest.fixture
def fetcher(pool: Pool, lookup: StripeLookup) -> PaymentMethodFetcher:
    return PaymentMethodFetcher(pool, lookup, now=lambda: datetime(2026, 11, 27, tzinfo=UTC))


async def charged(pool: Pool) -> str | None:
    found: str | None = await pool.fetchval("SELECT id FROM charged_methods")
    return found


async def described(pool: Pool) -> list[tuple[str, str | None, str | None]]:
    return [(row["type"], row["last4"], row["fingerprint"]) for row in await cards(pool)]


@pytest.mark.parametrize("types", [["card", "link"], ["card"]])
async def test_a_card_that_was_set_up_is_described_by_asking(
    pool: Pool,
    organization: Organization,
    asking: Drainer,
    stripe_answers: StripeAnswers,
    types: list[str],
) -> None:
    await known(pool)
    stripe_answers.on_file["pm_1"] = method()
    await apply(pool, asking, set_up(payment_method_types=types))
    assert await described(pool) == [("card", "4242", "fp_1")]
    (row,) = await cards(pool)
    assert row["mandate_id"] == "mandate_1"
    assert await charged(pool) == "pm_1"


async def test_a_card_that_is_described_is_not_asked_for(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    await known(pool)
    await apply(pool, asking, card(at=1), set_up(), customer("pm_1"))
    assert stripe_answers.asked == []
    assert [row["mandate_id"] for row in await cards(pool)] == ["mandate_1"]


async def test_a_default_that_nothing_has_described_is_described_by_asking(
    pool: Pool, organization: Organization, asking: Drainer, stripe_answers: StripeAnswers
) -> None:
    await known(pool)
    stripe_answers.on_file["pm_1"] = LINK
    await apply(pool, asking, customer("pm_1"))
    assert await described(pool) == [("link", None, None)]
    assert (await the_default(pool), await charged(pool)) == ("pm_1", "pm_1")


@pytest.mark.parametrize("found", [None, method(customer=None)], ids=["missing", "detached"])
@pytest.mark.parametrize("body", [set_up(), customer("pm_1")], ids=["set up", "the default"])
async def test_a_payment_method_that_stripe_does_not_have_on_file_is_noted_as_detached(
    pool: Pool,
    organization: Organization,
    asking: Drainer,
    stripe_answers: StripeAnswers,
    body: bytes,
    found: dict[str, Any] | None,
) -> None:
    await known(pool)
    await recharging(pool, organization)
    if found is not None:
        stripe_answers.on_file["pm_1"] = found
    await apply(pool, asking, body)
    (row,) = await cards(pool)
    assert (row["detached_at"] is not None, row["is_default"]) == (True, False)
    assert (await state(pool))[0] == "suspended"
    assert set((await event_states(pool)).values()) == {"applied"}


@pytest.mark.parametrize("types", [None, ["card", "link"], ["link"]])
async def test_what_a_payment_saved_is_not_charged_before_it_is_described(
    pool: Pool,
    organization: Organization,
    asking: Drainer,
    fetcher: PaymentMethodFetcher,
    stripe_answers: StripeAnswers,
    types: list[str] | None,
) -> None:
    await recharging(pool, organization, "declines")
    await apply(pool, asking, payment("1", payment_method_types=types, **SAVING))
    assert await charged(pool) is None
    stripe_answers.on_file["pm_1"] = LINK
    assert await fetcher.fetch() == 1
    assert await described(pool) == [("link", None, None)]
    assert await charged(pool) == "pm_1"
    assert await state(pool) == ("active", None)
    assert await fetcher.fetch() == 0


async def test_what_a_payment_saved_and_stripe_has_no_more_is_off_file(
    pool: Pool,
    organization: Organization,
    asking: Drainer,
    fetcher: PaymentMethodFetcher,
) -> None:
    await recharging(pool, organization)
    await apply(pool, asking, payment("1", **SAVING))
    await fetcher.fetch()
    assert [row["detached_at"] is not None for row in await cards(pool)] == [True]
    assert (await state(pool))[0] == "suspended"


async def test_stripe_is_asked_again_after_a_while_for_what_it_did_not_say(
    pool: Pool,
    organization: Organization,
    asking: Drainer,
    fetcher: PaymentMethodFetcher,
    stripe_answers: StripeAnswers,
) -> None:
    await apply(pool, asking, payment("1", **SAVING))
    stripe_answers.status = 500
    assert await fetcher.fetch() == 1
    stripe_answers.status = 200
    stripe_answers.on_file["pm_1"] = method()
    assert await fetcher.fetch() == 0
    await pool.execute("UPDATE payment_methods SET describe_after = now()")
    assert await fetcher.fetch() == 1
    assert await described(pool) == [("card", "4242", "fp_1")]


async def test_an_event_that_is_older_than_what_stripe_said_changes_nothing(
    pool: Pool,
    organization: Organization,
    asking: Drainer,
    fetcher: PaymentMethodFetcher,
    stripe_answers: StripeAnswers,
) -> None:
    await apply(pool, asking, payment("1", **SAVING))
    stripe_answers.on_file["pm_1"] = method(last4="2222")
    await fetcher.fetch()
    await apply(pool, asking, card(at=100, last4="1111"))
    assert await described(pool) == [("card", "2222", "fp_1")]
    await apply(pool, asking, card("updated", at=4_000_000_000, last4="3333"))
    assert await described(pool) == [("card", "3333", "fp_1")]


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("us_bank_account", {"bank_name": "STRIPE TEST BANK", "last4": "6789"}),
        ("sepa_debit", {"last4": "3000", "fingerprint": "fp_sepa"}),
        ("paypal", {"payer_email": "buyer@example.com", "payer_id": "P"}),
        ("cashapp", {"buyer_id": "B", "cashtag": "$buyer"}),
        ("amazon_pay", {}),
    ],
)
async def test_payment_methods_of_every_type_are_described_and_charged_as_what_they_are(
    pool: Pool,
    organization: Organization,
    asking: Drainer,
    stripe_answers: StripeAnswers,
    kind: str,
    given: dict[str, Any],
) -> None:
    await known(pool)
    stripe_answers.on_file["pm_1"] = {**LINK, "type": kind, kind: given}
    await apply(pool, asking, set_up(payment_method_types=["card", kind]))
    assert await described(pool) == [(kind, given.get("last4"), given.get("fingerprint"))]
    assert await pool.fetchval("SELECT type FROM charged_methods") == kind


# What ends a suspension for declines, and what does not


def renewed(word: str = "automatically_updated", **changes: Any) -> bytes:
    """Return an event, a while later, of the same number with another expiry."""
    expiry = {"exp_month": 12, "exp_year": 2038, "fingerprint": "fp_1", **changes}
    return card(word, at=500, card={"brand": "visa", "last4": "4242", **expiry})


async def suspended_for_an_expired_card(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await known(pool)
    await apply(pool, drainer, card(), card(name="2", at=50))
    await recharging(pool, organization, "declines")


@pytest.mark.parametrize(
    "bodies",
    [
        pytest.param([renewed()], id="renewed by its network"),
        pytest.param([renewed("updated")], id="renewed by its holder"),
        pytest.param([card(name="3")], id="another number"),
        pytest.param([tell("payment_method.attached", {**LINK, "id": "pm_9"})], id="Link"),
        pytest.param([customer("pm_2")], id="another default"),
    ],
)
async def test_m18_a_new_or_renewed_card_or_another_default_ends_a_suspension_for_declines(
    pool: Pool, organization: Organization, drainer: Drainer, bodies: Collection[bytes]
) -> None:
    await suspended_for_an_expired_card(pool, organization, drainer)
    await apply(pool, drainer, *bodies)
    assert await state(pool) == ("active", None)


@pytest.mark.parametrize(
    "bodies",
    [
        pytest.param([card("updated", at=500)], id="described again"),
        pytest.param(
            [card("updated", at=500, billing_details={"address": {"city": "Bern"}})],
            id="another billing address",
        ),
        pytest.param([renewed(exp_year=2030)], id="an earlier expiry"),
        pytest.param([renewed("attached", exp_year=2034)], id="the same number again"),
        pytest.param([customer("pm_1")], id="the default that is charged already"),
        pytest.param([customer(None)], id="no default"),
    ],
)
async def test_m18_the_same_card_ends_no_suspension_for_declines(
    pool: Pool, organization: Organization, drainer: Drainer, bodies: Collection[bytes]
) -> None:
    await suspended_for_an_expired_card(pool, organization, drainer)
    await apply(pool, drainer, *bodies)
    assert await state(pool) == ("suspended", "declines")


async def test_the_same_card_added_again_ends_a_suspension_for_want_of_a_card(
    pool: Pool, organization: Organization, drainer: Drainer
) -> None:
    await known(pool)
    await apply(pool, drainer, card())
    await pool.execute("UPDATE payment_methods SET detached_at = now()")
    await recharging(pool, organization, "no_card")
    same = {"brand": "visa", "last4": "4242", "fingerprint": "fp_1"}
    await apply(pool, drainer, card(name="2", card=same))
    assert await state(pool) == ("active", None)
