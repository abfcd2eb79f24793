"""Reads examples with an engine: what ``measure.Reader`` does with the model in this process.

Both feed the same tokens under the same rules and read what comes by the same form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fedmedlora.engine.request import requests_of
from fedmedlora.engine.vllm import Generate
from fedmedlora.extraction.generate import answer_ids
from fedmedlora.model.tokens import Encoder
from fedmedlora.tasks.example import Example
from fedmedlora.tasks.form import Reading, load_form

# Requests handed over at once: many, because an engine is fastest with a full queue, and yet not all, so that
# progress shows.
AT_ONCE = 1024


class EngineReader:
    """Reads examples with one adapter; requests that are equal are asked once, whatever note they come from.

    A prompt that leaves no room for an answer is not asked, and counts as unparsed.
    """

    def __init__(
        self,
        generate: Generate,
        encoder: Encoder,
        report: Callable[[int, int], None],
        *,
        room_tokens: int,
        constrained: bool,
    ) -> None:
        """``report(num_done, num_total)`` counts examples. The rest: see ``requests_of``."""
        self._generate, self._encoder, self._report = generate, encoder, report
        self._room_tokens, self._constrained = room_tokens, constrained
        self._known: dict[tuple[str, tuple[str, ...], tuple[str, ...]], Reading] = {}
        # What was really read: a known answer counts once.
        self.num_examples = self.num_unparsed = self.num_ungrounded = 0

    def read(self, examples: Sequence[Example]) -> list[Reading]:
        """What the answer to each example says."""
        fresh = {e.place: e for e in examples if e.place not in self._known}
        requests = requests_of(
            self._encoder,
            list(fresh.values()),
            room_tokens=self._room_tokens,
            constrained=self._constrained,
        )
        # By prompt: those of one instruction follow each other, and its keys and values are at hand.
        asked = sorted(
            {one for one in requests if one.max_tokens}, key=lambda one: (one.prompt, one.max_tokens)
        )
        answers: dict[object, str] = {}
        before = self.num_examples
        for begin in range(0, len(asked), AT_ONCE):
            some = asked[begin : begin + AT_ONCE]
            for request, ids in zip(some, self._generate(some), strict=True):
                answers[request] = self._encoder.decode(
                    answer_ids(ids, self._encoder.end_id, request.max_tokens)
                )
            num_done = round(len(fresh) * len(answers) / len(asked))
            self._report(before + num_done, before + len(fresh))
        for (place, example), request in zip(fresh.items(), requests, strict=True):
            reading = Reading((), False, 0)
            if request in answers:
                reading = load_form(example.form).read(example, answers[request])
            self._known[place] = reading
            self.num_examples += 1
            self.num_unparsed += not reading.complete
            self.num_ungrounded += reading.num_ungrounded
        return [self._known[e.place] for e in examples]

    def spent(self) -> None:
        """See ``measure.Reads``: the engine is our own."""
        return None
