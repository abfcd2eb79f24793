"""What travels by each codec: bytes, counted on a socket; MB/s of writing and reading; F1 of a study.

Without ``--study``: an adapter with the shapes of a model (``--model``: any that ``fedmedlora plan`` knows;
no weights are needed), and a change of it as training makes one. Every message is really sent over a TCP
connection on loopback and read at its other end, and must be as long as ``plan`` says. MB/s are of float32,
so codecs compare: "codec" is the codec alone, "send" and "receive" all that a sender and a receiver do
(change, codec, sum, two hashes). Beside them the float32 path as it was, to bytes and back.

With ``--study [FILE]`` that study, or a small one of three synthetic hospitals, runs once per codec, in this
process, into ``--out``. Its first round is trained once for all.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fedmedlora.exchange.adapter import Adapter, adapter_bytes
from fedmedlora.exchange.change import Change, change_bytes, receive, send
from fedmedlora.exchange.codec import known_codecs
from fedmedlora.exchange.exchange import Exchange
from fedmedlora.exchange.sent_update import receive_update, send_update, sent_update_bytes
from fedmedlora.exchange.update import SiteUpdate
from fedmedlora.exchange.written import write

LENGTH_BYTES = 8
SITE = {"site": "lakeside", "round_num": 1, "num_target_tokens": 100_000}
SHARES = (0.05, 0.01)  # of top_k

STUDY = """\
name = "Codecs"
seed = 7
methods = ["fed_medlora"]
[tasks]
prompts = "short"
names = ["ner"]
[training]
rounds = 4
steps_per_round = 8
examples_per_step = 8
micro_batch = 8
learning_rate = 2e-3
warmup_steps = 3
[evaluation]
every_round = false
bootstrap = 0
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m", help="whose shapes the adapter has")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--study", nargs="?", const="", help="run a study under every codec")
    parser.add_argument("--out", type=Path, help="with --study: folder of the runs; else a temporary one")
    parser.add_argument(
        "--codecs", nargs="+", help="with --study: UPLOAD/DOWNLOAD, top_k:0.01 with its share"
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON on stdout after the table")
    args = parser.parse_args()
    if args.study is None:
        rows = [measure(args.model, exchange, args.repetitions) for exchange in exchanges(None)]
    elif args.out is not None:
        rows = study_rows(args.study, args.out, exchanges(args.codecs))
    else:
        with tempfile.TemporaryDirectory() as folder:
            rows = study_rows(args.study, Path(folder), exchanges(args.codecs))
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(_shown(value) for value in row.values()) + " |")
    if args.json:
        print(json.dumps(rows))


def exchanges(named: Sequence[str] | None) -> list[Exchange]:
    """Every codec both ways, top_k with each share; or those that were named."""
    if named is None:
        plain = [name for name in known_codecs() if name != "top_k"]
        named = [f"{name}/{name}" for name in plain] + [f"top_k:{s}/top_k:{s}" for s in SHARES]
    found = []
    for both in named:
        up, _, down = both.partition("/")
        share = [float(one.partition(":")[2]) for one in (up, down) if ":" in one]
        names = up.partition(":")[0], (down or up).partition(":")[0]
        found.append(Exchange(*names, *share[:1]))
    return found


def name_of(exchange: Exchange) -> str:
    """As on the command line."""
    names = dict.fromkeys(
        f"{name}:{exchange.top_k_share:g}" if name == "top_k" else name
        for name in (exchange.upload, exchange.download)
    )
    return "/".join(names)


def measure(model: str, exchange: Exchange, repetitions: int) -> dict[str, Any]:
    """One row: bytes predicted and counted, both ways, and MB/s of float32."""
    from fedmedlora.plan.shapes import find_config, shape_model
    from fedmedlora.study_tables import Lora

    shapes = shape_model(find_config(model, ""), Lora(), "float32").adapter
    rng = np.random.default_rng(0)
    base = Adapter({n: rng.normal(0, 0.02, s).astype(np.float32) for n, s in shapes.items()})
    trained = Adapter(
        {n: a + rng.normal(0, 1e-3, a.shape).astype(np.float32) for n, a in base.arrays.items()}
    )
    update = SiteUpdate(adapter=trained, started_from=base.hash(), **SITE)  # type: ignore[arg-type]
    codec = exchange.up()
    moved = {n: a - base.arrays[n] for n, a in trained.arrays.items()}
    written = write(codec, moved)
    times: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[[], Any]) -> None:
        began = time.perf_counter()
        work()
        times.setdefault(name, []).append(time.perf_counter() - began)

    sent, plain = send_update(update, base, codec, None), update.to_bytes()
    for _ in range(repetitions):
        timed("codec writes", lambda: {n: codec.encode(a) for n, a in moved.items()})
        timed("codec reads", lambda: _decoded(codec, written, base))
        timed("send", lambda: send_update(update, base, codec, None))
        timed("receive", lambda: receive_update(sent.message, base, codec))
        timed("float32 writes", update.to_bytes)
        timed("float32 reads", lambda: SiteUpdate.from_bytes(plain, check_finite=True))
    arrived = over_loopback(sent.message)
    assert receive_update(arrived, base, codec) == sent.update, "both ends hold the same"
    predicted = sent_update_bytes(codec, shapes, **SITE)  # type: ignore[arg-type]
    down = exchange.down()
    if down.is_exact:
        message, download = trained.to_bytes(), adapter_bytes(shapes)
    else:
        change: Change = send(down, base, trained)
        message, download = change.message, change_bytes(down, shapes)
    came = over_loopback(message)
    if not down.is_exact:
        assert receive(came, down, base)[0] == change.received
    assert (len(arrived), len(came)) == (predicted, download), "the plan knows every byte"
    size = 4 * base.num_parameters
    row: dict[str, Any] = {
        "codec": name_of(exchange),
        "bytes up": len(arrived),
        "bytes down": len(came),
        "of float32": len(arrived) / sent_update_bytes(Exchange().up(), shapes, **SITE),  # type: ignore[arg-type]
        "bytes a value": len(arrived) / base.num_parameters,
    }
    return row | {f"{key} MB/s": size / statistics.median(s) / 1e6 for key, s in times.items()}


