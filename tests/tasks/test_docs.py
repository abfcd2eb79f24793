import doctest
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "tasks.md"


def test_the_page_on_tasks_says_what_happens() -> None:
    failed, attempted = doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8")
    assert attempted > 10
    assert failed == 0


def test_the_page_names_every_reason() -> None:
    from fedmedlora.tasks import markup
    from fedmedlora.tasks.kinds import modifiers

    page = PAGE.read_text(encoding="utf-8")
    reasons = (*markup.REASONS, modifiers.ACROSS, modifiers.NOT_HELD, modifiers.UNLINKED, "crosses sentences")
    assert [reason for reason in reasons if reason not in page] == []
