"""A table of results as Markdown and as a web page: both from the same cells, with the same notes."""

import dataclasses
import html
from collections.abc import Collection, Sequence

from markupsafe import Markup

from r23d_jax.report.document import document, table
from r23d_jax.report.markup import element

# On a narrow screen every row is a card: the header's words stand before each value.
_CARDS = """
main, header, footer { max-width: 100rem; }
ol { padding-left: 1.4rem; font-size: .875rem; color: var(--soft); max-width: 70rem; }
ol li { margin: .3rem 0; overflow-wrap: anywhere; }
sup a { text-decoration: none; padding-left: .15em; }
table.cards th, table.cards td { overflow-wrap: normal; padding-right: .9rem; }
table.cards thead th { white-space: normal; vertical-align: bottom; }
td b { font-weight: 650; }
@media (max-width: 75rem) {
  table.cards thead { display: none; }
  table.cards tr { display: block; padding: .7rem 0; border-bottom: 1px solid var(--rule); }
  table.cards tbody th, table.cards td { display: grid; grid-template-columns: 9.5rem minmax(0, 1fr); gap: .6rem;
    border: 0; padding: .1rem 0; text-align: left; white-space: normal; overflow-wrap: anywhere; }
  table.cards tbody th::before, table.cards td::before { content: attr(data-label); color: var(--soft);
    font-weight: 400; }
  table.cards td:empty { display: none; }
}
"""


@dataclasses.dataclass(frozen=True)
class Cell:
    """A cell: its text and its footnotes, of which empty ones are none."""

    text: str
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class ResultTable:
    """A table ready to be written.

    Attributes:
      title: heads it.
      header: names of its columns.
      rows: cells, as many as columns.
      numeric, strong: columns set to the right, and those in bold.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numeric: Collection[str] = ()
    strong: Collection[str] = ()

    @property
    def notes(self) -> list[str]:
        """The footnotes in the order of their first mention, which is their number; equal ones are one."""
        return list(dict.fromkeys(note for row in self.rows for cell in row for note in cell.notes if note))

    def numbers(self, cell: Cell) -> list[int]:
        """Returns the numbers of a cell's footnotes, from 1 on."""
        notes = self.notes
        return [notes.index(note) + 1 for note in dict.fromkeys(cell.notes) if note]


def markdown(made: ResultTable) -> str:
    """Returns the table as GitHub's Markdown, its notes below as a list."""

    def text(cell: Cell) -> str:
        return " ".join([_plain(cell.text), *(f"[{number}]" for number in made.numbers(cell))]).strip()

    rows = [list(map(text, row)) for row in made.rows]
    lines = [f"## {_plain(made.title)}", "", *markdown_table(list(map(_plain, made.header)), rows, made.numeric), ""]
    lines += [f"{number}. {_plain(note)}" for number, note in enumerate(made.notes, 1)]
    return "\n".join(lines).rstrip() + "\n"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], numeric: Collection[str] = ()) -> list[str]:
    """Returns the lines of a table in Markdown; the columns `numeric` are set to the right."""
    rule = ["---:" if name in numeric else "---" for name in header]
    return [f"| {' | '.join(cells)} |" for cells in (header, rule, *rows)]


def _plain(text: str) -> str:
    """Text that Markdown takes as it is: no tags, no new columns, no emphasis."""
    text = html.escape(" ".join(text.split()), quote=False)
    for sign in "\\|*`":
        text = text.replace(sign, f"\\{sign}")
    return text


def page(made: ResultTable) -> str:
    """Returns the table as one self-contained page."""

    def content(name: str, cell: Cell) -> Markup | None:
        links = [element("a", str(number), href=f"#note{number}") for number in made.numbers(cell)]
        refs = [element("sup", "," if place else None, link) for place, link in enumerate(links)]
        inner = element("b" if name in made.strong else "span", cell.text, refs)
        return inner if cell.text else None

    rows = [[content(*named) for named in zip(made.header, row, strict=True)] for row in made.rows]
    numeric = [place for place, name in enumerate(made.header) if name in made.numeric]
    notes = [element("li", note, id=f"note{number}") for number, note in enumerate(made.notes, 1)]
    return document(
        made.title,
        element("header", element("h1", made.title)),
        element(
            "main",
            element("section", table(made.header, rows, numeric, cards=True)),
            element("section", element("h2", "Notes"), element("ol", notes)) if notes else None,
        ),
        element("footer", element("p", "Written by r23d_jax.", class_="soft")),
        css=_CARDS,
    )