def _decoded(codec: Any, written: Any, base: Adapter) -> None:
    for name, array in base.arrays.items():
        parts = {p: written.parts[f"{name}|{p}" if p else name] for p in codec.specs(array.shape)}
        codec.decode(parts, array.shape)


def over_loopback(data: bytes) -> bytes:
    """What arrives of ``data``, its length in front, at the other end of a TCP connection on 127.0.0.1."""
    found: list[bytes] = []

    def read_all(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, connection.makefile("rb") as stream:
            length = int.from_bytes(stream.read(LENGTH_BYTES), "little")
            found.append(stream.read(length))
            assert stream.read(1) == b"", "more came than was said"

    with socket.create_server(("127.0.0.1", 0)) as server:
        reader = threading.Thread(target=read_all, args=(server,))
        reader.start()
        with socket.create_connection(server.getsockname()) as client:
            client.sendall(len(data).to_bytes(LENGTH_BYTES, "little") + data)
        reader.join()
    return found[0]


def study_rows(named: str, out: Path, codecs: Sequence[Exchange]) -> list[dict[str, Any]]:
    """The study under each of ``codecs``: what travelled, and F1 over all cohorts' counts together."""
    from fedmedlora.experiment import run_study
    from fedmedlora.model.memory import keep_freed_memory
    from fedmedlora.study import load_study

    keep_freed_memory()
    study = load_study(named or write_study(out / "notes"))
    rows = []
    for exchange in codecs:
        folder = out / name_of(exchange).replace("/", "-").replace(":", "-")
        results = run_study(
            replace(study, exchange=exchange),
            folder,
            resume=(folder / "run.json").exists(),
            shared=out / "shared",
        )
        (folder / "results.json").write_text(json.dumps(results))
        for method in results["methods"]:
            rounds = [site for one in method["rounds"] for site in one["sites"]]
            if not rounds:
                continue
            rows.append(
                {
                    "codec": name_of(exchange),
                    "method": method["name"],
                    "bytes up": rounds[0]["upload_bytes"],
                    "bytes down": rounds[0]["download_bytes"],
                    "MB in all": sum(s["upload_bytes"] + s["download_bytes"] for s in rounds) / 1e6,
                    "train loss": statistics.mean(s["train_loss"] for s in method["rounds"][-1]["sites"]),
                    **{
                        f"{kind} {criterion} F1": pooled_f1(method["evaluations"], kind, criterion)
                        for kind in ("entities", "modifiers_gold")
                        for criterion in ("strict", "lenient")
                    },
                }
            )
            print(_line(rows[-1]), file=sys.stderr, flush=True)
    return rows


def pooled_f1(evaluations: Sequence[dict[str, Any]], kind: str, criterion: str) -> float | None:
    """F1 of the summed counts of all cohorts; None where nothing was measured."""
    scores = [e["scores"][kind] for e in evaluations if e["scores"].get(kind)]
    tp, fp, fn = (sum(s[criterion][key] for s in scores) for key in ("tp", "fp", "fn"))
    return 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else None


def write_study(folder: Path) -> Path:
    """Notes of three synthetic hospitals and a study of them."""
    from fedmedlora.corpora.jsonl import write_notes
    from fedmedlora.corpora.synthetic import synthesize

    folder.mkdir(parents=True, exist_ok=True)
    text = STUDY
    for name in ("lakeside", "northgate", "stonebridge"):
        for part, num in (("train", 40), ("test", 3)):
            header = {"name": f"{name}, {part}", "schema": "clinical", "synthetic": True}
            write_notes(folder / f"{name}.{part}.jsonl", synthesize(name, num, 7, part), header=header)
        text += f'[[sites]]\nname = "{name}"\ntrain = "{name}.train.jsonl"\ntest = "{name}.test.jsonl"\n'
    path = folder / "study.toml"
    path.write_text(text, encoding="utf-8")
    return path


def _line(row: dict[str, Any]) -> str:
    return "  ".join(f"{key} {_shown(value)}" for key, value in row.items())


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if value < 100 else f"{value:.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    main()
