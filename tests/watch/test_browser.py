"""The page in a real browser, over the real server: it keeps itself up to date, and asks nobody else."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from browser import BROWSER
from html_reader import HOSTILE
from made_up_watch import live_record, round_record, write_run, write_state

from fedmedlora.live_record import utc_now
from fedmedlora.watch import page
from fedmedlora.watch.reading import find, read_status
from fedmedlora.watch.server import Server

pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no chromium on this machine: the page is not looked at in a browser"
)

ROWS = "document.querySelectorAll('[aria-labelledby=finished-caption] tbody tr').length"
TOLD = "document.querySelector('.told').textContent"
# WCAG 2.2, 1.4.3: every text against the nearest ground under it; those below 4.5 to 1.
FAINT = """(() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (one) => {
    for (; one; one = one.parentElement) {
      const found = parts(getComputedStyle(one).backgroundColor);
      if (found.length === 3 || found[3] === 1) return found;
    }
    throw new Error("no ground");
  };
  const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const faint = [];
  let num = 0;
  while (words.nextNode()) {
    const one = words.currentNode.parentElement;
    if (!words.currentNode.data.trim() || one.closest("script, style, title, desc, [hidden]")) continue;
    const style = getComputedStyle(one);
    const ink = light(parts(one.closest("svg") ? style.fill : style.color));
    const under = light(ground(one));
    num += 1;
    if ((Math.max(ink, under) + 0.05) / (Math.min(ink, under) + 0.05) < 4.5) faint.push(one.outerHTML);
  }
  return [num, faint];
})()"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from devtools import Devtools

    with Devtools(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture
def watched(tmp_path, browser):
    """``watched(live, rounds)`` writes how the run stands; ``watched.address`` shows it."""
    browser.requests.clear()
    browser.complaints.clear()

    def write(live, rounds) -> None:
        run = write_run(tmp_path / "out", {"fed_medlora": rounds})
        write_state(tmp_path / "state", run, replace(live, written_utc=utc_now()))

    write(live_record(), [round_record(1)])
    with Server(0, lambda: read_status(find(tmp_path / "state"))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        write.address, write.server = server.address, server
        yield write
        browser.call("Page.navigate", url="about:blank")
        server.shutdown()
        thread.join()


def test_a_round_finishes_without_a_reload(browser, watched):
    browser.size(1200)
    browser.open(watched.address)
    browser.until(f"{ROWS} === 1")
    browser.js("window.since = 'the beginning'; document.querySelector('details').open = true")
    browser.js("document.querySelector('[aria-labelledby=finished-caption]').focus()")
    assert "round 2 of 3: training, heard from 2 of 3." in browser.js(TOLD)
    watched(live_record(round_num=3), [round_record(1), round_record(2)])
    browser.until(f"{ROWS} === 2")
    assert "round 3 of 3: training" in browser.js(TOLD)
    # The same document: what the reader has opened, and where they are, stays.
    assert browser.js("window.since") == "the beginning"
    assert browser.js("document.querySelector('details').open") is True
    assert browser.js("document.activeElement.getAttribute('aria-labelledby')") == "finished-caption"
    assert "Round 2" not in browser.js("document.title")
    # And it asked nobody but its server, for nothing but these.
    own = {watched.address, f"{watched.address}status.json"}
    assert {one for one in browser.requests if not one.startswith("data:")} == own
    assert browser.complaints == []


def test_it_says_that_nobody_answers_and_recovers(browser, watched):
    browser.open(watched.address)
    browser.until("document.getElementById('lost').hidden")
    read, watched.server.read = watched.server.read, lambda: {}["no answer at all"]
    browser.until("!document.getElementById('lost').hidden")
    assert "does not answer" in browser.js("document.getElementById('lost').innerText")
    watched.server.read = read
    browser.until("document.getElementById('lost').hidden")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1200])
def test_it_fits_and_can_be_read(browser, watched, width, scheme):
    stopped = live_record(stage="stopped", reason="round 2: 1 of 3 sites sent an update; go on with --resume")
    for live in (live_record(), stopped):
        watched(live, [round_record(number) for number in (1, 2)])
        browser.size(width, 900, scheme)
        browser.open(watched.address)
        browser.js("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert browser.js("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
        num, faint = browser.js(FAINT)
        assert num > 100
        assert faint == []
    ground = browser.js("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(247, 247, 245)" if scheme == "light" else "rgb(17, 20, 24)")
    assert browser.complaints == []


def test_hostile_words_run_nowhere(browser, watched, hostile):
    watched.server.read = lambda: hostile
    browser.open(watched.address)
    browser.until("document.querySelectorAll('tbody tr').length > 4")
    browser.js("window.alerted = false; window.alert = () => { window.alerted = true; }")
    watched.server.read = lambda: replace(hostile, round_num=3)
    browser.until(f"{TOLD}.includes('round 3')")
    assert browser.js("window.alerted") is False
    assert browser.js("document.scripts.length") == 1
    assert browser.js("document.querySelector('h1').textContent").startswith("<script>alert(1)</script>")
    assert HOSTILE not in browser.js("document.documentElement.outerHTML")
    assert browser.complaints == []


def test_the_policy_is_in_force(browser, watched):
    """A script that got into the page all the same would not run, and could ask nobody."""
    browser.open(watched.address)
    browser.js(
        "(() => { const one = document.createElement('script'); one.textContent = 'window.ran = true';"
        " document.body.append(one); })()"
    )
    assert browser.js("window.ran === undefined")
    told = "fetch('http://127.0.0.1:1/').then(() => 'sent', (error) => 'refused')"
    assert browser.js(told) == "refused"
    assert not [one for one in browser.requests if ":1/" in one]
    assert any("Content Security Policy" in one for one in browser.complaints)


def test_without_javascript_it_loads_itself_anew(browser, watched, monkeypatch):
    monkeypatch.setattr(page, "RELOAD_S", 1)
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(watched.address)
        assert browser.js(ROWS) == 1
        watched(live_record(round_num=3), [round_record(1), round_record(2)])
        browser.until(f"{ROWS} === 2")
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
    assert f"{watched.address}status.json" not in browser.requests


def test_it_is_read_by_the_keyboard(browser, watched):
    browser.size(400)
    browser.open(watched.address)
    seen = []
    for _ in range(12):
        for kind in ("rawKeyDown", "keyUp"):
            browser.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        seen.append(browser.js("document.activeElement.textContent.trim().slice(0, 20)"))
    assert seen[0] == "Skip to the content"
    assert seen[1:4] == ["Now", "Sites", "Rounds"]
    assert any(one.startswith("Every site") for one in seen)
    assert browser.js("getComputedStyle(document.activeElement).outlineStyle") != "none"
