"""What the pages look like: one layout, without JavaScript."""

from functools import cache
from html import escape
from importlib.resources import files
from string import Template

from aiohttp import web

from sandbox.stripe import cards


@cache
def _layout() -> Template:
    return Template(files("sandbox.stripe").joinpath("page.html").read_text())


def page(title: str, body: str, status: int = 200) -> web.Response:
    """Make a page; `body` is HTML, `title` is text."""
    text = _layout().substitute(title=escape(title), body=body)
    return web.Response(text=text, status=status, content_type="text/html")


def message(title: str, text: str, status: int = 200) -> web.Response:
    """Make a page that says one thing."""
    return page(title, f"<h1>{escape(title)}</h1><p>{escape(text)}</p>", status)


def table(rows: list[tuple[str, str]]) -> str:
    """Write names and values as HTML."""
    cells = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows
    )
    return f"<table>{cells}</table>"


def test_cards() -> str:
    """Write the list of test cards that a card field with `list="cards"` offers, as HTML."""
    choices = "".join(
        f'<option value="{card.number}">{escape(card.brand)}: {escape(card.label)}</option>'
        for card in cards.CARDS
    )
    return f'<datalist id="cards">{choices}</datalist>'
