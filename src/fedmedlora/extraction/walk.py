"""A walk through the copy constraint, token by token. Both decoders take their steps here.

The options of one gap are token sequences, which form a trie; at each step the tokens that continue some
option are allowed. An option is chosen as soon as its tokens are complete. (No option's text begins with
another's: copied forms do not begin with ``<``, and of tags see ``forms/``.)
"""

from __future__ import annotations

from dataclasses import dataclass

from fedmedlora.model.tokens import Encoder
from fedmedlora.tasks.copying import START, State, advance
from fedmedlora.tasks.example import Example


@dataclass(frozen=True, slots=True)
class Walk:
    """Where an output stands: ``state`` at the last gap, and the options still alive with their tokens.

    ``depth``: tokens of the next output piece that are written already.
    """

    example: Example
    state: State
    depth: int
    alive: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def allowed(self) -> tuple[int, ...]:
        """Tokens that may come next, in the order of the options, each once; empty at the end."""
        return tuple(dict.fromkeys([ids[self.depth] for _, ids in self.alive]))


def begin(encoder: Encoder, example: Example) -> tuple[Walk, tuple[str, ...]]:
    """The walk at its start, and the output pieces that are settled before any token."""
    return _settle(encoder, _at_gap(encoder, example, START))


def step(encoder: Encoder, walk: Walk, token: int) -> tuple[Walk, tuple[str, ...]]:
    """The walk after ``token``, one of ``walk.allowed``, and the output pieces it completed (often none)."""
    depth = walk.depth
    alive = tuple(pair for pair in walk.alive if pair[1][depth] == token)
    assert alive, "the token leaves the copy constraint"
    return _settle(encoder, Walk(walk.example, walk.state, depth + 1, alive))


def _at_gap(encoder: Encoder, example: Example, state: State) -> Walk:
    choices = encoder.options(state, example)
    return Walk(example, state, 0, tuple([(option, ids) for option, _, ids in choices]))


def _settle(encoder: Encoder, walk: Walk) -> tuple[Walk, tuple[str, ...]]:
    """Choose options whose tokens are all written. A piece of no tokens (a tokenizer may drop a character
    that it does not know) is complete at once, so nothing opens or closes before it."""
    done: list[str] = []
    while chosen := next((option for option, ids in walk.alive if len(ids) == walk.depth), None):
        done.append(chosen)
        walk = _at_gap(encoder, walk.example, advance(walk.state, chosen))
    return walk, tuple(done)
