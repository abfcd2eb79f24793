"""A synthetic hospital as data: what it treats, how its people write, and what it annotates.

One TOML file in ``hospitals/`` is one hospital. Its sentences are templates; ``template.py`` says how
they are written.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

from fedmedlora.corpora.note import Annotates
from fedmedlora.corpora.schema import CLINICAL

Kind = Literal["site", "external", "new-site"]
HOSPITALS = ("lakeside", "northgate", "riverbend", "stonebridge", "saltmarsh")


@dataclass(frozen=True, slots=True)
class Section:
    """One section of a note. ``count``: fewest and most sentences drawn from ``templates``.

    ``style``: "prose" (one paragraph), "list" (one line each, after ``bullet``; "#" in it is the line's
    number) or "inline" (prose on the heading's line). ``opening``: one of these comes first.
    ``upper``: the whole section is in capitals. ``distractor``: chance of a sentence without entities.
    """

    heading: str
    style: Literal["prose", "list", "inline"]
    count: tuple[int, int]
    templates: tuple[str, ...]
    opening: tuple[str, ...] = ()
    bullet: str = ""
    upper: bool = False
    distractor: float = 0.0


@dataclass(frozen=True, slots=True)
class NoteType:
    """A kind of note: its name, how common it is, and its sections in order ("?" at the end: optional)."""

    name: str
    weight: float
    sections: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hospital:
    """One synthetic hospital. ``specialties``: how common each specialty is (its disease mix).

    ``case``: "sentence" or "lower". ``short_share``: how often an abbreviation is preferred.
    ``units``: "conventional" (mg/dL) or "si" (mmol/L). ``dash``: between the ends of a reference range.
    ``ages``: youngest and oldest patient, years. ``words``: modifier wordings by modifier, or by
    "modifier.kind". ``routes``, ``forms``: by class of drug. ``macros``: "@pt" -> "the patient".
    """

    name: str
    kind: Kind
    description: str
    annotates: Annotates
    case: Literal["sentence", "lower"]
    short_share: float
    units: Literal["conventional", "si"]
    dash: str
    ages: tuple[int, int]
    specialties: dict[str, float]
    macros: dict[str, str]
    words: dict[str, tuple[str, ...]]
    routes: dict[str, str]
    forms: dict[str, str]
    sections: dict[str, Section]
    notes: tuple[NoteType, ...]
    distractors: tuple[str, ...]

    @property
    def away(self) -> bool:
        """Whether it takes no part in the federated training."""
        return self.kind != "site"


@cache
def hospital(name: str) -> Hospital:
    """The hospital of that name; ValueError names the known ones."""
    if name not in HOSPITALS:
        raise ValueError(f"no synthetic hospital is called {name!r}; there are {list(HOSPITALS)}")
    source = resources.files("fedmedlora.corpora.synthetic") / "hospitals" / f"{name}.toml"
    return _hospital(name, tomllib.loads(source.read_text(encoding="utf-8")))


def describe() -> list[dict[str, Any]]:
    """Name, kind, description and ``annotates`` (sorted as in the schema) of every hospital, in order."""
    return [
        {
            "name": one.name,
            "kind": one.kind,
            "description": one.description,
            "annotates": {
                "entities": [e for e in CLINICAL.entities if e in one.annotates.entities],
                "pairs": [p for p in CLINICAL.pair_names() if p in one.annotates.pairs],
            },
        }
        for one in map(hospital, HOSPITALS)
    ]


def _hospital(name: str, data: dict[str, Any]) -> Hospital:
    left_out = set(data["not_annotated"])  # entity types and pairs
    assert left_out <= {*CLINICAL.entities, *CLINICAL.pair_names()}, left_out
    pairs = [p for p in CLINICAL.pair_names() if not {p, p.split(".")[0]} & left_out]
    return Hospital(
        name=name,
        kind=data["kind"],
        description=data["description"],
        annotates=Annotates(frozenset(CLINICAL.entities) - left_out, frozenset(pairs)),
        case=data["case"],
        short_share=data["short_share"],
        units=data["units"],
        dash=data["dash"],
        ages=(data["ages"][0], data["ages"][1]),
        specialties=data["specialties"],
        macros=data["macros"],
        words={key: tuple(values) for key, values in data["words"].items()},
        routes=data["routes"],
        forms=data["forms"],
        sections={key: _section(section) for key, section in data["sections"].items()},
        notes=tuple(NoteType(n["type"], n["weight"], tuple(n["sections"])) for n in data["notes"]),
        distractors=tuple(data["distractors"]),
    )


def _section(data: dict[str, Any]) -> Section:
    fewest, most = data.get("count", (0, 0))
    return Section(
        heading=data["heading"],
        style=data["style"],
        count=(fewest, most),
        templates=tuple(data.get("templates", ())),
        opening=tuple(data.get("opening", ())),
        bullet=data.get("bullet", ""),
        upper=data.get("upper", False),
        distractor=data.get("distractor", 0.0),
    )
