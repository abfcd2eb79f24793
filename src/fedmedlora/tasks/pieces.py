"""Cut text into pieces: the atoms that the output copies and between which a tag may stand.

The cut is a function of the text alone, never of gold offsets. A piece is an optional single leading
space and a run of letters, a run of digits, or one other character; or one character of white space
that leads nothing (a line break, a tab, the first of two spaces). So a tag before a piece stands
before the space, where a tokenizer does not tear the space off its word.

A *form* is a piece as it is written in prompts and targets. ``escape`` and ``unescape`` are inverse.
A script that writes no spaces between its words makes one long piece of a clause; entities inside it
are then reported as unplaced ("inside a piece").
"""

from __future__ import annotations

import re
import unicodedata

from fedmedlora.tasks.example import Piece

_ESCAPED = re.compile("&(lt|amp);")
_CHARACTER = {"lt": "<", "amp": "&"}


def pieces(text: str, start: int, end: int) -> tuple[Piece, ...]:
    """Pieces of ``text[start:end]``; contiguous, in order, covering it. Offsets are those of ``text``.

    Raises ``ValueError`` if ``[start, end)`` is not a range of the text.
    """
    if not 0 <= start <= end <= len(text):
        raise ValueError(
            f"range [{start}, {end}) is not inside a text of {len(text)} characters; give 0 <= start <= end"
        )
    found = []
    at = start
    while at < end:
        stop = _piece_end(text, at, end)
        found.append(Piece(at, stop, _form(text, at, stop, end)))
        at = stop
    return tuple(found)


def unescape(form: str) -> str:
    """The text that a form (or forms, joined) stands for."""
    return _ESCAPED.sub(lambda match: _CHARACTER[match[1]], form)


def has_leading_space(piece: Piece) -> bool:
    """Whether the first character of a piece is the space that leads its word."""
    return len(piece.form) > 1 and piece.form[0] == " "


def _piece_end(text: str, at: int, end: int) -> int:
    if text[at] == " " and at + 1 < end and not text[at + 1].isspace():
        at += 1
    first = text[at]
    stop = at + 1
    if first.isalpha():
        while stop < end and (text[stop].isalpha() or unicodedata.category(text[stop])[0] == "M"):
            stop += 1
    elif first.isdecimal():
        while stop < end and text[stop].isdecimal():
            stop += 1
    return stop


def _form(text: str, start: int, stop: int, end: int) -> str:
    """``text[start:stop]``, with a bare ``<``, and an ``&`` that would read as an escape, escaped."""
    surface = text[start:stop]
    if surface == "<":  # " <" cannot be taken for a tag: a form with a space does not begin with "<"
        return "&lt;"
    if surface in ("&", " &") and _ESCAPED.match(text, stop - 1, end):
        return surface[:-1] + "&amp;"
    return surface
