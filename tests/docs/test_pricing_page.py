"""The price books on the page about prices are valid, and cost what it says."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from shared.pricing.files import read
from shared.pricing.matching import PriceIndex
from shared.pricing.model import PricedUsage, Subject, UsageItem
from shared.pricing.rules import price_item

PAGE = (Path(__file__).parents[2] / "docs/pricing.md").read_text(encoding="utf-8")


def test_the_file_on_the_page_costs_what_the_page_says() -> None:
    (text,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    index = PriceIndex(read(text, toml=True))
    price = index.find(Subject.METER, "images", datetime(2026, 11, 28, tzinfo=UTC))
    assert price is not None
    item = UsageItem(meter="images", measures={"images": Decimal(14)})
    priced = price_item(item, price, index.book)
    assert isinstance(priced, PricedUsage)
    amounts = [(line.quantity, line.unit_price) for line in priced.lines]
    assert amounts == [(Decimal(10), Decimal("0.04")), (Decimal(4), Decimal("0.03"))]
    assert "`10 * 0.04 + 4 * 0.03`" in PAGE
