"""Plots as small SVG pictures in the reader's light or dark colours.

No figure is registered with pyplot and no backend is chosen, so no display is needed.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from training.report.page import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#202124"
"""The colour of text and axes, replaced by the reader's text colour."""
BLUE, ORANGE, GREEN, PURPLE = "#4285c4", "#e07b39", "#3f9d6f", "#a466b8"
"""Colours of medium lightness, visible on light and dark pages."""
WIDE = (5.4, 2.7)
SMALL = (5.4, 1.7)
"""Sizes in inches; a column of the page is 5.4 inches wide."""
_STYLE: Any = {  # a type that names each key in some versions of matplotlib, and none in others
    "svg.fonttype": "none",  # text as text: small, and in the reader's font
    "svg.hashsalt": "report",  # equal runs have equal reports
    "text.parse_math": False,
    "font.size": 9,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "lines.linewidth": 1.4,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
}
_COLOURS = (
    f"<style>svg{{color:{INK}}}text{{font-family:system-ui,sans-serif!important}}"
    "@media(prefers-color-scheme:dark){svg{color:#e3e3e0}}</style>"
)


def plot(
    draw: Callable[[Axes], None], *, alt: str, label: str, caption: str = "", size: tuple[float, float] = WIDE
) -> Picture:
    """Call `draw` on empty axes, `size` in inches, and return the picture."""
    import matplotlib as mpl  # imported here, since it takes half a second
    from matplotlib.figure import Figure

    file = io.StringIO()
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    source = _with_the_readers_colours(file.getvalue())
    return Picture(f"data:image/svg+xml;base64,{source}", alt, label, caption)


def legend_above(axes: Axes) -> None:
    """Put the legend above the axes, where it covers nothing."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2, handlelength=1.4)


def _with_the_readers_colours(svg: str) -> str:
    """Return the <svg> element as base64, without the document type before it, which names another server."""
    opening, rest = svg[svg.index("<svg") :].replace(INK, "currentColor").split(">", 1)
    return base64.b64encode(f"{opening}>{_COLOURS}{rest}".encode()).decode()
