"""What is said of a file that can't be read."""


class CaptureError(Exception):
    """The file is not a capture that can be read; the message says which file, at which byte, and why."""

    def __init__(self, path, offset, reason):
        super().__init__(f"{path}: byte {offset}: {reason}")
        self.path, self.offset, self.reason = str(path), offset, reason
