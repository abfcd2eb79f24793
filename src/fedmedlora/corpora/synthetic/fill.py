"""Filling a parsed template: every slot gets its words, still without offsets."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field, replace

from fedmedlora.corpora.synthetic.hospital import Hospital
from fedmedlora.corpora.synthetic.lexicon import BODY_PART, KINDS, Item, Range, available
from fedmedlora.corpora.synthetic.template import EntitySlot, Literal, ModifierSlot, Part, expand, parse

_SPECIALTY_FREE = ("lab", "vital", "whole", "of")  # drawn without regard to the disease mix
_OTHER_SPECIALTY = 0.1  # weight of a specialty that a hospital does not name
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = ("January", "February", "March", "May", "June", "August", "September", "October", "November")
_NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True, slots=True)
class Patient:
    """Who a note is about: nobody. ``age`` in years."""

    id: str
    age: int
    female: bool


@dataclass(frozen=True, slots=True)
class Filled:
    """A stretch of a sentence. ``type`` is "" for plain text; ``key`` is set for entities only.

    ``targets``: keys of the entities a modifier belongs to. ``part``: length of a body part at the
    start of an entity's text, 0 for none.
    """

    text: str
    type: str = ""
    key: str = ""
    targets: tuple[str, ...] = ()
    part: int = 0


@dataclass(slots=True)
class Filler:
    """Draws words for one note.

    ``focus``: the specialty that about half of the note is about. ``used``: surfaces that the note
    has already, avoided where possible.
    """

    hospital: Hospital
    held_out: bool
    patient: Patient
    rng: random.Random
    focus: str
    used: set[str] = field(default_factory=set)

    def sentence(self, template: str) -> tuple[Filled, ...]:
        """One drawn sentence, with its first letter raised and its articles fitted."""
        text = expand(template, self.rng, self.macro)
        parts = parse(re.sub(r"\b([Aa]) (?=(8|11|18)[^0-9]|8[0-9][^0-9])", r"\1n ", text))
        items = {part.key: self._item(part) for part in parts if isinstance(part, EntitySlot)}
        counts: dict[str, str] = {}  # drug key -> drawn number of units ("two" tablets)
        filled = [self._fill(part, items, counts) for part in parts]
        return _capitalized(_with_articles(filled))

    def macro(self, name: str) -> str:
        """The wording of a macro; a hospital's own come first."""
        rng, patient = self.rng, self.patient
        if name in self.hospital.macros:
            return self.hospital.macros[name]
        year, month, day = rng.randint(2012, 2024), rng.randint(1, 12), rng.randint(1, 28)
        drawn = {
            "n": str(rng.randint(2, 9)),
            "num": rng.choice(_NUMBERS),
            "date": f"{month:02d}/{day:02d}/{year}",
            "isodate": f"{year}-{month:02d}-{day:02d}",
            "longdate": f"{day} {rng.choice(_MONTHS)} {year}",
            "year": str(year),
            "weekday": rng.choice(_WEEKDAYS),
            "month": rng.choice(_MONTHS),
            "time": f"{rng.randint(6, 21):02d}:{rng.randint(0, 59):02d}",
            "age": str(patient.age),
            "sex": ("girl" if patient.female else "boy")
            if patient.age < 18
            else ("woman" if patient.female else "man"),
            "yo": f"{patient.age}yo",
            "hours": f"{rng.randint(2, 9)}h",
            "mf": "F" if patient.female else "M",
            "he": "she" if patient.female else "he",
            "his": "her" if patient.female else "his",
            "him": "her" if patient.female else "him",
        }
        return drawn[name]

    def _item(self, slot: EntitySlot) -> Item:
        if slot.text:
            return Item(slot.kinds[0] if slot.kinds else "", "", slot.text)
        lists = available(self.hospital.name, self.hospital.away, self.held_out)
        kind, _, wanted = self.rng.choice(slot.kinds or KINDS[slot.type]).partition(".")
        by_specialty = lists[kind]
        names = [wanted] if wanted else list(by_specialty)
        weights = [1.0 if kind in _SPECIALTY_FREE else self._weight(name) for name in names]
        for _ in range(8):  # a few tries for a word that is new to the note
            item = self.rng.choice(by_specialty[self.rng.choices(names, weights)[0]])
            if item.surface not in self.used:
                break
        self.used.add(item.surface)
        return item

    def _weight(self, specialty: str) -> float:
        weight = self.hospital.specialties.get(specialty, _OTHER_SPECIALTY)
        return weight + (sum(self.hospital.specialties.values()) if specialty == self.focus else 0.0)

    def _fill(self, part: Part, items: dict[str, Item], counts: dict[str, str]) -> Filled:
        if isinstance(part, Literal):
            return Filled(part.text)
        if isinstance(part, EntitySlot):
            item = items[part.key]
            short = item.short and self.rng.random() < self.hospital.short_share
            return Filled(item.short if short else item.surface, part.type, part.key, part=len(item.part))
        targets = tuple(key for key in part.targets if key in items)
        assert targets, f"the modifier {part.type} of {self.hospital.name} has no target left"
        return Filled(self._wording(part, targets[0], items[targets[0]], counts), part.type, targets=targets)

    def _wording(self, slot: ModifierSlot, key: str, item: Item, counts: dict[str, str]) -> str:
        if slot.text:
            return slot.text
        name = f"{slot.type}.{slot.kind}" if slot.kind else slot.type
        if name in self.hospital.words:
            return expand(self.rng.choice(self.hospital.words[name]), self.rng, self.macro)
        if slot.type == "strength":
            return self.rng.choice(item.strengths)
        if slot.type == "dosage":
            counts[key] = self.rng.choice(self.hospital.words["dosage.number"])
            return counts[key]
        if slot.type == "form":
            form = self.hospital.forms[item.kind]
            return form if counts.get(key, "1") in ("1", "one") else form + "s"
        if slot.type == "route":
            return self.hospital.routes[item.kind]
        if slot.type == "bodyloc":
            lists = available(self.hospital.name, self.hospital.away, self.held_out)
            return self.rng.choice(lists[BODY_PART][item.specialty]).surface
        usual = item.ranges[-1 if self.hospital.units == "si" else 0]
        if slot.type == "labvalue":
            return _value(usual, item, self.rng)
        assert slot.type == "reference_range", f"{self.hospital.name} has no wording for {name}"
        return _amount(
            f"{usual.low:.{usual.decimals}f}{self.hospital.dash}{usual.high:.{usual.decimals}f}", usual
        )


