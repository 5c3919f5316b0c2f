"""Which currencies and amounts Stripe takes.

https://docs.stripe.com/currencies; amounts are integers in the currency's smallest unit.
"""

from typing import Final

from sandbox.stripe import errors

_ZERO = "bif clp djf gnf jpy kmf krw mga pyg rwf ugx vnd vuv xaf xof xpf"
_THREE = "bhd jod kwd omr tnd"
_TWO = """
    usd aed afn all amd ang aoa ars aud awg azn bam bbd bdt bmd bnd bob brl bsd bwp byn bzd cad cdf
    chf cny cop crc cve czk dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gtq gyd hkd hnl htg huf
    idr ils inr isk jmd kes kgs khr kyd kzt lak lbp lkr lrd lsl mad mdl mkd mmk mnt mop mur mvr mwk
    mxn myr mzn nad ngn nio nok npr nzd pab pen pgk php pkr pln qar ron rsd rub sar sbd scr sek sgd
    shp sle sos srd std szl thb tjs top try ttd twd tzs uah uyu uzs wst xcd xcg yer zar zmw
"""
ZERO_DECIMAL: Final = frozenset(_ZERO.split())
THREE_DECIMAL: Final = frozenset(_THREE.split())
CURRENCIES: Final = ZERO_DECIMAL | THREE_DECIMAL | frozenset(_TWO.split())
MINIMUM: Final = {
    "aed": 200,
    "bgn": 100,
    "chf": 50,
    "czk": 1500,
    "dkk": 250,
    "gbp": 30,
    "hkd": 400,
    "huf": 17500,
    "jpy": 50,
    "mxn": 1000,
    "myr": 200,
    "nok": 300,
    "pln": 200,
    "ron": 200,
    "sek": 300,
    "thb": 1000,
}
MINIMUM_DEFAULT: Final = 50
MAXIMUM: Final = 99_999_999
SYMBOLS: Final = {"usd": "$", "eur": "€", "gbp": "£", "jpy": "¥"}


def decimals(currency: str) -> int:
    """Count the digits after the point."""
    if currency in ZERO_DECIMAL:
        return 0
    return 3 if currency in THREE_DECIMAL else 2


def shown(amount: int, currency: str) -> str:
    """Write an amount for people: 1050 usd is `$10.50`."""
    digits = decimals(currency)
    whole, part = divmod(amount, 10**digits)
    number = f"{whole:,}.{part:0{digits}d}" if digits else f"{whole:,}"
    symbol = SYMBOLS.get(currency)
    return f"{symbol}{number}" if symbol else f"{number} {currency.upper()}"


def check_currency(currency: str) -> str:
    """Return the currency in lower case, or refuse one that Stripe does not have."""
    lowered = currency.lower()
    if lowered not in CURRENCIES:
        listed = ", ".join(sorted(CURRENCIES))
        raise errors.invalid(
            f"Invalid currency: {lowered}. Stripe currently supports these currencies: {listed}",
            param="currency",
        )
    return lowered


def check_amount(amount: int, currency: str, param: str = "amount") -> int:
    """Return the amount, or refuse one outside of Stripe's limits for a charge."""
    if amount < 1:
        raise errors.malformed(
            "This value must be greater than or equal to 1.",
            param=param,
            code="parameter_invalid_integer",
        )
    minimum = MINIMUM.get(currency, MINIMUM_DEFAULT)
    if amount < minimum:
        raise errors.invalid(
            f"Amount must be at least {shown(minimum, currency)} {currency}",
            param=param,
            code="amount_too_small",
        )
    if amount > MAXIMUM:
        raise errors.invalid(
            f"Amount must be no more than {shown(MAXIMUM, currency)}",
            param=param,
            code="amount_too_large",
        )
    return amount
