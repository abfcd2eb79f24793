"""A ``RawNote`` and a ``Mapping`` to a ``Note`` and the counts of what was left out, by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches

from fedmedlora.corpora.mapping_rules import ANY, AttributeIs, LinkRule, Mapping, SpanRule
from fedmedlora.corpora.note import Entity, Link, Note, Span, surface
from fedmedlora.corpora.raw import RawEvent, RawNote, RawRelation, RawSpan, is_label


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A possible link, as the source has it: two span ids and the names the rules look at."""

    form: str
    name: str
    modifier_role: str
    entity: str
    entity_end: str
    modifier: str


@dataclass(slots=True)
class _Draft:
    raw: RawNote
    mapping: Mapping
    spans: dict[str, RawSpan]
    entities: dict[tuple[str, Span], Entity] = field(default_factory=dict)
    modifiers: dict[tuple[str, Span], Entity] = field(default_factory=dict)
    entity_of: dict[str, Entity] = field(default_factory=dict)  # span id -> entity
    direct: dict[str, str] = field(default_factory=dict)  # span id -> modifier type by its own label
    modifier_ids: set[str] = field(default_factory=set)
    links: dict[Link, None] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)  # span ids that some link took as modifier
    skipped: Counter[str] = field(default_factory=Counter)
    attributes: set[tuple[str, str, str]] = field(default_factory=set)  # (span id, label, value)
    targets: set[tuple[str, str]] = field(default_factory=set)  # (span id, relation that points at it)


def to_note(raw: RawNote, mapping: Mapping, note_id: str) -> tuple[Note, Counter[str]]:
    """The note in the schema's labels, and what was left out: reason -> count.

    An entity is kept once per (type, span), a modifier once per (type, span), a link once. Raises
    ``ValueError`` naming file, line and label for a label that the mapping neither maps nor ignores.
    """
    draft = _Draft(
        raw,
        mapping,
        {s.id: s for s in raw.spans},
        skipped=Counter(raw.skipped),
        attributes={(a.target, a.label, a.value) for a in raw.attributes},
        targets={(r.target, r.label) for r in raw.relations},
    )
    _check_labels(draft)
    for span in raw.spans:
        _take(span, draft)
    _take_aliases(draft)
    _take_links(draft)
    for span in raw.spans:
        if span.id in draft.used or span.id in draft.entity_of or span.id in draft.direct:
            continue
        ignored = span.label in mapping.ignore
        draft.skipped[f"label {span.label}: " + ("ignored" if ignored else "linked to no mapped entity")] += 1
    for attribute in raw.attributes:
        if attribute.label in mapping.known_attributes():
            continue
        told = attribute.label if is_label(attribute.label) else "of a long name"
        draft.skipped[f"attribute {told}: no mapping"] += 1
    for label, _ in raw.groups:
        draft.skipped[f"group {label if is_label(label) else 'of a long name'}: no mapping"] += 1
    meta = {}
    part = next((folder for folder in reversed(raw.folders) if folder in mapping.parts), "")
    if part:
        meta["part"] = part
    note = Note(
        id=note_id,
        text=raw.text,
        entities=tuple(draft.entities.values()),
        modifiers=tuple(draft.modifiers.values()),
        links=tuple(draft.links),
        annotates=mapping.annotates,
        group=raw.group,
        meta=meta,
    )
    return note, draft.skipped


def _check_labels(draft: _Draft) -> None:
    raw, mapping = draft.raw, draft.mapping
    labels, links = mapping.known_labels(), mapping.known_links()
    for span in raw.spans:
        if span.label not in labels:
            raise _unknown("label", span.label, labels, "ignore", raw.source, span.line)
    if ANY in links:
        return
    for relation in raw.relations:
        if relation.label not in links:
            raise _unknown("relation", relation.label, links, "ignore_links", raw.source, relation.line)
    for event in raw.events:
        for role, _ in event.roles:
            if role not in links and role not in labels:
                raise _unknown("role", role, links, "ignore_links", raw.source, event.line)


def _unknown(kind: str, name: str, known: frozenset[str], key: str, source: str, line: int) -> ValueError:
    near = get_close_matches(name, sorted(known), 3)
    near = near or [k for k in sorted(known) if k.lower() == name.lower()]
    hint = (
        f" The nearest known: {', '.join(near)}."
        if near
        else f" Known: {', '.join(sorted(known)) or 'none'}."
    )
    told = repr(name) if is_label(name) else f"of {len(name)} characters"
    return ValueError(
        f"{source}:{line}: unknown {kind} {told}.{hint} Give it a rule in the mapping, or add it to the "
        f"mapping's {key!r} list"
    )


def _take(span: RawSpan, draft: _Draft) -> None:
    """Make ``span`` the entity or the modifier that its label says."""
    for rule in draft.mapping.entities:
        if _is_of(rule, span, draft):
            draft.entity_of[span.id] = _keep(draft.entities, span, rule.type, draft)
            return
    for rule in draft.mapping.modifiers:
        if span.label in rule.labels:
            draft.direct[span.id] = rule.type
            draft.modifier_ids.add(_keep(draft.modifiers, span, rule.type, draft).id)
            return


