"""One of the processes that take a site's optimizer steps together: ``python -m fedmedlora.training.worker``.

The first frame of stdin says which model, and which part; each that follows asks for a round. When stdin is
closed, whatever ended the other process, this one ends too. Stdout answers.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from typing import IO, Any

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.local import Local
from fedmedlora.training.frames import Frame, examples_of, read_frame, write_frame

# Heavy modules are imported within functions, after what they could disturb is in order.


def main() -> int:
    """Serve until stdin ends. Exit code 0, or 2 where the model or the round is not right."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who asks gets it too, and says what is next
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print, Python's or not, is no answer
    sys.stdout = sys.stderr
    asked: queue.Queue[Frame] = queue.Queue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, asked), daemon=True).start()
    try:
        _serve(asked, answers)
    except ValueError as error:
        write_frame(answers, {"error": str(error)})
        return 2
    return 0


def _listen(stream: IO[bytes], asked: queue.Queue[Frame]) -> None:
    while (frame := read_frame(stream)) is not None:
        asked.put(frame)
    # Nobody is there any more; this process may wait for others that are gone.
    os._exit(0)


def _serve(asked: queue.Queue[Frame], answers: IO[bytes]) -> None:
    import torch

    from fedmedlora.model.load import load_base_model
    from fedmedlora.model.lora import attach_lora
    from fedmedlora.model.memory import keep_freed_memory
    from fedmedlora.training.share import Share
    from fedmedlora.training.site import LocalTraining, train_round

    told, _ = asked.get()
    share = Share(told["rank"], told["num"])
    _join(share, told["store"], on_cpu=told["on_cpu"])
    keep_freed_memory()
    base = load_base_model(**told["model"])
    if base.hash != told["hash"]:
        raise ValueError("the base model's files changed while the program ran; start again")
    model = attach_lora(base.model, **told["lora"])
    write_frame(answers, {"ready": True})

    def tell(step: int, num_steps: int, loss: float) -> None:
        if share.rank == 0:
            write_frame(answers, {"step": step, "num_steps": num_steps, "loss": loss})

    while True:
        header, data = asked.get()
        result = train_round(
            base,
            model,
            Adapter.from_bytes(data),
            examples_of(header),
            LocalTraining(**header["settings"]),
            site=header["site"],
            round_num=header["round_num"],
            seed=header["seed"],
            local=None if header["local"] is None else Local(**header["local"]),
            on_step=tell,
            share=share,
        )
        found: dict[str, Any] = {
            "done": True,
            "train_loss": result.train_loss,
            "num_steps": result.num_steps,
            "num_examples": result.num_examples,
            "peak_memory_bytes": result.peak_memory_bytes,
        }
        # All have the same adapter.
        write_frame(answers, found, result.adapter.to_bytes() if share.rank == 0 else b"")
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()


def _join(share: Any, store: str, *, on_cpu: bool) -> None:
    """Meet the other processes: NCCL between cards, gloo without them, over this machine's loopback alone."""
    from accelerate import PartialState

    if sys.platform == "linux":
        for library in ("GLOO", "NCCL"):
            os.environ.setdefault(f"{library}_SOCKET_IFNAME", "lo")
    os.environ |= {
        "RANK": str(share.rank),
        "WORLD_SIZE": str(share.num),
        "LOCAL_WORLD_SIZE": str(share.num),
        # Each sees one card only, so it is the first of those that it sees.
        "LOCAL_RANK": str(share.rank) if on_cpu else "0",
    }
    # They find each other by a file in a folder of this user's own: nothing listens for strangers.
    PartialState(cpu=on_cpu, init_method=f"file://{store}", rank=share.rank, world_size=share.num)


if __name__ == "__main__":
    sys.exit(main())
