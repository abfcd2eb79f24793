"""What a schema is made of: values, tables, lists and tables by name, each with its type, unit and meaning.

The checks (``node_check.py``) and the tables of the pages under ``docs/`` are both made of these, so that
code and page cannot disagree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "count", "positive", "number", "seconds", "share", "flag", "settings"]

KIND_WORDS: Mapping[Kind, str] = {
    "text": "text",
    "count": "whole number, at least 0",
    "positive": "whole number, at least 1",
    "number": "number",
    "seconds": "number, at least 0",
    "share": "number from 0 to 1",
    "flag": "true or false",
    "settings": "table of text, numbers, true or false, null, lists and tables",
}


@dataclass(frozen=True, slots=True)
class Value:
    """One value. ``null`` says when it is null; "" means never. ``choices``: the only texts allowed."""

    kind: Kind
    meaning: str
    unit: str = ""
    null: str = ""
    choices: tuple[str, ...] = ()

    def words(self) -> str:
        """The type as the page and the errors say it."""
        if self.choices:
            return " or ".join(f'"{choice}"' for choice in self.choices)
        return KIND_WORDS[self.kind]


@dataclass(frozen=True, slots=True)
class Table:
    """Exactly these keys. ``title`` names a section of the page, for tables that occur in many places.

    ``optional``: keys that may be missing, which is as if they were null. ``page``: another page that
    holds the section.
    """

    keys: Mapping[str, Node]
    meaning: str
    title: str = ""
    null: str = ""
    optional: tuple[str, ...] = ()
    page: str = ""

    def __post_init__(self) -> None:
        assert all(key in self.keys and self.keys[key].null for key in self.optional)


@dataclass(frozen=True, slots=True)
class Many:
    """A list. ``length`` above 0: exactly that many."""

    item: Node
    meaning: str
    length: int = 0
    null: str = ""


@dataclass(frozen=True, slots=True)
class Named:
    """A table whose keys are names of ``of``: sites, reasons, types."""

    of: str
    item: Node
    meaning: str
    null: str = ""


Node = Value | Table | Many | Named


def tables_page(tables: Sequence[Table]) -> str:
    """The tables as Markdown: one section per table, which has a title."""
    lines: list[str] = []
    for table in tables:
        lines += [f"## {table.title}", "", f"{_sentence(table.meaning)}.", ""]
        lines += ["| key | type | unit | null when | meaning |", "|---|---|---|---|---|"]
        lines += [
            f"| `{key}` | {kind} | {unit} | {null} | {meaning} |"
            for key, kind, unit, null, meaning in rows(table)
        ]
        lines.append("")
    return "\n".join(lines)


def rows(table: Table, path: str = "") -> list[tuple[str, str, str, str, str]]:
    """(key path, type, unit, when null, meaning) of every key below ``table``.

    ``[]`` stands for any place of a list, ``<site>`` for any name; titled tables are not opened.
    """
    found = []
    for key, node in table.keys.items():
        below = _rows(node, f"{path}.{key}" if path else key)
        if key in table.optional:
            place, kind, unit, null, meaning = below[0]
            below[0] = (place, kind, unit, f"{null}; may be missing", meaning)
        found += below
    return found


def _rows(node: Node, path: str) -> list[tuple[str, str, str, str, str]]:
    if isinstance(node, Value):
        return [(path, node.words(), node.unit, node.null, node.meaning)]
    if isinstance(node, Table):
        if node.title:
            where = f"[{node.title}]({node.page})" if node.page else f"`{node.title}` (below)"
            return [(path, where, "", node.null, node.meaning)]
        return [(path, "table", "", node.null, node.meaning), *rows(node, path)]
    if isinstance(node, Many):
        kind = f"list of {node.length}" if node.length else "list"
        return [(path, kind, "", node.null, node.meaning), *_rows(node.item, f"{path}[]")]
    inside = f"{path}.<{node.of.split(',')[0]}>"
    return [(path, f"table by {node.of}", "", node.null, node.meaning), *_rows(node.item, inside)]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
