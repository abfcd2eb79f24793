"""Gold and predicted notes -> counts per note, for entities, modifiers and links, strict and lenient.

What is compared, per note, is a *set*, on both sides: two entities of the same type and span are
one, and so are two modifiers of the same type and span (one "denies" that two events share) and two
links with the same types and spans. A model gains and loses nothing by saying a thing twice.

* entity: (type, span), counted under its type;
* modifier: (type, span), counted under its type, whatever it is linked to;
* link: (entity type, entity span, modifier type, modifier span), counted under ``"problem.negation"``.

Only what the gold note ``annotates`` is scored, on both sides: outside it, a missing gold item means
"nobody looked", and a prediction is neither right nor wrong. Entities need their type in
``annotates.entities``, links their pair in ``annotates.pairs``. A modifier is scored when it has a
link whose pair is annotated, or, when nothing in its note links it (output of the sentence scope),
when some annotated pair ends in its type. A modifier linked only to pairs that are not annotated is
out: a negated drug is no mistake where only the negation of problems was annotated. What the
predicted note says it annotates plays no role: not having been asked does not excuse a miss.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from fedmedlora.corpora.note import Annotates, Entity, Link, Note, Span
from fedmedlora.evaluation.counts import Counts, TypedCounts
from fedmedlora.evaluation.matching import (
    LinkSpans,
    Matches,
    match_lenient,
    match_lenient_links,
    match_strict,
)

_Item = TypeVar("_Item", Span, LinkSpans)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Counts of one kind of item under both criteria. Adds."""

    strict: TypedCounts = field(default_factory=TypedCounts)
    lenient: TypedCounts = field(default_factory=TypedCounts)

    def __add__(self, other: Agreement) -> Agreement:
        """Strict with strict, lenient with lenient."""
        return Agreement(self.strict + other.strict, self.lenient + other.lenient)


@dataclass(frozen=True, slots=True)
class NoteScore:
    """The counts of one note: ids and numbers only, nothing of its text."""

    note_id: str
    entities: Agreement
    modifiers: Agreement
    links: Agreement


def score_notes(gold: Iterable[Note], predicted: Mapping[str, Note]) -> tuple[NoteScore, ...]:
    """One ``NoteScore`` per gold note, in the order of note ids (so file order changes nothing).

    A gold note that ``predicted`` does not hold counts as one without any prediction. Texts are not
    needed; where both notes have one, they must agree, or offsets would mean different things.

    Raises ``ValueError``: a gold id twice, a predicted id that gold does not have, texts that differ,
    an id twice within a note, a link to an id that its note does not have.
    """
    notes = sorted(gold, key=lambda note: note.id)
    _require_unique((note.id for note in notes), "gold holds several notes with the id")
    unknown = predicted.keys() - {note.id for note in notes}
    if unknown:
        raise ValueError(
            f"predicted notes that gold does not have: {_some(unknown)}; gold holds {len(notes)} notes. "
            "Predictions are matched to gold by note id: give the gold file that was predicted from"
        )
    return tuple(score_note(note, predicted.get(note.id)) for note in notes)


def score_note(gold: Note, predicted: Note | None) -> NoteScore:
    """The counts of one note; ``None`` is a note without any prediction. Errors as in ``score_notes``."""
    if predicted is not None:
        check_same_text(gold, predicted)
    scope = gold.annotates
    wanted = _items(gold, scope)
    found = _Items() if predicted is None else _items(predicted, scope)
    return NoteScore(
        note_id=gold.id,
        entities=_compare(wanted.entities, found.entities, scope.entities, match_lenient),
        modifiers=_compare(wanted.modifiers, found.modifiers, scope.modifiers(), match_lenient),
        links=_compare(wanted.links, found.links, scope.pairs, match_lenient_links),
    )


