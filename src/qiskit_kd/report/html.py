# SPDX-License-Identifier: Apache-2.0
"""Blocks as one self-contained HTML page: figures as SVG, style inside, no script, no network.

Everything that is text is escaped by the template; only our own SVG is not.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.figure import Figure

from qiskit_kd.experiment.result import environment
from qiskit_kd.report.document import MARKS, Entry, Headline, Picture, Section
from qiskit_kd.report.drawing import saved
from qiskit_kd.report.style import DARK, PAPER

READABLE = 860  # pixels, as in the page's style sheet


def page(
    name: str, title: str, sections: Sequence[Section], files: Sequence[str]
) -> tuple[str, dict[str, str]]:
    """The HTML, and its figures as SVG documents by name.

    Args:
        name: Of the study.
        title: The line above the headline.
        sections: The first one is the head.
        files: What lies beside the page.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    documents: dict[str, str] = {}

    def drawn(picture: Picture) -> dict[str, str]:
        document = to_svg(picture.draw(), picture.name, outlines=picture.drawing)
        documents[picture.name] = document
        svg = inline(document, picture.name, picture.alt, themed=not picture.drawing)
        # A small circuit keeps its size; a wide one is never made too small to read.
        width = re.search(r' width="(\d+)"', svg)
        small = picture.drawing and width and int(width[1]) < READABLE
        return {"svg": svg, "kind": f"drawing scroll{' small' * bool(small)}" * picture.drawing}

    pages = Environment(
        loader=PackageLoader("qiskit_kd.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
    )
    light, dark = color_variables()
    body = pages.get_template("page.html.j2").render(
        name=name,
        title=title,
        head=next((b.text for s in sections for b in s.blocks if isinstance(b, Headline)), ""),
        version=environment()["qiskit-kd"],
        light=light,
        dark=dark,
        sections=sections,
        files=files,
        drawn=drawn,
        kind_of=lambda block: type(block).__name__,
        entry=lambda one: one if isinstance(one, Entry) else Entry(one),
        marks=MARKS,
        variable=variable,
    )
    return body, documents


def to_svg(figure: Figure, name: str, *, outlines: bool = False) -> str:
    """The figure as an SVG document that depends on nothing but the figure and `name`.

    Args:
        figure: The figure.
        name: Salt of the element ids; distinct names keep figures on one page apart.
        outlines: Draw letters as shapes (for formulas), not as text.
    """
    buffer, how = io.StringIO(), {"format": "svg", "metadata": {"Date": None, "Creator": None}}
    fonts = "path" if outlines else "none"
    # rc_context restores what it found: no global setting is left behind.
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": fonts}):
        saved(figure, buffer, formulas=outlines, **how)
    return buffer.getvalue()


def inline(document: str, name: str, alt: str, *, themed: bool = True) -> str:
    """An SVG document as an element for an HTML page, with `alt` as its accessible name.

    Args:
        document: From `to_svg`.
        name: Prefix of the ids, unique on the page.
        alt: What the figure shows, in words.
        themed: Replace the fixed colours by the page's variables.
    """
    body = document[document.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.DOTALL)
    # The page's style sheet says both of these once.
    body = re.sub(r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>\s*", "", body, flags=re.DOTALL)
    body = re.sub(r" font-family: [^;\"]+;?", "", body)
    used = set(re.findall(r"(?:href=\"#|url\(#)([^\")]+)", body))
    body = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", body)
    body = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", body)
    if themed:
        # The page is the paper.
        paper = rf"\s*<path[^>]*fill: {PAPER}[^>]*/>\s*</g>"
        body = re.sub(rf'<g id="patch_1">{paper}|<g>{paper}', "", body, count=1)
        for color in DARK:
            body = body.replace(color, f"var({variable(color)})")
    head, rest = body.split(">", 1)
    box = re.findall(r'viewBox="([^"]+)"', head)[0]
    width = round(float(box.split()[2]) * 96 / 72)
    body = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{box}" width="{width}" role="img" aria-labelledby="{name}-alt">'
        f'<title id="{name}-alt">{html.escape(alt)}</title>{rest}'
    )
    return re.sub(r">\s+<", "><", body)


def color_variables() -> tuple[str, str]:
    """CSS declarations of the figures' colours, for light and for dark paper."""
    pairs = ((f"{variable(c)}:{c};", f"{variable(c)}:{dark};") for c, dark in DARK.items())
    light, dark = map("".join, zip(*pairs, strict=True))
    return light, dark


def variable(color: str) -> str:
    """Name of the CSS variable that holds a colour."""
    return f"--c{color.removeprefix('#')}"
