"""Everything else that is looked at: credentials, notes, model, machine, programs, folders."""

from __future__ import annotations

import os

import pytest

from fedmedlora.corpora.jsonl import write_notes
from fedmedlora.corpora.schema import CLINICAL
from fedmedlora.corpora.synthetic import synthesize
from fedmedlora.flower.checks.base_model import check_base_model
from fedmedlora.flower.checks.credentials import check_authority, check_key
from fedmedlora.flower.checks.finding import Finding, worded
from fedmedlora.flower.checks.machine import check_disk, check_gpu, check_memory, enough_disk, enough_memory
from fedmedlora.flower.checks.notes import check_notes
from fedmedlora.flower.checks.programs import NEEDED, check_programs, check_versions
from fedmedlora.flower.checks.state_folder import check_state
from fedmedlora.flower.site_file import Coordinator, SiteFile
from fedmedlora.provision.authority import fingerprint as certificate_fingerprint
from fedmedlora.provision.authority import new_authority, new_key
from fedmedlora.provision.keys import fingerprint, new_key_pair
from fedmedlora.study_tables import Model

IS_ROOT = os.geteuid() == 0


@pytest.fixture
def site(tmp_path, authority):
    """``site(**changes of [coordinator])`` -> a site whose certificate and key lie in ``tmp_path``."""
    pair = new_key_pair("lakeside")
    (tmp_path / "ca.crt").write_bytes(authority.certificate)
    (tmp_path / "site.key").write_bytes(pair.private)
    (tmp_path / "site.key").chmod(0o600)

    def make(train: str = "train.jsonl", test: str = "", model: str = "model", **changes) -> SiteFile:
        known = {
            "ca_fingerprint": certificate_fingerprint(authority.certificate),
            "key_fingerprint": fingerprint(pair.public),
        }
        return SiteFile(
            name="lakeside",
            train=train,
            test=test,
            model=Model(name=model),
            coordinator=Coordinator(**(known | changes)),
            folder=tmp_path,
        )

    return make


def test_a_finding_in_words():
    assert worded(Finding("key", True, "there")) == "ok      key             there"
    lines = worded(Finding("key", False, "gone", "bring it")).splitlines()
    assert lines == ["FAILED  key             gone", f"{'':24}-> bring it"]


# --- credentials ------------------------------------------------------------------------------------------


def test_credentials_in_order(site):
    for found in (check_authority(site()), check_key(site())):
        assert (found.ok, found.advice) == (True, "")
    # Lower case without colons, as other tools print it.
    plain = site().coordinator.ca_fingerprint.replace(":", "").lower()
    assert check_authority(site(ca_fingerprint=plain)).ok


def test_a_certificate_without_a_fingerprint_to_compare(site):
    found = check_authority(site(ca_fingerprint=""))
    assert found.ok
    assert "telephone" in found.advice
    assert check_key(site(key_fingerprint="")).ok


def test_an_exchanged_authority(site, tmp_path):
    from datetime import UTC, datetime

    other = new_authority("Three hospitals", new_key(), datetime.now(UTC))
    (tmp_path / "ca.crt").write_bytes(other.certificate)
    found = check_authority(site())
    assert not found.ok
    assert "exchanged" in found.advice


@pytest.mark.parametrize(("content", "words"), [(None, "No such file"), (b"hello", "not a certificate")])
def test_no_authority(site, tmp_path, content, words):
    (tmp_path / "ca.crt").unlink()
    if content:
        (tmp_path / "ca.crt").write_bytes(content)
    found = check_authority(site())
    assert not found.ok
    assert words in found.found


def test_a_key_that_others_may_read(site, tmp_path):
    (tmp_path / "site.key").chmod(0o640)
    found = check_key(site())
    assert not found.ok
    assert "chmod 600" in found.advice


def test_the_key_of_another_site(site, tmp_path):
    made = site()
    (tmp_path / "site.key").write_bytes(new_key_pair("northgate").private)
    found = check_key(made)
    assert not found.ok
    assert made.coordinator.key_fingerprint in found.found


@pytest.mark.parametrize(
    ("content", "words"), [(None, "not there"), (b"hello", "not an OpenSSH private key")]
)
def test_no_key(site, tmp_path, content, words):
    (tmp_path / "site.key").unlink()
    if content:
        (tmp_path / "site.key").write_bytes(content)
        (tmp_path / "site.key").chmod(0o600)
    found = check_key(site())
    assert not found.ok
    assert words in found.found


# --- notes ------------------------------------------------------------------------------------------------


@pytest.fixture
def notes(tmp_path, marked):
    """``notes(name, num, part)``: a file of synthetic notes, a mark in each."""
    from dataclasses import replace

    def write(name: str, num: int, part: str):
        made = [replace(n, text=f"{n.text}\n{marked}\n") for n in synthesize("lakeside", num, 1, part)]
        write_notes(tmp_path / name, made, header={"name": "x", "schema": "clinical", "synthetic": True})
        return made

    return write


