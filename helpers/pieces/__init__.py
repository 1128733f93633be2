"""Captures larger than memory, and many at once: `read_captures(paths)` gives the tables piece by piece.

What is known of the connections in one piece is a `Partial`: of each connection the few segments that decide its rows.
`merge` joins neighbouring ones, and is associative: the same merge adds up pieces on one machine, and files on many.
"""

from helpers.pieces.folder import read_folder
from helpers.pieces.partial import Partial, merge, summarise, summarise_file
from helpers.pieces.stream import read_captures
from helpers.pieces.tables import Tables, tables_of

__all__ = ["Partial", "Tables", "merge", "read_captures", "read_folder", "summarise", "summarise_file", "tables_of"]
