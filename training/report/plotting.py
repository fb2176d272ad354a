"""Plots as small SVG pictures, which take on the reader's light or dark colours.

No figure is ever registered with pyplot and no backend is chosen, so nothing is left behind and no display
is needed.
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
"""Of text and axes; becomes the reader's text colour."""
BLUE, ORANGE, GREEN, PURPLE = "#4285c4", "#e07b39", "#3f9d6f", "#a466b8"
"""Of middling lightness, so that they show on light and dark paper."""
WIDE = (5.4, 2.7)
SMALL = (5.4, 1.7)
"""Sizes in inches, of which a column of the page takes 5.4."""
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
    """The picture of what `draw` does to empty axes, `size` in inches."""
    import matplotlib as mpl  # takes half a second to import: only for those who want a report
    from matplotlib.figure import Figure

    file = io.StringIO()
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    source = _with_the_readers_colours(file.getvalue())
    return Picture(f"data:image/svg+xml;base64,{source}", alt, label, caption)


def legend_above(axes: Axes) -> None:
    """Name what is drawn above the axes, where it covers nothing."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2, handlelength=1.4)


def _with_the_readers_colours(svg: str) -> str:
    """The <svg> element alone, base64: what comes before it names a document type on another server."""
    opening, rest = svg[svg.index("<svg") :].replace(INK, "currentColor").split(">", 1)
    return base64.b64encode(f"{opening}>{_COLOURS}{rest}".encode()).decode()
