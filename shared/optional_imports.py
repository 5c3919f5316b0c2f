"""Imports of libraries without the optional packages that they look for and Prepaid never uses."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Let an import in this block find none of these packages.

    Those that are imported already are found. After the block, all are as they were.
    """
    modules = cast("dict[str, object]", sys.modules)
    hidden = [name for name in names if name not in modules]
    modules.update(dict.fromkeys(hidden))  # None: an import of it raises ImportError
    try:
        yield
    finally:
        for name in hidden:
            del modules[name]
