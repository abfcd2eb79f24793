"""HTML and SVG text, safe by construction: a ``str`` is always escaped, only ``Markup`` is taken as it is.

``tag`` is the only way to make ``Markup``, so a name that holds ``<script>`` stays a name.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_VOID = frozenset({"meta", "link", "br", "hr"})
_JOINERS = frozenset("\u200c\u200d")  # real words of real scripts need these two
_LAYOUT = frozenset("\n\t")
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


@dataclass(frozen=True, slots=True)
class Markup:
    """Source text that is already HTML or SVG."""

    source: str


Child = Markup | str
Attributes = Mapping[str, str | int | float]


def tag(name: str, attributes: Attributes, *children: Child) -> Markup:
    """``<name attributes>children</name>``; floats are written with two decimals (SVG pixels)."""
    written = "".join(f' {key}="{escape(_attribute(value))}"' for key, value in attributes.items())
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(children).source}</{name}>")


def join(children: Iterable[Child]) -> Markup:
    """One after the other."""
    return Markup("".join(child.source if isinstance(child, Markup) else escape(child) for child in children))


def escape(text: str, *, layout: bool = False) -> str:
    """``text`` for element content and quoted attributes. ``layout``: line ends and tabs are kept."""
    shown = visible(text, layout=layout)
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("'", "&#39;")):
        shown = shown.replace(character, entity)
    return shown


def visible(text: str, *, layout: bool = False) -> str:
    """``text`` with every character that could hide or reorder others shown by its number.

    Control characters, terminal escapes, bidirectional overrides, zero-width signs and lone surrogates
    become ``[U+202E]`` and the like. ``layout``: line ends and tabs are kept.
    """
    return "".join(
        f"[U+{ord(character):04X}]" if _is_hidden(character, layout) else character for character in text
    )


def _is_hidden(character: str, layout: bool) -> bool:
    if " " <= character <= "~" or character in _JOINERS or (layout and character in _LAYOUT):
        return False
    is_noncharacter = ord(character) & 0xFFFE == 0xFFFE or "\ufdd0" <= character <= "\ufdef"
    return is_noncharacter or unicodedata.category(character) in _HIDDEN


def _attribute(value: str | int | float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
