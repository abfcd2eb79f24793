"""The base model: its files are on this machine, and they are the coordinator's."""

from __future__ import annotations

from fedmedlora.flower.checks.finding import Finding
from fedmedlora.flower.site_file import SiteFile
from fedmedlora.model.files import model_files

MODEL = "base model"


def check_base_model(site: SiteFile) -> Finding:
    """Files, tokenizer and hash; the weights are hashed and not loaded."""
    try:
        found = model_files(site.model_name(), revision=site.model.revision)
    except (ValueError, OSError) as error:
        return Finding(
            MODEL,
            False,
            str(error),
            "put the consortium's model folder there, and name it under [model] in site.toml; nothing is "
            "downloaded at a site unless HF_HUB_OFFLINE=0 is set",
        )
    wanted = site.coordinator.model_hash
    if wanted and found.hash != wanted:
        return Finding(
            MODEL,
            False,
            f"{site.model.name}: hash {found.hash[:12]}, the coordinator's is {wanted[:12]}",
            "they must be the same files: ask the consortium for its model folder",
        )
    advice = (
        "" if wanted else "the coordinator's hash is not in site.toml; it is compared at the first question"
    )
    size = sum(f.stat().st_size for f in found.folder.glob("*.safetensors"))
    return Finding(MODEL, True, f"{site.model.name}, {size / 1e9:.2f} GB, hash {found.hash[:12]}", advice)