def test_notes_are_counted(site, notes, marked):
    train, test = notes("train.jsonl", 3, "train"), notes("test.jsonl", 1, "test")
    found = check_notes(site(test="test.jsonl"), CLINICAL)
    assert [one.name for one in found] == ["training notes", "test notes", "test apart"]
    assert all(one.ok for one in found)
    assert "3 notes" in found[0].found
    assert f"{sum(len(n.entities) for n in train)} entities" in found[0].found
    assert f"{sum(len(n.links) for n in test)} modifiers" in found[1].found
    assert marked not in str(found)


def test_notes_that_are_not_there(site):
    (found,) = check_notes(site(), CLINICAL)
    assert not found.ok
    assert "train.jsonl" in found.found


def test_no_note_at_all(site, notes):
    notes("train.jsonl", 0, "train")
    (found,) = check_notes(site(), CLINICAL)
    assert (found.ok, found.found) == (False, "train.jsonl: no note")


def test_labels_of_another_schema(site, notes, tmp_path, marked):
    notes("train.jsonl", 2, "train")
    path = tmp_path / "train.jsonl"
    path.write_text(path.read_text().replace('"type":"problem"', '"type":"disease"'))
    (found,) = check_notes(site(), CLINICAL)
    assert not found.ok
    assert "disease" in found.found
    assert "convert" in found.advice
    assert marked not in str(found)


def test_a_damaged_file_is_told_without_its_text(site, tmp_path, marked):
    (tmp_path / "train.jsonl").write_text(f'{{"format": "fedmedlora-notes", "text": "{marked}\n')
    (found,) = check_notes(site(), CLINICAL)
    assert not found.ok
    assert marked not in str(found)


def test_test_notes_that_are_trained_on(site, notes, marked):
    notes("train.jsonl", 2, "train")
    notes("test.jsonl", 1, "train")
    found = check_notes(site(test="test.jsonl"), CLINICAL)
    assert [one.ok for one in found] == [True, True, False]
    assert "split" in found[2].advice
    assert marked not in str(found)


# --- model ------------------------------------------------------------------------------------------------


def test_the_model(site, model_folders):
    from fedmedlora.model.load import files_hash

    folder = model_folders["llama"]
    found = check_base_model(site(model=str(folder)))
    assert found.ok
    assert files_hash(folder)[:12] in found.found
    assert "compared at the first question" in found.advice
    found = check_base_model(site(model=str(folder), model_hash=files_hash(folder)))
    assert (found.ok, found.advice) == (True, "")
    found = check_base_model(site(model=str(folder), model_hash="0" * 64))
    assert not found.ok
    assert "same files" in found.advice


def test_a_model_that_is_not_there(site, tmp_path):
    (tmp_path / "empty").mkdir()
    found = check_base_model(site(model="empty"))
    assert not found.ok
    assert "[model]" in found.advice


# --- machine, programs, folders ---------------------------------------------------------------------------


def test_the_machine(site):
    assert check_memory().name == "memory"
    assert enough_memory(4_000_000_000).ok
    assert not enough_memory(3_999_999_999).ok
    assert enough_disk(2_000_000_000).ok
    assert not enough_disk(1_999_999_999).ok
    assert check_disk(site()).found.endswith("GB free for the state folder")


def test_no_gpu_is_in_order():
    from fedmedlora.model.devices import visible_gpus

    assert isinstance(visible_gpus(), tuple)
    assert check_gpu(()).ok
    assert check_gpu((("H200", 141_000_000_000),)).found == "H200 (141 GB)"


def test_versions(site):
    from importlib.metadata import version

    found = check_versions(site(version=version("fedmedlora")))
    assert found.ok
    for name in ("Python 3", f"fedmedlora {version('fedmedlora')}", "flwr 1.41", "torch", "peft"):
        assert name in found.found
    found = check_versions(site(version="0.0.7"))
    assert not found.ok
    assert "runs fedmedlora 0.0.7" in found.advice


def test_programs(tmp_path):
    pytest.importorskip("flwr")
    assert check_programs().ok
    (tmp_path / NEEDED[0]).touch()
    found = check_programs(tmp_path)
    assert not found.ok
    assert found.found.endswith(", ".join(NEEDED[1:]))


def test_the_state_folder(site, tmp_path):
    found = check_state(site())
    assert (found.ok, found.advice) == (True, "")
    assert list((tmp_path / "state").iterdir()) == []
    (tmp_path / "state").chmod(0o750)
    assert "chmod 700" in check_state(site()).advice


@pytest.mark.skipif(IS_ROOT, reason="root may write everywhere")
def test_a_state_folder_that_cannot_be_written(site, tmp_path):
    (tmp_path / "state").mkdir(mode=0o500)
    assert not check_state(site()).ok


def test_a_file_where_the_state_folder_should_be(site, tmp_path):
    (tmp_path / "state").touch()
    assert not check_state(site()).ok
