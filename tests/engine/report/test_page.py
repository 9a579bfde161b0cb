"""The page: whole, self-contained, safe with any text."""

import base64
from html.parser import HTMLParser

from duetto.report.page import Fact, Picture, Table, render_page


class Reader(HTMLParser):
    """Collects tags that are not closed, sources and text."""

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.text, self.classes = [], [], [], []

    def handle_starttag(self, tag, attributes):
        fields = dict(attributes)
        self.sources += [fields[key] for key in ("src", "href") if key in fields]
        self.classes += [fields["class"]] if "class" in fields else []
        if tag not in {"meta", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(page):
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    return reader


def test_everything_given_is_there():
    reader = read(
        render_page(
            "Title",
            "Lead",
            [Fact("2×", "faster")],
            [Picture(b"\x89PNG123", "Heading", "Caption", "tall")],
            [Table("Rows", [("name", "value")])],
        )
    )
    for text in ("Title", "Lead", "2×", "faster", "Heading", "Caption", "Rows", "name", "value"):
        assert text in reader.text
    (source,) = reader.sources
    assert base64.b64decode(source.removeprefix("data:image/png;base64,")) == b"\x89PNG123"
    assert "tall" in reader.classes


def test_text_is_not_markup():
    reader = read(render_page("<b>&", '"<script>', [], [], [Table("<", [("<i>", "a & b")])]))
    assert "<b>&" in reader.text
    assert '"<script>' in reader.text
    assert "a & b" in reader.text
