"""IOB tags to chunks and back, as conlleval reads them (https://www.clips.uantwerpen.be/conll2003/ner/).

One rule reads IOB1, IOB2, BIOES and BILOU, and mends what is inconsistent: a chunk begins at B, S or U, where
the type changes, and where none is open; it ends after E, L, S or U. So "I-" without "B-" before it begins a
chunk, and nothing is lost.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

UNTYPED = "entity"  # the label of chunks whose tags name no type: B, I, O
_TAG = re.compile(r"(?:([BIESULM])(?:-(\S+))?|O)")


def is_tag(text: str) -> bool:
    """Whether ``text`` is a tag: O, or B, I, E, S, L, U or M alone or with a type after a hyphen."""
    return _TAG.fullmatch(text) is not None


def chunks(tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """(first, one past the last, label) of each chunk, in tokens. Every tag must be one (``is_tag``)."""
    found: list[tuple[int, int, str]] = []
    is_open = False
    for index, tag in enumerate(tags):
        match = _TAG.fullmatch(tag)
        assert match is not None, "the caller checks tags"
        if match[1] is None:
            is_open = False
            continue
        label = match[2] or UNTYPED
        if is_open and match[1] not in "BSU" and found[-1][2] == label:
            found[-1] = (found[-1][0], index + 1, label)
        else:
            found.append((index, index + 1, label))
        is_open = match[1] not in "ESLU"
    return found
