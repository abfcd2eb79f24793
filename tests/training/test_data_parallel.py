"""Two processes train as one does, and one that dies is an error."""

from __future__ import annotations

import io
import os
import queue
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from fedmedlora.exchange.local import Local
from fedmedlora.model.load import load_base_model
from fedmedlora.model.lora import attach_lora, read_adapter
from fedmedlora.training import data_parallel, worker
from fedmedlora.training.data_parallel import LoraShape, Workers, environment, num_devices
from fedmedlora.training.site import LocalTraining, train_round

SETTINGS = LocalTraining(
    num_rounds=2, examples_per_step=5, micro_batch=2, learning_rate=2e-2, warmup_steps=1, weight_decay=0.1
)
SHAPE = LoraShape(rank=2, alpha=4.0, seed=3)


@pytest.fixture(scope="module")
def base(model_folders):
    return load_base_model(str(model_folders["llama"]), precision="float32")


@pytest.fixture(scope="module")
def model(base):
    return attach_lora(base.model, rank=2, alpha=4.0, seed=3)


@pytest.fixture(scope="module")
def workers(base):
    """Two processes, started once: they import torch."""
    with Workers(base, SHAPE, 2) as found:
        yield found


@pytest.mark.parametrize(
    ("changes", "local"),
    [
        ({}, None),
        ({"batching": "padded", "loss": "lm"}, None),
        ({}, Local(proximal=0.5, learning_rate_factor=0.5)),
        ({"gradient_checkpointing": True, "examples_per_step": 1}, Local(trains="B", sends="B")),
        ({"learning_rate": 1e-3}, Local(trains="model", sends="model")),
    ],
    ids=["default", "padded", "proximal", "one example a step", "every parameter"],
)
def test_two_processes_train_as_one_does(base, model, workers, step_examples, changes, local):
    how = replace(SETTINGS, **changes)
    start = read_adapter(model)
    whole = local is not None and local.trains == "model"
    if whole:
        from fedmedlora.model.weights import read_weights

        start = read_weights(model, whole=True)
    rest = {"site": "a", "round_num": 2, "seed": 4, "local": local}
    alone, told = train_round(base, model, start, step_examples, how, **rest), []
    found = workers.train_round(
        start, step_examples, how, **rest, on_step=lambda step, num, loss: told.append((step, num))
    )
    assert (found.num_steps, found.num_examples) == (alone.num_steps, alone.num_examples)
    assert found.train_loss == pytest.approx(alone.train_loss, rel=1e-5)
    assert told == [(step + 1, alone.num_steps) for step in range(alone.num_steps)]
    assert alone.adapter != start
    for name, array in alone.adapter.arrays.items():
        scale = np.abs(array).max()
        assert np.abs(found.adapter.arrays[name] - array).max() <= 1e-5 * scale, name
    again = workers.train_round(start, step_examples, how, **rest)
    assert again.adapter == found.adapter, "the same each time, bit for bit"
    assert again.peak_memory_bytes > 0


def test_a_process_that_dies_is_an_error_and_not_a_wait(model, workers, step_examples):
    """The last of those that ask for ``workers``, which are gone then."""

    def kill(step: int, num_steps: int, loss: float) -> None:
        if step == 1:
            os.kill(workers._going[1].pid, signal.SIGKILL)

    many = replace(SETTINGS, steps=10_000)
    with pytest.raises(ChildProcessError, match=r"training process [12] of 2 .*go on with --resume"):
        workers.train_round(
            read_adapter(model), step_examples, many, site="a", round_num=1, seed=0, on_step=kill
        )
    assert workers._going == [], "the other one is ended too"


@pytest.mark.parametrize("ended_first", [False, True])
def test_what_is_wrong_in_a_process_is_told_in_its_words(base, ended_first):
    others = Workers(base, SHAPE, 2)
    if ended_first:
        others._heard.put((0, None))
    others._heard.put((1, ({"error": "the training loss is nan: lower it"}, b"")))
    with pytest.raises(ValueError, match="training loss is nan"):
        others._answers("done", None)


def test_a_process_refuses_another_model(base, monkeypatch):
    monkeypatch.setattr(worker, "_join", lambda share, store, on_cpu: None)
    asked: queue.Queue = queue.Queue()
    told = {
        "rank": 0,
        "num": 2,
        "store": "",
        "on_cpu": True,
        "hash": "another",
        "lora": {"rank": 2, "alpha": 4.0},
    }
    model = {"name": base.name, "precision": "float32", "quantization": "none", "revision": ""}
    asked.put((told | {"model": model}, b""))
    with pytest.raises(ValueError, match="files changed while the program ran"):
        worker._serve(asked, io.BytesIO())


def test_how_many():
    assert num_devices(1, "cpu") == 1
    assert num_devices(3, "cpu") == 3
    assert num_devices("auto", "cpu") == 1


@pytest.mark.parametrize(("wanted", "expected"), [("auto", 4), (1, 1), (4, 4)])
def test_how_many_cards(monkeypatch, wanted, expected):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert num_devices(wanted, "cuda") == expected
    with pytest.raises(ValueError, match="devices 5: 4 are visible here; allowed are 1 to 4, or 'auto'"):
        num_devices(5, "cuda")


def test_each_has_its_share_of_the_cores_and_one_card():
    around = {"OMP_NUM_THREADS": "8", "CUDA_VISIBLE_DEVICES": "5,GPU-7f,2", "PATH": "x"}
    second = environment(around, 1, 3, on_cpu=False)
    assert (second["OMP_NUM_THREADS"], second["CUDA_VISIBLE_DEVICES"], second["PATH"]) == ("2", "GPU-7f", "x")
    assert environment({}, 1, 3, on_cpu=False)["CUDA_VISIBLE_DEVICES"] == "1"
    assert "CUDA_VISIBLE_DEVICES" not in environment({}, 1, 3, on_cpu=True)
    assert environment({"OMP_NUM_THREADS": "1"}, 0, 3, on_cpu=True)["MKL_NUM_THREADS"] == "1"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise SystemExit(1)", "ended with exit code 1"),
        ("import os; os.kill(os.getpid(), 9)", "was ended by signal 9 (SIGKILL: where memory ran out"),
        ("import os; os.kill(os.getpid(), 15)", "was ended by signal 15"),
    ],
)
def test_what_an_end_says(code, words):
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        assert data_parallel._end_of(process).startswith(words)
