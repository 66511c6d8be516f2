"""Reads a page of ours as a browser would, and fails where it is not well formed."""

from html.parser import HTMLParser

VOID = {"meta", "img", "br", "wbr", "rect", "line", "path", "circle"}


class Page(HTMLParser):
    """Reads a page, and fails where its tags do not nest."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.open, self.texts, self.data = [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        assert tag not in VOID
        self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs)
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.data += [float(value) for name, value in attrs if tag == "data" and name == "value"]

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "title"):
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def read(path):
    return Page(path.read_text(encoding="utf-8"))
