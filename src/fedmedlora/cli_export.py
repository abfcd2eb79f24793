"""``fedmedlora export``: a finished adapter for other programs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from fedmedlora.cli_help import add_command

# Heavy modules are imported where a command needs them, so that --help answers at once. Tests hold the two
# lists equal to those of export.py.
TARGETS = ("peft", "merged", "gguf", "gguf-adapter")
PRECISIONS = ("base", "float32", "bfloat16", "float16", "q8_0")


def add_export(commands: Any) -> None:
    """Add ``export`` to the subparsers ``commands``."""
    export = add_command(
        commands,
        "export",
        help="a finished adapter for other programs: PEFT, transformers, llama.cpp, Ollama",
        takes="an adapter that a run wrote, and its base model; no notes",
        gives="a new folder: the adapter alone (peft), the base model with the adapter in its weights "
        "(merged), or the same as one file for llama.cpp and Ollama (gguf)",
        example="fedmedlora export run/adapters/fed_medlora --to gguf --precision q8_0 --out for-ollama",
    )
    export.add_argument("adapter", type=Path, metavar="ADAPTER", help="a folder under a run's adapters/")
    export.add_argument(
        "--to",
        choices=TARGETS,
        required=True,
        help="peft: the adapter for PEFT; merged: the whole model for transformers and vLLM; gguf: the whole "
        "model for llama.cpp and Ollama; gguf-adapter: the adapter for them",
    )
    export.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    export.add_argument(
        "--model",
        metavar="NAME",
        help="the base model (folder or hub name), if not the one the adapter names",
    )
    export.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="",
        metavar="P",
        help="of the weights of a whole model: base (that of the base model's files), float32, bfloat16, "
        "float16, and of gguf q8_0, 8 bits (base)",
    )
    export.set_defaults(run=_export)


def _export(args: argparse.Namespace) -> None:
    from fedmedlora.export import export

    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    export(
        args.adapter,
        args.out,
        to=args.to,
        model_name=args.model,
        precision=args.precision,
        tell=tell,
    )
    for path in sorted(args.out.iterdir()):
        print(f"{path}: {path.stat().st_size:,} bytes")
