"""Contrast of the merchant's color, as WCAG 2.2 defines it.

Source: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio and #dfn-relative-luminance
"""

from __future__ import annotations

BLACK = "#000000"
WHITE = "#ffffff"


def text_on(background: str) -> str:
    """Return black or white, whichever has the higher contrast: 4.58 or more on any color."""
    return max((WHITE, BLACK), key=lambda color: contrast(color, background))


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colors, each #rrggbb: from 1 to 21."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(color: str) -> float:
    red, green, blue = (_linear(byte / 255) for byte in bytes.fromhex(color.removeprefix("#")))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(channel: float) -> float:
    if channel <= 0.04045:  # noqa: PLR2004 - of sRGB
        return channel / 12.92
    return float(((channel + 0.055) / 1.055) ** 2.4)
