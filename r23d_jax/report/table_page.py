"""A table of results as Markdown and as a web page: both from the same cells, with the same notes."""

import dataclasses
import html
from collections.abc import Sequence

from markupsafe import Markup

from r23d_jax.report.markup import element
from r23d_jax.report.style import CSS

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
# On a narrow screen every row is a card: the header's words stand before each value.
_CARDS = """
main, header, footer { max-width: 100rem; }
ol { padding-left: 1.4rem; font-size: .875rem; color: var(--soft); max-width: 70rem; }
ol li { margin: .3rem 0; overflow-wrap: anywhere; }
sup a { text-decoration: none; padding-left: .15em; }
table.cards th, table.cards td { overflow-wrap: normal; padding-right: .9rem; }
table.cards thead th { white-space: normal; vertical-align: bottom; }
td.strong { font-weight: 650; }
@media (max-width: 75rem) {
  table.cards thead { display: none; }
  table.cards tr { display: block; padding: .7rem 0; border-bottom: 1px solid var(--rule); }
  table.cards tbody th, table.cards td { display: grid; grid-template-columns: 9.5rem minmax(0, 1fr); gap: .6rem;
    border: 0; padding: .1rem 0; text-align: left; white-space: normal; overflow-wrap: anywhere; }
  table.cards tbody th::before, table.cards td::before { content: attr(data-label); color: var(--soft);
    font-weight: 400; }
  table.cards td.empty { display: none; }
}
"""


@dataclasses.dataclass(frozen=True)
class Cell:
    """A cell: its text, and the numbers of the notes it refers to."""

    text: str
    notes: tuple[int, ...] = ()


class Notes:
    """Footnotes; equal ones are one."""

    def __init__(self):
        self.texts: list[str] = []

    def number(self, text: str) -> int:
        """The number of a note, from 1 on; it is added if it is new."""
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text) + 1

    def cell(self, text: str, *notes: str) -> Cell:
        """A cell with these notes; empty ones are none."""
        return Cell(text, tuple(self.number(note) for note in notes if note))


@dataclasses.dataclass(frozen=True)
class ResultTable:
    """A table ready to be written.

    Attributes:
      title: heads it.
      header: of its columns.
      rows: cells, as many as columns.
      notes: numbered from 1 on.
      numeric: columns set to the right; `strong` of them bold.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str]
    numeric: Sequence[int] = ()
    strong: int = -1


def markdown(table: ResultTable) -> str:
    """The table as GitHub's Markdown, its notes below as a list."""

    def line(cells):
        return f"| {' | '.join(cells)} |"

    def text(cell):
        refs = " ".join(f"[{number}]" for number in cell.notes)
        return f"{_plain(cell.text)} {refs}".strip()

    rule = ["---:" if column in table.numeric else "---" for column in range(len(table.header))]
    lines = [f"## {_plain(table.title)}", "", line(map(_plain, table.header)), line(rule)]
    lines += [line(map(text, row)) for row in table.rows]
    lines += ["", *(f"{number}. {_plain(note)}" for number, note in enumerate(table.notes, 1))]
    return "\n".join(lines).rstrip() + "\n"


def _plain(text: str) -> str:
    """Text that Markdown takes as it is: no tags, no new columns, no emphasis."""
    text = html.escape(" ".join(text.split()), quote=False)
    for sign in "\\|*`":
        text = text.replace(sign, f"\\{sign}")
    return text


def page(table: ResultTable) -> str:
    """The table as one self-contained page."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{table.title} · r23d_jax"),
        element("style", Markup(CSS + _CARDS)),
    )
    notes = [element("li", note, id=f"note{number}") for number, note in enumerate(table.notes, 1)]
    body = element(
        "body",
        element("header", element("h1", table.title)),
        element(
            "main",
            element("section", _table(table)),
            element("section", element("h2", "Notes"), element("ol", notes)) if notes else None,
        ),
        element("footer", element("p", "Written by r23d_jax.", class_="soft")),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _table(table: ResultTable) -> Markup:
    kind = ["n" if column in table.numeric else None for column in range(len(table.header))]
    head = [element("th", name, scope="col", class_=kind[column]) for column, name in enumerate(table.header)]
    rows = []
    for row in table.rows:
        cells = []
        for column, cell in enumerate(row):
            links = [element("a", str(number), href=f"#note{number}") for number in cell.notes]
            refs = [element("sup", "," * bool(place), link) for place, link in enumerate(links)]
            classes = [kind[column], "strong" if column == table.strong else None, None if cell.text else "empty"]
            cells.append(
                element(
                    "td" if column else "th",
                    element("span", cell.text, refs),
                    scope=None if column else "row",
                    class_=" ".join(name for name in classes if name) or None,
                    data_label=table.header[column],
                )
            )
        rows.append(element("tr", cells))
    return element("table", element("thead", element("tr", head)), element("tbody", rows), class_="cards")
