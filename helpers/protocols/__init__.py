"""What bytes say, and nothing else: bytes in, messages out."""
