"""How vLLM is called. It cannot run here, so a package of its name notes what it is handed."""

from __future__ import annotations

import os
import sys
import types

import pytest

from fedmedlora.engine import vllm as engine
from fedmedlora.engine.request import Request
from fedmedlora.engine.vllm import RANKS, Served, lora_rank, refuse_without_library, start


@pytest.fixture
def handed(monkeypatch):
    """What the stand-in was handed: {"engine": ..., "generate": ...}."""
    found: dict[str, object] = {}

    class Record:
        def __init__(self, *args, **named):
            self.args, self.named = args, named

    class LLM:
        def __init__(self, **named):
            if named["model"] == "broken":
                raise RuntimeError("Engine core initialization failed.\nSee above.")
            found["engine"] = named

        def generate(self, prompts, sampling, **named):
            found["generate"] = prompts, sampling, named
            answers = [types.SimpleNamespace(token_ids=[7, number]) for number in range(len(prompts))]
            return [types.SimpleNamespace(outputs=[one]) for one in answers]

    modules = {
        "vllm": {"LLM": LLM, "SamplingParams": Record},
        "vllm.lora": {},
        "vllm.lora.request": {"LoRARequest": Record},
        "vllm.sampling_params": {"StructuredOutputsParams": Record},
    }
    for name, content in modules.items():
        module = types.ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(engine, "refuse_without_library", lambda: None)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    return found


def test_requests_become_tokens_and_greedy_settings(handed, tmp_path):
    generate = start(Served(tmp_path / "model", tmp_path / "adapter", 12, 2048, 0))
    assert os.environ["VLLM_NO_USAGE_STATS"] == "1"
    assert os.environ["VLLM_LOGGING_STREAM"] == "ext://sys.stderr"
    told = handed["engine"]
    assert told["model"] == str(tmp_path / "model")
    assert (told["max_lora_rank"], told["max_model_len"], told["max_num_seqs"]) == (16, 2048, None)
    assert told["enable_prefix_caching"]
    assert told["generation_config"] == "vllm"
    free, bound = Request((1, 2), 5, 9), Request((1, 3), 6, 9, '{"type":"array"}')
    assert generate([free, bound]) == [(7, 0), (7, 1)]
    prompts, sampling, named = handed["generate"]
    assert prompts == [{"prompt_token_ids": [1, 2]}, {"prompt_token_ids": [1, 3]}]
    assert [one.named["temperature"] for one in sampling] == [0.0, 0.0]
    assert [one.named["max_tokens"] for one in sampling] == [5, 6]
    assert [one.named["stop_token_ids"] for one in sampling] == [[9], [9]]
    assert sampling[0].named["structured_outputs"] is None
    assert sampling[1].named["structured_outputs"].named == {"json": '{"type":"array"}'}
    assert named["lora_request"].args == ("adapter", 1, str(tmp_path / "adapter"))


def test_room_is_what_sentences_need(tmp_path):
    assert Served(tmp_path, tmp_path, 8, 131_072.0).room_tokens == 16_384
    assert Served(tmp_path, tmp_path, 8, float("inf")).room_tokens == 16_384
    assert Served(tmp_path, tmp_path, 8, 1024.0).room_tokens == 1024


def test_what_keeps_it_from_starting_is_told(handed, tmp_path):
    from pathlib import Path

    with pytest.raises(ValueError, match="vLLM cannot start: Engine core initialization failed"):
        start(Served(Path("broken"), tmp_path, 8, 2048))


@pytest.mark.parametrize(("rank", "expected"), [(1, 1), (2, 8), (8, 8), (9, 16), (300, 320), (512, 512)])
def test_the_smallest_rank_that_holds_the_adapters(rank, expected):
    assert lora_rank(rank) == expected
    assert expected in RANKS


def test_a_rank_that_none_holds_is_refused():
    with pytest.raises(ValueError, match="adapter rank 513: vLLM serves at most 512"):
        lora_rank(513)


def test_without_the_package(monkeypatch):
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'pip install "fedmedlora\[vllm\]"'):
        refuse_without_library()
