"""Task "modifiers": entities are marked in the input; the output says what modifies them.

A mark is ``{problem: chest pain}``: braces, so that it can never be taken for a tag. Inline markup copies the
marks because copying is what a language model does by itself; asked to leave them out, a small model copied
them all the same, and free generation went wrong in half of the sentences.

Scope "entity" (the default) marks one entity per example, so a tagged modifier is a link to it; an
entity without modifiers gives an example without tags, which is how a model learns to tag nothing.
Scope "sentence" (the form of Li et al., arXiv:2601.22124) marks all entities of a sentence at once and
yields typed spans without links.
"""

from __future__ import annotations

from collections.abc import Sequence

from fedmedlora.corpora.note import Annotates, Entity, Note
from fedmedlora.corpora.schema import Schema
from fedmedlora.tasks.assemble import assemble_note
from fedmedlora.tasks.example import Example, Piece
from fedmedlora.tasks.form import DEFAULT, Form, load_form
from fedmedlora.tasks.pieces import has_leading_space, pieces
from fedmedlora.tasks.prompts import SCOPES, all_modifier_labels, instruction, modifier_labels
from fedmedlora.tasks.segments import Segment, by_holding_segment
from fedmedlora.tasks.task import Answer, Rendered, Unplaced

ACROSS = "link across sentences"
NOT_HELD = "no sentence holds the entity"
UNLINKED = "linked to no entity"
CLOSE_MARK = "}"


NEEDS_ENTITIES = True


def labels(schema: Schema, annotates: Annotates) -> tuple[str, ...]:
    """Modifiers that the source annotates on any entity type."""
    return all_modifier_labels(schema, annotates)


def annotate(note: Note, answers: Sequence[Answer]) -> Note:
    """``note`` with its entities, and the modifiers and links that were found for them."""
    return assemble_note(note, note.entities, answers)


def examples(
    note: Note,
    segments: Sequence[Segment],
    schema: Schema,
    *,
    prompt_set: str = "study",
    scope: str = "entity",
    form: str = DEFAULT,
    with_gold: bool,
) -> Rendered:
    """Examples for the note's entities (gold or found) whose type has annotated modifiers.

    Ids are ``"note/segment/entity"`` in scope "entity", ``"note/segment"`` in scope "sentence".
    ``with_gold`` needs the gold entities and their links. Unplaced are, besides
    ``markup.REASONS``, each link ``ACROSS`` sentences, each link of an entity that no single sentence
    holds and that entity itself (``NOT_HELD``), and each modifier linked to no entity (``UNLINKED``).
    Raises ``ValueError`` for an unknown scope.
    """
    if scope not in SCOPES:
        raise ValueError(f"unknown scope {scope!r}; known: {', '.join(SCOPES)}")
    entities = note.entities
    how = load_form(form)
    asked = labels(schema, note.annotates)
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
        words = instruction(
            "modifiers", schema, note.annotates, prompt_set=prompt_set, scope=scope, form=form
        )
        cut = pieces(note.text, *segment)
        for group in [[entity] for entity in able] if scope == "entity" else [able]:
            union = {label for entity in group for label in labels_of[entity.id]}
            allowed = tuple(label for label in asked if label in union)
            alone = group[0].id if scope == "entity" else ""
            copied = marked(cut, group if alone else marks[index])
            target: tuple[str, ...] = ()
            if with_gold:
                links = [(e, m) for e in group for m in linked.get(e.id, ())]
                target, unmet = _target(how, copied, links, labels_of, allowed)
                missed += unmet
            found.append(
                Example(
                    id=f"{note.id}/{index}" + (f"/{alone}" if alone else ""),
                    note_id=note.id,
                    task="modifiers",
                    instruction=words,
                    input=how.written(copied),
                    pieces=copied,
                    labels=allowed,
                    target=target,
                    form=form,
                    entity_id=alone,
                )
            )
    lost += [Unplaced(note.id, "link", f"{e}>{m}", reason) for e, m, reason in missed]
    if with_gold:
        used = {link.modifier for link in note.links}
        lost += [Unplaced(note.id, "modifier", m.id, UNLINKED) for m in note.modifiers if m.id not in used]
    return Rendered(tuple(found), tuple(lost))


def marked(cut: Sequence[Piece], entities: Sequence[Entity]) -> tuple[Piece, ...]:
    """``cut`` with marks around every fragment of ``entities``, as pieces of no length.

    A mark opens before the leading space of its first piece. A boundary inside a piece moves out to the
    piece's own, so that the pieces stay a function of the text. The entities may nest and cross.
    """
    marks: dict[int, list[tuple[tuple[int, int, int], str]]] = {}  # index of the next piece -> marks there
    for rank, entity in enumerate(entities):
        for start, end in entity.span:  # at one gap: close first, inner before outer; open longest first
            inside = [i for i, p in enumerate(cut) if p.start + has_leading_space(p) < end and start < p.end]
            if inside:
                first, after = inside[0], inside[-1] + 1
                marks.setdefault(first, []).append(((1, -after, rank), open_mark(entity.type)))
                marks.setdefault(after, []).append(((0, -first, -rank), CLOSE_MARK))
    found: list[Piece] = []
    for i in range(len(cut) + 1):
        at = cut[i].start if i < len(cut) else cut[-1].end if cut else 0
        found += [Piece(at, at, form) for _, form in sorted(marks.get(i, ()))]
        found += cut[i : i + 1]
    return tuple(found)


def open_mark(entity_type: str) -> str:
    """``"{problem:"``; the entity follows with its leading space, then ``CLOSE_MARK``."""
    return f"{{{entity_type}:"


def _linked(note: Note) -> dict[str, list[Entity]]:
    """The modifiers of each entity id."""
    by_id = {modifier.id: modifier for modifier in note.modifiers}
    found: dict[str, list[Entity]] = {}
    for link in dict.fromkeys(note.links):
        found.setdefault(link.entity, []).append(by_id[link.modifier])
    return found


def _target(
    how: Form,
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
    output, missing = how.render(cut, list(inside.values()), labels)
    reasons = {modifier.id: reason for modifier, reason in missing}
    missed += [(e.id, m.id, reasons[m.id]) for e, m in wanted if m.id in reasons]
    return output, missed
