"""Templates of HTML pages: escaped, and strict about names that are not defined."""

from __future__ import annotations

from pathlib import Path

import jinja2


def create_environment(folder: Path) -> jinja2.Environment:
    """Return the templates of a folder."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
