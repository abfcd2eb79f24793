"""An engine that can run here: plain greedy steps over a tiny model, each request by itself."""

from __future__ import annotations

import json

import pytest
import torch


@pytest.fixture
def plain_engine(encoder):
    """``plain_engine(model)`` -> an ``engine.vllm.Generate``; ``asked`` of it: the batches it was handed."""

    def make(model):
        @torch.inference_mode()
        def answer(request) -> tuple[int, ...]:
            matcher = _matcher(encoder, request.schema) if request.schema else None
            found: list[int] = []
            while len(found) < request.max_tokens:
                scores = model(torch.tensor([[*request.prompt, *found]]), use_cache=False).logits[0, -1]
                if matcher is not None:
                    bits = torch.tensor(list(matcher.compute_bitmask()), dtype=torch.uint8)
                    allowed = (bits[:, None] >> torch.arange(8)) & 1
                    scores = scores.masked_fill(allowed.flatten()[: len(scores)] == 0, float("-inf"))
                found.append(int(scores.argmax()))
                if found[-1] == request.end_id:
                    break
                if matcher is not None:
                    assert matcher.consume_token(found[-1])
            return tuple(found)

        def generate(requests) -> list[tuple[int, ...]]:
            generate.asked.append(tuple(requests))
            return [answer(one) for one in requests]

        generate.asked = []
        return generate

    return make


def _matcher(encoder, schema: str):
    """As vLLM's "guidance" backend makes it: flexible white space, unless the schema says otherwise."""
    llguidance = pytest.importorskip("llguidance")
    from llguidance.hf import from_tokenizer

    compiled = llguidance.LLMatcher.grammar_from_json_schema(
        json.dumps(json.loads(schema)), defaults={"whitespace_flexible": True}
    )
    return llguidance.LLMatcher(from_tokenizer(encoder.tokenizer, eos_token=encoder.end_id), compiled)
