"""HTML elements from Python: markupsafe escapes what is not markup already, so a name can never become a tag."""

import re

from markupsafe import Markup, escape

_EMPTY = frozenset({"meta", "img", "br", "wbr", "rect", "line", "path", "circle"})
# Control characters, which HTML forbids even when escaped, and lone surrogates of file names, which UTF-8 has not.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def element(tag: str, *children: object, **attributes: object) -> Markup:
    """Returns one element.

    Args:
      tag: its name.
      *children: markup as it is, None as nothing, lists of children, and anything else as escaped text.
      **attributes: `class_` is class, `aria_label` is aria-label; None leaves one out. Floats are rounded to
        a hundredth, which is plenty for coordinates.
    """
    written = "".join(f' {_name(key)}="{_value(value)}"' for key, value in attributes.items() if value is not None)
    return Markup(f"<{tag}{written}/>" if tag in _EMPTY else f"<{tag}{written}>{_text(children)}</{tag}>")


def _text(child: object) -> str:
    if isinstance(child, list | tuple):
        return "".join(map(_text, child))
    return "" if child is None else child if isinstance(child, Markup) else _escaped(child)


def _name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _value(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else _escaped(value)


def _escaped(value: object) -> Markup:
    return escape(_UNPRINTABLE.sub("\ufffd", str(value)))
