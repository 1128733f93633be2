"""The course's figures: each function draws tables on an `ax` (None: the current one) and returns the `Axes`."""

from helpers.figures.comparisons import bill, client_counts, closer_shares, connection_counts, lines, poster, stacked
from helpers.figures.curves import state_bands, time_wait_curve
from helpers.figures.ladder import ladder, ladder_rows
from helpers.figures.matrix import dots
from helpers.figures.protocols import load_rows, page_bill, page_loads
from helpers.figures.style import COLOURS, STATE_COLOURS, STYLE, duration, figure, kind_of, plain, png_of, show
from helpers.figures.tree import TREE, decision_tree
from helpers.figures.waterfall import waterfall

__all__ = [
    "COLOURS", "STATE_COLOURS", "STYLE", "TREE", "bill", "client_counts", "closer_shares", "connection_counts",
    "decision_tree", "dots", "duration", "figure", "kind_of", "ladder", "ladder_rows", "lines", "load_rows",
    "page_bill", "page_loads", "plain", "png_of", "poster", "show", "stacked", "state_bands", "time_wait_curve",
    "waterfall"]
