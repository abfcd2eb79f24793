"""vLLM (Kwon et al., arXiv:2309.06180): the only file that knows it, and it is imported only where it runs.

As little as can be: requests go in as token ids, answers come out as token ids. Everything else that
vLLM can do by itself (chat templates, stop texts, sampling settings out of the model's files) is left out, so
that an answer depends on the request alone. It counts among the engines that batch as rows come and go, keep
keys and values in pages, and run a shared beginning of prompts once.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmedlora.engine.request import Request

# Answers as token ids, in the order of the requests; the end token may stand at the end of one.
Generate = Callable[[Sequence[Request]], list[tuple[int, ...]]]

# Ranks that vLLM lays adapters out for; one of another rank takes the next larger.
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
# A sentence with its instruction takes a few thousand. More room is memory that no row uses.
MAX_TOKENS = 16_384


@dataclass(frozen=True, slots=True)
class Served:
    """What vLLM loads: ``model`` a folder of safetensors, ``adapter`` a folder as PEFT saves it.

    ``num_positions``: what the model can look at. ``batch_size``: rows at once; 0: as vLLM sees fit.
    """

    model: Path
    adapter: Path
    rank: int
    num_positions: float
    batch_size: int = 0

    @property
    def room_tokens(self) -> int:
        """Prompt and answer together."""
        return int(min(self.num_positions, MAX_TOKENS))


def refuse_without_library() -> None:
    """Raise ``ValueError`` where vLLM is not installed, saying what to do."""
    if importlib.util.find_spec("vllm") is None:
        raise ValueError(
            "--engine vllm needs the package vllm, which is not installed here: "
            'pip install "fedmedlora[vllm]" into an own environment (docs/engine.md); or --engine local'
        )


def lora_rank(rank: int) -> int:
    """The smallest of ``RANKS`` that holds ``rank``. Raises ``ValueError`` for one that none holds."""
    if rank > RANKS[-1]:
        raise ValueError(
            f"adapter rank {rank}: vLLM serves at most {RANKS[-1]}; read this adapter with --engine local"
        )
    return next(one for one in RANKS if one >= rank)


def start(served: Served) -> Generate:
    """vLLM with the model and the adapter loaded. Raises ``ValueError`` where it cannot start.

    It tells nobody that it runs, and its log goes to stderr.
    """
    refuse_without_library()
    rank = lora_rank(served.rank)
    os.environ["VLLM_NO_USAGE_STATS"] = "1"  # it would report its use, and notes are at work here
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    from vllm import LLM
    from vllm.lora.request import LoRARequest

    try:
        engine = LLM(
            model=str(served.model),
            dtype="bfloat16",  # as the model in this process is read on a GPU
            max_model_len=served.room_tokens,
            max_num_seqs=served.batch_size or None,
            enable_lora=True,
            max_loras=1,
            max_lora_rank=rank,
            enable_prefix_caching=True,
            # Else the model's own file adds end tokens and penalties that our reading does not have.
            generation_config="vllm",
            # The library that reads the schema in this process, with the same rules for white space.
            structured_outputs_config={"backend": "guidance"},
            trust_remote_code=False,
        )
    except (ValueError, RuntimeError, OSError, NotImplementedError) as error:
        raise ValueError(
            f"vLLM cannot start: {next(iter(str(error).splitlines()), type(error).__name__)} "
            "(what it wrote above says more; --engine local reads without it)"
        ) from error
    adapter = LoRARequest("adapter", 1, str(served.adapter.resolve()))

    def generate(requests: Sequence[Request]) -> list[tuple[int, ...]]:
        outputs = engine.generate(
            [{"prompt_token_ids": list(one.prompt)} for one in requests],
            [_sampling(one) for one in requests],
            lora_request=adapter,
            use_tqdm=False,
        )
        return [tuple(one.outputs[0].token_ids) for one in outputs]

    return generate


def _sampling(request: Request) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    return SamplingParams(
        temperature=0.0,
        max_tokens=request.max_tokens,
        stop_token_ids=[request.end_id],
        detokenize=False,  # we decode, the same way whoever generates
        structured_outputs=StructuredOutputsParams(json=request.schema) if request.schema else None,
    )
