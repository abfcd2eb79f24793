"""Sentence templates: a line of text with choices, macros and slots.

``{denies|no}``    one of the alternatives; they nest, and an empty one is allowed.
``@pt``            a macro: a hospital's own wording, or a drawn number, date or weekday.
``[p1:symptom]``   an entity: p, r, d, t (problem, treatment, drug, test), a number, and the kinds of
                   words that may fill it, joined by "+"; without kinds, any of that type.
                   ``[p1:of.limb]`` wants one specialty or body group.
``[severity>p1]``  a modifier of p1, drawn from the hospital's wordings. ``[temporal>p1:since]`` draws
                   from the wordings of that kind, ``[negation>p1,p2=denies]`` is "denies" and belongs
                   to both. A target that a choice left out is no target.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

ENTITY_TYPES = {"p": "problem", "r": "treatment", "d": "drug", "t": "test"}
_CHOICE = re.compile(r"\{([^{}]*)\}")
_MACRO = re.compile(r"@([a-z]+)")
_SLOT = re.compile(r"\[(?:([prdt])(\d)|([a-z_]+)>([prdt0-9,]+))(?::([a-z+.]+))?(?:=([^\]]*))?\]")


@dataclass(frozen=True, slots=True)
class Literal:
    """Text between slots."""

    text: str


@dataclass(frozen=True, slots=True)
class EntitySlot:
    """``key``: such as "p1". ``kinds``: kinds of lexical items, empty for any. ``text``: or fixed text."""

    key: str
    type: str
    kinds: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class ModifierSlot:
    """``targets``: keys of the entities that it belongs to. ``kind``, ``text``: may be ""."""

    type: str
    targets: tuple[str, ...]
    kind: str
    text: str


Part = Literal | EntitySlot | ModifierSlot


def choose(text: str, rng: random.Random) -> str:
    """Draws one alternative of every choice, innermost first."""
    while match := _CHOICE.search(text):
        text = text[: match.start()] + rng.choice(match[1].split("|")) + text[match.end() :]
    return text


def expand(text: str, rng: random.Random, macro: Callable[[str], str]) -> str:
    """Choices drawn and macros replaced, until neither is left. White space runs are folded."""
    while "{" in text or "@" in text:
        text = _MACRO.sub(lambda match: macro(match[1]), choose(text, rng))
    return re.sub(r" +", " ", text).strip()


def parse(text: str) -> tuple[Part, ...]:
    """An expanded template in parts."""
    parts: list[Part] = []
    position = 0
    for match in _SLOT.finditer(text):
        if match.start() > position:
            parts.append(Literal(text[position : match.start()]))
        letter, number, modifier, targets, kind, fixed = match.groups()
        if letter:
            kinds = tuple(kind.split("+")) if kind else ()
            parts.append(EntitySlot(letter + number, ENTITY_TYPES[letter], kinds, fixed or ""))
        else:
            parts.append(ModifierSlot(modifier, tuple(targets.split(",")), kind or "", fixed or ""))
        position = match.end()
    if position < len(text):
        parts.append(Literal(text[position:]))
    rest = "".join(part.text for part in parts if isinstance(part, Literal))
    assert not set("[]") & set(rest), f"a slot of this template is not well formed: {text}"
    return tuple(parts)
