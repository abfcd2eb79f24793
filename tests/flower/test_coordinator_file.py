"""``coordinator.toml`` and the programs that are made of it and of ``site.toml``."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from datetime import UTC, datetime, timedelta

import pytest

pytest.importorskip("flwr", reason="flwr is not installed: pip install 'fedmedlora[flower]'")

from fedmedlora.flower import coordinator
from fedmedlora.flower.campaign import run_beside
from fedmedlora.flower.coordinator import (
    _Registering,
    coordinator_environment,
    flower_config,
    refuse_credentials,
    start_coordinator,
    stop_coordinator,
    superlink,
)
from fedmedlora.flower.coordinator_file import CoordinatorFile, load_coordinator_file
from fedmedlora.flower.join import site_environment, start_site, supernode
from fedmedlora.flower.registry import Node
from fedmedlora.flower.site_file import load_site_file
from fedmedlora.provision.consortium import Consortium, CoordinatorPlace, Member
from fedmedlora.provision.keys import new_key_pair, to_pem
from fedmedlora.provision.kit import provision
from fedmedlora.run_folder import write_json
from fedmedlora.study import load_study
from fedmedlora.study_public import public_settings

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
CONSORTIUM = Consortium(
    "Two hospitals",
    coordinator=CoordinatorPlace("coordinator.example:8000"),
    sites=(Member("lakeside"), Member("northgate", proxy="http://proxy.example:3128")),
)
SMALL = 'address = "c.example:8000"\nlisten = "0.0.0.0:8000"\ncontrol = "127.0.0.1:8001"\n'


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kits")
    provision(CONSORTIUM, folder, NOW)
    return folder


@pytest.fixture
def kits(made, tmp_path):
    shutil.copytree(made, tmp_path / "kits")
    return tmp_path / "kits"


@pytest.fixture
def file(kits) -> CoordinatorFile:
    return load_coordinator_file(kits / "coordinator" / "coordinator.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "address: missing"),
        (SMALL.replace("c.example:8000", "c.example"), "address: address 'c.example' has no port"),
        (SMALL.replace("127.0.0.1:8001", "0.0.0.0:8001"), "could be reached from other machines"),
        (SMALL.replace("127.0.0.1:8001", "c.example:8001"), "could be reached from other machines"),
        (SMALL.replace("8001", "8000"), "has the port of listen"),
        (SMALL + 'databse = "x"\n', "unknown key"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, text, message):
    (tmp_path / "coordinator.toml").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_coordinator_file(tmp_path / "coordinator.toml")


def test_superlink_s_command(file):
    words = superlink(file, {"PATH": "/usr/bin"}).command
    assert "--enable-supernode-auth" in words
    assert "--disable-runtime-dependency-installation" in words
    assert "--insecure" not in words
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert words[words.index("--port") + 1] == "8001"
    assert words[words.index("fedmedlora.flower.superlink") + 1] == "0.0.0.0:8000"
    assert words[words.index("--database") + 1] == str(file.path("state") / "superlink.db")


def test_nothing_of_flower_s_lies_in_a_home(file, kits):
    found = coordinator_environment(file, {"PATH": "/usr/bin", "HTTPS_PROXY": "http://p:1"})
    assert found["FLWR_HOME"] == str(kits / "coordinator" / "state" / "flwr")
    assert found["FEDMEDLORA_STATE"] == str(kits / "coordinator" / "state" / "studies")
    assert found["FLWR_TELEMETRY_ENABLED"] == "0"
    assert found["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert "127.0.0.1" in found["NO_PROXY"]
    assert "address = '127.0.0.1:8001'" in flower_config(file)
    assert f"root-certificates = '{kits / 'coordinator' / 'ca.crt'}'" in flower_config(file)


def test_supernode_s_command(kits):
    path = kits / "northgate" / "site.toml"
    words = supernode(load_site_file(path), path, {}, 9094).command
    assert words[1:6] == (
        "-P",
        "-m",
        "fedmedlora.flower.site_program",
        "--site",
        str(path),
    )  # never the bare one
    assert words[words.index("--superlink") + 1] == "coordinator.example:8000"
    assert words[words.index("--root-certificates") + 1] == str(kits / "northgate" / "ca.crt")
    assert words[words.index("--auth-supernode-private-key") + 1] == str(kits / "northgate" / "site.key")
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert "--insecure" not in words
    assert not [word for word in words if "runtime-dependency-installation" in word]


def test_what_a_site_s_programs_see(kits):
    ours = {"PATH": "/usr/bin", "https_proxy": "http://other:1", "HTTP_PROXY": "http://other:1", "LANG": "C"}
    found = site_environment(load_site_file(kits / "northgate" / "site.toml"), ours)
    # The one way out is the one that `site check` looked at.
    assert {name: value for name, value in found.items() if "proxy" in name.lower()} == {
        "HTTPS_PROXY": "http://proxy.example:3128",
        "NO_PROXY": "127.0.0.1,localhost,::1",
    }
    assert found["LANG"] == "C"
    assert found["FLWR_HOME"] == str(kits / "northgate" / "state" / "flwr")
    assert (found["FLWR_TELEMETRY_ENABLED"], found["FLWR_DISABLE_UPDATE_CHECK"]) == ("0", "1")
    assert found["HF_HUB_OFFLINE"] == "1"
    found = site_environment(load_site_file(kits / "lakeside" / "site.toml"), ours | {"HF_HUB_OFFLINE": "0"})
    assert "HTTPS_PROXY" not in found
    assert found["HF_HUB_OFFLINE"] == "0"


def test_credentials_that_fit(file):
    refuse_credentials(file, NOW)
    refuse_credentials(file, NOW - timedelta(minutes=59))  # a clock that is behind
    key = file.path(file.key)
    key.chmod(0o644)
    with pytest.raises(ValueError, match=r"server\.key: others may read it"):
        refuse_credentials(file, NOW)
    key.chmod(0o600)


def test_credentials_that_do_not(file, kits):
    with pytest.raises(ValueError, match="correct the clock"):
        refuse_credentials(file, NOW + timedelta(days=365))
    with pytest.raises(ValueError, match="correct the clock"):
        refuse_credentials(file, NOW - timedelta(minutes=61))
    folder = kits / "coordinator"
    (folder / "coordinator.toml").write_text(SMALL)
    with pytest.raises(ValueError, match=r"does not hold for c.example, but for coordinator.example"):
        refuse_credentials(load_coordinator_file(folder / "coordinator.toml"), NOW)
    (folder / "server.key").write_bytes((kits / "authority" / "ca.key").read_bytes())
    with pytest.raises(ValueError, match=r"not the certificate of server\.key"):
        refuse_credentials(file, NOW)
    (folder / "ca.crt").write_bytes((folder / "server.crt").read_bytes())
    with pytest.raises(ValueError, match=r"not signed by ca\.crt"):
        refuse_credentials(file, NOW)
    (folder / "server.crt").unlink()
    with pytest.raises(ValueError, match=r"server.crt: No such file"):
        refuse_credentials(file, NOW)


def test_one_coordinator_at_a_time(file):
    from filelock import FileLock

    assert not stop_coordinator(file)
    file.path("state").mkdir()
    assert not stop_coordinator(file)
    provisioned_now = file.folder.parent
    provision(CONSORTIUM, provisioned_now, datetime.now(UTC), renew=True)
    with (
        FileLock(file.path("state") / "coordinator.lock"),
        pytest.raises(ValueError, match="is running already"),
    ):
        start_coordinator(file, print)


def test_a_site_starts_with_its_credentials_in_order_only(kits):
    path = kits / "lakeside" / "site.toml"
    with pytest.raises(
        ValueError, match=r"training notes: .*train.jsonl: there is no such file; put annotated"
    ):
        start_site(path, print)
    (kits / "lakeside" / "site.key").chmod(0o644)
    with pytest.raises(ValueError, match=r"other accounts may read .* chmod 600"):
        start_site(path, print)
    (kits / "lakeside" / "site.key").unlink()
    with pytest.raises(ValueError, match=r"key: .* not there"):
        start_site(path, print)
    path.write_text('name = "lakeside"\ntrain = "train.jsonl"\n')
    with pytest.raises(ValueError, match=r"\[coordinator\] address: missing"):
        start_site(path, print)


def test_a_study_beside_it_is_looked_at_before_anything_is_started(file, two_hospitals, tmp_path):
    def begin(other: str, rounds: int):
        path = tmp_path / "study.toml"
        path.write_text(two_hospitals(other, rounds))
        study = load_study(path, sites_are_here=False)
        work = run_beside(
            file, path, study, tmp_path / "run", print, lambda results: None, wait_s=1.0, command=()
        )
        return study, work

    begin("northgate", 2)
    with pytest.raises(
        ValueError, match=r"study.toml and sites/: there is no key of southgate, only of lakes"
    ):
        begin("southgate", 2)
    study, _ = begin("northgate", 3)
    (tmp_path / "run").mkdir()
    write_json(
        tmp_path / "run" / "run.json",
        {"study_hash": study.study_hash(), "settings": public_settings(study), "fedmedlora": "0.0.9"},
    )
    with pytest.raises(
        ValueError, match=r"differs in training.rounds, and was made by fedmedlora 0.0.9\); name"
    ):
        begin("northgate", 2)
    # What was begun goes on without a hospital that has left for good.
    file.path("sites/northgate.pub").unlink()
    begin("northgate", 3)
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(ValueError, match=r"run.json: damaged .*remove it$"):
        begin("northgate", 3)


def test_one_key_that_cannot_be_used_keeps_no_coordinator_from_starting(file):
    (file.path("sites") / "northgate.pub").write_bytes(b"hello")
    assert list(coordinator._usable(file)) == ["lakeside"]
    (file.path("sites") / "lakeside.pub").write_bytes(b"hello")
    with pytest.raises(ValueError, match=r"lakeside\.pub: begins with 'hello'"):
        coordinator._usable(file)


def test_a_key_that_cannot_be_read_is_told_once_and_the_others_are_registered(file, monkeypatch):
    """SuperLink's side is written down here; what becomes of the folder is the coordinator's own."""
    folder, told, done = file.path("sites"), [], []
    northgate = to_pem((folder / "northgate.pub").read_bytes())
    known = (Node(1, "northgate", northgate, "online"),)
    monkeypatch.setattr(coordinator, "list_nodes", lambda file: known)
    monkeypatch.setattr(coordinator, "apply", lambda file, wanted, sites: done.append(wanted))
    looking = _Registering(file, told.append, itertools.count(0.0, 100.0).__next__)
    kept = (folder / "northgate.pub").read_bytes()
    (folder / "northgate.pub").unlink()
    (folder / "northgate.pub").mkdir()  # it cannot be read, whoever runs the tests
    for _ in range(3):
        looking.look()
    assert [(one.register, one.withdraw) for one in done] == [(("lakeside",), ())]  # nobody loses a key
    assert ["SuperLink is up; 1 sites: lakeside" in told[0], "northgate.pub: cannot be read" in told[1]] == [
        True,
        True,
    ]
    assert len(told) == 2
    # A new site comes while the fault lasts, and then it is mended.
    (folder / "mercy.pub").write_bytes(new_key_pair("mercy").public)
    looking.look()
    assert "mercy" in done[1].register
    (folder / "northgate.pub").rmdir()
    (folder / "northgate.pub").write_bytes(kept)
    looking.look()
    assert "3 sites: lakeside, mercy, northgate" in told[-1]
    (folder / "mercy.pub").write_bytes(b"hello")
    looking.look()
    assert "mercy.pub: begins with 'hello'" in told[-1]


def test_a_port_that_is_taken_is_told(file):
    import socket

    from fedmedlora.flower.superlink import bound
    from fedmedlora.provision.address import Address

    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(SystemExit, match=f"{address}: cannot listen there"):
            bound(address)


def test_the_leash_becomes_the_program():
    import sys

    done = subprocess.run(
        [sys.executable, "-m", "fedmedlora.flower.leash", "sh", "-c", "exit 7"], capture_output=True
    )
    assert done.returncode == 7
