"""What a site's log says of what went wrong there: our own words, and never those of a library."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytest.importorskip("flwr", reason="flwr is not installed: pip install 'fedmedlora[flower]'")

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.flower.client_app import _own_words
from fedmedlora.run_folder import write_file
from fedmedlora.training.data_parallel import LoraShape, Workers

NOTE = "Mr Doe has a fever"


def of(call) -> str:
    with pytest.raises(Exception, match=r".*") as caught:
        call()
    return _own_words(caught.value)


def a_training_process_that_ended() -> None:
    workers = Workers(None, LoraShape(rank=2, alpha=4.0), 2)
    workers._going = [subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])]
    workers._heard.put((0, None))
    workers._answers("ready", None)


def test_our_own_words_are_told():
    assert of(a_training_process_that_ended).startswith("training process 1 of 2 ended with exit code 3")
    assert of(lambda: Adapter.from_bytes(b"")).startswith("fedmedlora-adapter")


def test_words_of_others_are_not(tmp_path):
    def quoting(error):
        raise error(NOTE)

    for call in (
        lambda: json.loads(NOTE),
        lambda: quoting(ValueError),  # not of a file of ours
        lambda: quoting(ChildProcessError),
        lambda: {}[NOTE],
        lambda: write_file(tmp_path, b""),  # ours, and the system's words
    ):
        assert of(call) == ""
