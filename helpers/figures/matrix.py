"""A matrix as dots: which rows have what, such as which recording has which finding."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from helpers.figures.style import COLOURS, axes_for, in_style

ROW = 0.2       # inches


@in_style
def dots(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """A dot for each true cell of `table`: its rows from the top, the names of its columns above, slanted."""
    ax = axes_for(ax, ROW * len(table) + 2)
    rows, columns = np.nonzero(table.to_numpy(bool))
    ax.hlines(range(len(table)), -0.5, len(table.columns) - 0.5, color="#EEEEEE", linewidth=1, zorder=1)
    ax.vlines(range(len(table.columns)), -0.5, len(table) - 0.5, color="#EEEEEE", linewidth=1, zorder=1)
    ax.scatter(columns, rows, s=40, color=COLOURS["unused"], zorder=2)
    ax.set_yticks(range(len(table)), table.index, size=9)
    ax.set_xticks(range(len(table.columns)), table.columns, size=9, rotation=40, ha="left", rotation_mode="anchor")
    ax.xaxis.tick_top()
    ax.set(xlim=(-0.5, len(table.columns) - 0.5), ylim=(len(table) - 0.5, -0.5))
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax
