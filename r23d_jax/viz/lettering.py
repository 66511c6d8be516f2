"""Text in pictures."""

import functools
from pathlib import Path

from PIL import ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@functools.cache
def font(size: int, bold: bool = False) -> Font:
    """Returns DejaVu Sans of that size in pixels: matplotlib installs it, and it has most alphabets."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name
    return ImageFont.truetype(str(path), size) if path.is_file() else ImageFont.load_default(size)


def shorten(draw: ImageDraw.ImageDraw, text: str, font: Font, width: int) -> str:
    """Returns the text, or as much of it as fits into `width` pixels with an ellipsis."""
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(text + "…", font) > width:
        text = text[:-1]
    return text.rstrip() + "…"


def wrap(draw: ImageDraw.ImageDraw, text: str, font: Font, width: int, lines: int) -> list[str]:
    """Returns the text in lines of at most `width` pixels, broken anywhere, the last one shortened."""
    wrapped = []
    while text and len(wrapped) < lines - 1 and draw.textlength(text, font) > width:
        end = len(text)
        while end > 1 and draw.textlength(text[:end], font) > width:
            end -= 1
        # Names have few spaces: break after a slash near the end of the line, else after another separator.
        nice = text.rfind("/", end * 2 // 3, end) + 1 or max(text.rfind(mark, end * 2 // 3, end) + 1 for mark in "_- ")
        wrapped.append(text[: nice or end])
        text = text[nice or end :]
    return [*wrapped, shorten(draw, text, font, width)] if text else wrapped
