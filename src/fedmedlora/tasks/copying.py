"""The copy constraint: the output is the input text with tags inserted, and nothing else.

A state machine over *options*. It defines what training's decision loss leaves open and what the
constrained decoders may choose; both import it, so they cannot disagree.

At every gap between pieces the output may close the innermost open tag, open a tag, or copy the
next piece. No empty element (a tag that was just opened may not close), at most ``MAX_DEPTH`` open
tags, nothing opens before a piece of white space, before a mark or at the end, nothing closes after
white space or a mark (except at the end, where what is open must close).
"""

from __future__ import annotations

from dataclasses import dataclass

from fedmedlora.tasks.example import Piece

MAX_DEPTH = 4


@dataclass(frozen=True, slots=True)
class State:
    """``position``: pieces copied so far. ``stack``: open labels, outermost first.

    ``opened``: whether the last option opened a tag.
    """

    position: int = 0
    stack: tuple[str, ...] = ()
    opened: bool = False


START = State()


def open_tag(label: str) -> str:
    """``"<label>"``."""
    return f"<{label}>"


def close_tag(label: str) -> str:
    """``"</label>"``."""
    return f"</{label}>"


def is_tag(output_piece: str) -> bool:
    """Whether an output piece is a tag; no form of a copied piece begins with ``<``."""
    return output_piece.startswith("<")


def options(state: State, pieces: tuple[Piece, ...], labels: tuple[str, ...]) -> tuple[str, ...]:
    """Output pieces that may come next, copy first; empty at the end (then the output ends).

    One option means that nothing is left to decide.
    """
    if state.position == len(pieces):
        return (close_tag(state.stack[-1]),) if state.stack else ()
    piece = pieces[state.position]
    found = [piece.form]
    if state.stack and not state.opened and pieces[state.position - 1].is_solid:
        found.append(close_tag(state.stack[-1]))
    if len(state.stack) < MAX_DEPTH and piece.is_solid:
        found.extend(open_tag(label) for label in labels)
    return tuple(found)


def advance(state: State, output_piece: str) -> State:
    """The state after ``output_piece``, which must be one of ``options``."""
    if output_piece.startswith("</"):
        return State(state.position, state.stack[:-1])
    if is_tag(output_piece):
        return State(state.position, (*state.stack, output_piece[1:-1]), opened=True)
    return State(state.position + 1, state.stack)
