"""Load a base model: any causal language model that transformers loads, frozen."""

from __future__ import annotations

import difflib
import functools
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from fedmedlora.model.attention import set_attention
from fedmedlora.model.demo import DEMO_MODEL, demo_model_folder
from fedmedlora.model.tokens import Encoder

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, eq=False)
class BaseModel:
    """A frozen base model on its device, with its tokenizer.

    ``hash``: sha256 over the names and contents of its weight files, so that a site can tell whether it
    holds the same model as the others, whatever the folder is called. ``pristine``: by name, the weights
    that full-parameter training has overwritten for the time being (``weights.py``).
    """

    name: str
    hash: str
    model: Any  # transformers.PreTrainedModel
    encoder: Encoder
    device: torch.device
    num_parameters: int
    precision: str
    quantization: str
    revision: str
    pristine: dict[str, torch.Tensor] = field(default_factory=dict)

    def device_name(self) -> str:
        """``"cpu"``, or the name of the GPU."""
        return "cpu" if self.device.type == "cpu" else torch.cuda.get_device_name(self.device)


def load_base_model(
    name: str, *, precision: str = "auto", quantization: str = "none", revision: str = ""
) -> BaseModel:
    """Load ``name``: a folder, a hub name, or ``"smollm2-135m"``.

    ``precision``: ``"auto"`` is bfloat16 on a GPU and float32 on a CPU, where only some have fast bfloat16.
    ``quantization``: ``"nf4"`` needs CUDA and bitsandbytes (Dettmers et al., QLoRA, arXiv:2305.14314).
    ``revision``: branch, tag or commit of a hub model; empty: the default branch.
    Raises ``ValueError`` for a model that cannot be loaded and for settings this machine cannot serve.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # a study has bars of its own
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if precision == "auto":
        precision = "bfloat16" if device.type == "cuda" else "float32"
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r}: allowed are auto, {', '.join(PRECISIONS)}")
    extra = _quantization(quantization, device, PRECISIONS[precision])
    source = model_source(name)
    try:
        wanted = revision or "main"
        tokenizer = AutoTokenizer.from_pretrained(source, revision=wanted)
        model = AutoModelForCausalLM.from_pretrained(
            source, revision=wanted, dtype=PRECISIONS[precision], use_safetensors=True, **extra
        )
    except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
        raise ValueError(
            f"base model {name!r} cannot be loaded: {why_not(name, error)} "
            f"(a folder saved by transformers, a hub name, or {DEMO_MODEL!r})"
        ) from error
    if quantization == "none":
        model.to(device)
    set_attention(model, is_cpu=device.type == "cpu", precision=precision)
    model.requires_grad_(False)
    model.eval()
    return BaseModel(
        name=name,
        hash=weights_hash(model, wanted),
        model=model,
        encoder=Encoder(tokenizer),
        device=device,
        num_parameters=sum(p.numel() for p in model.parameters()),
        precision=precision,
        quantization=quantization,
        revision=revision,
    )


def load_encoder(name: str, *, local: bool = False) -> Encoder:
    """The tokenizer of ``name`` alone. Raises ``ValueError`` where it cannot be loaded.

    ``local``: from this machine only.
    """
    from transformers import AutoTokenizer

    source = model_source(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=local)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"tokenizer of {name!r} cannot be loaded: {why_not(name, error)}") from error
    return Encoder(tokenizer)


def model_source(name: str) -> str:
    """A folder or a hub name. Raises ``ValueError`` for the demo model's name misspelt, before the hub is
    asked for it, again and again where there is no way to it."""
    if name == DEMO_MODEL:
        return str(demo_model_folder())
    short = name.lower()
    is_close = DEMO_MODEL.startswith(short) or difflib.get_close_matches(short, [DEMO_MODEL], cutoff=0.85)
    if len(short) > 5 and is_close and not Path(name).exists():  # 0.85: other sizes of it are other models
        raise ValueError(
            f"base model {name!r} cannot be loaded: it is neither a folder nor a hub name (owner/name); "
            f"did you mean {DEMO_MODEL!r}?"
        )
    return name


def why_not(name: str, error: Exception) -> str:
    """Why ``name`` could not be loaded: the hub's words on what is no name of its own help nobody."""
    is_path = name.startswith(("/", ".", "~")) or name.count("/") > 1
    if not is_path or Path(name).exists():
        return first_line(error)
    return "there is no such folder" + (" (~ stands for nothing here)" if name.startswith("~") else "")


def first_line(error: Exception) -> str:
    """What a library says first; its type where it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__).strip()


def weights_hash(model: Any, revision: str = "main") -> str:
    """sha256 over the model's weight files (names and contents), or over its tensors if it has none."""
    folder = Path(str(model.config._name_or_path))
    if not folder.is_dir():
        folder = _hub_folder(str(model.config._name_or_path), revision)
    found = files_hash(folder)
    if found:
        return found
    digest = hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(f"{key}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def files_hash(folder: Path) -> str:
    """sha256 over names and contents of the weight files in ``folder``; "" where there is none."""
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    return (
        _hash_files(tuple((str(f), f.stat().st_mtime_ns, f.stat().st_size) for f in files)) if files else ""
    )


@functools.lru_cache(maxsize=8)
def _hash_files(files: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for name, _, _ in files:
        path = Path(name)
        digest.update(path.name.encode())
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _hub_folder(name: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        found = snapshot_download(
            name, revision=revision, allow_patterns=["*.safetensors"], local_files_only=True
        )
        return Path(found)
    except (LocalEntryNotFoundError, HfHubHTTPError, ValueError, OSError):
        return Path("not-a-local-snapshot")


def quantization_here(wanted: str) -> str:
    """``wanted`` where this machine can serve it, else "none".

    Four bits need CUDA. Elsewhere an adapter is read over the full weights that they were made from.
    """
    return wanted if torch.cuda.is_available() else "none"


def _quantization(quantization: str, device: torch.device, compute: torch.dtype) -> dict[str, Any]:
    if quantization == "none":
        return {}
    if quantization != "nf4":
        raise ValueError(f"quantization {quantization!r}: allowed are none, nf4")
    if device.type != "cuda":
        raise ValueError(
            "quantization 'nf4' needs an NVIDIA GPU (bitsandbytes' 4-bit kernels run on CUDA), and none is "
            "visible here; set quantization = 'none'"
        )
    return {"quantization_config": nf4(compute), "device_map": {"": device.index or 0}}


def nf4(compute: torch.dtype) -> Any:
    """transformers' settings for QLoRA (Dettmers et al., arXiv:2305.14314, section 3): NF4, and the constants
    of its blocks quantized again. ``compute``: what a layer's weights are unpacked to, to be multiplied."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )
