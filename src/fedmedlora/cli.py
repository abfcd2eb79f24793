"""The command line: parse, call, print. Results go to stdout, everything else to stderr.

Exit codes: 0 done, 1 an unforeseen failure (of ``audit``: something is not what was written), 2 bad input or
settings, 130 interrupted.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedmedlora import __version__
from fedmedlora.cli_audit import add_audit
from fedmedlora.cli_consortium import add_consortium
from fedmedlora.cli_corpora import add_corpora, add_schema, chosen_schema, refuse_overwriting
from fedmedlora.cli_export import add_export
from fedmedlora.cli_help import add_command
from fedmedlora.cli_run import add_run
from fedmedlora.cli_watch import add_watch
from fedmedlora.tasks.form import known_forms
from fedmedlora.tasks.task import known_tasks

# Heavy modules are imported where a command needs them, so that --help answers at once.


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(arguments)
    warnings.showwarning = _show_warning
    try:
        code: int | None = args.run(args)
        sys.stdout.flush()  # here, so that a closed pipe or a full disk is told like everything else
    except KeyboardInterrupt:
        hint = "; go on with --resume" if args.command in ("run", "demo") else ""
        print(f"\ninterrupted{hint}", file=sys.stderr)
        return 130
    except ValueError as error:
        print(f"fedmedlora: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        _drop_stdout()
        return 0
    except OSError as error:
        print(f"fedmedlora: {_os_error(error)}", file=sys.stderr)
        _drop_stdout()
        return 2
    return code or 0


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="fedmedlora",
        description="Hospitals train one clinical language model together: LoRA adapters travel, "
        "notes do not.",
    )
    top.add_argument("--version", action="version", version=f"fedmedlora {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    add_run(commands)
    add_watch(commands)

    extract = add_command(
        commands,
        "extract",
        help="find entities and modifiers in notes with a trained adapter",
        takes="notes, of which the text alone is read (an adapter that finds modifiers only also needs their "
        "entities), and an adapter that a run wrote",
        gives="the same notes with what was found, by character offsets",
        example="fedmedlora extract new-note.txt --adapter run/adapters/fed_medlora --format html --out "
        "found.html",
    )
    extract.add_argument(
        "inputs",
        nargs="+",
        type=Path,
        metavar="INPUT",
        help="a .txt file (one note), a .jsonl file of notes, or a BRAT folder; several are read together",
    )
    extract.add_argument("--adapter", type=Path, required=True, help="a folder under a run's adapters/")
    extract.add_argument(
        "--model",
        metavar="NAME",
        help="the base model (folder or hub name), if not the one the adapter names",
    )
    extract.add_argument(
        "--format",
        choices=("jsonl", "brat", "html"),
        default="jsonl",
        help="jsonl: a line per note, for programs and `evaluate`; brat: .txt and .ann files; html: one page "
        "to read (jsonl)",
    )
    extract.add_argument("--out", type=Path, help="file (jsonl, html) or new folder (brat); default: stdout")
    extract.add_argument(
        "--batch-size",
        type=int,
        metavar="N",
        help="sentences read at once: memory for speed (16; vllm: as it sees fit)",
    )
    extract.add_argument(
        "--engine",
        choices=("local", "vllm"),
        default="local",
        help="who runs the model: this process, or vLLM (docs/engine.md) (local)",
    )
    extract.add_argument(
        "--decoding",
        choices=("constrained", "free"),
        default="constrained",
        help="constrained: an answer can only be of its form; free: plain generation (constrained)",
    )
    extract.set_defaults(run=_extract)

    add_export(commands)

    evaluate = commands.add_parser("evaluate", help="compare predicted with gold annotations")
    evaluate.add_argument("gold", type=Path, help="JSONL file or BRAT folder")
    evaluate.add_argument("predicted", type=Path, help="the same; needs no text")
    add_schema(evaluate)
    evaluate.add_argument("--json", action="store_true", help="print one line of JSON")
    evaluate.set_defaults(run=_evaluate)

    init = commands.add_parser("init", help="a first study.toml and mapping.toml from your annotated folders")
    init.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="folders of notes, one per site")
    init.add_argument("--reader", default="brat", help="the notes' format; see docs/formats.md")
    init.add_argument("--out", type=Path, default=Path(), help="where to write (this folder)")
    init.add_argument("--schema", type=Path, help="your own schema, a TOML file (docs/own-schema.md)")
    init.set_defaults(run=_init)

    show = commands.add_parser("show", help="show what a model is trained on: prompt, target and loss mask")
    show.add_argument(
        "notes", type=Path, help="JSONL file (notes or prompts) or BRAT folder; its text is shown"
    )
    show.add_argument("--task", choices=known_tasks(), default="ner")
    show.add_argument("--number", type=int, default=1, help="which example, from 1")
    show.add_argument("--prompts", choices=("study", "short"), default="short")
    show.add_argument("--form", choices=known_forms(), default="markup", help="how answers are written")
    show.add_argument("--model", default="smollm2-135m", help="whose tokens to show")
    add_schema(show)
    show.set_defaults(run=_show)

    add_consortium(commands)
    add_corpora(commands)
    add_audit(commands)
    return top


def _extract(args: argparse.Namespace) -> None:
    from fedmedlora.corpora.load import load_notes, load_texts
    from fedmedlora.corpora.members import refuse_absent
    from fedmedlora.corpora.schema_record import schema_of_record
    from fedmedlora.corpora.writers.brat import refuse_full
    from fedmedlora.model.saved import read_manifest
    from fedmedlora.tasks.task import finders

    if args.format == "brat" and args.out is None:
        raise ValueError("--format brat writes a folder; name it with --out")
    if args.format == "brat":
        refuse_full(args.out)
    if args.format != "brat" and args.out is not None and args.out.is_dir():
        raise ValueError(f"{args.out}: is a folder; --format {args.format} writes one file")
    if args.out is not None:
        refuse_overwriting(args.out, args.inputs)
    if args.engine == "vllm" and args.out is None:
        raise ValueError("--engine vllm: what runs under vLLM writes to stdout; name a file with --out")
    if args.batch_size is not None and args.batch_size < 1:
        raise ValueError(f"--batch-size {args.batch_size}: sentences read at once; at least 1")
    for path in args.inputs:
        refuse_absent(path)  # before an adapter is asked what it needs
    manifest = read_manifest(args.adapter)
    schema = schema_of_record(manifest["schema"], f"{args.adapter}: fedmedlora.json: schema")
    if finders(manifest["tasks"]["names"]):
        notes = tuple(note for path in args.inputs for note in load_texts(path))
    else:  # it finds modifiers of entities that are given
        notes = tuple(note for path in args.inputs for note in load_notes(path, schema).notes)
    twice = [note_id for note_id, times in Counter(note.id for note in notes).items() if times > 1]
    if twice:
        raise ValueError(f"two inputs have a note named {min(twice)!r}; extract them one after the other")
    from fedmedlora.extract import extract
    from fedmedlora.model.memory import keep_freed_memory
    from fedmedlora.progress import Terminal

    keep_freed_memory()
    with Terminal() as progress:
        found = extract(
            args.adapter,
            notes,
            model_name=args.model,
            batch_size=args.batch_size or 0,
            decoding=args.decoding,
            engine=args.engine,
            progress=progress,
        )
    _write_extracted(found, args.format, args.out, schema.name)


def _write_extracted(notes: Sequence[Any], form: str, out: Path | None, schema: str) -> None:
    from fedmedlora.corpora.jsonl import notes_text, write_atomically
    from fedmedlora.corpora.writers.brat import write_brat
    from fedmedlora.report.notes_page import notes_page

    if form == "brat":
        assert out is not None, "checked before"
        write_brat(notes, out)
        return
    if form == "jsonl":
        text = notes_text(notes, {"name": "extracted", "schema": schema})
    else:
        text = notes_page([_for_page(note) for note in notes])
    if out is None:
        print(text, end="")
    else:
        write_atomically(out, text.encode())


def _for_page(note: Any) -> tuple[str, str, list[tuple[str, int, int]], list[tuple[str, str, str]]]:
    from fedmedlora.corpora.note import surface

    by_id = {mention.id: mention for mention in (*note.entities, *note.modifiers)}
    links = [
        (
            surface(note.text, by_id[link.entity].span),
            by_id[link.modifier].type,
            surface(note.text, by_id[link.modifier].span),
        )
        for link in note.links
    ]
    linked = {link.modifier for link in note.links}
    links += [("", m.type, surface(note.text, m.span)) for m in note.modifiers if m.id not in linked]
    return note.id, note.text, [(e.type, e.start, e.end) for e in note.entities], links


def _evaluate(args: argparse.Namespace) -> None:
    import numpy as np

    from fedmedlora.corpora.load import load_notes, load_predictions
    from fedmedlora.evaluation.bootstrap import MIN_NOTES
    from fedmedlora.evaluation.summary import evaluate

    rng = np.random.default_rng(0)  # of the bootstrap: the same files give the same intervals
    schema = chosen_schema(args)
    gold, predicted = load_notes(args.gold, schema), load_predictions(args.predicted, schema)
    scores = evaluate(gold.notes, predicted.notes, rng=rng)
    if args.json:
        print(json.dumps(scores))
        return
    head = f"{'':<12}{'':<10}{'precision':>10}{'recall':>10}{'F1':>10}{'tp':>8}{'fp':>8}{'fn':>8}"
    print(f"{head}   95 % interval of F1")
    for kind, criteria in scores.items():
        for criterion, numbers in criteria.items():
            shares = [numbers[key] for key in ("precision", "recall", "f1")]
            cells = "".join(f"{'undefined' if s is None else format(s, '.3f'):>10}" for s in shares)
            counts = "".join(f"{numbers[key]:>8}" for key in ("tp", "fp", "fn"))
            interval = numbers["interval"]
            told = f"   {interval[0]:.3f} to {interval[1]:.3f}" if interval else ""
            print(f"{kind:<12}{criterion:<10}{cells}{counts}{told}")
    if any(
        n["f1"] is not None and n["interval"] is None
        for criteria in scores.values()
        for n in criteria.values()
    ):
        print(f"no interval: fewer than {MIN_NOTES} notes have anything to count, too few for one of 95 %")


def _init(args: argparse.Namespace) -> None:
    from fedmedlora.init import write_first_study

    found, commands = write_first_study(args.folders, args.out, args.schema, reader=args.reader)
    for folder in found.folders:
        print(f"{folder.site}: {folder.num_notes} notes, {folder.num_annotated_notes} with annotations")
    lone = [folder.site for folder in found.folders if folder.num_notes < 2]
    if lone:
        print(
            f"{', '.join(lone)}: one note cannot be both trained on and tested on; put more into the folder "
            "before you split it",
            file=sys.stderr,
        )
    print(f"{len(found.labels)} labels, {len(found.guesses)} with a guess: look through", end=" ")
    print(f"{args.out / 'mapping.toml'}, then:\n")
    print("\n".join(f"  {command}" for command in commands))


def _show(args: argparse.Namespace) -> None:
    from rich.console import Console

    from fedmedlora.corpora.instructions import holds_instructions, read_instructions
    from fedmedlora.corpora.load import load_notes
    from fedmedlora.tasks.instruction import NAME as INSTRUCTION
    from fedmedlora.tasks.show import show
    from fedmedlora.tasks.training_set import training_set

    schema = chosen_schema(args)
    are_records = holds_instructions(args.notes)
    notes = (read_instructions(args.notes) if are_records else load_notes(args.notes, schema)).notes
    task = INSTRUCTION if are_records else args.task
    rendered = training_set(notes, schema, tasks=(task,), prompt_set=args.prompts, form=args.form)
    examples = rendered.examples[task]
    if not 1 <= args.number <= len(examples):
        of = f"1 to {len(examples)}" if examples else "none: the notes hold no example"
        raise ValueError(f"--number {args.number}: {task} has {of}")
    from fedmedlora.model.load import load_encoder
    from fedmedlora.model.tokens import masked_tokens

    example = examples[args.number - 1]
    encoder = load_encoder(args.model)
    # What a model sees has no line ends of a terminal's.
    Console().print(show(example, masked_tokens(encoder, encoder.encode(example))), soft_wrap=True)


def _os_error(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return f"{error.filename or 'output'}: the disk is full; nothing half-written was left behind"
    if error.errno is None:  # not the system's
        return str(error)
    return f"{error.filename or 'input or output'}: {error.strerror or error}"


def _drop_stdout() -> None:
    """What stdout still holds and could not be written goes nowhere, or Python would try again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show_warning(message: Warning | str, category: type[Warning], *args: Any, **kwargs: Any) -> None:
    print(f"fedmedlora: warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
