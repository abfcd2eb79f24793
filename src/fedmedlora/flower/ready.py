"""``python -m fedmedlora.flower.ready PIPE``: imports what a ClientApp needs, once, and forks for each.

Flower starts a ``flwr-clientapp`` for every message (flwr 1.41, ``supercore/superexec``), and each imports
Flower, torch, transformers and this package anew: several seconds of a core, for every question to a site. A
process that has them forks in milliseconds instead, and what it forks is as good as new: it has loaded no
model and no notes, has touched no GPU and runs no thread (but OpenBLAS's, which ends it before a fork). What
it has imported is the installed package, and nothing of a bundle.

A line of JSON on standard input is a ClientApp to start: ``{"arguments": [...], "silent": bool}``. That line
holds the token by which it gets its message, which therefore stands on no command line. The end of the input
is the end of this program; what it has forked goes on. Into PIPE, the number of an open one, it writes a byte
when it is ready for the first line.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

from fedmedlora.flower.prctl import call_process
from fedmedlora.model.forking import (
    gpus_counted_without_cuda,
    has_lost_gpu,
    has_opened_gpu,
    import_for_models,
)

PROGRAM = "flwr-clientapp"
_FLOWERS = "flwr.supernode.cli.flwr_clientapp"
_OURS = "fedmedlora.flower.client_app"


def main() -> None:
    """Fork until the input ends. What is forked leaves by ``SystemExit``, when it has answered."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends SuperExec, and that ends the input
    with gpus_counted_without_cuda():
        import_for_models()
        for name in (_FLOWERS, _OURS):
            importlib.import_module(name)
    if has_opened_gpu():
        raise SystemExit(
            "fedmedlora: a library has opened the GPU, which a forked process could not use then"
        )
    gc.collect()
    gc.freeze()  # a collection in a forked process would write to, and so copy, all that it shares
    sys.stdout.flush()  # else each forked process would write it again
    sys.stderr.flush()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for what is forked; Linux clears it away
    pipe = int(sys.argv[1])
    with contextlib.suppress(BrokenPipeError):
        os.write(pipe, b".")
    os.close(pipe)
    for arguments, is_silent in _requests():
        try:
            pid = os.fork()
        except OSError:  # no memory for a copy of this process, but perhaps for a small one
            start(arguments, is_silent)
            continue
        if pid == 0:
            _become_clientapp(arguments, is_silent)


def _requests() -> Iterator[tuple[list[str], bool]]:
    while line := sys.stdin.buffer.readline():
        asked = json.loads(line)
        yield [str(argument) for argument in asked["arguments"]], bool(asked["silent"])


def start(arguments: list[str], is_silent: bool) -> None:
    """Start a ClientApp from nothing, as Flower does."""
    null = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in _closed(is_silent)]
    restored = (signal.SIGCHLD, signal.SIGINT)
    os.posix_spawnp(PROGRAM, [PROGRAM, *arguments], dict(os.environ), file_actions=null, setsigdef=restored)


def _become_clientapp(arguments: list[str], is_silent: bool) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    null = os.open(os.devnull, os.O_RDWR)
    for number in _closed(is_silent):
        os.dup2(null, number)
    os.close(null)
    if has_lost_gpu():
        os.execvp(PROGRAM, [PROGRAM, *arguments])  # as Flower starts it
    call_process(PROGRAM)
    sys.argv = [PROGRAM, *arguments]
    clientapp: Any = importlib.import_module(_FLOWERS)
    clientapp.flwr_clientapp()
    sys.exit()


def _closed(is_silent: bool) -> tuple[int, ...]:
    """Which of the standard streams a ClientApp is not given."""
    return (0, 1, 2) if is_silent else (0,)


if __name__ == "__main__":
    main()
