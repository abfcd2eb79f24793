"""What the output will probably be: the guess that the model then checks in one pass.

The output is the input with a few tags, so the guess is to copy on. Where the same word stood behind
the same word under the same tag before, the guess is what was chosen there. A wrong guess costs time and
never changes the output.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fedmedlora.extraction.walk import Walk, step
from fedmedlora.model.tokens import Encoder
from fedmedlora.tasks.copying import State, is_tag
from fedmedlora.tasks.example import Example

_Place = tuple[str, bool, str, str]


@dataclass(slots=True)
class Memory:
    """What was chosen at which place: innermost open label, just opened or not, the words on both sides."""

    chosen: dict[_Place, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)  # word -> the tag last opened before it

    def learn(self, walk: Walk, option: str) -> None:
        """Remember that ``option`` was chosen at the gap of ``walk``."""
        place = _place(walk.state, walk.example)
        self.chosen[place] = option
        if is_tag(option) and not option.startswith("</"):
            self.labels[place[3]] = self.labels[""] = option

    def guess(self, walk: Walk) -> int:
        """The likely next token, one of ``walk.allowed``."""
        place = _place(walk.state, walk.example)
        likely = (self.chosen.get(place), self.labels.get(place[3]), self.labels.get(""))
        wanted = likely[:1] if walk.depth == 0 else likely
        alive = dict(walk.alive)
        option = next((o for o in wanted if o is not None and o in alive), walk.alive[0][0])
        return alive[option][walk.depth]


@dataclass(frozen=True, slots=True)
class Step:
    """One token of a draft, the walk behind it, and the output pieces that it completes."""

    token: int
    walk: Walk
    done: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """A place of the draft where the constraint leaves more than one token: before ``steps[at]``."""

    at: int
    walk: Walk
    allowed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """A guess of the next tokens; behind the last of ``steps`` there may be one more decision."""

    steps: tuple[Step, ...]
    decisions: tuple[Decision, ...]

    @property
    def num_fed(self) -> int:
        """Steps whose token the model has to see: those before the last decision."""
        return self.decisions[-1].at if self.decisions else 0


def draft(encoder: Encoder, memory: Memory, walk: Walk, num_pieces: int) -> Draft:
    """Guess on from ``walk`` until ``num_pieces`` output pieces are copied, or to the end.

    A draft without decisions is the forced rest of the output.
    """
    steps: list[Step] = []
    decisions: list[Decision] = []
    num_copied = 0
    while allowed := walk.allowed:
        token = allowed[0]
        if len(allowed) > 1:
            decisions.append(Decision(len(steps), walk, allowed))
            if num_copied >= num_pieces:
                break
            token = memory.guess(walk)
        walk, done = step(encoder, walk, token)
        steps.append(Step(token, walk, done))
        num_copied += sum(not is_tag(piece) for piece in done)
    return Draft(tuple(steps), tuple(decisions))


def _place(state: State, example: Example) -> _Place:
    pieces, at = example.pieces, state.position
    before = pieces[at - 1].form if at else ""
    after = pieces[at].form if at < len(pieces) else ""
    return (state.stack[-1] if state.stack else "", state.opened, before, after)
