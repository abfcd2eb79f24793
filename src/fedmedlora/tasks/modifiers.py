"""Task "modifiers": entities are marked in the input; the output copies the plain sentence with their
modifiers tagged.

Scope "entity" (the default) marks one entity per example, so a tagged modifier is a link to it; an
entity without modifiers gives an example without tags, which is how a model learns to tag nothing.
Scope "sentence" (the form of Li et al., arXiv:2601.22124) marks all entities of a sentence at once and
yields typed spans without links.
"""

from __future__ import annotations

from collections.abc import Sequence

from fedmedlora.corpora.note import Entity, Note
from fedmedlora.corpora.schema import Schema
from fedmedlora.tasks.copying import close_tag, open_tag
from fedmedlora.tasks.example import Example, Piece
from fedmedlora.tasks.markup import render
from fedmedlora.tasks.ner import Rendered, Segment, Unplaced, by_holding_segment
from fedmedlora.tasks.pieces import has_leading_space, pieces
from fedmedlora.tasks.prompts import SCOPES, all_modifier_labels, instruction, modifier_labels

ACROSS = "link across sentences"
NOT_HELD = "no sentence holds the entity"
UNLINKED = "linked to no entity"


def examples(
    note: Note,
    entities: Sequence[Entity],
    segments: Sequence[Segment],
    schema: Schema,
    *,
    prompt_set: str = "study",
    scope: str = "entity",
    with_gold: bool,
) -> Rendered:
    """Examples for ``entities`` (gold or predicted) whose type has annotated modifiers.

    Ids are ``"note/segment/entity"`` in scope "entity", ``"note/segment"`` in scope "sentence".
    ``with_gold`` needs the gold entities: links are looked up by entity id. Unplaced are, besides
    ``markup.REASONS``, each link ``ACROSS`` sentences, each link of an entity that no single sentence
    holds and that entity itself (``NOT_HELD``), and each modifier linked to no entity (``UNLINKED``).
    Raises ``ValueError`` for an unknown scope.
    """
    if scope not in SCOPES:
        raise ValueError(f"unknown scope {scope!r}; known: {', '.join(SCOPES)}")
    asked = all_modifier_labels(schema, note.annotates)
    labels_of = {e.id: modifier_labels(schema, note.annotates, e.type) for e in entities}
    linked = _linked(note) if with_gold else {}
    missed = [
        (e.id, m.id, "not asked for") for e in entities if not labels_of[e.id] for m in linked.get(e.id, ())
    ]
    held, outside = by_holding_segment([e for e in entities if labels_of[e.id]], segments)
    marks, _ = by_holding_segment(entities, segments)
    lost = [Unplaced(note.id, "entity", entity.id, NOT_HELD) for entity in outside]
    missed += [(e.id, m.id, NOT_HELD) for e in outside for m in linked.get(e.id, ())]

    found: list[Example] = []
    for index, (segment, able) in enumerate(zip(segments, held, strict=True)):
        if not able:
            continue
        words = instruction("modifiers", schema, note.annotates, prompt_set=prompt_set, scope=scope)
        cut = pieces(note.text, *segment)
        for group in [[entity] for entity in able] if scope == "entity" else [able]:
            union = {label for entity in group for label in labels_of[entity.id]}
            labels = tuple(label for label in asked if label in union)
            target: tuple[str, ...] = ()
            if with_gold:
                links = [(e, m) for e in group for m in linked.get(e.id, ())]
                target, unmet = _target(cut, links, labels_of, labels)
                missed += unmet
            alone = group[0].id if scope == "entity" else ""
            found.append(
                Example(
                    id=f"{note.id}/{index}" + (f"/{alone}" if alone else ""),
                    note_id=note.id,
                    task="modifiers",
                    instruction=words,
                    input=marked(cut, group if alone else marks[index]),
                    pieces=cut,
                    labels=labels,
                    target=target,
                    entity_id=alone,
                )
            )
    lost += [Unplaced(note.id, "link", f"{e}>{m}", reason) for e, m, reason in missed]
    if with_gold:
        used = {link.modifier for link in note.links}
        lost += [Unplaced(note.id, "modifier", m.id, UNLINKED) for m in note.modifiers if m.id not in used]
    return Rendered(tuple(found), tuple(lost))


def marked(cut: Sequence[Piece], entities: Sequence[Entity]) -> tuple[str, ...]:
    """Forms of a sentence with tags around every fragment of ``entities``.

    A tag goes before the leading space of its piece; a boundary inside a piece splits its form. The
    entities may nest and cross: nothing reads this but the model.
    """
    tags: dict[int, list[tuple[tuple[int, int, int], str]]] = {}
    for rank, entity in enumerate(entities):
        for start, end in entity.span:  # at one gap: close first, inner before outer; open longest first
            tags.setdefault(start, []).append(((1, -end, rank), open_tag(entity.type)))
            tags.setdefault(end, []).append(((0, -start, -rank), close_tag(entity.type)))
    found: list[str] = []
    for piece in cut:
        done = 0
        for place in range(piece.start, piece.end):
            if place not in tags:
                continue
            at = place - piece.start
            if at == 1 and has_leading_space(piece):
                at = 0
            if at > done:
                found.append(piece.form[done:at])
                done = at
            found += [tag for _, tag in sorted(tags[place])]
        found.append(piece.form[done:])
    if cut:
        found += [tag for key, tag in sorted(tags.get(cut[-1].end, ())) if key[0] == 0]
    return tuple(found)


def _linked(note: Note) -> dict[str, list[Entity]]:
    """The modifiers of each entity id."""
    by_id = {modifier.id: modifier for modifier in note.modifiers}
    found: dict[str, list[Entity]] = {}
    for link in dict.fromkeys(note.links):
        found.setdefault(link.entity, []).append(by_id[link.modifier])
    return found


def _target(
    cut: Sequence[Piece],
    links: Sequence[tuple[Entity, Entity]],
    labels_of: dict[str, tuple[str, ...]],
    labels: tuple[str, ...],
) -> tuple[tuple[str, ...], list[tuple[str, str, str]]]:
    """The sentence with linked modifiers tagged, and ``(entity id, modifier id, reason)`` per lost link."""
    missed: list[tuple[str, str, str]] = []
    inside: dict[str, Entity] = {}
    wanted: list[tuple[Entity, Entity]] = []
    for entity, modifier in links:
        if not (cut[0].start <= modifier.start and modifier.end <= cut[-1].end):
            missed.append((entity.id, modifier.id, ACROSS))
        elif modifier.type not in labels_of[entity.id]:
            missed.append((entity.id, modifier.id, "not asked for"))
        else:
            inside[modifier.id] = modifier
            wanted.append((entity, modifier))
    output, missing = render(cut, list(inside.values()), labels)
    reasons = {modifier.id: reason for modifier, reason in missing}
    missed += [(e.id, m.id, reasons[m.id]) for e, m in wanted if m.id in reasons]
    return output, missed
