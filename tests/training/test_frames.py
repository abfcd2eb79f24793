"""What two processes say to each other: back as it was, and nothing where it was cut off."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest

from fedmedlora.exchange.local import Local
from fedmedlora.training import frames
from fedmedlora.training.frames import examples_of, read_frame, work_of, write_frame
from fedmedlora.training.site import LocalTraining


@pytest.mark.parametrize("data", [b"", b"x\ny", bytes(range(256))])
def test_frames_come_back(data):
    stream = io.BytesIO()
    write_frame(stream, {"one": [1, 2]}, data)
    write_frame(stream, {"two": "µ\n"})
    stream.seek(0)
    header, found = read_frame(stream)
    assert (header["one"], found) == ([1, 2], data)
    assert read_frame(stream) == ({"two": "µ\n", "num_bytes": 0}, b"")
    assert read_frame(stream) is None


def test_what_is_cut_off_is_nothing():
    stream = io.BytesIO()
    write_frame(stream, {"one": 1}, b"12345")
    whole = stream.getvalue()
    assert all(read_frame(io.BytesIO(whole[:length])) is None for length in range(len(whole)))
    assert read_frame(io.BytesIO(whole)) is not None


def test_examples_train_alike_and_tell_nothing_else(step_examples):
    how = LocalTraining(num_rounds=3, pass_tokens=7)
    header = work_of(step_examples, how, site="a", round_num=2, seed=5, local=Local(proximal=0.1))
    line = json.dumps(header)
    found = json.loads(line)
    without_text = [replace(e, example=frames._NOTHING) for e in step_examples]
    assert examples_of(found) == without_text
    assert [e.seen() for e in examples_of(found)] == [e.seen() for e in step_examples]
    assert LocalTraining(**found["settings"]) == how
    assert LocalTraining(**found["settings"]).pass_tokens == 7
    assert Local(**found["local"]) == Local(proximal=0.1)
    assert (found["site"], found["round_num"], found["seed"]) == ("a", 2, 5)
    for example in step_examples:
        assert all(piece.form not in line for piece in example.example.pieces if len(piece.form) > 3)


def test_no_example():
    header = work_of([], LocalTraining(num_rounds=1), site="a", round_num=1, seed=0, local=None)
    assert examples_of(json.loads(json.dumps(header))) == []
    assert header["local"] is None
