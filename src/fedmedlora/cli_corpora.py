"""``fedmedlora corpora ...``: convert, count, split and make annotated notes."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedmedlora.cli_help import add_command

# Heavy modules are imported where a command needs them, so that --help answers at once.


def add_corpora(commands: Any) -> None:
    """Add the ``corpora`` command to the subparsers ``commands``."""
    corpora = commands.add_parser("corpora", help="convert, count, split and make annotated notes")
    actions = corpora.add_subparsers(dest="action", required=True, metavar="ACTION")

    listing = actions.add_parser("list", help="open corpora with their licences, and synthetic hospitals")
    listing.add_argument("--json", action="store_true")
    listing.set_defaults(run=_list)

    fetch = actions.add_parser(
        "fetch", help="download an open corpus: the files on record, each with its sum"
    )
    fetch.add_argument("name", metavar="NAME", help="see `corpora list`")
    fetch.add_argument("--out", type=Path, required=True, help="folder")
    fetch.set_defaults(run=_fetch)

    convert = actions.add_parser(
        "convert",
        help="a corpus in its own format and labels -> JSONL in the schema's",
        usage="fedmedlora corpora convert [-h] (NAME | --reader READER [--mapping TOML]) SRC OUT.jsonl",
    )
    convert.add_argument("places", nargs="+", metavar="[NAME] SRC OUT.jsonl", help="see above")
    convert.add_argument("--reader", help="the format of your own corpus; see docs/formats.md")
    convert.add_argument("--mapping", type=Path, help="TOML from your labels to the schema's")
    add_schema(convert)
    convert.add_argument("--synthetic", action="store_true", help="the notes are of no real person")
    convert.set_defaults(run=_convert)

    stats = actions.add_parser("stats", help="count notes, entities, modifiers and links")
    stats.add_argument("notes", type=Path, metavar="PATH")
    add_schema(stats)
    stats.add_argument("--json", action="store_true")
    stats.set_defaults(run=_stats)

    split = add_command(
        actions,
        "split",
        help="deal notes (or prompts) out to parts; copies and patients stay together",
        takes="annotated notes, or prompts with responses",
        gives="a file for each part, such as train.jsonl and test.jsonl. Notes with the same text, and notes "
        "of one patient where the corpus says whose they are, go to the same part, so that nothing is tested "
        "on that was trained on",
        example="fedmedlora corpora split mercy.jsonl --out sites/mercy --parts train=0.8,test=0.2",
    )
    split.add_argument(
        "notes", type=Path, metavar="NOTES", help="JSONL file (notes or prompts) or BRAT folder"
    )
    split.add_argument("--out", type=Path, required=True, help="folder; one PART.jsonl each")
    split.add_argument(
        "--parts",
        default="train=0.8,test=0.2",
        help="NAME=SHARE,... which add up to 1 (train=0.8,test=0.2); or own: the parts the corpus comes in",
    )
    split.add_argument("--seed", type=int, default=0, help="another number deals them out otherwise (0)")
    add_schema(split)
    split.set_defaults(run=_split)

    write = actions.add_parser("write", help="notes in the schema's labels -> another format")
    write.add_argument("format", metavar="FORMAT", help="brat (a folder), bioc_json, bioc_xml, iob (a file)")
    write.add_argument("notes", type=Path, metavar="NOTES")
    write.add_argument("--out", type=Path, required=True)
    add_schema(write)
    write.set_defaults(run=_write)

    make = actions.add_parser("synthesize", help="write notes of a synthetic hospital")
    make.add_argument("hospital", help="see `corpora list`")
    make.add_argument("num_notes", type=int)
    make.add_argument("out", type=Path, metavar="OUT.jsonl")
    make.add_argument("--part", choices=("train", "validation", "test"), default="train")
    make.add_argument("--seed", type=int, default=0)
    make.set_defaults(run=_synthesize)


def add_schema(command: Any) -> None:
    """Add ``--schema`` to ``command``; ``chosen_schema`` reads it."""
    command.add_argument("--schema", help="the labels' schema: a TOML file (docs/own-schema.md), or clinical")


def chosen_schema(args: argparse.Namespace) -> Any:
    """The ``Schema`` that the command line names; the default one if it names none."""
    from fedmedlora.corpora.schema import CLINICAL, find_schema

    return find_schema(args.schema) if args.schema else CLINICAL


def refuse_overwriting(out: Path, sources: Sequence[Path]) -> None:
    """Raise ``ValueError`` where writing ``out`` would destroy one of ``sources`` or a file of it."""
    for source in sources:
        place, written = source.resolve(), out.resolve()
        if written == place or (place.is_dir() and written.is_file() and place in written.parents):
            raise ValueError(f"{out}: is (part of) the input {source}; write to another place")


def _list(args: argparse.Namespace) -> None:
    from fedmedlora.corpora.jsonl import annotates_json
    from fedmedlora.corpora.mapping import shipped_mapping
    from fedmedlora.corpora.open_corpus import corpus_names, open_corpus
    from fedmedlora.corpora.synthetic import describe

    rows: list[dict[str, Any]] = []
    for corpus in map(open_corpus, corpus_names()):
        mapping = shipped_mapping(corpus.name)
        told = {
            key: getattr(corpus, key) for key in ("licence", "notice", "about", "cite", "home", "missing")
        }
        size = {"num_files": len(corpus.files), "num_bytes": corpus.num_bytes}
        annotates = annotates_json(mapping.annotates)
        rows.append({"name": corpus.name, "kind": "corpus", "reader": mapping.reader, **told, **size})
        rows[-1]["annotates"] = annotates
    rows += [{"reader": "synthetic", "licence": "Apache-2.0", **row} for row in describe()]
    if args.json:
        print(json.dumps(rows))
        return
    print(f"{'name':<16}{'licence':<43}{'annotates'}")
    for row in rows:
        entities, pairs = row["annotates"]["entities"], row["annotates"]["pairs"]
        licence = row["licence"] if row["kind"] == "corpus" else f"{row['kind']}, {row['licence']}"
        print(f"{row['name']:<16}{licence:<43}{', '.join(entities)}; {len(pairs)} pairs")


def _fetch(args: argparse.Namespace) -> None:
    from fedmedlora.corpora.fetch import fetch
    from fedmedlora.corpora.open_corpus import open_corpus

    corpus = open_corpus(args.name)
    print(f"{corpus.name}: {corpus.about}. Cite: {corpus.cite}", file=sys.stderr)
    print(f"Licence: {corpus.licence}. {corpus.notice}".strip(), file=sys.stderr)

    def tell(done: int, of: int) -> None:
        if done % 100 == 0 or done == of:
            print(f"  {done} of {of} files", file=sys.stderr, flush=True)

    taken, there = fetch(corpus, args.out, tell=tell)
    print(f"{args.out}: {taken} files fetched, {there} were there, each with the sum that is on record")
    if corpus.missing:
        print(f"  not fetched: {corpus.missing}", file=sys.stderr)
    print(f"Next: fedmedlora corpora convert {corpus.name} {args.out} {corpus.name}.jsonl")


def _convert(args: argparse.Namespace) -> None:
    from fedmedlora.corpora.convert import convert
    from fedmedlora.corpora.jsonl import write_notes
    from fedmedlora.corpora.mapping import load_mapping
    from fedmedlora.corpora.stats import never_seen

    if len(args.places) != (2 if args.reader else 3):
        wanted = "SRC OUT.jsonl" if args.reader else "NAME SRC OUT.jsonl (or --reader for your own corpus)"
        raise ValueError(f"corpora convert takes {wanted}; given were {len(args.places)} places")
    name = args.reader or args.places[0]
    src, out = map(Path, args.places[-2:])
    schema = chosen_schema(args) if args.schema else None
    mapping = load_mapping(args.mapping, schema) if args.mapping else None
    refuse_overwriting(out, [src])
    found = convert(name, src, mapping=mapping, schema=schema)
    write_notes(out, found.notes, header={**found.header, "synthetic": args.synthetic})
    skipped = sum(found.header["skipped"].values())
    print(f"{out}: {len(found.notes)} notes, {skipped} annotations skipped (reasons are in its first line)")
    tell_left_out(found.header["skipped"])
    unseen = never_seen(found)
    if unseen:
        print(
            "  never seen in it, though the mapping says that it is annotated: "
            f'{", ".join(unseen)}. If nobody marked them, say what is under "annotates" of the mapping, or '
            "each one found counts as an error",
            file=sys.stderr,
        )


def _stats(args: argparse.Namespace) -> None:
    from fedmedlora.corpora.load import load_notes
    from fedmedlora.corpora.stats import stats

    schema = chosen_schema(args)
    found = stats(load_notes(args.notes, schema), schema)
    if args.json:
        print(json.dumps(found))
        return
    print(f"{found['num_notes']} notes")
    for what in ("entities", "modifiers", "links", "skipped"):
        print(f"{what}: {sum(found[what].values())}")
        for name, count in found[what].items():
            print(f"  {count:>8}  {name}")


def _split(args: argparse.Namespace) -> None:
    from fedmedlora.corpora.instructions import (
        holds_instructions,
        instructions_text,
        read_instructions,
    )
    from fedmedlora.corpora.jsonl import notes_text, write_together
    from fedmedlora.corpora.load import load_notes
    from fedmedlora.corpora.split import parse_parts, split, split_by_part

    are_records = holds_instructions(args.notes)
    found = read_instructions(args.notes) if are_records else load_notes(args.notes, chosen_schema(args))
    if args.parts == "own":
        parts, told = split_by_part(found.notes)
    else:
        parts, told = split(found.notes, parse_parts(args.parts), args.seed)
    header = {**found.header, "skipped": {}}
    text_of = instructions_text if are_records else notes_text
    texts = {args.out / f"{name}.jsonl": text_of(notes, header) for name, notes in parts.items()}
    for path in texts:
        refuse_overwriting(path, [args.notes])
    left = sorted({path.name for path in args.out.glob("*.jsonl")} - {path.name for path in texts})
    write_together({path: text.encode() for path, text in texts.items()})
    for path, notes in zip(texts, parts.values(), strict=True):
        print(f"{path}: {len(notes)} {'records' if are_records else 'notes'}")
    if left:
        print(
            f"{args.out}: also holds {', '.join(left)}, of an earlier split? Notes may be in two of them",
            file=sys.stderr,
        )
    for ids in told.duplicates:
        print(f"same text, kept together: {', '.join(ids)}")


def _write(args: argparse.Namespace) -> None:
    from fedmedlora.corpora.load import load_notes
    from fedmedlora.corpora.writers import load_writer

    write = load_writer(args.format)
    refuse_overwriting(args.out, [args.notes])
    notes = load_notes(args.notes, chosen_schema(args)).notes
    left_out = write(notes, args.out)
    print(f"{args.out}: {len(notes)} notes as {args.format}")
    tell_left_out(left_out)


def tell_left_out(reasons: Mapping[str, int]) -> None:
    """What a conversion could not take over, to the standard error, most frequent first."""
    for reason, count in sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0])):
        print(f"  skipped {count}: {reason}", file=sys.stderr)


def _synthesize(args: argparse.Namespace) -> None:
    from fedmedlora.corpora.jsonl import write_notes
    from fedmedlora.corpora.synthetic import synthesize

    notes = synthesize(args.hospital, args.num_notes, args.seed, args.part)
    header = {"name": f"{args.hospital}, {args.part}", "schema": "clinical", "synthetic": True}
    write_notes(args.out, notes, header=header)
    print(f"{args.out}: {len(notes)} notes of no real person")
