"""``fedmedlora export``: a finished adapter -> what other programs load."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmedlora import __version__
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.extract import find_files
from fedmedlora.model import gguf_file, merge
from fedmedlora.model.card import card
from fedmedlora.model.files import ModelFiles, config_of
from fedmedlora.model.gguf_layout import Layout, layout
from fedmedlora.model.gguf_tokens import Vocabulary, vocabulary
from fedmedlora.model.modelfile import modelfile
from fedmedlora.model.plain_peft import plain_config
from fedmedlora.model.saved import (
    MANIFEST,
    read_manifest,
    read_saved_adapter,
    refuse_mismatch,
    refuse_other_config,
)
from fedmedlora.new_folder import new_folder, refuse_full_disk, refuse_taken

# What an export becomes -> the precisions that it may have; the first is what it has if none is named.
TARGETS: dict[str, tuple[str, ...]] = {
    "peft": ("float32",),
    "merged": (merge.BASE, *merge.PRECISIONS),
    "gguf": (merge.BASE, *gguf_file.PRECISIONS),
    "gguf-adapter": ("float32",),
}
MODEL, ADAPTER, BASE_MODEL = "model.gguf", "adapter.gguf", "base.gguf"
_SMALL_BYTES = 50_000_000  # a tokenizer and what is small, generously

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Finished:
    """An adapter in ``folder``, and what it becomes."""

    folder: Path
    manifest: dict[str, Any]
    adapter: Adapter
    to: str

    def write_around(self, part: Path, precision: str) -> None:
        """What goes with every export: the manifest, and where it comes from."""
        shutil.copyfile(self.folder / MANIFEST, part / MANIFEST)
        text = card(self.manifest, self.adapter.hash(), to=self.to, precision=precision, version=__version__)
        (part / "README.md").write_text(text, encoding="utf-8")


def export(
    folder: Path,
    out: Path,
    *,
    to: str,
    model_name: str | None = None,
    precision: str = "",
    tell: Tell = lambda line: None,
) -> None:
    """Write the adapter in ``folder`` to the new folder ``out`` in the form ``to``, one of ``TARGETS``.

    ``model_name``: the base model, by default the one that the manifest names. ``precision``: of the weights
    that are written, by default the first of ``TARGETS``; "base" is that of the base model's files. ``tell``:
    takes lines about what is being done. Raises ``ValueError`` for what cannot be exported, and leaves
    nothing behind then.
    """
    if to not in TARGETS:
        raise ValueError(f"--to {to}: allowed are {', '.join(TARGETS)}")
    precision = precision or TARGETS[to][0]
    if precision not in TARGETS[to]:
        raise ValueError(f"--precision {precision}: with --to {to} allowed are {', '.join(TARGETS[to])}")
    refuse_taken(out)
    manifest = read_manifest(folder)
    found = _Finished(folder, manifest, read_saved_adapter(folder), to)
    with _named(folder):
        refuse_other_config(manifest, folder)
        _refuse_for_others(manifest, to)
    if to == "peft":
        _write_peft(found, out, model_name)
        return
    files = find_files(model_name, manifest, folder)
    with _named(folder):
        # Its own words are not asked for: they stand in the manifest, which goes with it.
        frame = dict(zip(("before", "after"), files.encoder.frame, strict=True))
        refuse_mismatch(manifest, files, frame=frame, tokenizer_hash=files.encoder.tokenizer_hash())
    if to != "gguf-adapter":
        merge.refuse_quantized(files)
    write = {"merged": _write_merged, "gguf": _write_gguf, "gguf-adapter": _write_gguf_adapter}[to]
    write(found, files, out, precision, tell)


@contextmanager
def _named(folder: Path) -> Iterator[None]:
    """Say which adapter it is that a ``ValueError`` in the block is about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error


def _refuse_for_others(manifest: dict[str, Any], to: str) -> None:
    """Say what no other program can do with the adapter; those that only write text are refused."""
    if not manifest["readable_by_generate"]:
        why = (
            "answers in form tags, in one pass over the sentence, and writes nothing"
            if manifest["output_form"] == "tags"
            else 'was trained with loss = "decision" alone, which leaves it unable to write an answer'
        )
        how = f"{why}: only fedmedlora's decoder reads it"
        if to.startswith("gguf"):
            raise ValueError(f"the adapter {how}, and llama.cpp and Ollama only write")
        warnings.warn(f"the adapter {how}; another program has its weights and cannot read it", stacklevel=3)
    if manifest["base_model"]["quantization"] != "none" and to in ("merged", "gguf"):
        warnings.warn(
            "the adapter was trained over 4-bit weights (nf4) and is merged into the full ones that they "
            "were made of, so answers can differ a little",
            stacklevel=3,
        )


