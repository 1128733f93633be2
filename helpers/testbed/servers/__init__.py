"""What answers: nginx, Python's http.server, raw servers, and the page that they serve."""
