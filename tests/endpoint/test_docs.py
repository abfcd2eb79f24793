"""The page on chat models says what happens, against the server of the tests."""

from __future__ import annotations

import doctest
from pathlib import Path

from fedmedlora.endpoint.reader import MAX_FAILURES_IN_A_ROW
from fedmedlora.endpoint.settings import reference_page

PAGE = Path(__file__).parents[2] / "docs" / "endpoint.md"


def test_the_page_says_what_happens(server, ask, reply, answer_text):
    server.answer = lambda body: reply(answer_text(("problem", "rash")))
    given = {"url": server.url, "examples": [ask("No rash")]}
    page = PAGE.read_text(encoding="utf-8")
    test = doctest.DocTestParser().get_doctest(page, given, "docs/endpoint.md", None, 0)
    output: list[str] = []
    failed, attempted = doctest.DocTestRunner().run(test, out=output.append)
    assert attempted > 5
    assert not failed, "".join(output)
    [(_, headers, _)] = server.requests
    assert len(headers) + 1 == 6  # the key comes on top
    assert "six headers" in page
    assert f"{MAX_FAILURES_IN_A_ROW} failures in a row" in page


def test_the_table_is_the_settings_own():
    # If this fails, paste what endpoint.settings.reference_page() gives into docs/endpoint.md.
    assert reference_page() in PAGE.read_text(encoding="utf-8")
