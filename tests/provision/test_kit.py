"""Kits: what is in them, what is not, and that a second run destroys nothing."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
import tomllib
from datetime import timedelta
from pathlib import Path

import pytest

from fedmedlora.provision.authority import belongs_to, describe, is_signed_by
from fedmedlora.provision.keys import check_public, fingerprint, new_key_pair, public_of
from fedmedlora.provision.kit import provision

SITES = ("lakeside", "northgate", "stonebridge")


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def told(lines, what: str) -> dict[str, str]:
    return {line.where: line.why for line in lines if line.what == what}


def test_what_is_in_the_kits(consortium, kits, now):
    lines = provision(consortium, kits, now)
    own = {"ca.crt", "site.toml", "site.pub", "start.sh", "README.md"}
    assert set(contents(kits)) == {
        "authority/ca.crt",
        "authority/ca.key",
        "authority/written.json",
        *(f"coordinator/{name}" for name in ("ca.crt", "server.crt", "server.key", "coordinator.toml")),
        *(f"coordinator/{name}" for name in ("start.sh", "README.md")),
        *(f"coordinator/sites/{site}.pub" for site in SITES),
        *(f"{site}/{name}" for site in SITES for name in own),
        "northgate/site.key",
        "stonebridge/site.key",
    }
    assert {line.what for line in lines} == {"made"}
    assert {line.where for line in lines} == set(contents(kits)) - {"authority/written.json"}


def test_no_private_key_is_where_it_does_not_belong(consortium, kits, now):
    provision(consortium, kits, now)
    found = contents(kits)
    keys = {name: body for name, body in found.items() if b"PRIVATE KEY" in body}
    assert set(keys) == {
        "authority/ca.key",
        "coordinator/server.key",
        "northgate/site.key",
        "stonebridge/site.key",
    }
    for name, key in keys.items():
        secret = key.splitlines()[2]
        assert [other for other, body in found.items() if secret in body] == [name]
    assert len(set(keys.values())) == 4


def test_modes(consortium, kits, now):
    provision(consortium, kits, now)
    for path in [kits, *kits.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() or path.name == "start.sh" else 0o600), path


def test_keys_and_certificates_fit(consortium, kits, now):
    provision(consortium, kits, now)
    ca = (kits / "authority" / "ca.crt").read_bytes()
    certificate = (kits / "coordinator" / "server.crt").read_bytes()
    assert is_signed_by(certificate, ca)
    assert belongs_to(certificate, (kits / "coordinator" / "server.key").read_bytes())
    assert describe(certificate).hosts[:2] == ("coordinator.example", "localhost")
    assert set(describe(certificate).hosts) == {
        "coordinator.example", "192.0.2.7", "localhost", "127.0.0.1", "::1",
    }  # fmt: skip
    for site in SITES:
        assert (kits / site / "ca.crt").read_bytes() == ca
        public = (kits / site / "site.pub").read_bytes()
        assert (kits / "coordinator" / "sites" / f"{site}.pub").read_bytes() == public
        settings = tomllib.loads((kits / site / "site.toml").read_text())
        assert settings["coordinator"]["key_fingerprint"] == fingerprint(public)
        assert settings["coordinator"]["ca_fingerprint"] == describe(ca).fingerprint
    assert (
        public_of((kits / "northgate" / "site.key").read_bytes(), "northgate")
        == (kits / "northgate" / "site.pub").read_bytes()
    )
    # The site's own key, as it was sent.
    sent = (consortium.folder / "lakeside.pub").read_bytes()
    assert (kits / "lakeside" / "site.pub").read_bytes() == sent


def test_site_toml_says_what_the_consortium_says(consortium, kits, now):
    provision(consortium, kits, now)
    found = tomllib.loads((kits / "northgate" / "site.toml").read_text())
    assert (found["name"], found["train"], found["test"]) == ("northgate", "notes/train.jsonl", "")
    assert found["coordinator"]["address"] == "coordinator.example:8000"
    assert found["coordinator"]["proxy"] == "http://proxy.example:3128"
    assert found["allows"] == {"validates_others": True, "max_rank": 8}
    assert found["model"] == {"name": "smollm2-135m"}
    place = tomllib.loads((kits / "coordinator" / "coordinator.toml").read_text())
    assert (place["listen"], place["control"]) == ("0.0.0.0:8000", "127.0.0.1:8001")


def test_hostile_words_stay_words(write_consortium, kits, now):
    name = 'Dr. "O\'Neil" $HOME ${x} \\ # ü'
    text = f"name = {name!r}\n" if '"' not in name else f"name = '''{name}'''\n"
    found = write_consortium(
        text + '[coordinator]\naddress = "c.example:1"\n[[sites]]\nname = "a"\ntrain = \'a"b\\c $d.jsonl\'\n'
    )
    provision(found, kits, now)
    assert tomllib.loads((kits / "a" / "site.toml").read_text())["train"] == 'a"b\\c $d.jsonl'
    tomllib.loads((kits / "coordinator" / "coordinator.toml").read_text())
    assert name in (kits / "a" / "README.md").read_text()
    assert name not in (kits / "a" / "start.sh").read_text()


def test_start_scripts(consortium, kits, now):
    provision(consortium, kits, now)
    for path in kits.rglob("start.sh"):
        assert subprocess.run(["sh", "-n", str(path)], capture_output=True).returncode == 0
        text = path.read_text()
        assert text.startswith("#!/bin/sh\n")
        assert len(text.splitlines()) < 12
        assert "coordinator.example" not in text


@pytest.mark.parametrize("kit", ["lakeside", "northgate", "coordinator"])
def test_a_readme_fits_a_page(consortium, kits, now, kit):
    provision(consortium, kits, now)
    text = (kits / kit / "README.md").read_text()
    assert len(text.splitlines()) <= 60  # lines of a printed page
    assert "$" not in text.replace("$PWD/state/", "")
    (block,) = re.findall(r"```\n(python3.*?|cp .*?)```", text, re.DOTALL)
    assert len(block.splitlines()) == (3 if kit == "coordinator" else 5 if kit == "lakeside" else 4)
    assert ("cp ../site-kit/site.key ." in block) == (kit == "lakeside")


def test_the_commands_of_the_readmes_exist(consortium, kits, now, capsys):
    from fedmedlora.cli import parser

    provision(consortium, kits, now)
    texts = [path.read_text() for path in kits.rglob("README.md")]
    texts += [path.read_text() for path in kits.rglob("start.sh")]
    found = {
        words for text in texts for words in re.findall(r"^(?:\.venv/bin/|exec )fedmedlora (.*)$", text, re.M)
    }
    assert len(found) == 6
    for words in found:
        assert parser().parse_args(words.split()).run is not None


# --- a second time ----------------------------------------------------------------------------------------


def test_a_second_run_changes_nothing(consortium, kits, now):
    provision(consortium, kits, now)
    before = contents(kits)
    lines = provision(consortium, kits, now + timedelta(days=1))
    assert contents(kits) == before
    assert set(told(lines, "kept")) == {
        "authority/ca.key",
        "coordinator/server.key",
        "coordinator/server.crt",
        "northgate/site.key",
        "stonebridge/site.key",
    }
    assert not told(lines, "made")
    assert not told(lines, "changed")


def test_what_is_missing_is_added(write_consortium, consortium_toml, kits, now):
    provision(write_consortium(), kits, now)
    before = contents(kits)
    (kits / "northgate" / "README.md").unlink()
    more = write_consortium(consortium_toml + '[[sites]]\nname = "riverbend"\n')
    lines = provision(more, kits, now)
    made = told(lines, "made")
    assert "northgate/README.md" in made
    assert "riverbend/site.key" in made
    assert "coordinator/sites/riverbend.pub" in made
    after = contents(kits)
    assert {name for name in before if after[name] != before[name]} == {
        "coordinator/README.md",  # lists the new fingerprint
        "authority/written.json",
    }


def test_an_edited_site_toml_is_kept_and_another_one_follows(write_consortium, consortium_toml, kits, now):
    provision(write_consortium(), kits, now)
    edited = kits / "northgate" / "site.toml"
    edited.write_text(edited.read_text().replace("notes/train.jsonl", "/srv/notes/train.jsonl"))
    mine = edited.read_bytes()
    moved = write_consortium(consortium_toml.replace("coordinator.example:8000", "c.example:443"))
    lines = provision(moved, kits, now)
    assert edited.read_bytes() == mine
    assert "edited" in told(lines, "kept")["northgate/site.toml"]
    beside = tomllib.loads((kits / "northgate" / "site.toml.new").read_text())
    assert beside["coordinator"]["address"] == "c.example:443"
    other = tomllib.loads((kits / "stonebridge" / "site.toml").read_text())
    assert other["coordinator"]["address"] == "c.example:443"
    # The certificate must hold for the new address.
    assert "address" in told(lines, "changed")["coordinator/server.crt"]
    assert "c.example" in describe((kits / "coordinator" / "server.crt").read_bytes()).hosts


def test_without_the_record_every_settings_file_counts_as_edited(
    write_consortium, consortium_toml, kits, now
):
    provision(write_consortium(), kits, now)
    (kits / "authority" / "written.json").unlink()
    before = (kits / "stonebridge" / "site.toml").read_bytes()
    moved = write_consortium(consortium_toml.replace("coordinator.example:8000", "c.example:443"))
    lines = provision(moved, kits, now)
    assert (kits / "stonebridge" / "site.toml").read_bytes() == before
    assert "stonebridge/site.toml" in told(lines, "kept")


def test_a_key_that_was_handed_over_is_not_made_again(consortium, kits, now):
    provision(consortium, kits, now)
    (kits / "stonebridge" / "site.key").unlink()
    before = (kits / "stonebridge" / "site.pub").read_bytes()
    lines = provision(consortium, kits, now)
    assert "not made again" in told(lines, "note")["stonebridge/site.key"]
    assert not (kits / "stonebridge" / "site.key").exists()
    assert (kits / "stonebridge" / "site.pub").read_bytes() == before
    (kits / "coordinator" / "sites" / "stonebridge.pub").unlink()
    provision(consortium, kits, now)
    assert (kits / "stonebridge" / "site.pub").read_bytes() != before


def test_a_site_that_sends_a_new_key(consortium, kits, now):
    provision(consortium, kits, now)
    pair = new_key_pair("lakeside")
    (consortium.folder / "lakeside.pub").write_bytes(pair.public)
    lines = provision(consortium, kits, now)
    assert "withdraws the old one for good" in told(lines, "note")["coordinator/sites/lakeside.pub"]
    assert (kits / "coordinator" / "sites" / "lakeside.pub").read_bytes() == pair.public
    settings = tomllib.loads((kits / "lakeside" / "site.toml").read_text())
    assert settings["coordinator"]["key_fingerprint"] == fingerprint(pair.public)


def test_a_site_that_is_no_longer_there_is_noted(write_consortium, consortium_toml, kits, now):
    provision(write_consortium(), kits, now)
    fewer = consortium_toml.removesuffix('[[sites]]\nname = "stonebridge"\n')
    lines = provision(write_consortium(fewer), kits, now)
    assert "remove the file" in told(lines, "note")["coordinator/sites/stonebridge.pub"]
    assert (kits / "coordinator" / "sites" / "stonebridge.pub").exists()


def test_renewal_keeps_the_authority_and_the_key(consortium, kits, now):
    provision(consortium, kits, now)
    before = contents(kits)
    later = now + timedelta(days=100)
    lines = provision(consortium, kits, later, renew=True)
    assert told(lines, "changed")["coordinator/server.crt"] == "renewed"
    after = contents(kits)
    assert {name for name in before if before[name] != after[name]} == {
        "coordinator/server.crt",
        "coordinator/README.md",  # says when it ends
    }
    assert is_signed_by(after["coordinator/server.crt"], before["authority/ca.crt"])
    assert describe(after["coordinator/server.crt"]).ends == later + timedelta(days=365)


def test_a_certificate_that_ends_soon_is_noted_and_one_that_has_ended_is_renewed(consortium, kits, now):
    provision(consortium, kits, now)
    assert not told(provision(consortium, kits, now + timedelta(days=334)), "note")
    noted = told(provision(consortium, kits, now + timedelta(days=336)), "note")
    assert "--renew" in noted["coordinator/server.crt"]
    changed = told(provision(consortium, kits, now + timedelta(days=365)), "changed")
    assert "ended" in changed["coordinator/server.crt"]


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["ca.key", "ca.crt"])
def test_half_an_authority_is_refused(consortium, kits, now, lost):
    provision(consortium, kits, now)
    (kits / "authority" / lost).unlink()
    with pytest.raises(ValueError, match="Bring it back"):
        provision(consortium, kits, now)


def test_an_authority_of_two_halves_is_refused(consortium, kits, now):
    provision(consortium, kits, now)
    (kits / "authority" / "ca.key").write_bytes((kits / "coordinator" / "server.key").read_bytes())
    with pytest.raises(ValueError, match="not the key of"):
        provision(consortium, kits, now)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), (b"hello", "begins with 'hello'"), ("private", "must never leave its site")],
)
def test_a_public_key_that_is_none(consortium, kits, now, content, message):
    path = consortium.folder / "lakeside.pub"
    path.unlink()
    if content is not None:
        path.write_bytes(new_key_pair().private if content == "private" else content)
    with pytest.raises(ValueError, match=rf"lakeside public_key: .*{message}"):
        provision(consortium, kits, now)
    assert not kits.exists()


def test_one_key_for_two_sites_is_refused(write_consortium, consortium_toml, kits, now):
    twice = consortium_toml.replace(
        'name = "northgate"\n', 'name = "northgate"\npublic_key = "lakeside.pub"\n'
    )
    with pytest.raises(ValueError, match="sites lakeside and northgate have the same public key"):
        provision(write_consortium(twice), kits, now)
    assert not kits.exists()


def test_one_key_for_two_sites_of_an_earlier_run_changes_nothing(consortium, kits, now):
    """Somebody copied a kit over another one; the next run would register the key for both."""
    provision(consortium, kits, now)
    shutil.copy(kits / "northgate" / "site.key", kits / "stonebridge" / "site.key")
    (kits / "coordinator" / "server.crt").unlink()
    before = contents(kits)
    with pytest.raises(ValueError, match="sites northgate and stonebridge have the same public key"):
        provision(consortium, kits, now, renew=True)
    assert contents(kits) == before


def test_a_private_key_that_is_none_changes_nothing(consortium, kits, now):
    provision(consortium, kits, now)
    (kits / "stonebridge" / "site.key").write_bytes(b"hello")
    (kits / "coordinator" / "server.crt").unlink()
    before = contents(kits)
    with pytest.raises(ValueError, match=r"stonebridge/site\.key: not an OpenSSH private key"):
        provision(consortium, kits, now)
    assert contents(kits) == before


def test_public_keys_carry_the_site_s_name(consortium, kits, now):
    provision(consortium, kits, now)
    for site in SITES:
        public = (kits / "coordinator" / "sites" / f"{site}.pub").read_bytes()
        assert check_public(public, site) == public