def _amount(number: str, usual: Range) -> str:
    if not usual.unit:
        return number
    return number + usual.unit if usual.unit in ("%", "/min") else f"{number} {usual.unit}"


def _value(usual: Range, item: Item, rng: random.Random) -> str:
    """A result: half of them in the usual range, the others up to half its width outside."""
    width = usual.high - usual.low
    where = rng.choice(("in", "in", "low", "high"))
    if where == "in" or (where == "high" and usual.unit == "%"):
        value = rng.uniform(usual.low, usual.high)
    elif where == "low":
        value = rng.uniform(max(usual.low - width / 2, usual.low * 0.8), usual.low)
    else:
        value = rng.uniform(usual.high, usual.high + width / 2)
    number = f"{value:.{usual.decimals}f}"
    if item.kind == "vital" and usual.unit == "mmHg":
        number += f"/{value * 0.6:.0f}"  # a blood pressure
    return _amount(number, usual)


def _with_articles(filled: list[Filled]) -> list[Filled]:
    """ "a" becomes "an" before a slot that begins with a vowel sound."""
    fitted = list(filled)
    for i in range(len(fitted) - 1):
        text, following = fitted[i].text, fitted[i + 1].text
        if not fitted[i].type and re.search(r"(^|\s)[aA] $", text) and _vowel_sound(following):
            fitted[i] = replace(fitted[i], text=text[:-1] + "n ")
    return fitted


def _vowel_sound(text: str) -> bool:
    word = re.split(r"[\s/-]", text, maxsplit=1)[0]
    if word.isupper() and len(word) > 1 and word not in ("HIV",):
        return word[0] in "AEFHILMNORSX"
    return text[:1].lower() in "aeio" or (text.startswith("u") and not re.match("u(ni|r[ei]|s)", text))


def _capitalized(filled: list[Filled]) -> tuple[Filled, ...]:
    for i, piece in enumerate(filled):
        at = next((j for j, c in enumerate(piece.text) if c.isalnum()), None)
        if at is not None:
            raised = piece.text[:at] + piece.text[at].upper() + piece.text[at + 1 :]
            return (*filled[:i], replace(piece, text=raised), *filled[i + 1 :])
    return tuple(filled)
