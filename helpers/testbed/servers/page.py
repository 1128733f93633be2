"""The page that the experiments serve: an HTML file, its images and an icon, the same bytes everywhere."""

import os
import struct
import zlib
from pathlib import Path

KILOBYTES = (38, 21, 64, 15, 47, 27, 88, 33, 18, 55, 24, 41)
WIDTH = 160
MODIFIED = 1545190498
LINE = b"<p>This line is here so that the page takes its time to arrive.</p>\n"

# The query makes it another address, so that no cache and no image that is still arriving answers it
SCRIPT = b"""<script>
for (let n = 1; n <= %d; n++) fetch(`image-${n}.png?anonymous`, {credentials: "omit"})
</script>
"""


def write_page(folder: Path, images: int, padding: int = 0, anonymous: bool = False) -> dict[str, int]:
    """Write `index.html`, `image-1.png` … and `favicon.ico` into `folder`; return their sizes by name.

    `padding`: bytes of text below the images, for a page that takes its time. `anonymous`: a script asks for each
    image once more, without credentials.
    """
    folder.mkdir(parents=True)
    html = _html(images) + SCRIPT % images * anonymous + LINE * (padding // len(LINE))
    files = {"index.html": html, "favicon.ico": png(16, 16, 0)}
    for number in range(1, images + 1):
        height = KILOBYTES[number - 1] * 1000 // (3 * WIDTH + 1)
        files[f"image-{number}.png"] = png(WIDTH, height, number)
    for name, content in files.items():
        (folder / name).write_bytes(content)
        os.utime(folder / name, (MODIFIED, MODIFIED))
    return {name: len(content) for name, content in files.items()}


def _html(images):
    numbers = range(1, images + 1)
    tags = "".join(f'<img src="image-{number}.png" alt="Image {number}">\n' for number in numbers)
    title = f"A page with {images or 'no'} image{'' if images == 1 else 's'}"
    head = f'<!doctype html>\n<meta charset="utf-8">\n<title>{title}</title>\n'
    return f"{head}<h1>{title}</h1>\n{tags}".encode()


def png(width: int, height: int, hue: int) -> bytes:
    """A PNG image of a colour gradient, uncompressed so that its size follows from width and height."""
    red = 40 * hue % 256
    rows = (b"\0" + b"".join(bytes((red, 255 * x // width, 255 * y // height)) for x in range(width))
            for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows), 0)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
