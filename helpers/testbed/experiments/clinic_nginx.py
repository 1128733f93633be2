"""nginx in the clinic: as a proxy on the client's host, and as a server of HTTP/2 over TLS."""

import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

from helpers.testbed.experiments.clinic_account import AUTHORITY, HOST, PORT, PROXY_PORT
from helpers.testbed.servers import nginx

BEHIND = """\
upstream behind {{
    server {host}:{port};
    keepalive 32;
}}
server {{
    listen 127.0.0.1:{listens};
    location / {{
        proxy_pass http://behind;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
    }}
}}"""
ENCRYPTED = """\
server {{
    listen 443{tls};
    keepalive_requests {requests};
    location / {{ return 200 "noted\\n"; }}
}}"""
SAYS = re.compile(r"\[error\] [\d#: *]+(.*?), client:")


class Sidecar(nginx.Nginx):
    """nginx on the host `client`: what comes to `PROXY_PORT` goes to the server, over connections that it keeps."""

    host = "client"

    def __init__(self, folder: Path):
        super().__init__(folder, (PROXY_PORT,))

    def _blocks(self, sites):
        return BEHIND.format(host=HOST, port=PORT, listens=sites[0])

    def said(self) -> dict[str, dict[str, int]]:
        """How often its access log has which status, and its error log which text, without the connection's number."""
        errors = SAYS.findall((self.folder / "error.log").read_text(encoding="utf-8"))
        return {"status": dict(sorted(Counter(request["status"] for request in self.requests()).items())),
                "errors": dict(sorted(Counter(errors).items()))}


class Encrypted(nginx.Nginx):
    """nginx that answers each request over HTTP/2 and TLS, and takes so many `requests` on a connection."""

    def __init__(self, folder: Path, requests: str):
        self._requests = requests
        files = SimpleNamespace(chain=AUTHORITY.with_name("chain.pem"), key=AUTHORITY.with_name("key.pem"))
        super().__init__(folder, (443,), {443: nginx.certified(files, http2=True)})

    def _blocks(self, sites):
        return ENCRYPTED.format(tls=self._tls[443], requests=self._requests)
