"""``fedmedlora watch``: how a run stands, in the terminal or on a page of this machine."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fedmedlora.cli_help import add_command

# Heavy modules are imported where a command needs them, so that --help answers at once.


def add_watch(commands: Any) -> None:
    """Add ``watch`` to the subparsers ``commands``."""
    watch = add_command(
        commands,
        "watch",
        help="how a run over Flower stands: in the terminal, on a page, or as metrics",
        takes="the coordinator's state folder (FEDMEDLORA_STATE; of several runs in it the last one), the "
        "folder of one run in it, or the folder that run --out named (finished rounds; the sites, too, where "
        "FEDMEDLORA_STATE is set)",
        gives="a table that is kept up to date until the run ends; or, until Ctrl-C, a page on "
        "http://127.0.0.1:PORT/ with /status.json, /metrics (Prometheus) and /health",
        example="fedmedlora watch /srv/fedmedlora/state --serve 8790",
    )
    watch.add_argument("state", type=Path, metavar="DIR", help="see above")
    how = watch.add_mutually_exclusive_group()
    how.add_argument(
        "--serve", type=int, metavar="PORT", help="serve to this machine alone; 0: any free port"
    )
    how.add_argument("--json", action="store_true", help="print one line of JSON and end")
    how.add_argument("--once", action="store_true", help="print the table once and end")
    watch.set_defaults(run=_watch)


def _watch(args: argparse.Namespace) -> None:
    if args.serve is not None:
        from fedmedlora.watch.server import serve

        serve(args.state, args.serve, lambda line: print(line, flush=True))
        return
    from fedmedlora.watch.show import show_status

    show_status(args.state, as_json=args.json, follow=not args.once)
