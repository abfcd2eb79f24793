"""Flower's simulation runtime, for real: a SuperLink of its own, Ray, and the same adapter."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from fedmedlora.audit.saved_adapter import check_folder
from fedmedlora.cli import main
from fedmedlora.flower import simulation
from fedmedlora.model.saved import read_saved_adapter


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
def test_simulated_sites_give_the_same(three_sites, tmp_path, one_thread, monkeypatch, capsys, marked):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    text = (three_sites / "study.toml").read_text()
    head = text.replace('"fed_medlora_plus"', '"fed_medlora"').replace("rounds = 2", "rounds = 1")
    study = three_sites / "simulated.toml"
    study.write_text(
        head.split("[rules")[0]
        + "[evaluation]\nmax_sentences = 1\nbootstrap = 0\n"
        + text[text.index("[[sites]]") :]
    )
    for carrier in ("in-process", "flower-simulation"):
        assert main(["run", str(study), "--out", str(tmp_path / carrier), "--carrier", carrier]) == 0
    found = [
        read_saved_adapter(tmp_path / carrier / "adapters" / "fed_medlora").arrays
        for carrier in ("in-process", "flower-simulation")
    ]
    assert found[0].keys() == found[1].keys()
    for name, array in found[0].items():
        np.testing.assert_array_equal(array, found[1][name], err_msg=name)
    for carrier in ("in-process", "flower-simulation"):  # nobody is to trust a key that is gone
        checked = check_folder(tmp_path / carrier / "adapters" / "fed_medlora")
        assert (checked.problems, checked.read.signature) == ((), "none")
    out, err = capsys.readouterr()
    assert marked not in out + err


def test_without_ray_the_message_says_what_to_do(three_sites, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(simulation.importlib.util, "find_spec", lambda name: None)
    study = three_sites / "study.toml"
    assert main(["run", str(study), "--out", str(tmp_path / "out"), "--carrier", "flower-simulation"]) == 2
    assert "fedmedlora[simulation]" in capsys.readouterr().err
