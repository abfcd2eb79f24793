"""In the terminal: what is printed, and what a hostile site cannot do to it."""

import io
import json
import os
import threading

import pytest
from html_reader import HOSTILE
from made_up_watch import NOW, live_record, round_record, write_run, write_state
from rich.console import Console

from fedmedlora.cli import main
from fedmedlora.live_record import utc_now
from fedmedlora.watch import show
from fedmedlora.watch.show import show_status
from fedmedlora.watch.terminal import status_text


def printed(status, width=80, others=()) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(status_text(status, NOW, others))
    return stream.getvalue()


@pytest.fixture
def status(state):
    from fedmedlora.watch.reading import find, read_status

    return read_status(find(state), NOW)


def test_what_it_says(status):
    text = printed(status, others=("another-0123456789ab",))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[:2] == ["Three hospitals", "fed_medlora, round 2 of 3: training, heard from 2 of 3."]
    assert "lakeside answered 0.25 3.0 kB 4.0 kB 0 0" in lines
    assert "riverbend refused – 0 bytes 0 bytes 1 2" in lines
    assert "riverbend: not at night" in lines
    assert "1 2 1.750 0.500 0.625 2 min 00 s" in lines
    assert "round 1 without riverbend: no answer after 90 s" in lines
    assert "Other runs here: another-0123456789ab" in lines
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_hostile_site_steers_no_terminal(hostile, width):
    text = printed(hostile, width)
    for character in ("\x00", "\x1b", "\u202e", "\ud800", "\u200b"):
        assert character not in text
    assert all(line.isprintable() for line in text.splitlines())
    assert "[U+001B]" in printed(hostile, 400)


def test_words_are_no_markup(status):
    from dataclasses import replace

    assert "[bold red]x[/]" in printed(replace(status, study="[bold red]x[/]"))


# --- the command ----------------------------------------------------------------------------------------


def test_json_is_one_line(state, capsys):
    assert main(["watch", str(state), "--json"]) == 0
    out = capsys.readouterr().out
    assert (out.count("\n"), out[-1]) == (1, "\n")
    found = json.loads(out)
    assert (found["format"], found["version"], found["study"]) == ("fedmedlora-status", 1, "Three hospitals")
    assert [site["name"] for site in found["sites"]] == ["lakeside", "northgate", "riverbend"]
    assert found["rounds"][0]["absent"] == [{"site": "riverbend", "reason": "no answer after 90 s"}]


def test_json_of_a_hostile_site_is_one_line_too(tmp_path, capsys):
    from dataclasses import replace

    live = live_record()
    live = replace(live, sites=(replace(live.sites[0], reason=HOSTILE),))
    state = write_state(tmp_path / "state", tmp_path / "out", None)
    (state / "three-hospitals-0123456789ab" / "live.json").write_text(json.dumps(live.to_json()))
    assert main(["watch", str(tmp_path / "state"), "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert out.isascii()
    assert json.loads(out)["sites"][0]["reason"].startswith("<script>")


def test_what_is_no_run_is_exit_2(tmp_path, capsys):
    assert main(["watch", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "holds no run; give the coordinator's state folder" in said.err


def test_without_a_terminal_it_is_printed_once(state, capsys):
    assert main(["watch", str(state)]) == 0
    assert capsys.readouterr().out.count("Three hospitals") == 1


def test_in_a_terminal_it_is_followed_until_the_run_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(show, "EVERY_S", 0.05)
    run = write_run(tmp_path / "out", {"fed_medlora": [round_record(1)]})
    state = write_state(tmp_path / "state", run, live_record(written_utc=utc_now()))
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100, height=50, color_system=None)
    followed = threading.Thread(
        target=show_status, args=(state,), kwargs={"follow": True, "console": console}
    )
    followed.start()
    followed.join(0.3)
    assert followed.is_alive()
    write_state(state, run, live_record(stage="finished"))
    followed.join(20)
    assert not followed.is_alive()
    assert "training, heard from 2 of 3" in stream.getvalue()
    assert "Finished: 1 round." in stream.getvalue()


def test_a_run_folder_is_watched_too(state, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("FEDMEDLORA_STATE", raising=False)
    assert main(["watch", str(tmp_path / "out"), "--once"]) == 0
    assert "Nobody tells what goes on here now; 1 round finished." in " ".join(
        capsys.readouterr().out.split()
    )
    assert "FEDMEDLORA_STATE" not in os.environ
