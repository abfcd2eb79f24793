"""``fedmedlora provision``, ``site`` and ``coordinator``: from a consortium's file to joined sites."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

from fedmedlora.cli_help import add_command

# Heavy modules are imported where a command needs them, so that --help answers at once.


def add_consortium(commands: Any) -> None:
    """Add ``provision``, ``site`` and ``coordinator`` to the subparsers ``commands``."""
    provision = add_command(
        commands,
        "provision",
        help="startup kits for a coordinator and its hospitals: certificates, keys, settings, a page to read",
        takes="consortium.toml, which names the coordinator's address and the sites (docs/consortium.md); "
        "perhaps a folder of wheels and a model's folder",
        gives="a folder for each site and one for the coordinator, to hand over, and authority/, to keep. A "
        "second time only what is missing: no key and no edited file is overwritten",
        example="fedmedlora provision consortium.toml --out kits --wheelhouse wheelhouse --model my-model",
    )
    provision.add_argument("consortium", type=Path, metavar="TOML")
    provision.add_argument("--out", type=Path, required=True, help="folder of all kits")
    provision.add_argument(
        "--renew", action="store_true", help="a new certificate for the coordinator, by the same authority"
    )
    provision.add_argument(
        "--wheelhouse", type=Path, metavar="DIR", help="wheels to put into the kits, linked or copied"
    )
    provision.add_argument(
        "--model", type=Path, metavar="DIR", help="base model to put into the kits, linked or copied"
    )
    provision.set_defaults(run=_provision)

    _add_site(commands)
    _add_coordinator(commands)


def _add_site(commands: Any) -> None:
    site = commands.add_parser("site", help="a hospital's side: make a key pair, look at everything, join")
    actions = site.add_subparsers(dest="action", required=True, metavar="ACTION")

    keygen = actions.add_parser("keygen", help="make this site's key pair here, so that no key travels")
    keygen.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder, such as site-kit")
    keygen.add_argument("--name", default="", help="the site's name, as the public key's comment")
    keygen.set_defaults(run=_keygen)

    check = add_command(
        actions,
        "check",
        help="look at everything before the first round; nothing is trained and nothing sent",
        takes="site.toml of the startup kit, with the notes it names",
        gives="one line for each of: programs, versions, folders, disk, memory, authority, key, address, "
        "certificate, clock, notes (counts, no text), base model, gpu; and what to do about what is not in "
        "order. Exit code 1 where something is not",
        example="fedmedlora site check site.toml",
    )
    check.add_argument("site", type=Path, metavar="TOML")
    check.add_argument("--schema", type=Path, help="your own schema, a TOML file (docs/own-schema.md)")
    check.set_defaults(run=_check)

    start = actions.add_parser("start", help="join the study and stay; Ctrl-C ends it")
    start.add_argument("site", type=Path, metavar="TOML")
    start.set_defaults(run=_start_site)


def _add_coordinator(commands: Any) -> None:
    coordinator = commands.add_parser("coordinator", help="what the sites connect to: start, stop, status")
    actions = coordinator.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, what, run in (
        ("start", "run it, with the sites' keys registered; Ctrl-C ends it", _start_coordinator),
        ("stop", "end it, from another terminal", _stop_coordinator),
        ("status", "whether it runs, which sites are connected, how its study stands", _status),
    ):
        action = actions.add_parser(name, help=what)
        action.add_argument("coordinator", type=Path, metavar="TOML", help="coordinator.toml of its kit")
        action.set_defaults(run=run)
        if name == "start":
            action.add_argument(
                "--study",
                type=Path,
                metavar="TOML",
                help="run this study to its end, whatever dies meanwhile",
            )
            action.add_argument("--out", type=Path, metavar="DIR", help="folder of the study's run")
            action.add_argument(
                "--wait",
                type=float,
                default=10.0,
                metavar="MINUTES",
                help="for the sites to come, before it says who is missing and waits anew (10)",
            )
        if name == "status":
            how = action.add_mutually_exclusive_group()
            how.add_argument("--json", action="store_true", help="print one line of JSON")
            how.add_argument(
                "--serve",
                type=int,
                metavar="PORT",
                help="the study's page and metrics, to this machine alone",
            )


def _provision(args: argparse.Namespace) -> None:
    _needs_flower()
    from datetime import UTC, datetime

    from fedmedlora.flower.allows import Allows
    from fedmedlora.provision.consortium import load_consortium
    from fedmedlora.provision.kit import provision
    from fedmedlora.provision.payload import Payload
    from fedmedlora.settings import read_table

    consortium = load_consortium(args.consortium)
    # What would be found wrong at every hospital is found wrong here.
    read_table(Allows, consortium.allows, f"{args.consortium.name}: [allows]")
    model_hash = ""
    if args.model is not None:
        from fedmedlora.model.load import files_hash

        model_hash = files_hash(args.model)
    payload = Payload(args.wheelhouse, args.model, model_hash)
    lines = provision(consortium, args.out, datetime.now(UTC), renew=args.renew, payload=payload)
    for line in lines:
        print(f"{line.what:<8} {args.out / line.where}{f': {line.why}' if line.why else ''}")
    print(
        f"\nHand over {args.out}/coordinator and each site's folder on a way that nobody else can read "
        f"(README.md in each says how to go on). {args.out}/authority stays here; keep a copy of it."
    )


def _keygen(args: argparse.Namespace) -> None:
    _needs_flower()
    from fedmedlora.provision.keys import check_public, fingerprint, new_key_pair, public_of
    from fedmedlora.provision.private_files import private_folder, write_new

    folder = private_folder(args.out)
    private, public = folder / "site.key", folder / "site.pub"
    if private.exists():
        line = public_of(private.read_bytes(), args.name)
        if public.exists() and check_public(public.read_bytes(), args.name) != line:
            raise ValueError(
                f"{public}: not the public half of {private}; remove {public} and call this again"
            )
        print(f"kept {private}: nothing overwrites a key")
    else:
        if public.exists():
            raise ValueError(
                f"{public}: is there without its private half; remove it, or name another folder"
            )
        pair = new_key_pair(args.name)
        line = pair.public
        write_new(private, pair.private)
        print(f"made {private}: it stays here")
    if write_new(public, line):
        print(f"made {public}")
    print(
        f"{fingerprint(line)}\n\nSend {public} to the consortium, and compare the fingerprint by telephone."
    )


def _check(args: argparse.Namespace) -> None:
    _needs_flower()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a model that is not here is to be missed, not fetched
    from fedmedlora.cli_corpora import chosen_schema
    from fedmedlora.flower.checks.finding import worded
    from fedmedlora.flower.site_check import check_site

    schema = chosen_schema(args)
    findings = []
    for finding in check_site(args.site, schema):
        findings.append(finding)
        print(worded(finding), flush=True)  # some take seconds
    failed = [finding.name for finding in findings if not finding.ok]
    if failed:
        print(f"\n{len(failed)} to see to: {', '.join(failed)}", flush=True)
        raise SystemExit(1)
    print("\nEverything is in order. Join with: sh start.sh (fedmedlora site start)")


def _start_site(args: argparse.Namespace) -> None:
    _needs_flower()
    from fedmedlora.flower.join import start_site

    start_site(args.site, _tell)


def _start_coordinator(args: argparse.Namespace) -> None:
    _needs_flower()
    from fedmedlora.flower.may_pass import waited_out

    waited_out(lambda: _run_coordinator(args), _tell)


def _run_coordinator(args: argparse.Namespace) -> None:
    from fedmedlora.flower.coordinator import start_coordinator
    from fedmedlora.flower.coordinator_file import load_coordinator_file

    file = load_coordinator_file(args.coordinator)
    if (args.study is None) != (args.out is None):
        raise ValueError("--study and --out: both or neither; --out names the folder of the study's run")
    if args.study is None:
        start_coordinator(file, _tell)
        return
    from fedmedlora.cli_run import finish
    from fedmedlora.flower.campaign import run_beside
    from fedmedlora.study import load_study

    study = load_study(args.study, sites_are_here=False)
    work = run_beside(
        file,
        args.study,
        study,
        args.out,
        _tell,
        lambda results: finish(study, results, args.out, False),
        wait_s=60 * args.wait,
        command=(
            *("fedmedlora", "coordinator", "start", args.coordinator.name),
            *("--study", args.study.name, "--out", args.out.name),
        ),
    )
    start_coordinator(file, _tell, work=work)


def _stop_coordinator(args: argparse.Namespace) -> None:
    _needs_flower()
    from fedmedlora.flower.coordinator import stop_coordinator
    from fedmedlora.flower.coordinator_file import load_coordinator_file

    stopped = stop_coordinator(load_coordinator_file(args.coordinator))
    print("stopped" if stopped else "it was not running")


def _status(args: argparse.Namespace) -> None:
    _needs_flower()
    from dataclasses import asdict

    from fedmedlora.flower.coordinator import coordinator_status
    from fedmedlora.flower.coordinator_file import load_coordinator_file

    file = load_coordinator_file(args.coordinator)
    studies = file.path(file.state) / "studies"
    if args.serve is not None:
        from fedmedlora.watch.server import serve

        serve(studies, args.serve, _tell)
        return
    found = coordinator_status(file)
    if args.json:
        print(json.dumps({"address": file.address, **asdict(found)}))
        return
    runs = (
        f"runs (process {found.pid})"
        if found.pid
        else "does not run; start it with `fedmedlora coordinator start`"
    )
    print(f"coordinator  {runs}")
    print(
        f"SuperLink    {'answers' if found.answers else 'does not answer'}, sites connect at {file.address}"
    )
    for site in found.sites:
        if not found.answers:
            print(f"{site.name:<12} not known: SuperLink would say")
            continue
        when = f" since {site.since[:16].replace('T', ' ')} UTC" if site.since else ""
        how = "connected" if site.connected else "not connected" if site.since else "never connected yet"
        print(f"{site.name:<12} {'registered' if site.registered else 'not registered'}, {how}{when}")
    if studies.is_dir() and any(studies.iterdir()):
        from fedmedlora.watch.show import show_status

        print(flush=True)
        show_status(studies, follow=False)


def _tell(line: str) -> None:
    with contextlib.suppress(OSError):  # a log on a full disk: what is told is not what is worked for
        print(line, file=sys.stderr, flush=True)


def _needs_flower() -> None:
    for package in ("flwr", "cryptography"):
        if importlib.util.find_spec(package) is None:
            raise ValueError(f"{package} is not installed here: pip install 'fedmedlora[flower]'")
