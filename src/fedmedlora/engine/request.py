"""What an engine is asked for each example: the very tokens that ``generate_texts`` feeds, and its rules.

Nothing here knows an engine. A request says everything that decides its answer, so that two engines which
compute alike answer alike.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from fedmedlora.extraction.generate import default_limit
from fedmedlora.extraction.grammar import COMPACT
from fedmedlora.model.tokens import Encoder
from fedmedlora.tasks.example import Example
from fedmedlora.tasks.form import load_form, read_by


@dataclass(frozen=True, slots=True)
class Request:
    """One greedy answer.

    ``prompt``: token ids, the instruction and the example's own input behind it. ``max_tokens``: what the
    answer may take, its end token included; 0: the prompt leaves no room, and nothing is asked.
    ``end_id``: the token that ends it. ``schema``: the JSON schema, as text, that the answer has to be of;
    "": it is free.
    """

    prompt: tuple[int, ...]
    max_tokens: int
    end_id: int
    schema: str = ""


def requests_of(
    encoder: Encoder, examples: Sequence[Example], *, room_tokens: int, constrained: bool
) -> list[Request]:
    """One request for each of ``examples``, in their order.

    ``room_tokens``: prompt and answer together. ``constrained``: an answer is a sentence of its form's
    grammar. Raises ``ValueError`` for a form that has none.
    """
    found = []
    for example in examples:
        prompt = (*encoder.prefix(example.instruction), *encoder.prompt(example))
        found.append(
            Request(
                prompt=prompt,
                max_tokens=max(0, min(default_limit(encoder, example), room_tokens - len(prompt))),
                end_id=encoder.end_id,
                schema=_schema(example) if constrained else "",
            )
        )
    return found


def refuse_form(form: str, *, constrained: bool) -> None:
    """Raise ``ValueError`` for a form that is read by a decoder of ours: its rule is the sentence itself."""
    how = read_by(form)
    if how == "tagging":
        raise ValueError(
            f"form {form!r} is read by tagging, in one pass that generates nothing, and an engine generates; "
            "read with --engine local"
        )
    if constrained and how == "copying":
        raise ValueError(
            f"constrained decoding of form {form!r} needs our own decoder: at every token it asks what the "
            "sentence leaves open, which an engine cannot be told; read freely (--decoding free), or with "
            "--engine local"
        )


def _schema(example: Example) -> str:
    refuse_form(example.form, constrained=True)
    grammar = load_form(example.form).grammar(example.labels)
    if grammar is None:
        raise ValueError(f"form {example.form!r} has no grammar to read under; read freely (--decoding free)")
    # How llguidance, which vLLM brings too, is told about white space within a schema.
    return json.dumps(grammar | {"x-guidance": COMPACT})
