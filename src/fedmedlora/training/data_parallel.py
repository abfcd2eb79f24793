"""A site's local training by several processes of one machine, one to each card: started, asked, watched.

Each holds the base model. A round is asked of all of them at once; all take the same optimizer steps, each
with its share of the examples (``share.py``), so all end with the same adapter. This process takes no part
in what they say to each other, and only listens: one that dies, of whatever, is seen at once and is an
error, where the others would wait for it.
"""

from __future__ import annotations

import os
import queue
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal

import torch

from fedmedlora.as_program import as_program
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.local import Local
from fedmedlora.model.load import BaseModel
from fedmedlora.model.tokens import TokenExample
from fedmedlora.training.frames import Frame, read_frame, work_of, write_frame
from fedmedlora.training.processes import end_in_words, threads_of_each
from fedmedlora.training.site import LocalResult, LocalTraining

_GRACE_S = 30.0
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class LoraShape:
    """What ``model.lora.attach_lora`` is asked for."""

    rank: int
    alpha: float
    dropout: float = 0.0
    targets: str | Sequence[str] = "all-linear"
    seed: int = 0


def num_devices(wanted: Literal["auto"] | int, device_type: str) -> int:
    """Processes that train a site on this machine. Raises ``ValueError`` for more cards than there are."""
    cards = torch.cuda.device_count() if device_type == "cuda" else 0
    if wanted == "auto":
        return max(1, cards)
    if device_type == "cuda" and wanted > cards:
        raise ValueError(
            f"[model] devices {wanted}: {cards} are visible here; allowed are 1 to {cards}, or 'auto'"
        )
    return wanted


class Workers:
    """Processes that train together, started when they are first asked.

    ``close`` ends them, and so does the end of a ``with``, or of this process.
    """

    def __init__(self, base: BaseModel, lora: LoraShape, num: int) -> None:
        """``num`` of them, each over a ``base`` of its own with an adapter of ``lora``."""
        assert num > 1, "one needs no other process"
        self.num = num
        self._base, self._lora = base, lora
        self._going: list[subprocess.Popen[bytes]] = []
        self._heard: queue.Queue[tuple[int, Frame | None]] = queue.Queue()
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def train_round(
        self,
        current: Adapter,
        examples: Sequence[TokenExample],
        settings: LocalTraining,
        *,
        site: str,
        round_num: int,
        seed: int,
        local: Local | None = None,
        on_step: Callable[[int, int, float], None] | None = None,
    ) -> LocalResult:
        """``site.train_round``, by all of them. Raises ``ChildProcessError`` where one of them ended."""
        began = time.perf_counter()
        try:
            if not self._going:
                self._start()
            work = work_of(examples, settings, site=site, round_num=round_num, seed=seed, local=local)
            adapter = current.to_bytes()
            for process in self._going:
                _write(process, work, adapter)
            done = self._answers("done", on_step)
        except BaseException:
            self.close()  # what they were at is lost, and so are they
            raise
        first, arrays = done[0]
        return LocalResult(
            adapter=Adapter.from_bytes(arrays),
            train_loss=first["train_loss"],
            num_steps=first["num_steps"],
            num_examples=first["num_examples"],
            seconds=time.perf_counter() - began,
            peak_memory_bytes=max(header["peak_memory_bytes"] for header, _ in done.values()),
        )

    def close(self) -> None:
        """End them, whatever they are at."""
        for process in self._going:
            process.kill()
        for process in self._going:
            process.wait()
            assert process.stdin is not None
            with suppress(OSError):
                process.stdin.close()
        self._going = []
        self._heard = queue.Queue()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _start(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fedmedlora-training-")
        base = self._base
        model = {key: getattr(base, key) for key in ("name", "precision", "quantization", "revision")}
        for rank in range(self.num):
            process = subprocess.Popen(
                as_program("training.worker"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment(os.environ, rank, self.num, on_cpu=base.device.type == "cpu"),
            )
            self._going.append(process)
            assert process.stdout is not None
            threading.Thread(target=_listen, args=(rank, process.stdout, self._heard), daemon=True).start()
            _write(
                process,
                {
                    "rank": rank,
                    "num": self.num,
                    "store": str(Path(self._folder.name) / "store"),
                    "on_cpu": base.device.type == "cpu",
                    "model": model,
                    "hash": base.hash,
                    "lora": asdict(self._lora),
                },
            )
        self._answers("ready", None)

    def _answers(self, last: str, on_step: Callable[[int, int, float], None] | None) -> dict[int, Frame]:
        """The frame with ``last`` in it of each. Raises as ``train_round`` does."""
        found: dict[int, Frame] = {}
        while len(found) < self.num:
            rank, frame = self._heard.get()
            if frame is None:
                self._raise_what_another_said()
                end = _end_of(self._going[rank])
                raise ChildProcessError(
                    f"training process {rank + 1} of {self.num} {end}; go on with --resume"
                )
            header, _ = frame
            if "error" in header:
                raise ValueError(header["error"])
            if last in header:
                found[rank] = frame
            elif on_step is not None and "step" in header:
                on_step(header["step"], header["num_steps"], header["loss"])
        return found

    def _raise_what_another_said(self) -> None:
        """One that refuses takes the others down with it, and its words may come after their end."""
        with suppress(queue.Empty):
            while True:
                _, frame = self._heard.get(timeout=1.0)
                if frame is not None and "error" in frame[0]:
                    raise ValueError(frame[0]["error"])


def environment(around: Mapping[str, str], rank: int, num: int, *, on_cpu: bool) -> dict[str, str]:
    """The environment of process ``rank`` of ``num``: its share of the cores, and one card."""
    found = dict(around)
    found |= dict.fromkeys(_THREADS, str(threads_of_each(num, around)))
    if not on_cpu:
        visible = [one for one in around.get("CUDA_VISIBLE_DEVICES", "").split(",") if one]
        found["CUDA_VISIBLE_DEVICES"] = visible[rank] if visible else str(rank)
    return found


def _listen(rank: int, stream: IO[bytes], heard: queue.Queue[tuple[int, Frame | None]]) -> None:
    try:
        with stream:
            while (frame := read_frame(stream)) is not None:
                heard.put((rank, frame))
    except ValueError:  # no JSON: it was killed while it wrote
        pass
    finally:
        heard.put((rank, None))


def _write(process: subprocess.Popen[bytes], header: dict[str, Any], data: bytes = b"") -> None:
    assert process.stdin is not None
    with suppress(OSError):  # one that is gone is heard of by its end
        write_frame(process.stdin, header, data)


def _end_of(process: subprocess.Popen[bytes]) -> str:
    try:
        code = process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        return "closed its pipe and did not end"
    return end_in_words(code) + ("" if code < 0 else "; what it said stands above")
