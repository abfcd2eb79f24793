"""The words of the synthetic hospitals: lists in ``words/*.toml``, and who may use which of them.

Every item falls into a bucket by a stable hash of its text (sha256, so that it is the same on every
machine): about half of the items occur in training and in held-out notes, a quarter in training
notes only, a quarter in held-out notes only. A second, independent hash keeps some items for the
training hospitals and some for the external and the new one, and a third gives each hospital its
own habits (it never uses about one item in ten).
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

KINDS = {
    "problem": ("disease", "symptom", "finding", "whole", "of"),
    "treatment": ("procedure",),
    "drug": ("tab", "cap", "inj", "sc", "inh", "patch", "cream", "drops", "liquid", "spray", "supp"),
    "test": ("lab", "vital", "scan", "study"),
}
BODY_PART = "part"  # not an entity: the body parts that fill a bodyloc
_NEVER_SPLIT = ("vital", "of", BODY_PART)  # too few, or closed classes: the same words everywhere


@dataclass(frozen=True, slots=True)
class Range:
    """What is usual for a laboratory test: ``low`` to ``high``, in ``unit``, written with ``decimals``."""

    low: float
    high: float
    unit: str
    decimals: int


@dataclass(frozen=True, slots=True)
class Item:
    """One lexical item. ``short``: its abbreviation or "". ``specialty``: for parts, the body group.

    ``part``: the body part at the start of a composed problem. ``strengths``: of drugs, with unit.
    ``ranges``: of laboratory tests, conventional units first, SI units last (the same where equal).
    """

    kind: str
    specialty: str
    surface: str
    short: str = ""
    part: str = ""
    strengths: tuple[str, ...] = ()
    ranges: tuple[Range, ...] = ()


def bucket(text: str, salt: str) -> int:
    """0 to 99, from sha256 of ``salt`` and the lower-case text: the same on every machine."""
    digest = hashlib.sha256(f"{salt}:{text.lower()}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100


def is_used(item: Item, hospital: str, away: bool, held_out: bool) -> bool:
    """Whether notes of a hospital may use an item.

    ``away``: the hospital is external or new. ``held_out``: the notes are for validation or test.
    """
    if item.kind in _NEVER_SPLIT:
        return True
    split = bucket(item.surface, "split")
    if split < 25 if held_out else split >= 75:
        return False
    region = bucket(item.surface, "region")
    if region < 15 if away else region >= 85:
        return False
    return bucket(item.surface, f"habit:{hospital}") >= 10


@cache
def lexicon() -> tuple[Item, ...]:
    """All items of all kinds, in the order of the files."""
    return (
        *_problems(_words("problems")),
        *_drugs(_words("drugs")),
        *_tests(_words("tests")),
        *_treatments(),
    )


@cache
def available(hospital: str, away: bool, held_out: bool) -> dict[str, dict[str, tuple[Item, ...]]]:
    """kind -> specialty -> items that a hospital may use in this part; no list is empty."""
    found: dict[str, dict[str, list[Item]]] = {}
    for item in lexicon():
        if is_used(item, hospital, away, held_out):
            found.setdefault(item.kind, {}).setdefault(item.specialty, []).append(item)
    return {kind: {name: tuple(items) for name, items in by.items()} for kind, by in found.items()}


def surfaces(entity_type: str) -> frozenset[str]:
    """Every surface, abbreviations included, that an entity type may take (in lower case)."""
    items = [item for item in lexicon() if item.kind in KINDS[entity_type]]
    return frozenset(s.lower() for item in items for s in (item.surface, item.short) if s)


def _words(name: str) -> dict[str, Any]:
    source = resources.files("fedmedlora.corpora.synthetic") / "words" / f"{name}.toml"
    return tomllib.loads(source.read_text(encoding="utf-8"))


def _names(block: str) -> list[str]:
    return [name.strip() for name in block.replace("\n", ";").split(";") if name.strip()]


def _lines(block: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split(";")] for line in block.splitlines() if line.strip()]


def _simple(kind: str, specialty: str, block: str) -> list[Item]:
    pairs = [name.partition(" = ") for name in _names(block)]
    return [Item(kind, specialty, long.strip(), short.strip()) for long, _, short in pairs]


def _problems(words: dict[str, Any]) -> list[Item]:
    items = [
        item
        for kind in ("disease", "symptom", "finding")
        for specialty, block in words[kind].items()
        for item in _simple(kind, specialty, block)
    ]
    for group, block in words["parts"].items():
        parts, findings = _names(block), _names(words["findings_of"][group])
        items += [Item(BODY_PART, group, part) for part in parts]
        items += [Item("of", group, finding) for finding in findings]
        items += [
            Item("whole", group, f"{part} {finding}", part=part) for part in parts for finding in findings
        ]
    return items


def _drugs(words: dict[str, Any]) -> list[Item]:
    items = []
    for specialty, block in words.items():
        for names, kind, strengths in _lines(block):
            *amounts, unit = strengths.split()
            written = tuple(f"{amount} {unit}".replace(" %", "%") for amount in amounts)
            items += [Item(kind, specialty, name.strip(), strengths=written) for name in names.split(",")]
    return items


def _range(text: str) -> Range:
    low, high, unit, decimals = text.split()
    return Range(float(low), float(high), "" if unit == "-" else unit, int(decimals))


def _tests(words: dict[str, Any]) -> list[Item]:
    items = []
    for kind in ("lab", "vital"):
        for names, *ranges in _lines(words[kind]):
            long, _, short = names.partition(", ")
            items.append(Item(kind, kind, long, short, ranges=tuple(_range(text) for text in ranges)))
    for kind in ("scan", "study"):
        for specialty, block in words[kind].items():
            items += _simple(kind, specialty, block)
    return items


def _treatments() -> list[Item]:
    by_specialty = _words("treatments").items()
    return [item for specialty, block in by_specialty for item in _simple("procedure", specialty, block)]
