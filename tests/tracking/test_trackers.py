"""The numbers of a run in the real tracking libraries."""

from __future__ import annotations

import pytest
from made_up_run import make_results

from fedmedlora.tracking.tracker import flat, known_trackers, numbers, refuse_unknown, track


@pytest.fixture(scope="module")
def results():
    return make_results()


def test_every_number_has_a_name_of_its_own_per_step(results):
    found = [(name, step) for name, _, step in numbers(results)]
    assert len(found) == len(set(found)) > 100
    told = {name: value for name, value, step in numbers(results) if step == 0}
    plus = next(m for m in results["methods"] if m["name"] == "fed_medlora_plus")
    evaluation = plus["evaluations"][0]
    f1 = evaluation["scores"]["entities"]["strict"]["f1"]
    name = f"fed_medlora_plus/{evaluation['cohort']}/{evaluation['decoding']}/entities_strict_f1"
    assert told[name] == f1
    weights = [(n, v) for n, v, s in numbers(results) if n.startswith("fed_medlora_plus/weight/") and s == 1]
    assert sum(v for _, v in weights) == pytest.approx(1.0)


def test_settings_are_flat():
    found = dict(flat({"seed": 1, "adapter": {"rank": 8}, "sites": [{"name": "a", "test": "t"}], "x": []}))
    assert found == {"seed": "1", "adapter.rank": "8", "sites.a.test": "t", "x": "[]"}


def test_tensorboard_reads_them_back(results, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    track(["tensorboard"], results, run="main, seed 1", folder=tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard" / "main-seed-1"), size_guidance={"scalars": 0})
    events.Reload()
    assert set(events.Tags()["scalars"]) == {name for name, _, _ in numbers(results)}
    name, value, step = next(n for n in numbers(results) if n[2] == 2)
    assert any(e.step == step and e.value == pytest.approx(value, rel=1e-6) for e in events.Scalars(name))


def test_mlflow_reads_them_back(results, tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.tracking import MlflowClient

    track(["mlflow"], results, run="main, seed 1", folder=tmp_path)
    track(["mlflow"], results, run="main, seed 2", folder=tmp_path)
    client = MlflowClient()
    experiment = client.get_experiment_by_name(results["name"])
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.run_name for run in runs} == {"main, seed 1", "main, seed 2"}
    assert all(run.info.status == "FINISHED" for run in runs)
    name, value, step = next(n for n in numbers(results) if n[2] == 2)
    history = client.get_metric_history(runs[0].info.run_id, name)
    assert any(one.step == step and one.value == value for one in history)
    assert set(runs[0].data.params) == dict(flat(results["study"])).keys()


def test_trackers_by_name():
    assert known_trackers() == ("mlflow", "tensorboard")
    with pytest.raises(ValueError, match="'wandb': known trackers are mlflow, tensorboard"):
        refuse_unknown(["wandb"])
    refuse_unknown([])


@pytest.mark.parametrize("name", ["mlflow", "tensorboard"])
def test_a_library_that_is_not_there(name, monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    with pytest.raises(ValueError, match="its library is not installed: pip install"):
        refuse_unknown([name])
