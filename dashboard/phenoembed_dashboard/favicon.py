"""The icon of the browser's tab, drawn here: Streamlit would fetch a named one from the network."""

from functools import cache

from PIL import Image, ImageDraw


@cache
def icon() -> Image.Image:
    """Two cells and a nearer third."""
    image = Image.new("RGBA", (64, 64))
    draw = ImageDraw.Draw(image)
    for box, colour in (((4, 22, 32, 50), "#0072b2"), ((22, 6, 42, 26), "#56b4e9"), ((34, 30, 60, 56), "#e69f00")):
        draw.ellipse(box, fill=colour)
    return image
