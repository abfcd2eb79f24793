"""The BERT-type token classifier in whole studies: three ways of training, one loop, the same scores."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tiny_study import SITES, make_study, without_time

from fedmedlora.encoder_sites import EncoderSites
from fedmedlora.experiment import run_study
from fedmedlora.local_site import LocalSite
from fedmedlora.progress import Silent
from fedmedlora.report.results import validate
from fedmedlora.study import parse_study
from fedmedlora.study_tables import Encoder

METHODS = ["encoder_single_site", "encoder_centralized", "encoder_fedavg", "zero_shot"]
MORE = '[encoder]\nname = "encoder"\nsteps_per_round = 2\nexamples_per_step = 3\nlearning_rate = 1e-3\n'


@pytest.fixture(scope="module")
def study(material, tiny_encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder-study")
    tiny_encoder(folder / "encoder")
    return make_study(material, folder, methods=METHODS, more=MORE)


@pytest.fixture(scope="module")
def run(study):
    out = study.folder / "out"
    return out, run_study(study, out)


def test_three_ways_of_training_on_every_cohort(run):
    out, results = run
    validate(results)
    by_name = {method["name"]: method for method in results["methods"]}
    names = [f"encoder_single_site:{s}" for s in SITES] + ["encoder_centralized", "encoder_fedavg"]
    assert list(by_name) == [*names, "zero_shot"]
    for name in names:
        method = by_name[name]
        assert {e["cohort"] for e in method["evaluations"]} == {*SITES, "stonebridge"}
        assert all(e["num_unparsed"] == 0 and e["num_examples"] > 0 for e in method["evaluations"])
        assert method["adapter"] is None
        assert len(method["rounds"]) == 2
    sizes = {s["upload_bytes"] for r in by_name["encoder_fedavg"]["rounds"] for s in r["sites"]}
    parameters = by_name["encoder_fedavg"]["trained_parameters"]
    assert all(4 * parameters < size < 4 * parameters + 20_000 for size in sizes)
    assert (
        out / "predictions" / "encoder_fedavg" / "constrained" / "end-to-end" / "stonebridge.jsonl"
    ).exists()


def test_centralized_takes_the_steps_of_all_sites(run):
    by_name = {method["name"]: method for method in run[1]["methods"]}
    one = by_name["encoder_single_site:lakeside"]["rounds"][0]["sites"][0]["num_examples"]
    assert by_name["encoder_centralized"]["rounds"][0]["sites"][0]["num_examples"] == 2 * one


def test_the_first_round_is_shared_and_a_stopped_run_goes_on(run, study, tmp_path):
    class Stopped(Silent):
        labels: list[str] = []  # noqa: RUF012 - of this one run

        def stage(self, label, cost):
            self.labels.append(label)
            if label.startswith("Token classifier, centralized: reads"):
                raise KeyboardInterrupt
            return super().stage(label, cost)

    with pytest.raises(KeyboardInterrupt):
        run_study(study, tmp_path / "out", progress=Stopped())
    assert sum("round 1/2: lakeside trains the token classifier" in label for label in Stopped.labels) == 1
    resumed = run_study(study, tmp_path / "out", resume=True)
    assert without_time(resumed) == without_time(run[1])


def test_a_run_does_not_go_on_with_other_weights_of_the_encoder(run, study, tmp_path):
    shutil.copytree(study.folder, tmp_path / "study")
    moved = replace(study, folder=tmp_path / "study")
    weights = tmp_path / "study" / "encoder" / "model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    with pytest.raises(ValueError, match="the run in it differs in encoder, so going on would mix two runs"):
        run_study(moved, tmp_path / "study" / "out", resume=True)


def test_confidences_of_the_classifier_reach_the_details(run):
    out, _ = run
    details = json.loads(
        (out / "methods" / "encoder_fedavg" / "stonebridge-constrained.details.json").read_text()
    )
    assert all(0 < c <= 1 for c in details["calibration"]["confidence"])
    assert details["calibration"]["num_gold"] > 0


def test_what_cannot_be_is_refused(study, tmp_path):
    text = 'name = "s"\nmethods = ["encoder_fedavg"]\n[[sites]]\nname = "a"\n'
    with pytest.raises(ValueError, match="encoder_fedavg trains another model"):
        parse_study(text, sites_are_here=False)
    with pytest.raises(ValueError, match="instruction data has none"):
        parse_study(text + 'train = "a.jsonl"\n[tasks]\nnames = ["instruction"]\n')


def test_what_a_gpu_has_trained_is_not_taken_for_what_a_cpu_would():
    """One study's common work may be on a disk that two machines share."""
    classifier = SimpleNamespace(
        hash="h", device=torch.device("cpu"), num_parameters=1, tokenizer=None, max_tokens=9
    )
    here = EncoderSites(
        classifier, None, SimpleNamespace(tasks=("ner",)), Encoder(), 1, 1, 0, 1,  # type: ignore[arg-type]
        (LocalSite("a", ()),), Silent(), None,  # type: ignore[arg-type]
    )  # fmt: skip
    there = replace(here, classifier=SimpleNamespace(**{**vars(classifier), "device": torch.device("cuda")}))
    assert here.infos[0].work_hash == replace(here).infos[0].work_hash != there.infos[0].work_hash
