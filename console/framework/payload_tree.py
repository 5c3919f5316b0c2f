"""A JSON value as a tree of bounded size, for a page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from shared.counts import counted

NODES_MAX = 500
DEPTH_MAX = 12
TEXT_LENGTH_MAX = 300


@dataclass(slots=True)
class Node:
    """A value: text of a leaf, or children. `left_out` says how many children are not shown."""

    name: str
    kind: str
    text: str
    children: list[Node]
    left_out: int = 0


def tree(value: Any, name: str = "") -> Node:
    """Return the tree of a decoded JSON value, with at most 500 nodes in the order of the value.

    Longer texts are cut, deeper and later values are counted. So a page has the same size for a
    payload of any size.
    """
    return _node(name, value, 0, iter(range(NODES_MAX)))


def _node(name: str, value: Any, depth: int, budget: Iterator[int]) -> Node:
    if isinstance(value, dict):
        pairs = [(str(key)[:TEXT_LENGTH_MAX], value[key]) for key in _first(value)]
        return _branch(name, "object", pairs, len(value), depth, budget)
    if isinstance(value, list):
        items = [(str(index), item) for index, item in enumerate(value[:NODES_MAX])]
        return _branch(name, "list", items, len(value), depth, budget)
    return Node(name, _kind(value), _text(value), [])


def _first(value: dict[str, Any]) -> list[str]:
    return [key for key, _ in zip(value, range(NODES_MAX), strict=False)]


def _branch(
    name: str, kind: str, pairs: list[tuple[str, Any]], size: int, depth: int, budget: Iterator[int]
) -> Node:
    unit = "field" if kind == "object" else "item"
    node = Node(name, kind, counted(size, unit), [])
    if depth < DEPTH_MAX:
        for key, item in pairs:
            if next(budget, None) is None:
                break
            node.children.append(_node(key, item, depth + 1, budget))
    node.left_out = size - len(node.children)
    return node


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    return "text" if isinstance(value, str) else "number"


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = str(value)
    if len(text) <= TEXT_LENGTH_MAX:
        return text
    return f"{text[:TEXT_LENGTH_MAX]}… ({len(text):,} characters)"
