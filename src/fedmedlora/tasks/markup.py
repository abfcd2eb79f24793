"""Inline markup: mentions <-> output pieces <-> text. (The output form of Li et al., arXiv:2601.22124.)

``render`` puts tags between pieces, ``place`` reads them back, ``parse`` reads free model text.
A mention is contiguous, begins and ends at a piece's boundary (a start after the leading space of its
piece), and nests; what the form cannot express is returned with one of ``REASONS``.

Laws (a property test holds them): every rendered target is a path through ``copying``;
``place(pieces, target)`` and ``parse(pieces, "".join(target), labels)`` give the placed mentions back;
``parse`` raises on no text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fedmedlora.corpora.note import Entity
from fedmedlora.tasks import recovery
from fedmedlora.tasks.copying import MAX_DEPTH, close_tag, is_tag, open_tag
from fedmedlora.tasks.example import Piece
from fedmedlora.tasks.pieces import has_leading_space

REASONS = (
    "not asked for",
    "discontinuous",
    "empty",
    "outside the sentence",
    "begins or ends with white space",
    "inside a piece",
    "duplicate",
    "crossing",
    "nested too deep",
)


class Mention(NamedTuple):
    """``label`` on the characters ``[start, end)`` of the note."""

    label: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Parsed:
    """Free model text, read.

    ``output``: the mentions as output pieces, a path of the copy constraint.
    ``mentions``: in the order in which they open. ``problems``: one entry for each thing that was
    repaired or dropped (never text of the note). ``complete``: whether the text was exactly a path of
    the copy constraint to its end.
    """

    output: tuple[str, ...]
    mentions: tuple[Mention, ...]
    problems: tuple[str, ...]
    complete: bool


def render(
    pieces: Sequence[Piece], entities: Sequence[Entity], labels: Sequence[str]
) -> tuple[tuple[str, ...], tuple[tuple[Entity, str], ...]]:
    """Output pieces with a tag pair around every entity that the form can express.

    ``labels``: the types asked for, in canonical order (at one span the earlier label is the outer
    one). Of two that cross, the one that starts first stays; at one start the longer is the outer.
    Returns the target and ``(entity, reason)`` for each entity that is not in it.
    """
    fitting, starts, ends, unplaced = fitted(pieces, entities, labels)
    before: dict[int, list[str]] = {}  # gap (pieces before it) -> tags there, in order
    opened: list[Entity] = []  # outermost first
    seen: set[tuple[str, int, int]] = set()

    def close_until(start: int) -> None:
        while opened and opened[-1].end <= start:
            inner = opened.pop()
            before.setdefault(ends[inner.end], []).append(close_tag(inner.type))

    for entity in fitting:
        close_until(entity.start)
        key = (entity.type, entity.start, entity.end)
        if key in seen:
            unplaced.append((entity, "duplicate"))
        elif opened and entity.end > opened[-1].end:
            unplaced.append((entity, "crossing"))
        elif len(opened) == MAX_DEPTH:
            unplaced.append((entity, "nested too deep"))
        else:
            seen.add(key)
            opened.append(entity)
            before.setdefault(starts[entity.start], []).append(open_tag(entity.type))
    if pieces:
        close_until(pieces[-1].end)

    target: list[str] = []
    for i, piece in enumerate(pieces):
        target += before.get(i, ())
        target.append(piece.form)
    target += before.get(len(pieces), ())
    return tuple(target), tuple(unplaced)


def fitted(
    pieces: Sequence[Piece], entities: Sequence[Entity], labels: Sequence[str]
) -> tuple[list[Entity], dict[int, int], dict[int, int], list[tuple[Entity, str]]]:
    """The entities that begin and end where pieces do, and where that is.

    Sorted by start, then longer first, then by ``labels``. Then, by character: the index of the piece that a
    mention from there begins with, and the index behind the last piece of a mention that ends there. Last,
    ``(entity, reason)`` for each that does not fit.
    """
    written = [(i, piece) for i, piece in enumerate(pieces) if not piece.is_mark]
    starts = {piece.start + has_leading_space(piece): i for i, piece in written}
    ends = {piece.end: i + 1 for i, piece in written}
    rank = {label: i for i, label in enumerate(labels)}
    fitting: list[Entity] = []
    unplaced: list[tuple[Entity, str]] = []
    for entity in entities:
        reason = _misfit(entity, pieces, starts, ends, rank)
        if reason:
            unplaced.append((entity, reason))
        else:
            fitting.append(entity)
    fitting.sort(key=lambda e: (e.start, -e.end, rank[e.type]))
    return fitting, starts, ends, unplaced


def place(pieces: Sequence[Piece], output: Sequence[str]) -> tuple[tuple[Mention, ...], tuple[str, ...]]:
    """Mentions of ``output`` (a path of the copy constraint), in the order in which they open.

    The second value lists what was dropped: a mention repeated exactly, a tag without its partner.
    """
    placed, problems = _placed(pieces, output)
    closed = [mention for mention, _, _ in placed]
    kept = tuple(dict.fromkeys(closed))
    return kept, (*problems, *["duplicate"] * (len(closed) - len(kept)))


def confidences(pieces: Sequence[Piece], output: Sequence[str], shares: Sequence[float]) -> tuple[float, ...]:
    """How sure the model is of each mention of ``place(pieces, output)``, in their order.

    The product of the ``shares`` (one per output piece) from the opening tag to the closing one: the
    probability of this very span, given the text before it.
    """
    found: dict[Mention, float] = {}
    for mention, first, last in _placed(pieces, output)[0]:
        found.setdefault(mention, math.prod(shares[first : last + 1]))
    return tuple(found.values())


def _placed(
    pieces: Sequence[Piece], output: Sequence[str]
) -> tuple[list[tuple[Mention, int, int]], list[str]]:
    """(mention, index of its opening tag in ``output``, of its closing one) as they open, and problems."""
    found: list[tuple[Mention, int, int] | None] = []
    problems: list[str] = []
    opened: list[tuple[str, int, int, int]] = []  # label, index in found, pieces before it, index in output
    position = 0
    for at, step in enumerate(output):
        if not is_tag(step):
            position += 1
        elif not step.startswith("</"):
            opened.append((step[1:-1], len(found), position, at))
            found.append(None)
        elif not opened or opened[-1][0] != step[2:-1] or opened[-1][2] >= min(position, len(pieces)):
            problems.append("closing tag without an opening one")
        else:
            label, index, first, opened_at = opened.pop()
            last = min(position, len(pieces)) - 1
            while last > first and not pieces[last].is_solid:  # closed by force, at the end of the text
                last -= 1
            start = pieces[first].start + has_leading_space(pieces[first])
            found[index] = (Mention(label, start, pieces[last].end), opened_at, at)
    problems += ["tag not closed"] * len(opened)
    return [one for one in found if one is not None], problems


def parse(
    pieces: Sequence[Piece], text: str, labels: Sequence[str], tag_texts: Mapping[str, str] | None = None
) -> Parsed:
    """Read free model text as markup of ``pieces``; tags of other labels are ignored and counted.

    ``tag_texts``: how the text writes a tag, where that is not as it is.
    """
    tag_texts = tag_texts or {}
    walked, rest, complete = recovery.walk(tuple(pieces), text, tuple(labels), tag_texts)
    if complete:
        mentions, problems = place(pieces, walked)
        return Parsed(walked, mentions, problems, True)
    rest = recovery.in_full(rest, walked, tag_texts)
    recovered, problems = recovery.recover(pieces, walked, rest, labels)
    entities = [Entity(str(i), label, ((start, end),)) for i, (label, start, end) in enumerate(recovered)]
    output, unplaced = render(pieces, entities, labels)
    mentions, _ = place(pieces, output)
    return Parsed(output, mentions, problems + tuple(reason for _, reason in unplaced), False)


def _misfit(
    entity: Entity,
    pieces: Sequence[Piece],
    starts: dict[int, int],
    ends: dict[int, int],
    rank: dict[str, int],
) -> str:
    if entity.type not in rank:
        return "not asked for"
    if len(entity.span) > 1:
        return "discontinuous"
    if entity.start >= entity.end:
        return "empty"
    if not pieces or entity.start < pieces[0].start or entity.end > pieces[-1].end:
        return "outside the sentence"
    white = {p.start for p in pieces if p.form.isspace() or has_leading_space(p)}
    if entity.start in white or entity.end - 1 in white:
        return "begins or ends with white space"
    if entity.start not in starts or entity.end not in ends:
        return "inside a piece"
    return ""
