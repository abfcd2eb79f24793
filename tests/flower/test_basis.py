"""What an update stands on: a site with other files is refused, and its update is not averaged.

Real messages and the real ClientApp, without a network.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("flwr", reason="flwr is not installed: pip install 'fedmedlora[flower]'")

from fedmedlora.experiment import run_study
from fedmedlora.flower import client_app
from fedmedlora.flower.grid_sites import join
from fedmedlora.flower.messages import TRAIN, Letter
from fedmedlora.study import load_study
from fedmedlora.tasks import prompts

SITES = ("lakeside", "northgate", "stonebridge")


def run_over(grid, study_file: Path, out: Path):
    study = load_study(study_file, sites_are_here=False)
    return run_study(
        study, out, elsewhere=lambda terms, progress: join(grid, SITES, terms, progress, wait_s=0.3)
    )


@pytest.fixture(scope="module")
def study_file(three_sites) -> Path:
    """Without validation by the sites: nothing is asked before the first update."""
    text = (three_sites / "study.toml").read_text().replace('"fed_medlora_plus"', '"fed_medlora"')
    path = three_sites / "updates-only.toml"
    path.write_text(text.split("[rules")[0] + text[text.index("[[sites]]") :])
    return path


def test_another_base_model_than_the_one_of_the_kit_is_refused(local_grid, three_sites, study_file, tmp_path):
    """Also where the site's folder and the study agree: a kit says which model the consortium meant."""
    path = three_sites / "pinned.toml"
    text = (three_sites / "lakeside.toml").read_text()
    path.write_text(text.replace("[allows]", f'[coordinator]\nmodel_hash = "{"0" * 64}"\n\n[allows]'))
    local_grid.node_config[1] = {"site": str(path)}
    with pytest.raises(ValueError, match=r"this site allows 0{64} \(base_model\)"):
        run_over(local_grid, study_file, tmp_path / "out")


def edited(local_grid, edit):
    """Site lakeside's updates say something else about what they stand on."""

    def fault(replies):
        for _, reply in replies:
            if reply.metadata.message_type != TRAIN:
                continue
            letter = Letter.from_records(reply.content)
            if letter.text("site") == "lakeside":
                fields = edit(dict(letter.fields))
                reply.content = Letter(fields, letter.parts).to_records()
        return replies

    local_grid.fault = fault


@pytest.mark.parametrize("what", ["base_model", "tokenizer", "chat_template", "prompts"])
def test_an_update_that_stands_on_other_files_is_not_averaged(local_grid, study_file, tmp_path, what):
    def edit(fields):
        return fields | {"basis": fields["basis"] | {what: "0" * 64}}

    edited(local_grid, edit)
    told = f"lakeside: refused: it was made with another {what.replace('_', ' ')}: sha256 000000000000"
    with pytest.raises(ValueError, match=told):
        run_over(local_grid, study_file, tmp_path / "out")


def test_an_update_that_does_not_say_what_it_stands_on_is_not_averaged(local_grid, study_file, tmp_path):
    edited(local_grid, lambda fields: {key: value for key, value in fields.items() if key != "basis"})
    with pytest.raises(ValueError, match="lakeside: refused: message: basis is missing"):
        run_over(local_grid, study_file, tmp_path / "out")


def test_a_site_whose_prompts_are_others_is_told_what_to_do(local_grid, study_file, tmp_path, monkeypatch):
    """The texts change once the coordinator has read its own: at the sites another version is installed."""
    folder = tmp_path / "prompts"
    shutil.copytree(str(prompts._folder()), folder)
    for path in folder.glob("*/ner.txt"):
        path.write_text(path.read_text() + "Think twice.\n")
    caches = (client_app._opened, prompts._template, prompts._scopes)

    def installed_at_the_sites(terms, progress):
        monkeypatch.setattr(prompts, "_folder", lambda: folder)
        for one in caches:
            one.cache_clear()
        return join(local_grid, SITES, terms, progress, wait_s=0.3)

    study = load_study(study_file, sites_are_here=False)
    try:
        with pytest.raises(
            ValueError, match=r"the prompts at this site have hash .* install the same version"
        ):
            run_study(study, tmp_path / "out", elsewhere=installed_at_the_sites)
    finally:
        for one in caches:
            one.cache_clear()
