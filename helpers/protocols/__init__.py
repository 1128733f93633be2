"""What bytes say, and nothing else: bytes in, messages out. Nothing here knows a capture, a connection or a table."""
