"""``fedmedlora init DIR...``: a first ``mapping.toml`` and ``study.toml`` from a user's annotated folders."""

from __future__ import annotations

from pathlib import Path

from fedmedlora.corpora.inspect import Inspection, inspect, mapping_toml
from fedmedlora.corpora.jsonl import write_atomically

_STUDY = """\
# A first study over {num} sites. docs/study-file.md explains every key.
name = "First study"
seed = 1
methods = ["zero_shot", "single_site", "fed_medlora"]

[model]
name = "smollm2-135m"   # or a folder or hub name of a causal language model

[adapter]
rank = 16
alpha = 32.0

[tasks]
prompts = "short"       # "study": longer prompts that define every type

[training]
rounds = 3
steps_per_round = 5     # 0: whole passes over each site's notes
learning_rate = 1e-3

[evaluation]
max_sentences = 60      # per site; 0: all test notes
"""

_SITE = """
[[sites]]
name = "{site}"
train = "{site}/train.jsonl"
test = "{site}/test.jsonl"
"""


def write_first_study(folders: list[Path], out: Path) -> tuple[Inspection, tuple[str, ...]]:
    """Write ``mapping.toml`` and ``study.toml`` into ``out``; returns what was found and the next commands.

    Raises ``ValueError`` when one of them is there already, and for what the readers refuse.
    """
    for name in ("mapping.toml", "study.toml"):
        if (out / name).exists():
            raise ValueError(f"{out / name}: is there already; remove it, or name another folder with --out")
    found = inspect(folders)
    out.mkdir(parents=True, exist_ok=True)
    sites = [folder.site for folder in found.folders]
    study = _STUDY.format(num=len(sites)) + "".join(_SITE.format(site=site) for site in sites)
    write_atomically(out / "mapping.toml", mapping_toml(found).encode())
    write_atomically(out / "study.toml", study.encode())
    commands = []
    for folder in found.folders:
        notes = out / f"{folder.site}.jsonl"
        commands.append(
            f"fedmedlora corpora convert --reader brat --mapping {out / 'mapping.toml'} {folder.path} {notes}"
        )
        commands.append(
            f"fedmedlora corpora split {notes} --out {out / folder.site} --parts train=0.8,test=0.2"
        )
    commands.append(f"fedmedlora run {out / 'study.toml'} --out {out / 'run'}")
    return found, tuple(commands)
