"""Read damaged markup: text of a model that departs from the sentence it should have copied.

``walk`` follows the text along the copy constraint as far as it goes. ``recover`` reads all of it in a
forgiving way: the text outside tags becomes tokens, tokens are aligned to the sentence from left to
right, and a tagged surface is looked for at and after the place reached. White space, escapes, words
left out, added or changed between tags do no harm; a tagged surface that the sentence does not hold
there is dropped and counted. Linear in the text for a sentence of bounded length; raises on no text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fedmedlora.tasks.copying import START, advance, is_tag, options
from fedmedlora.tasks.example import Piece
from fedmedlora.tasks.pieces import has_leading_space, pieces, unescape

NOT_A_COPY = "text departs from the sentence"
NOT_IN_SENTENCE = "tagged text is not in the sentence"
NOT_CLOSED = "tag not closed"
NOT_OPENED = "closing tag without an opening one"
NOT_ASKED = "tag was not asked for"
EMPTY = "empty element"

_ANY_TAG = re.compile("</?[A-Za-z][A-Za-z0-9_-]{0,40}>")

WINDOW = 6  # words that may be skipped, in text and sentence together, to get back in step


@dataclass(slots=True)
class _Reading:
    """The text as tokens, with elements over token ranges ``[start, end)`` in order of opening."""

    tokens: list[str] = field(default_factory=list)
    elements: list[tuple[str, int, int]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def walk(
    pieces: tuple[Piece, ...], text: str, labels: tuple[str, ...], tag_texts: Mapping[str, str]
) -> tuple[tuple[str, ...], str, bool]:
    """Output pieces read along the copy constraint, the text left over, and whether all was read.

    ``tag_texts``: how a tag is written, where that is not as it is.
    """
    state, at = START, 0
    output: list[str] = []
    while choices := options(state, pieces, labels):
        texts = ((choice, tag_texts.get(choice, choice)) for choice in choices)
        found = next(((step, seen) for step, seen in texts if seen and text.startswith(seen, at)), None)
        if found is None:
            return tuple(output), text[at:], False
        step, seen = found
        output.append(step)
        state = advance(state, step)
        at += len(seen)
    return tuple(output), text[at:], at == len(text)


def in_full(rest: str, walked: Sequence[str], tag_texts: Mapping[str, str]) -> str:
    """``rest``, the text behind ``walked``, with its tags written as the copy constraint has them.

    A closing tag that does not say what it closes closes what was opened last, and is left out where nothing
    is open.
    """
    if not tag_texts:
        return rest
    opening = {seen: tag for tag, seen in tag_texts.items() if not tag.startswith("</")}
    opened: list[str] = []
    for step in filter(is_tag, walked):
        if step.startswith("</"):
            opened.pop()
        else:
            opened.append(step)

    def full(match: re.Match[str]) -> str:
        if match[0] in opening:
            opened.append(opening[match[0]])
            return opened[-1]
        return f"</{opened.pop()[1:]}" if opened else ""

    seen = sorted(set(tag_texts.values()), key=len, reverse=True)
    return re.sub("|".join(map(re.escape, seen)), full, rest)


def recover(
    sentence: Sequence[Piece], walked: Sequence[str], rest: str, labels: Sequence[str]
) -> tuple[list[tuple[str, int, int]], tuple[str, ...]]:
    """``(label, start, end)`` found in ``walked`` and then ``rest``, and what was repaired or dropped."""
    solid = [piece for piece in sentence if piece.is_solid]
    marks = {piece.form for piece in sentence if piece.is_mark}
    walked = [step for step in walked if step not in marks]
    for mark in marks:  # what is damaged is read by its words; the marks in it say nothing more
        rest = rest.replace(mark, "")
    words = [unescape(piece.form).lstrip(" ") for piece in solid]
    literal = unescape("".join(piece.form for piece in sentence if not piece.is_mark))
    reading = _read(walked, rest, labels, literal)
    found, num_aligned = _align(words, reading)
    if num_aligned < max(len(words), len(reading.tokens)):
        reading.problems.append(NOT_A_COPY)
    mentions = []
    for label, first, last in found:
        start = solid[first].start + has_leading_space(solid[first])
        mentions.append((label, start, solid[last - 1].end))
    return mentions, tuple(reading.problems)


def _read(walked: Sequence[str], rest: str, labels: Sequence[str], literal: str) -> _Reading:
    tag = re.compile("(</?(?:" + "|".join(re.escape(label) for label in labels) + ")>)") if labels else None
    reading = _Reading()
    opened: list[tuple[str, int]] = []  # label, index in found; outermost first
    num_open: Counter[str] = Counter()
    found: list[tuple[str, int, int]] = []
    steps = [(step, is_tag(step)) for step in walked]
    steps += [(s, i % 2 == 1) for i, s in enumerate(tag.split(rest) if tag else [rest])]
    for step, tagged in steps:
        if not tagged:
            plain = unescape(step)
            strange = [other for other in _ANY_TAG.findall(step) if other not in literal]
            reading.problems += [NOT_ASKED] * len(strange)
            cut = pieces(plain, 0, len(plain))
            reading.tokens += [plain[p.start : p.end].lstrip(" ") for p in cut if not p.form.isspace()]
        elif not step.startswith("</"):
            label = step[1:-1]
            opened.append((label, len(found)))
            num_open[label] += 1
            found.append((label, len(reading.tokens), -1))
        elif not num_open[step[2:-1]]:
            reading.problems.append(NOT_OPENED)
        else:
            label = ""
            while label != step[2:-1]:  # what was opened inside it and is still open is dropped
                reading.problems += [NOT_CLOSED] * bool(label)
                label, index = opened.pop()
                num_open[label] -= 1
            first = found[index][1]
            reading.problems += [EMPTY] * (first == len(reading.tokens))
            found[index] = (label, first, len(reading.tokens))
    reading.problems += [NOT_CLOSED] * len(opened)
    reading.elements = [element for element in found if element[2] > element[1]]
    return reading


def _align(words: list[str], reading: _Reading) -> tuple[list[tuple[str, int, int]], int]:
    """Elements as ranges of ``words``, and the number of tokens that were aligned to a word."""
    tokens, problems = reading.tokens, reading.problems
    found: list[tuple[str, int, int]] = []
    at_token, at_word, num_aligned = 0, 0, 0
    offset = 0  # words minus tokens inside the outermost element that was placed last; up to at_token
    inside_from = 0
    for label, first, last in reading.elements:
        if inside_from <= first and last <= at_token:  # nested in a placed element
            found.append((label, first + offset, last + offset))
            continue
        at_token, at_word, aligned = _copy(tokens, at_token, first, words, at_word)
        num_aligned += aligned
        place = _find(tokens, first, last, words, at_word)
        if place < 0:
            problems.append(NOT_IN_SENTENCE)
            continue
        found.append((label, place, place + last - first))
        offset, inside_from = place - first, first
        at_token, at_word = last, place + last - first
        num_aligned += last - first
    return found, num_aligned + _copy(tokens, at_token, len(tokens), words, at_word)[2]


def _copy(tokens: list[str], at: int, until: int, words: list[str], at_word: int) -> tuple[int, int, int]:
    """Align ``tokens[at:until]``: equal words one by one; out of step, skip to the next equal pair."""
    num_aligned = 0
    while at < until:
        if at_word < len(words) and tokens[at] == words[at_word]:
            at, at_word, num_aligned = at + 1, at_word + 1, num_aligned + 1
            continue
        skip = _skip(tokens, at, until, words, at_word)
        if skip is None:
            at += 1
        else:
            at, at_word = at + skip[0], at_word + skip[1]
    return max(at, until), at_word, num_aligned


def _skip(tokens: list[str], at: int, until: int, words: list[str], at_word: int) -> tuple[int, int] | None:
    for total in range(1, WINDOW + 1):
        for in_text in range(total + 1):
            i, j = at + in_text, at_word + total - in_text
            if i < until and j + 1 < len(words) and tokens[i : i + 2] == words[j : j + 2]:
                return in_text, total - in_text
    return None


def _find(tokens: list[str], first: int, last: int, words: list[str], at_word: int) -> int:
    length = last - first
    for place in range(at_word, len(words) - length + 1):
        if words[place] == tokens[first] and words[place : place + length] == tokens[first:last]:
            return place
    return -1
