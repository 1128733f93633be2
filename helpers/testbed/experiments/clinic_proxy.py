"""A proxy of the clinic: nginx on the client's host, as a sidecar, with a pool of connections to the server."""

import re
from collections import Counter
from pathlib import Path

from helpers.testbed.experiments.clinic_account import HOST, PORT, PROXY_PORT
from helpers.testbed.servers import nginx

BLOCKS = """\
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
SAYS = re.compile(r"\[error\] [\d#: *]+(.*?), client:")


class Sidecar(nginx.Nginx):
    """nginx on the host `client`: what comes to `PROXY_PORT` goes to the server, over connections that it keeps."""

    host = "client"

    def __init__(self, folder: Path):
        super().__init__(folder, (PROXY_PORT,))

    def _blocks(self, sites):
        return BLOCKS.format(host=HOST, port=PORT, listens=sites[0])

    def said(self) -> dict[str, dict[str, int]]:
        """How often its access log has which status, and its error log which text, without the connection's number."""
        errors = SAYS.findall((self.folder / "error.log").read_text(encoding="utf-8"))
        return {"status": dict(sorted(Counter(request["status"] for request in self.requests()).items())),
                "errors": dict(sorted(Counter(errors).items()))}
