"""The hosts and the wire between them, and the programs that they need."""
