"""What the report and the table of results share as web pages: the frame and the tables."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from r23d_jax.report.markup import element
from r23d_jax.report.style import CSS

# Nothing is loaded and nothing runs, whatever a name contains.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def document(title: str, *content: Any, css: str = "") -> str:
    """Returns one self-contained page with this content; `css` goes after the common style sheet."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{title} · r23d_jax"),
        element("style", Markup(CSS + css)),
    )
    return f"<!DOCTYPE html>\n{element('html', head, element('body', content), lang='en')}\n"


def table(
    header: Sequence[Any],
    rows: Sequence[Sequence[Any]],
    numeric: Sequence[int] = (),
    caption: str = "",
    cards: bool = False,
) -> Markup:
    """Returns a table.

    Args:
      header: of the columns.
      rows: cells; the first of a row heads it.
      numeric: columns set to the right.
      caption: above it.
      cards: name the column in every cell, for a style sheet that shows each row as a card.
    """
    kind = ["n" if i in numeric else None for i in range(len(header))]

    def row(cells: Sequence[Any]) -> Markup:
        made = []
        for i, cell in enumerate(cells):
            named = {"data_label": header[i]} if cards else {}
            made.append(element("td" if i else "th", cell, scope=None if i else "row", class_=kind[i], **named))
        return element("tr", made)

    head = element("tr", [element("th", cell, scope="col", class_=kind[i]) for i, cell in enumerate(header)])
    title = element("caption", caption) if caption else None
    body = element("tbody", [row(cells) for cells in rows])
    return element("table", title, element("thead", head), body, class_="cards" if cards else None)
