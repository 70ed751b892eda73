"""Text on pictures with Pillow's built-in font: no font file of the machine is needed."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont, ImageFont

INK, FAINT_INK, PAPER = (28, 30, 34), (96, 102, 112), (255, 255, 255)


@lru_cache(maxsize=8)
def font(size_px: int) -> FreeTypeFont | ImageFont:
    """Return the built-in font at a size."""
    from PIL import ImageFont

    return ImageFont.load_default(size_px)


def draw_text(
    picture: Image, place: tuple[float, float], text: str, size_px: int, **style: object
) -> None:
    """Write on a Pillow picture; `style` as in ImageDraw.text, ink by default."""
    from PIL import ImageDraw

    options: dict[str, object] = {'fill': INK, **style}
    ImageDraw.Draw(picture).text(place, text, font=font(size_px), **options)  # type: ignore[arg-type]


def text_width(text: str, size_px: int) -> float:
    """Return how many pixels wide a text is."""
    return float(font(size_px).getlength(text))
