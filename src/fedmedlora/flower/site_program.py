"""The program of a site: Flower's SuperNode under ``supernode_guard.py``, for one ``site.toml``.

    python -m fedmedlora.flower.site_program --site /srv/fedmedlora/site.toml --superlink HOST:PORT ...

What follows ``--site`` is given to ``flower-supernode``, but for what would undo the guard. Flower unpacks
bundles into a folder of its own (``FLWR_HOME``) and takes what lies there already for unpacked; here it is a
new and empty one in the site's state, which ends with the program.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fedmedlora.flower.site_file import SiteFile, load_site_file
from fedmedlora.flower.submit import QUIET, own_path

GUARDED = "FEDMEDLORA_GUARDED"  # in the environment of the processes that a guarded SuperNode starts
# What it writes into its log about the coordinator (``reached.py``).
SILENT, ANSWERS = "fedmedlora: the coordinator does not answer", "fedmedlora: the coordinator answers"
POLL_S = "0.5"  # how often SuperExec asks the SuperNode beside it for a task; Flower's own is a second
_HERE = ("127.0.0.1", "::1", "localhost")
_NOT_HERE = {
    "--node-config": "--site names the site's file, and nothing else is needed",
    "--isolation": "this program starts the processes that answer, with what it has checked",
    "--allow-runtime-dependency-installation": "a coordinator would choose what is installed here",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Start the SuperNode; comes back never, but by ``SystemExit``."""
    parser = argparse.ArgumentParser(
        prog="python -m fedmedlora.flower.site_program",
        description="Flower's SuperNode for one site. It takes no other app than the fedmedlora that is "
        "installed here. Everything but --site is given to flower-supernode.",
        allow_abbrev=False,
    )
    parser.add_argument("--site", type=Path, required=True, metavar="SITE.toml")
    options, rest = parser.parse_known_args(arguments)
    try:
        refuse_arguments(rest)
        file, config = load_site_file(options.site), node_config(options.site)
        state = file.path(file.state)
        state.mkdir(parents=True, exist_ok=True)
        home = tempfile.TemporaryDirectory(prefix="flower-", dir=state, ignore_cleanup_errors=True)
    except (ValueError, OSError) as error:
        raise SystemExit(f"fedmedlora: {error}") from error
    with home as folder:
        _start(file, Path(folder), [*rest, "--node-config", config])


def refuse_arguments(arguments: Sequence[str]) -> None:
    """Raise ``ValueError`` for an argument of ``flower-supernode`` that would undo the guard.

    In full or shortened, as argparse takes both.
    """
    for number, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        for taken, why in _NOT_HERE.items():
            if len(name) > 2 and taken.startswith(name):
                raise ValueError(f"{name}: not taken here; {why}")
        host = value if equals else "".join(arguments[number + 1 : number + 2])
        if len(name) > 2 and "--host".startswith(name) and host not in _HERE:
            raise ValueError(
                f"{name} {host[:80]}: whoever reaches that port gets the questions without a password; "
                f"leave it on this machine ({', '.join(_HERE)})"
            )


def node_config(site: Path) -> str:
    """What ``--node-config`` says for the site's file. Raises ``ValueError`` where it cannot."""
    path = str(site.resolve())
    if any(c in path for c in "\"'\\") or not path.isprintable():
        raise ValueError(f"{path}: Flower takes no path with quotes, backslashes or line ends; rename it")
    return f'site="{path}"'


def _start(file: SiteFile, home: Path, arguments: Sequence[str]) -> None:
    os.environ.update(QUIET)
    os.environ["PATH"] = own_path(os.environ)  # where SuperNode finds its helpers
    os.environ["FLWR_HOME"] = str(home)
    os.environ.setdefault("FLWR_SUPEREXEC_TASK_POLL_INTERVAL", POLL_S)
    # flwr reads the environment when it is imported, so not before.
    from flwr.supercore.exit import ExitCode, flwr_exit
    from flwr.supernode.cli.flower_supernode import flower_supernode

    from fedmedlora.flower.bundle import own_bundle
    from fedmedlora.flower.lost import install_lost
    from fedmedlora.flower.patience import install_patience
    from fedmedlora.flower.reached import install_reached
    from fedmedlora.flower.site_log import tell_refused
    from fedmedlora.flower.superexec import install_superexec
    from fedmedlora.flower.supernode_guard import install_guard

    try:
        own = own_bundle(file.coordinator.bundle)
        install_guard(own, functools.partial(tell_refused, file))
    except ValueError as error:
        raise SystemExit(f"fedmedlora: {error}") from error
    os.environ[GUARDED] = own.pin
    install_superexec()
    install_patience()
    install_lost()
    install_reached()
    sys.argv = ["flower-supernode", *arguments]
    flower_supernode()
    # It comes back after an error that it has logged, and would then live on without asking for messages.
    flwr_exit(ExitCode.SUPERNODE_CONNECTION_ERROR, "The SuperNode stopped asking for messages.")


if __name__ == "__main__":
    main()