def _write_peft(found: _Finished, out: Path, model_name: str | None) -> None:
    name = found.manifest["base_model"]["name"]
    if model_name is not None:
        files = find_files(model_name, found.manifest, found.folder)
        with _named(found.folder):
            refuse_mismatch(found.manifest, files)
        name = name if Path(model_name).exists() else model_name  # never a path of this machine
    with _named(found.folder):
        config = plain_config(found.folder, found.manifest, name)
    weights = found.folder / "adapter_model.safetensors"
    with new_folder(out, weights.stat().st_size) as part:
        shutil.copyfile(weights, part / weights.name)
        text = json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False)
        (part / "adapter_config.json").write_text(text + "\n", encoding="utf-8")
        found.write_around(part, "float32")


def _write_merged(found: _Finished, files: ModelFiles, out: Path, precision: str, tell: Tell) -> None:
    num_values, num_bytes = merge.size(files)
    if precision != merge.BASE:
        num_bytes = num_values * merge.PRECISIONS[precision].itemsize
    both = _load(found, files, out, num_bytes, tell)
    with new_folder(out, num_bytes) as part:
        found.write_around(part, merge.write_merged(both, files, part, precision))


def _write_gguf(found: _Finished, files: ModelFiles, out: Path, precision: str, tell: Tell) -> None:
    model, words, about = _for_llama_cpp(found, files)
    num_values, num_bytes = merge.size(files)
    if precision != merge.BASE:
        num_bytes = gguf_file.num_bytes([(num_values // 32, 32)], precision)
    both = _load(found, files, out, num_bytes, tell)
    shapes = merge.weight_shapes(both)
    precision = merge.base_precision(both) if precision == merge.BASE else precision
    weights = ((name, weight.numpy()) for name, weight in merge.merged_weights(both))
    with new_folder(out, gguf_file.num_bytes(shapes.values(), precision)) as part:
        gguf_file.write_model(part / MODEL, model, words, weights, shapes, precision=precision, about=about)
        _write_modelfile(part, found.manifest, {"FROM": f"./{MODEL}"})
        found.write_around(part, precision)


def _write_gguf_adapter(found: _Finished, files: ModelFiles, out: Path, precision: str, tell: Tell) -> None:
    model, _, about = _for_llama_cpp(found, files)
    with new_folder(out, sum(array.nbytes for array in found.adapter.arrays.values())) as part:
        alpha = found.manifest["adapter"]["alpha"]
        gguf_file.write_adapter_file(part / ADAPTER, model, found.adapter, alpha, about=about)
        sources = {"FROM": f"./{BASE_MODEL}", "ADAPTER": f"./{ADAPTER}"}
        _write_modelfile(part, found.manifest, sources)
        found.write_around(part, precision)


def _load(found: _Finished, files: ModelFiles, out: Path, num_bytes: int, tell: Tell) -> Any:
    refuse_full_disk(out, num_bytes + _SMALL_BYTES)  # before minutes are spent on it
    tell(f"loading {files.name} and merging the adapter into it ...")
    return merge.load_both(files, found.manifest["adapter"], found.adapter)


def _for_llama_cpp(found: _Finished, files: ModelFiles) -> tuple[Layout, Vocabulary, dict[str, str]]:
    """What does not need the weights, so that what llama.cpp cannot follow is said before they are loaded."""
    gguf_file.refuse_without_library()
    config = config_of(files)
    model = layout(config)
    words = vocabulary(files.encoder.tokenizer, config.vocab_size)
    about = {
        "general.name": f"{found.manifest['base_model']['name']}, fine-tuned across sites",
        "fedmedlora.base_hash": files.hash,
        "fedmedlora.adapter_hash": found.adapter.hash(),
    }
    return model, words, about


def _write_modelfile(part: Path, manifest: dict[str, Any], sources: dict[str, str]) -> None:
    """Write what Ollama reads, or warn why it cannot be written: llama.cpp does without."""
    frame = manifest["frame"]
    # The first task's; of instruction data there is none, and every request brings its own.
    names = (name for name in manifest["tasks"]["names"] if name in manifest["prompts"])
    instruction = manifest["prompts"].get(next(names, ""), "")
    try:
        text = modelfile(sources, frame["before"], frame["after"], instruction=instruction)
    except ValueError as error:
        warnings.warn(f"no Modelfile for Ollama: {error}", stacklevel=2)
        return
    (part / "Modelfile").write_text(text, encoding="utf-8", newline="\n")
