import doctest
import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "evaluation.md"


def test_the_page_says_what_the_code_does():
    """One namespace from top to bottom, as a reader would type it."""
    page = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```pycon\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert len(blocks) == page.count("```pycon") == 9
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "docs/evaluation.md", None, 0)
    output: list[str] = []
    failed, attempted = doctest.DocTestRunner().run(test, out=output.append)
    assert failed == 0, "".join(output)
    assert attempted > 30
