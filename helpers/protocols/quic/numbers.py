"""Variable-length integers (RFC 9000 section 16)."""


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The integer that begins at byte `at` of `data`, and where it ends. Raises `ValueError` where it is cut."""
    if at >= len(data):
        raise ValueError("an integer is missing")
    first = data[at]
    if first < 0x40:
        return first, at + 1
    end = at + (1 << (first >> 6))
    if end > len(data):
        raise ValueError("an integer is cut short")
    return int.from_bytes(data[at:end], "big") & ((1 << (8 * (end - at) - 2)) - 1), end
