"""``fedmedlora audit ...``: verify a log, read it, and verify an adapter by its passport."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from fedmedlora.cli_help import add_command


def add_audit(commands: Any) -> None:
    """Add the ``audit`` command to the subparsers ``commands``."""
    audit = commands.add_parser("audit", help="verify an audit log or the passport of an adapter")
    actions = audit.add_subparsers(dest="action", required=True, metavar="ACTION")

    verify = add_command(
        actions,
        "verify",
        help="find entries of a log that were changed, removed, inserted or moved",
        takes="an audit log: audit.jsonl of a run's folder or of a site's state folder",
        gives="how many entries it has and its head, the hash of the last one; or, with exit status 1, each "
        "line at which it is not what was written",
        example="fedmedlora audit verify run/audit.jsonl",
    )
    verify.add_argument("log", type=_log, metavar="LOG")
    verify.add_argument(
        "--head",
        metavar="HASH",
        help="a head that the log is known to have had, as a passport or the other side's log has it: "
        "without one, entries that were cut off at the end cannot be missed",
    )
    verify.set_defaults(run=_verify)

    show = add_command(
        actions,
        "show",
        help="print a log, an entry a line",
        takes="an audit log; that it is whole is for `audit verify` to say",
        gives="number, time (UTC), kind and what the entry holds, in ASCII",
        example="fedmedlora audit show run/audit.jsonl",
    )
    show.add_argument("log", type=_log, metavar="LOG")
    show.set_defaults(run=_show)

    passport = add_command(
        actions,
        "passport",
        help="verify an adapter by its passport: signature, files, and the log that it names",
        takes="the folder of an adapter, with passport.json",
        gives="what the passport says of the adapter; or, with exit status 1, what is wrong",
        example="fedmedlora audit passport run/adapters/fed_medlora",
    )
    passport.add_argument("folder", type=Path, metavar="ADAPTER_FOLDER")
    passport.add_argument(
        "--key",
        type=Path,
        metavar="PUBLIC.pem",
        help="the coordinator's public key, which it must be signed with",
    )
    passport.add_argument(
        "--log",
        type=_log,
        metavar="LOG",
        help="the coordinator's audit log (that of the run which the folder lies in, if it is there)",
    )
    passport.add_argument("--site", metavar="NAME", help="with --run: whether this site is in it")
    passport.add_argument(
        "--run", dest="run_id", metavar="ID", help="id of the run, as the site's own log has it"
    )
    passport.set_defaults(run=_passport)


def _verify(args: argparse.Namespace) -> int:
    from fedmedlora.audit.log_file import verify_file
    from fedmedlora.audit.sorts import HASH

    if args.head is not None:
        HASH.take(args.head, "--head")
    found = verify_file(args.log, args.head)
    for one in found.problems:
        print(f"line {one.line}: {one.what}")
    if found.problems:
        return _wrong(args.log)
    assert found.head is not None, "a log without an entry is a problem"
    print(f"{found.num_entries} entries, each as it was written, in its place")
    print(f"head {found.head.hash}")
    if args.head is None:
        print("whether entries were cut off at the end, a head that somebody else holds can tell: --head")
    else:
        print(f"the head that is known is that of entry {found.known_at}")
    return 0


def _show(args: argparse.Namespace) -> int:
    from fedmedlora.audit.chain import read_line
    from fedmedlora.audit.entries import kind_of
    from fedmedlora.audit.log_file import lines_of
    from fedmedlora.audit.sorts import to_record

    problems = 0
    for number, line in enumerate(lines_of(args.log), start=1):
        try:
            one = read_line(line)
        except ValueError as error:
            print(f"line {number}: {error}")
            problems += 1
            continue
        held = (
            f"{key}={json.dumps(value)}"
            for key, value in to_record(one.entry).items()
            if value not in ("", None)
        )
        print(f"{one.sequence:>6}  {one.time}  {kind_of(one.entry):<9}  {' '.join(held)}")
    return _wrong(args.log) if problems else 0


def _passport(args: argparse.Namespace) -> int:
    from fedmedlora.audit.passport import pseudonym
    from fedmedlora.audit.saved_adapter import check_folder
    from fedmedlora.audit.signing import read_public_key
    from fedmedlora.audit.sorts import RUN, SITE

    if (args.site is None) != (args.run_id is None):
        raise ValueError("--site and --run go together: a site's pseudonym is made of both")
    key = None if args.key is None else read_public_key(args.key)
    found = check_folder(args.folder, key=key, log=args.log)
    passport = found.read.passport
    for problem in found.problems:
        print(problem)
    if found.problems:
        return _wrong(args.folder)
    print(
        f"adapter {passport.adapter.hash}, {passport.training.method}, {passport.training.num_rounds} rounds"
    )
    print(f"over {passport.made_of.base_model}, weights {passport.made_of.base_model_hash}")
    print(f"made {passport.created} by {len(passport.sites)} sites; {passport.privacy_ledger}")
    if passport.key is not None:
        whose = "" if key is None else ", which is the one given"
        print(f"signature: {passport.key.algorithm}, key {passport.key.fingerprint}{whose}")
    if args.log is not None:
        print("log: whole, and what the passport says of it stands there")
    for score in passport.scores:
        f1 = "undefined" if score.f1 is None else format(score.f1, ".3f")
        print(f"  {score.cohort}  {score.decoding}  {score.kind} {score.criterion}  F1 {f1}")
    for answer in passport.answer_scores:
        shown = "undefined" if answer.score is None else format(answer.score, ".3f")
        print(f"  {answer.cohort}  {answer.metric} {shown}")
    if args.site is not None:
        own = pseudonym(SITE.take(args.site, "--site"), RUN.take(args.run_id, "--run"))
        rounds = [share.num_rounds for share in passport.sites if share.pseudonym == own]
        print(
            f"site {args.site} is {own}: "
            + (f"part of it in {rounds[0]} rounds" if rounds else "not part of it")
        )
    for note in found.notes:
        print(note)
    return 0


def _log(name: str) -> Path:
    """A log, named by itself or by the run's folder that it lies in."""
    from fedmedlora.audit.log_file import LOG

    path = Path(name)
    return path / LOG if path.is_dir() else path


def _wrong(what: Path) -> int:
    print(f"fedmedlora: {what}: not what was written", file=sys.stderr)
    return 1
