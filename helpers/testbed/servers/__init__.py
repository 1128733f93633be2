"""The servers: nginx, Python's http.server, raw servers, and the page that they serve."""
