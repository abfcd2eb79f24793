"""The whole way for real: a tiny random model behind the server, held to the schema of each request."""

from __future__ import annotations

import json

import torch
from llguidance import LLMatcher
from transformers import GenerationConfig, LogitsProcessorList

from fedmedlora.endpoint.reader import EndpointReader
from fedmedlora.endpoint.settings import Endpoint
from fedmedlora.extraction import grammar
from fedmedlora.tasks.form import Reading, load_form

TEXTS = ("Pt denies chest pain and severe nausea.", "aspirin 81 mg daily", "no fever")
MOST_TOKENS = 40


def generated(encoder, model, body) -> tuple[str, str, int, int]:
    """(text, finish reason, tokens of the prompt and of the answer), as a server of chat models does it."""
    prompt = encoder.tokenizer(body["messages"][0]["content"], add_special_tokens=False).input_ids
    schema = json.dumps(body["response_format"]["json_schema"]["schema"])
    compiled = LLMatcher.grammar_from_json_schema(schema, overrides={"whitespace_flexible": False})
    matcher = LLMatcher(grammar._tokenizer(encoder), compiled)
    assert not matcher.get_error()
    with torch.inference_mode():
        out = model.generate(
            input_ids=torch.tensor([prompt]),
            attention_mask=torch.ones((1, len(prompt)), dtype=torch.long),
            generation_config=GenerationConfig(
                max_new_tokens=body["max_completion_tokens"],
                do_sample=False,
                eos_token_id=encoder.end_id,
                pad_token_id=encoder.pad_id,
            ),
            logits_processor=LogitsProcessorList([grammar.Rows([matcher], encoder.end_id)]),
        )
    ids = out[0, len(prompt) :].tolist()
    has_ended = ids[-1] == encoder.end_id
    return encoder.decode(ids), "stop" if has_ended else "length", len(prompt), len(ids)


def test_a_model_behind_an_endpoint(server, ask, reply, encoder, build):
    examples = [ask(text, f"n{i}") for i, text in enumerate(TEXTS)]
    whole, cut = [], []
    for seed in range(4):
        model = build("llama", seed)
        said = {}

        def answer(body, model=model, said=said):
            with server.lock:  # one model, one request at a time
                text, reason, *tokens = generated(encoder, model, body)
            said[body["messages"][0]["content"].rsplit("\n", 1)[1]] = (text, reason, *tokens)
            return reply(text, finish_reason=reason, tokens=tuple(tokens))

        server.answer = answer
        endpoint = Endpoint(
            url=server.url, model=f"tiny-{seed}", max_answer_tokens=MOST_TOKENS, max_retries=0
        )
        reader = EndpointReader(endpoint, lambda done, total: None)
        found = reader.read(examples)
        for example, text, reading in zip(examples, TEXTS, found, strict=True):
            written, reason, *_ = said[text]
            if reason == "stop":
                value = json.loads(written)  # held to the schema, so it is one
                assert {item["type"] for item in value["mentions"]} <= set(example.labels)
                whole.append(written)
                assert reading == load_form("json").read(example, written)
            else:
                cut.append(written)
                assert reading == Reading(
                    load_form("json").read(example, written).mentions, False, reading.num_ungrounded
                )
        assert reader.num_unparsed == sum(not one.complete for one in found)
        used = reader.usage
        assert used.prompt_tokens == sum(tokens for _, _, tokens, _ in said.values())
        assert used.completion_tokens == sum(tokens for *_, tokens in said.values())
    # Both ends of an answer were seen.
    assert whole
    assert cut
