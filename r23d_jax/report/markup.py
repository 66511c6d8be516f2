"""HTML from Python: whatever is not markup already is escaped, so a name can never become a tag."""

import html
from collections.abc import Iterable

_EMPTY = frozenset({"meta", "img", "br", "wbr", "rect", "line", "path", "circle"})


class Markup(str):
    """Text that is HTML already."""


def element(tag: str, *children: object, **attributes: object) -> Markup:
    """One element.

    Args:
      tag: its name.
      *children: markup as it is, None and "" as nothing, lists of children, and anything else as escaped text.
      **attributes: `class_` is class, `aria_label` is aria-label; None leaves one out. Floats are rounded to
        a hundredth, which is plenty for coordinates.
    """
    written = "".join(f' {_name(key)}="{_value(value)}"' for key, value in attributes.items() if value is not None)
    if tag in _EMPTY:
        return Markup(f"<{tag}{written}/>")
    return Markup(f"<{tag}{written}>{join(children)}</{tag}>")


def join(children: Iterable[object]) -> Markup:
    """Children one after another, escaped where they are not markup."""
    return Markup("".join(_child(child) for child in children))


def _child(child: object) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, list | tuple):
        return join(child)
    return html.escape(_printable(str(child)), quote=False)


def _name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return html.escape(_printable(str(value)))


def _printable(text: str) -> str:
    """Without control characters, which HTML forbids even when escaped, and lone surrogates of file names."""
    text = "".join(char if char >= " " or char in "\n\t" else "\ufffd" for char in text)
    return text.encode("utf-8", "replace").decode()
