"""A base model as files alone, for a program that loads its weights by itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmedlora.model.load import files_hash, load_encoder, model_source, why_not
from fedmedlora.model.tokens import Encoder

# What a model needs to run, and no second copy of its weights in another format.
_PATTERNS = ["model*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]


@dataclass(frozen=True, eq=False)
class ModelFiles:
    """``folder`` holds the model ``name``; ``hash`` is ``load.BaseModel``'s, so the same for the same files.

    ``num_positions``: positions that it can look at; infinite where it names no limit.
    """

    name: str
    hash: str
    folder: Path
    encoder: Encoder
    num_positions: float


def model_files(name: str, *, revision: str = "") -> ModelFiles:
    """The files of ``name``: a folder, a hub name (fetched where they are not here), or the demo model.

    Raises ``ValueError`` where they are not to be had, and for weights in another format than safetensors.
    """
    from transformers import AutoConfig

    source = model_source(name)
    try:
        folder = Path(source) if Path(source).is_dir() else _fetched(source, revision or "main")
        config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"base model {name!r} cannot be found: {why_not(name, error)}") from error
    found = files_hash(folder)
    if not found:
        raise ValueError(
            f"base model {name!r}: {folder.name} holds no *.safetensors, by which a model is known here; "
            "save it again with transformers' save_pretrained"
        )
    most = getattr(config.get_text_config(), "max_position_embeddings", None)
    return ModelFiles(
        name, found, folder, load_encoder(str(folder)), float("inf") if most is None else float(most)
    )


def config_of(files: ModelFiles) -> Any:
    """transformers' configuration of the model."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(files.folder)


def _fetched(name: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, revision=revision, allow_patterns=_PATTERNS))