def check_same_text(gold: Note, predicted: Note) -> None:
    """Raise ``ValueError`` where the offsets of the two notes cannot mean the same characters."""
    if gold.text and predicted.text and gold.text != predicted.text:
        raise ValueError(
            f"note {gold.id!r}: gold and predicted text differ ({len(gold.text)} and {len(predicted.text)} "
            "characters), so their offsets cannot be compared; predict from the gold file's own text, or "
            "leave the text out of the predictions"
        )
    if gold.text:
        ends = [m.end for m in (*predicted.entities, *predicted.modifiers)]
        if max(ends, default=0) > len(gold.text):
            raise ValueError(
                f"note {gold.id!r}: a prediction ends at character {max(ends)}, past the gold text, which "
                f"has {len(gold.text)}; was it predicted from another text?"
            )


@dataclass(frozen=True, slots=True)
class _Items:
    """What is scored of one note, without repetition, under the type that it counts for."""

    entities: Mapping[str, Collection[Span]] = field(default_factory=dict)
    modifiers: Mapping[str, Collection[Span]] = field(default_factory=dict)
    links: Mapping[str, Collection[LinkSpans]] = field(default_factory=dict)


def _items(note: Note, scope: Annotates) -> _Items:
    entities_by_id, modifiers_by_id = _by_id(note, note.entities), _by_id(note, note.modifiers)
    entities: defaultdict[str, set[Span]] = defaultdict(set)
    modifiers: defaultdict[str, set[Span]] = defaultdict(set)
    links: defaultdict[str, set[LinkSpans]] = defaultdict(set)
    for entity in note.entities:
        if entity.type in scope.entities:
            entities[entity.type].add(entity.span)
    linked = set()
    for link in note.links:
        entity, modifier = _ends(note, link, entities_by_id, modifiers_by_id)
        linked.add(modifier.id)
        pair = f"{entity.type}.{modifier.type}"
        if pair in scope.pairs:
            links[pair].add((entity.span, modifier.span))
            modifiers[modifier.type].add(modifier.span)
    annotated = scope.modifiers()
    for modifier in note.modifiers:
        if modifier.id not in linked and modifier.type in annotated:
            modifiers[modifier.type].add(modifier.span)
    return _Items(entities, modifiers, links)


def _compare(
    gold: Mapping[str, Collection[_Item]],
    predicted: Mapping[str, Collection[_Item]],
    types: Iterable[str],
    lenient: Callable[[Sequence[_Item], Sequence[_Item]], Matches],
) -> Agreement:
    strict_counts: dict[str, Counts] = {}
    lenient_counts: dict[str, Counts] = {}
    for name in sorted(types):
        wanted, found = sorted(gold.get(name, ())), sorted(predicted.get(name, ()))
        for counts, matches in (
            (strict_counts, match_strict(wanted, found)),
            (lenient_counts, lenient(wanted, found)),
        ):
            tp = len(matches)
            counts[name] = Counts(tp, len(found) - tp, len(wanted) - tp)
    return Agreement(TypedCounts(strict_counts), TypedCounts(lenient_counts))


def _by_id(note: Note, mentions: Sequence[Entity]) -> dict[str, Entity]:
    _require_unique((m.id for m in mentions), f"note {note.id!r} uses an id several times")
    return {mention.id: mention for mention in mentions}


def _ends(
    note: Note, link: Link, entities: Mapping[str, Entity], modifiers: Mapping[str, Entity]
) -> tuple[Entity, Entity]:
    for kind, name, known in (("entity", link.entity, entities), ("modifier", link.modifier, modifiers)):
        if name not in known:
            raise ValueError(
                f"note {note.id!r}: a link names the {kind} {name!r}, which the note does not have; "
                f"it has {_some(known) if known else 'none'}"
            )
    return entities[link.entity], modifiers[link.modifier]


def _require_unique(ids: Iterable[str], complaint: str) -> None:
    repeated = [name for name, times in Counter(ids).items() if times > 1]
    if repeated:
        raise ValueError(f"{complaint}: {_some(repeated)}; every id must be unique")


def _some(names: Iterable[str], limit: int = 5) -> str:
    """The first few names, sorted, and how many more there are."""
    ordered = sorted(names)
    more = f" and {len(ordered) - limit} more" if len(ordered) > limit else ""
    return ", ".join(map(repr, ordered[:limit])) + more
