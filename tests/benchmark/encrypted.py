"""A large capture over TLS for the benchmark, with its keys: OpenSSL's records, held in memory, HTTP/1.1 and HTTP/2."""

import subprocess
import sys
from pathlib import Path

from hpack import Encoder
from hyperframe.frame import DataFrame, HeadersFrame, SettingsFrame

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from fuzz import pcap
from tls_talks import pages, talk

CONNECTIONS, PAGES = 120, (900, 40_000, 3_000, 15_000, 120, 64_000, 7_000, 2_000, 500, 30_000) * 2
BROWSER = [(":method", "GET"), (":scheme", "https"), (":authority", "www.example.test"), (":path", ""),
           ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0"),
           ("accept", "image/avif,image/webp,*/*;q=0.8"), ("accept-encoding", "gzip, deflate, br, zstd"),
           ("accept-language", "en"), ("sec-fetch-site", "same-origin"), ("sec-fetch-dest", "image"), ("priority", "u=2, i")]


def frames_of(sizes):
    """Turns of HTTP/2 that ask for bodies of these sizes, one after the other."""
    asks, answers = Encoder(), Encoder()
    yield "C", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame(0).serialize()
    yield "S", SettingsFrame(0).serialize()
    for place, size in enumerate(sizes):
        number = 2 * place + 1
        fields = [(name, value or f"/image-{place}.png") for name, value in BROWSER]
        yield "C", HeadersFrame(number, asks.encode(fields), flags=["END_HEADERS", "END_STREAM"]).serialize()
        head = answers.encode([(":status", "200"), ("server", "nginx"), ("content-type", "image/png"),
                               ("content-length", str(size)), ("etag", f'"{place:x}-{size:x}"')])
        body = [DataFrame(number, b"x" * min(size - at, 16_384)) for at in range(0, size, 16_384)]
        body[-1].flags.add("END_STREAM")
        yield "S", HeadersFrame(number, head, flags=["END_HEADERS"]).serialize() + b"".join(one.serialize() for one in body)


def write(folder):
    """The path of the capture, with its secrets inside, and how many requests it holds."""
    path, keys = folder / "encrypted.pcapng", folder / "encrypted.keys"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        talks = [talk(folder, list(frames_of(PAGES)) if number % 2 else pages(*PAGES), alpn=["h2" if number % 2 else "http/1.1"])
                 for number in range(CONNECTIONS)]
        keys.write_bytes(b"".join(one.keys for one in talks))
        plain = folder / "encrypted.pcap"
        plain.write_bytes(pcap([frame for number, one in enumerate(talks) for frame in one.frames(port=20_000 + number)], 20))
        subprocess.run(["editcap", "-F", "pcapng", "--inject-secrets", f"tls,{keys}", plain, path], check=True)
    return path, CONNECTIONS * len(PAGES)
