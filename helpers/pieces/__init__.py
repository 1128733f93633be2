"""Captures larger than memory, and many at once: `read_captures(paths)` gives the tables piece by piece.

A `Partial` is what is known of the connections in one piece: the few segments of each connection that decide its rows.
`merge` joins neighbouring partials. It is associative, so it joins pieces on one machine, and files on many, alike.
"""

from helpers.pieces.folder import read_folder
from helpers.pieces.partial import Partial, merge, summarise, summarise_file
from helpers.pieces.stream import read_captures
from helpers.pieces.tables import Tables, tables_of

__all__ = ["Partial", "Tables", "merge", "read_captures", "read_folder", "summarise", "summarise_file", "tables_of"]
