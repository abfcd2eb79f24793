"""``fedmedlora init DIR...``: a first ``mapping.toml`` and ``study.toml`` from a user's annotated folders."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

from fedmedlora.corpora.inspect import Inspection, inspect, mapping_toml
from fedmedlora.corpora.jsonl import write_together
from fedmedlora.corpora.schema import CLINICAL, load_schema

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
{schema}
[training]
rounds = 3
steps_per_round = 5     # 0: whole passes over each site's notes
warmup_steps = 2
learning_rate = 1e-3

[evaluation]
max_sentences = 60      # per site; 0: all test notes
"""

_SITE = """
[[sites]]
name = "{site}"
train = "sites/{site}/train.jsonl"
test = "sites/{site}/test.jsonl"
"""


def write_first_study(
    folders: list[Path], out: Path, schema_file: Path | None = None, *, reader: str = "brat"
) -> tuple[Inspection, tuple[str, ...]]:
    """Write ``mapping.toml`` and ``study.toml`` into ``out``; returns what was found and the next commands.

    ``schema_file``: the user's own schema; both files name it. ``reader``: the notes' format. Raises
    ``ValueError`` when one of them is there already, and for what the readers refuse.
    """
    for name in ("mapping.toml", "study.toml"):
        if (out / name).exists():
            raise ValueError(f"{out / name}: is there already; remove it, or name another folder with --out")
    named = Path(os.path.relpath(schema_file, out)).as_posix() if schema_file else ""
    found = inspect(folders, load_schema(schema_file) if schema_file else CLINICAL, reader=reader)
    sites = [folder.site for folder in found.folders]
    line = f"schema = {json.dumps(named, ensure_ascii=False)}\n" if named else ""
    study = _STUDY.format(num=len(sites), schema=line) + "".join(_SITE.format(site=site) for site in sites)
    mapping = mapping_toml(found, schema_file=named)
    write_together({out / "mapping.toml": mapping.encode(), out / "study.toml": study.encode()})
    commands = []
    for folder in found.folders:
        # Under a folder of their own, so that nothing is written into a user's own folder of that name.
        notes = out / "sites" / f"{folder.site}.jsonl"
        # Of two notes one is to train on and one to test on, which no share of 0.2 would give.
        shares = "train=0.8,test=0.2" if folder.num_notes > 2 else "train=0.5,test=0.5"
        parts = ("--out", out / "sites" / folder.site, "--parts", shares)
        how = ("--reader", reader, "--mapping", out / "mapping.toml")
        schema = ("--schema", schema_file) if schema_file else ()
        commands.append(_command("corpora", "convert", *how, folder.path, notes))
        commands.append(_command("corpora", "split", notes, *parts, *schema))
    commands.append(_command("run", out / "study.toml", "--out", out / "run"))
    return found, tuple(commands)


def _command(*words: str | Path) -> str:
    """A line for the shell, paths with spaces quoted."""
    return shlex.join(["fedmedlora", *map(str, words)])
