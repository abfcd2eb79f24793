"""Every element of a page, with the elements it stands in."""

from html.parser import HTMLParser

VOID = {"meta", "link", "br", "hr"}
HOSTILE = "<script>alert(1)</script>\"'&\x00\x1b[31m\u202e\ud800\u200b"


class Reader(HTMLParser):
    """Every element with its attributes; complains about what is not closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.elements, self.texts = [], [], []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag):
        return [attrs for name, attrs, _ in self.elements if name == tag]


def read(page):
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader
