import re
from pathlib import Path

import pytest
from html_reader import HOSTILE
from made_up_watch import NOW, SETTINGS, live_record, round_record

from fedmedlora.report.markup import visible
from fedmedlora.watch import metrics as module
from fedmedlora.watch.metrics import metrics, metrics_text
from fedmedlora.watch.status import NOTHING_YET, Finished, status_of

pytest.importorskip("prometheus_client", reason="pip install 'fedmedlora[metrics]'")


def parsed(text: bytes) -> dict[str, dict[frozenset, float]]:
    """Name of a sample -> its labels -> value, as Prometheus' own reader reads them."""
    from prometheus_client.parser import text_string_to_metric_families

    found: dict[str, dict[frozenset, float]] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


def labels(**told):
    return frozenset(told.items())


def test_numbers():
    finished = Finished(SETTINGS | {"methods": ["fed_medlora"]}, {"fed_medlora": [round_record(1)]}, {})
    found = parsed(metrics_text(status_of(live_record(), finished, NOW)))
    assert found["fedmedlora_run_info"] == {labels(study="Three hospitals"): 1}
    assert found["fedmedlora_running"] == {labels(): 1}
    assert found["fedmedlora_round"] == {labels(): 2}
    assert found["fedmedlora_rounds_total"] == {labels(method="fed_medlora"): 1}
    assert found["fedmedlora_rounds_planned"] == {labels(method="fed_medlora"): 3}
    assert found["fedmedlora_rounds_left_seconds"] == {labels(): 180}
    assert found["fedmedlora_site_connected"][labels(site="riverbend")] == 1
    # date -u -d 2026-11-29T13:59:58Z +%s
    assert found["fedmedlora_site_last_seen_timestamp_seconds"][labels(site="lakeside")] == 1795960798
    assert found["fedmedlora_bytes_total"][labels(site="lakeside", direction="up")] == 3000
    assert found["fedmedlora_bytes_total"][labels(site="lakeside", direction="down")] == 4000
    assert found["fedmedlora_refusals_total"] == {
        labels(site="lakeside"): 0, labels(site="northgate"): 0, labels(site="riverbend"): 2,
    }  # fmt: skip
    assert found["fedmedlora_absences_total"][labels(site="riverbend")] == 1
    assert found["fedmedlora_loss"] == {labels(method="fed_medlora"): 0.5}
    assert found["fedmedlora_training_loss"] == {labels(method="fed_medlora"): 1.75}
    assert found["fedmedlora_f1"][labels(method="fed_medlora", criterion="strict")] == 0.625
    assert found["fedmedlora_round_duration_seconds"] == {labels(method="fed_medlora"): 120}
    stages = found["fedmedlora_stage"]
    assert stages.pop(labels(stage="training")) == 1
    assert set(stages.values()) == {0}
    states = {key for key, value in found["fedmedlora_site_state"].items() if value}
    assert states == {
        labels(site="lakeside", state="answered"),
        labels(site="northgate", state="asked"),
        labels(site="riverbend", state="refused"),
    }


def test_what_nobody_knows_is_left_out():
    found = parsed(metrics_text(status_of(None, NOTHING_YET, NOW)))
    assert set(found) == {"fedmedlora_run_info", "fedmedlora_round"}


def test_names_are_those_of_prometheus():
    """https://prometheus.io/docs/practices/naming, https://prometheus.io/docs/instrumenting/writing_exporters"""
    finished = Finished(SETTINGS, {"fed_medlora": [round_record(1)]}, {})
    found = metrics(status_of(live_record(), finished, NOW))
    names = [one.name for one in found]
    assert len(names) == len(set(names)) > 15
    for one in found:
        assert re.fullmatch("fedmedlora_[a-z0-9_]+", one.name)
        assert one.meaning.endswith(".")
        assert one.kind == ("counter" if one.name.endswith("_total") else "gauge")
        assert len({tuple(sorted(told)) for told, _ in one.samples}) == 1
        assert not {"le", "quantile"} & set(one.samples[0][0])
        for time in ("duration", "left", "timestamp"):
            assert time not in one.name or one.name.endswith("_seconds")
    text = metrics_text(status_of(live_record(), finished, NOW)).decode()
    for one in found:
        assert f"# TYPE {one.name} {one.kind}\n" in text
    assert "process_" not in text
    assert "_created" not in text


def test_the_page_has_them_all():
    page = (Path(__file__).parents[2] / "docs" / "watching.md").read_text(encoding="utf-8")
    told = {
        name: tuple(one for one in keys.split(", ") if one)
        for name, keys in re.findall(r"^\| `(fedmedlora_\w+)` \| ?([\w, ]*?) ?\|", page, re.M)
    }
    finished = Finished(SETTINGS, {"fed_medlora": [round_record(1)]}, {})
    found = metrics(status_of(live_record(), finished, NOW))
    assert told == {one.name: tuple(one.samples[0][0]) for one in found}


def test_hostile_names_are_labels_and_no_lines(hostile):
    text = metrics_text(hostile)
    for line in text.decode().splitlines():
        assert line.startswith(("# HELP fedmedlora_", "# TYPE fedmedlora_", "fedmedlora_")), line
    for character in (b"\x00", b"\x1b", "\u202e".encode()):
        assert character not in text
    assert labels(site=visible(HOSTILE)) in parsed(text)["fedmedlora_site_connected"]


def test_without_the_package(monkeypatch):
    monkeypatch.setattr(module, "is_installed", lambda: False)
    with pytest.raises(ValueError, match=r"pip install 'fedmedlora\[metrics\]'"):
        metrics_text(status_of(None, NOTHING_YET, NOW))
