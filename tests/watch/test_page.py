import re
from dataclasses import replace

import pytest
from html_reader import HOSTILE, read
from made_up_watch import NOW, SETTINGS, live_record, round_record

from fedmedlora.watch.page import page, policy
from fedmedlora.watch.status import NOTHING_YET, Finished, status_of

ROUNDS = Finished(SETTINGS, {"fed_medlora": [round_record(1)], "single_site-lakeside": [round_record(1)]}, {})


def text_of(status, now=NOW):
    shown = re.sub(r"<(script|style)>.*?</\1>", "", page(status, now), flags=re.S)
    return " ".join(" ".join(read(shown).texts).split())


def test_what_it_says():
    text = text_of(status_of(live_record(), ROUNDS, NOW))
    for words in (
        "live fed_medlora, round 2 of 3: training, heard from 2 of 3.",
        "Since 2026-11-29 13:59:00 UTC ( 60 s ago )",
        "Rounds finished 2 of 12",
        "Sites connected 3 of 3",
        "Traffic 12.0 kB 4.0 kB up, 8.0 kB down",
        "Validation loss 0.500 fed_medlora, round 1",
        "Entities, strict F1 0.625",
        "riverbend : refused: not at night",
        "fed_medlora at work 1 of 3",
        "northgate connected, asked 0.75 1.0 kB 4.0 kB 2 0 0",
        "riverbend connected, refused not at night – 0 bytes 0 bytes 0 2 2",
        "fed_medlora 1 2 sites riverbend : no answer after 90 s 1.750 0.500 0.625 2.0 kB 4.0 kB 2 min 00 s",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("live", "words"),
    [
        (live_record(stage="waiting for sites"), "live Waiting for sites: 3 of 3 connected."),
        (live_record(stage="aggregating"), "live fed_medlora, round 2 of 3: aggregating."),
        (
            live_record(stage="reading tests", round_num=0, doing="Zero-shot: reads saltmarsh"),
            "live fed_medlora: reading tests. Since 2026-11-29 13:59:00 UTC ( 60 s ago ). "
            "At hand: Zero-shot: reads saltmarsh .",
        ),
        (live_record(stage="finished"), "finished Finished: 2 rounds."),
        (live_record(stage="stopped", reason="too few sites"), "stopped Stopped: too few sites"),
        (
            live_record(written_utc="2026-11-29T13:50:00Z"),
            "silent No sign of life since 2026-11-29 13:50:00 UTC. It was at: fed_medlora, round 2 of 3: "
            "training.",
        ),
        (None, "not live Nobody tells what goes on here now; 2 rounds finished."),
    ],
)
def test_how_it_stands(live, words):
    assert words in text_of(status_of(live, ROUNDS, NOW))


def test_nothing_yet_and_nothing_readable():
    assert "No site is known yet." in text_of(status_of(None, NOTHING_YET, NOW))
    shown = page(None, NOW, f"damaged {HOSTILE}")
    assert "The run&#39;s files cannot be read: damaged &lt;script&gt;" in shown
    assert HOSTILE not in shown


def test_who_is_connected_needs_no_attention():
    live = live_record()
    calm = replace(live, sites=live.sites[:2])
    assert 'class="notice"><ul' not in page(status_of(calm, NOTHING_YET, NOW), NOW)
    gone = replace(live, sites=(replace(live.sites[0], is_connected=False),))
    text = text_of(status_of(gone, NOTHING_YET, NOW))
    assert "lakeside : not connected, last seen 2 s ago" in text
    assert "not connected, answered last seen 2 s ago" in text


def test_hostile_words_stay_words(hostile):
    shown = page(hostile, NOW)
    found = read(re.sub(r"<(script|style)>.*?</\1>", "", shown, flags=re.S))
    assert len(re.findall("<script", shown)) == 1
    for character in ("\x00", "\x1b", "\u202e", "\ud800", "\u200b"):
        assert character not in shown
    assert shown.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 10
    shown.encode("utf-8")
    for _, attributes, _ in found.elements:
        assert not any(key.startswith("on") or key in ("src", "style", "srcset") for key in attributes)
        assert attributes.get("href", "#").startswith(("#", "data:,", "/status.json", "/metrics"))


def test_it_loads_nothing_but_itself(hostile):
    shown = page(hostile, NOW)
    found = read(shown)
    assert not {name for name, _, _ in found.elements} & {"img", "iframe", "object", "form", "base", "video"}
    assert "url(" not in shown
    assert "@import" not in shown
    assert "http" not in shown.replace("http-equiv", "")
    assert [attrs for attrs in found.all("script") if attrs] == []


def test_the_policy_names_exactly_what_the_page_holds():
    import base64
    import hashlib

    shown = page(status_of(live_record(), ROUNDS, NOW), NOW)
    for kind, name in (("script-src", "script"), ("style-src", "style")):
        (content,) = re.findall(rf"<{name}>(.*?)</{name}>", shown, re.S)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}';" in policy()
    assert policy().startswith("default-src 'none'; ")
    assert "unsafe" not in policy()


def test_semantics():
    found = read(page(status_of(live_record(), ROUNDS, NOW), NOW))
    ids = [attrs["id"] for _, attrs, _ in found.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    for _, attrs, _ in found.elements:
        for target in attrs.get("aria-labelledby", "").split():
            assert target in ids
        if attrs.get("href", "").startswith("#"):
            assert attrs["href"][1:] in ids
    assert [attrs["lang"] for attrs in found.all("html")] == ["en"]
    assert len(found.all("h1")) == len(found.all("main")) == 1
    assert len(found.all("table")) == len(found.all("caption")) == 4
    assert all("scope" in attrs for attrs in found.all("th"))
    assert found.all("a")[0]["class"] == "skip"
    told = [attrs for attrs in found.all("p") if attrs.get("role") == "status"]
    assert [attrs["aria-live"] for attrs in told] == ["polite"]
    times = [parents for name, _, parents in found.elements if name == "time"]
    assert times
    assert all("header" in parents or "td" in parents or "main" in parents for parents in times)
    (refresh,) = [parents for name, attrs, parents in found.elements if attrs.get("http-equiv") == "refresh"]
    assert "noscript" in refresh


def test_many_rounds_are_cut():
    rounds = [round_record(number) for number in range(1, 251)]
    shown = page(status_of(live_record(), Finished(SETTINGS, {"fed_medlora": rounds}, {}), NOW), NOW)
    assert "The last 200; the report has them all." in shown
    (table,) = re.findall(r'id="finished-caption".*?</table>', shown, re.S)
    numbers = re.findall(r'class="words">(\d+)</td><td class="words">2 sites', table)
    assert (numbers[0], numbers[-1], len(numbers)) == ("250", "51", 200)
