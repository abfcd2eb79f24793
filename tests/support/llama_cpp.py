"""llama.cpp itself, by the package ``xllamacpp``: whether a GGUF file is right is for llama.cpp to say."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest


class LlamaCpp:
    """A GGUF file as llama.cpp runs it: on the CPU, one thread, float32 as far as the file goes."""

    def __init__(self, model: Path, adapter: Path | None = None) -> None:
        llama = pytest.importorskip("xllamacpp")
        params = llama.CommonParams()
        params.model.path = str(model)
        params.n_ctx = params.n_batch = params.n_ubatch = 1024
        params.n_parallel = params.n_threads_http = 1
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
        params.n_gpu_layers = 0
        params.warmup = params.fit_params = False
        params.flash_attn_type = llama.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.cache_type_k = params.cache_type_v = llama.ggml_type.GGML_TYPE_F32
        params.verbosity = 0
        if adapter is not None:
            params.lora_adapters = [llama.CommonAdapterLoraInfo(str(adapter), 1.0)]
        self._server = llama.Server(params)

    def tokens(self, text: str, *, begin: bool = False) -> list[int]:
        """Token ids of ``text``, what spells a special token as that; ``begin``: as the start of a prompt."""
        asked = {"content": text, "add_special": begin, "parse_special": True}
        return self._post("/tokenize", asked)["tokens"]

    def chat(self, message: str) -> str:
        """What the file's own chat template makes of a user's message."""
        return self._post("/apply-template", {"messages": [{"role": "user", "content": message}]})["prompt"]

    def likely(self, prompt: list[int]) -> dict[int, float]:
        """Token id -> log probability as the next token, for all of them."""
        # Told is what the model gives, whatever is chosen; of half a character nothing would be told.
        forced = [[self.tokens("a")[0], 1e6]]
        found = self._complete(prompt, n_predict=1, n_probs=10_000, logit_bias=forced)
        (first,) = found["completion_probabilities"]
        return {one["id"]: one["logprob"] for one in first["top_logprobs"]}

    def write(self, prompt: list[int] | str, num_tokens: int) -> list[int]:
        """The likeliest tokens behind ``prompt``, one after the other; its end token ends it."""
        return self._complete(prompt, n_predict=num_tokens, return_tokens=True)["tokens"]

    def _complete(self, prompt: Any, **settings: Any) -> dict[str, Any]:
        asked = {"prompt": prompt, "temperature": 0, "cache_prompt": False}
        return self._post("/completion", {**asked, **settings})

    def _post(self, where: str, record: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            self._server.listening_address + where,
            data=json.dumps(record).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())