def _take_aliases(draft: _Draft) -> None:
    """Let a span that repeats an entity's span under another label stand for the entity."""
    by_span = {entity.span: entity for entity in draft.entities.values()}
    for span in draft.raw.spans:
        if span.label in draft.mapping.aliases and span.span in by_span:
            draft.entity_of.setdefault(span.id, by_span[span.span])


def _is_of(rule: SpanRule, span: RawSpan, draft: _Draft) -> bool:
    return (
        span.label in rule.labels
        and (rule.words is None or rule.words.search(surface(draft.raw.text, span.span)) is not None)
        and (not rule.target_of or any((span.id, name) in draft.targets for name in rule.target_of))
        and _has(rule.attribute, span, draft)
    )


def _has(attribute: AttributeIs | None, span: RawSpan, draft: _Draft) -> bool:
    return attribute is None or any(
        (span.id, attribute.label, value) in draft.attributes for value in attribute.values
    )


def _keep(kept: dict[tuple[str, Span], Entity], span: RawSpan, new_type: str, draft: _Draft) -> Entity:
    key = (new_type, span.span)
    if key in kept:
        draft.skipped["same span and type again"] += 1
    else:
        kept[key] = Entity(span.id, new_type, span.span)
    return kept[key]


def _relation_candidates(relation: RawRelation) -> tuple[_Candidate, ...]:
    ends = (("Arg1", relation.source, relation.target), ("Arg2", relation.target, relation.source))
    return tuple(_Candidate("relation", relation.label, "", e, end, m) for end, e, m in ends)


def _event_candidates(event: RawEvent) -> Iterator[_Candidate]:
    for role, argument in event.roles:
        if event.trigger:
            yield _Candidate("role", role, "", event.trigger, "trigger", argument)
            yield _Candidate("role", role, "", argument, "argument", event.trigger)
        for other_role, other in event.roles:
            if other != argument:
                yield _Candidate("entity_role", role, other_role, argument, "", other)


def _take_links(draft: _Draft) -> None:
    for relation in draft.raw.relations:
        if not any(_link(candidate, draft) for candidate in _relation_candidates(relation)):
            draft.skipped[f"relation {relation.label}: {_why(relation, draft)}"] += 1
    for event in draft.raw.events:
        for candidate in _event_candidates(event):
            _link(candidate, draft)
        for role, argument in event.roles:
            span = draft.spans.get(argument)
            if role in draft.mapping.ignore_links:
                draft.skipped[f"role {role}: ignored"] += 1
            elif argument in draft.raw.lost:
                draft.skipped[f"role {role}: its span was left out"] += 1
            elif span is not None and not (
                argument in draft.used or argument in draft.entity_of or span.label in draft.mapping.ignore
            ):
                draft.skipped[f"role {role}: made no link"] += 1


def _why(relation: RawRelation, draft: _Draft) -> str:
    """Why ``relation`` made no link."""
    ends = (relation.source, relation.target)
    if relation.label in draft.mapping.ignore_links:
        return "ignored"
    if any(end in draft.raw.lost for end in ends):
        return "one end was left out"
    if not any(end in draft.entity_of for end in ends):
        return "link of an unmapped entity"
    return "no rule for its ends or its words"


def _link(candidate: _Candidate, draft: _Draft) -> bool:
    """Make the link that the first rule that fits says; whether there was one."""
    entity, span = draft.entity_of.get(candidate.entity), draft.spans.get(candidate.modifier)
    if entity is None or span is None:
        return False
    for rule in draft.mapping.links:
        new_type = rule.type or draft.direct.get(candidate.modifier, "")
        if not new_type or not _fits(rule, candidate, entity.type, span, draft):
            continue
        if new_type not in draft.mapping.schema.modifiers_of(entity.type):
            draft.skipped[f"{entity.type}.{new_type}: no pair of the schema"] += 1
            return True  # counted here, under the reason that says most
        made = Link(entity.id, _modifier(span, new_type, draft).id)
        if made in draft.links:
            draft.skipped["same link again"] += 1
        draft.links[made] = None
        return True
    return False


def _fits(rule: LinkRule, candidate: _Candidate, entity_type: str, span: RawSpan, draft: _Draft) -> bool:
    return (
        rule.form == candidate.form
        and (candidate.name in rule.names or ANY in rule.names)
        and rule.entity_end in ("either", candidate.entity_end)
        and (rule.form != "entity_role" or candidate.modifier_role in rule.modifier_roles)
        and entity_type in rule.entities
        and (not rule.modifier_labels or span.label in rule.modifier_labels)
        and (rule.words is None or rule.words.search(surface(draft.raw.text, span.span)) is not None)
        and _has(rule.attribute, span, draft)
    )


def _modifier(span: RawSpan, new_type: str, draft: _Draft) -> Entity:
    """The modifier of that type and span; one span may be two modifiers, by what it is linked to."""
    draft.used.add(span.id)
    key = (new_type, span.span)
    if key not in draft.modifiers:
        is_taken = span.id in draft.modifier_ids or span.id in draft.entity_of
        new_id = f"{span.id}.{new_type}" if is_taken else span.id
        draft.modifiers[key] = Entity(new_id, new_type, span.span)
        draft.modifier_ids.add(new_id)
    return draft.modifiers[key]
