"""The command line: parse, call, print. Results go to stdout, everything else to stderr.

Exit codes: 0 done, 1 an unforeseen failure, 2 bad input or settings, 130 interrupted.
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

# Longer than 400 lines: one short function per command, and the parser that lists them all.
# Heavy modules are imported where a command needs them, so that --help answers at once.


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(arguments)
    warnings.showwarning = _show_warning
    try:
        args.run(args)
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
    return 0


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="fedmedlora",
        description="Hospitals train one clinical language model together: LoRA adapters travel, "
        "notes do not.",
    )
    top.add_argument("--version", action="version", version=f"fedmedlora {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="a federated study on five synthetic hospitals, start to report")
    demo.add_argument("--out", type=Path, default=Path("demo-run"), help="output folder (demo-run)")
    demo.add_argument("--resume", action="store_true", help="go on with a demo that was stopped")
    demo.set_defaults(run=_demo)

    run = commands.add_parser("run", help="run a study file")
    run.add_argument("study", type=Path, help="TOML; docs/study-file.md lists every key")
    run.add_argument("--out", type=Path, required=True, help="output folder, new or empty")
    run.add_argument("--resume", action="store_true", help="go on with a run that was stopped")
    run.add_argument("--json", action="store_true", help="print the results as one line of JSON")
    run.set_defaults(run=_run)

    extract = commands.add_parser(
        "extract", help="find entities and modifiers in notes with a trained adapter"
    )
    extract.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help=".txt, .jsonl or BRAT folder")
    extract.add_argument("--adapter", type=Path, required=True, help="a folder under a run's adapters/")
    extract.add_argument("--model", help="the base model, if not the one that the adapter names")
    extract.add_argument("--format", choices=("jsonl", "brat", "html"), default="jsonl")
    extract.add_argument("--out", type=Path, help="file (jsonl, html) or folder (brat); default stdout")
    extract.add_argument("--batch-size", type=int, default=16)
    extract.set_defaults(run=_extract)

    evaluate = commands.add_parser("evaluate", help="compare predicted with gold annotations")
    evaluate.add_argument("gold", type=Path, help="JSONL file or BRAT folder")
    evaluate.add_argument("predicted", type=Path, help="the same; needs no text")
    evaluate.add_argument("--json", action="store_true", help="print one line of JSON")
    evaluate.set_defaults(run=_evaluate)

    report = commands.add_parser("report", help="write report.html from a run's results.json")
    report.add_argument("folder", type=Path, metavar="DIR")
    report.set_defaults(run=_report)

    init = commands.add_parser("init", help="a first study.toml and mapping.toml from your annotated folders")
    init.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="BRAT folders, one per site")
    init.add_argument("--out", type=Path, default=Path(), help="where to write (this folder)")
    init.set_defaults(run=_init)

    show = commands.add_parser("show", help="show what a model is trained on: prompt, target and loss mask")
    show.add_argument("notes", type=Path, help="JSONL file or BRAT folder; its text is shown on the terminal")
    show.add_argument("--task", choices=("ner", "modifiers"), default="ner")
    show.add_argument("--number", type=int, default=1, help="which example, from 1")
    show.add_argument("--prompts", choices=("study", "short"), default="short")
    show.add_argument("--model", default="smollm2-135m", help="whose tokens to show")
    show.set_defaults(run=_show)

    _add_corpora(commands)
    return top


def _add_corpora(commands: Any) -> None:
    corpora = commands.add_parser("corpora", help="convert, count, split and make annotated notes")
    actions = corpora.add_subparsers(dest="action", required=True, metavar="ACTION")

    listing = actions.add_parser(
        "list", help="corpora that a mapping is shipped for, and synthetic hospitals"
    )
    listing.add_argument("--json", action="store_true")
    listing.set_defaults(run=_corpora_list)

    convert = actions.add_parser(
        "convert",
        help="a corpus in its own format and labels -> JSONL in the schema's",
        usage="fedmedlora corpora convert [-h] (NAME | --reader READER [--mapping TOML]) SRC OUT.jsonl",
    )
    convert.add_argument("places", nargs="+", metavar="[NAME] SRC OUT.jsonl", help="see above")
    convert.add_argument("--reader", help="the format of your own corpus: brat, phee")
    convert.add_argument("--mapping", type=Path, help="TOML from your labels to the schema's")
    convert.add_argument("--synthetic", action="store_true", help="the notes are of no real person")
    convert.set_defaults(run=_corpora_convert)

    stats = actions.add_parser("stats", help="count notes, entities, modifiers and links")
    stats.add_argument("notes", type=Path, metavar="PATH")
    stats.add_argument("--json", action="store_true")
    stats.set_defaults(run=_corpora_stats)

    split = actions.add_parser("split", help="deal notes out to parts; copies and patients stay together")
    split.add_argument("notes", type=Path, metavar="NOTES")
    split.add_argument("--out", type=Path, required=True, help="folder; one PART.jsonl each")
    split.add_argument("--parts", default="train=0.8,test=0.2", help="NAME=SHARE,...; or 'own': the corpus's")
    split.add_argument("--seed", type=int, default=0)
    split.set_defaults(run=_corpora_split)

    make = actions.add_parser("synthesize", help="write notes of a synthetic hospital")
    make.add_argument("hospital", help="see `corpora list`")
    make.add_argument("num_notes", type=int)
    make.add_argument("out", type=Path, metavar="OUT.jsonl")
    make.add_argument("--part", choices=("train", "validation", "test"), default="train")
    make.add_argument("--seed", type=int, default=0)
    make.set_defaults(run=_corpora_synthesize)


def _demo(args: argparse.Namespace) -> None:
    from fedmedlora.demo import write_demo

    study = args.out / "study.toml"
    if not args.resume or not study.exists():
        _refuse_filled(args.out)
        study = write_demo(args.out)
    _run_file(study, args.out / "run", args.resume, ["fedmedlora", "demo", "--out", args.out.name], False)


def _run(args: argparse.Namespace) -> None:
    command = ["fedmedlora", "run", args.study.name, "--out", args.out.name]
    _run_file(args.study, args.out, args.resume, command, args.json)


def _run_file(study_file: Path, out: Path, resume: bool, command: list[str], as_json: bool) -> None:
    from rich.console import Console

    from fedmedlora.model.memory import keep_freed_memory
    from fedmedlora.study import load_study

    study = load_study(study_file)
    print("loading the model and the notes ...", file=sys.stderr, flush=True)
    from fedmedlora.experiment import run_study
    from fedmedlora.progress import Terminal
    from fedmedlora.report.results import write_results
    from fedmedlora.report.tables import table_text

    keep_freed_memory()
    with Terminal() as progress:
        results = run_study(study, out, resume=resume, progress=progress, command=command)
    write_results(out / "results.json", results)
    page = _write_report(study, results, out)
    if as_json:
        print(json.dumps(results, ensure_ascii=False))
    else:
        console = Console()
        for table in table_text(results):
            console.print(table)
    print(f"report: {page}\nresults: {out / 'results.json'}\nadapters: {out / 'adapters'}", file=sys.stderr)


def _write_report(study: Any, results: dict[str, Any], folder: Path) -> Path:
    from fedmedlora.report.page import write_report
    from fedmedlora.report_examples import report_examples

    examples = report_examples(study, results, folder) if study is not None else []
    return write_report(results, folder, examples)


def _report(args: argparse.Namespace) -> None:
    from fedmedlora.report.results import read_results

    page = _write_report(None, read_results(args.folder / "results.json"), args.folder)
    print(page)


def _extract(args: argparse.Namespace) -> None:
    from fedmedlora.corpora.load import load_texts

    if args.format == "brat" and args.out is None:
        raise ValueError("--format brat writes a folder; name it with --out")
    if args.format == "brat" and args.out.exists() and (args.out.is_file() or any(args.out.iterdir())):
        raise ValueError(f"{args.out}: is there and not empty; name a new folder with --out")
    if args.batch_size < 1:
        raise ValueError(f"--batch-size {args.batch_size}: sentences read at once; at least 1")
    notes = tuple(note for path in args.inputs for note in load_texts(path))
    twice = [note_id for note_id, times in Counter(note.id for note in notes).items() if times > 1]
    if twice:
        raise ValueError(f"two inputs have a note named {min(twice)!r}; extract them one after the other")
    from fedmedlora.extract import extract
    from fedmedlora.model.memory import keep_freed_memory
    from fedmedlora.progress import Terminal

    keep_freed_memory()
    with Terminal() as progress:
        found = extract(
            args.adapter, notes, model_name=args.model, batch_size=args.batch_size, progress=progress
        )
    _write_extracted(found, args.format, args.out)


def _write_extracted(notes: Sequence[Any], form: str, out: Path | None) -> None:
    from fedmedlora.corpora.brat_writer import write_brat
    from fedmedlora.corpora.jsonl import notes_text, write_atomically
    from fedmedlora.report.notes_page import notes_page

    if form == "brat":
        assert out is not None, "checked before"
        write_brat(notes, out)
        return
    if form == "jsonl":
        text = notes_text(notes, {"name": "extracted", "schema": "clinical"})
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
    return note.id, note.text, [(e.type, e.start, e.end) for e in note.entities], links


def _evaluate(args: argparse.Namespace) -> None:
    from fedmedlora.corpora.load import load_notes
    from fedmedlora.evaluation.summary import evaluate

    scores = evaluate(load_notes(args.gold).notes, load_notes(args.predicted).notes)
    if args.json:
        print(json.dumps(scores))
        return
    print(f"{'':<12}{'':<10}{'precision':>10}{'recall':>10}{'F1':>10}{'tp':>8}{'fp':>8}{'fn':>8}")
    for kind, criteria in scores.items():
        for criterion, numbers in criteria.items():
            shares = [numbers[key] for key in ("precision", "recall", "f1")]
            cells = "".join(f"{'undefined' if s is None else format(s, '.3f'):>10}" for s in shares)
            counts = "".join(f"{numbers[key]:>8}" for key in ("tp", "fp", "fn"))
            print(f"{kind:<12}{criterion:<10}{cells}{counts}")


def _init(args: argparse.Namespace) -> None:
    from fedmedlora.init import write_first_study

    found, commands = write_first_study(args.folders, args.out)
    for folder in found.folders:
        print(f"{folder.site}: {folder.num_notes} notes, {folder.num_annotated_notes} with annotations")
    print(f"{len(found.labels)} labels, {len(found.guesses)} with a guess: look through", end=" ")
    print(f"{args.out / 'mapping.toml'}, then:\n")
    print("\n".join(f"  {command}" for command in commands))


def _show(args: argparse.Namespace) -> None:
    from rich.console import Console

    from fedmedlora.corpora.load import load_notes
    from fedmedlora.corpora.schema import CLINICAL
    from fedmedlora.tasks.show import show
    from fedmedlora.tasks.training_set import training_set

    rendered = training_set(load_notes(args.notes).notes, CLINICAL, prompt_set=args.prompts)
    examples = getattr(rendered, args.task)
    if not 1 <= args.number <= len(examples):
        raise ValueError(f"--number {args.number}: there are {len(examples)} examples of {args.task}")
    from fedmedlora.model.load import load_encoder
    from fedmedlora.model.tokens import masked_tokens

    example = examples[args.number - 1]
    encoder = load_encoder(args.model)
    Console().print(show(example, masked_tokens(encoder, encoder.encode(example))))


def _corpora_list(args: argparse.Namespace) -> None:
    from fedmedlora.corpora.jsonl import annotates_json
    from fedmedlora.corpora.mapping import mapping_names, shipped_mapping
    from fedmedlora.corpora.synthetic import describe

    shipped = [(name, shipped_mapping(name)) for name in mapping_names()]
    rows: list[dict[str, Any]] = [
        {"name": name, "kind": "corpus", "reader": m.reader, "annotates": annotates_json(m.annotates)}
        for name, m in shipped
    ]
    rows += [{"reader": "synthetic", **row} for row in describe()]
    if args.json:
        print(json.dumps(rows))
        return
    for row in rows:
        entities, pairs = row["annotates"]["entities"], row["annotates"]["pairs"]
        print(
            f"{row['name']:<18}{row['kind']:<10}{row['reader']:<11}{', '.join(entities)}; {len(pairs)} pairs"
        )


def _corpora_convert(args: argparse.Namespace) -> None:
    from fedmedlora.corpora.convert import convert
    from fedmedlora.corpora.jsonl import write_notes
    from fedmedlora.corpora.mapping import load_mapping

    if len(args.places) != (2 if args.reader else 3):
        wanted = "SRC OUT.jsonl" if args.reader else "NAME SRC OUT.jsonl (or --reader for your own corpus)"
        raise ValueError(f"corpora convert takes {wanted}; given were {len(args.places)} places")
    name = args.reader or args.places[0]
    src, out = args.places[-2:]
    mapping = load_mapping(args.mapping) if args.mapping else None
    found = convert(name, src, mapping=mapping)
    write_notes(out, found.notes, header={**found.header, "synthetic": args.synthetic})
    skipped = sum(found.header["skipped"].values())
    print(f"{out}: {len(found.notes)} notes, {skipped} annotations skipped (reasons are in its first line)")


def _corpora_stats(args: argparse.Namespace) -> None:
    from fedmedlora.corpora.load import load_notes
    from fedmedlora.corpora.stats import stats

    found = stats(load_notes(args.notes))
    if args.json:
        print(json.dumps(found))
        return
    print(f"{found['num_notes']} notes")
    for what in ("entities", "modifiers", "links", "skipped"):
        print(f"{what}: {sum(found[what].values())}")
        for name, count in found[what].items():
            print(f"  {count:>8}  {name}")


def _corpora_split(args: argparse.Namespace) -> None:
    from fedmedlora.corpora.jsonl import notes_text, write_together
    from fedmedlora.corpora.load import load_notes
    from fedmedlora.corpora.split import parse_parts, split, split_by_part

    found = load_notes(args.notes)
    if args.parts == "own":
        parts, told = split_by_part(found.notes)
    else:
        parts, told = split(found.notes, parse_parts(args.parts), args.seed)
    header = {**found.header, "skipped": {}}
    texts = {args.out / f"{name}.jsonl": notes_text(notes, header) for name, notes in parts.items()}
    write_together({path: text.encode() for path, text in texts.items()})
    for path, notes in zip(texts, parts.values(), strict=True):
        print(f"{path}: {len(notes)} notes")
    for ids in told.duplicates:
        print(f"same text, kept together: {', '.join(ids)}")


def _corpora_synthesize(args: argparse.Namespace) -> None:
    from fedmedlora.corpora.jsonl import write_notes
    from fedmedlora.corpora.synthetic import synthesize

    notes = synthesize(args.hospital, args.num_notes, args.seed, args.part)
    header = {"name": f"{args.hospital}, {args.part}", "schema": "clinical", "synthetic": True}
    write_notes(args.out, notes, header=header)
    print(f"{args.out}: {len(notes)} notes of no real person")


def _refuse_filled(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder}: is not empty; go on with it (--resume) or name another with --out")


def _os_error(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return f"{error.filename or 'output'}: the disk is full; nothing half-written was left behind"
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
