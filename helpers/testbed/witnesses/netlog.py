"""Chromium's NetLog, trimmed to what happened between it and the server: its requests and its sockets."""

from urllib.parse import urlsplit


def trimmed(log: dict, server: str, name: str | None = None) -> dict[str, list[dict]]:
    """`requests` and `sockets` of a NetLog (a dict, as read from JSON) that concern the address `server`.

    `name`: the server's, in URLs. Where HTTP/2 or HTTP/3 was spoken, `sessions` too: `protocol`, `local`, `remote`,
    `opened`, `closed`, `close_reason`, and `goaway`: the last stream that a GOAWAY of the server named.

    A request: `url`, `method`, `client_port` of its socket, `nth` on that socket, `time`, `status`. A
    socket: `local` and `remote` (`address:port`), `opened_for` (`preconnect`, or the URL of the request it
    was opened for), `opened`, `closed`, `close_reason` (None where the log has none). Times are UNIX
    seconds. `pool_group`: Chromium's name of the group of requests that a socket serves, where there is more than one.
    """
    events = list(_events(log))
    sockets = _sockets(events, server)
    errors = {number: text for text, number in log["constants"].get("quicError", {}).items()}
    sessions = _sessions(events, sockets, errors)
    requests = _requests(events, {server, name}, sockets, sessions)
    found = {"requests": requests, "sockets": list(sockets.values())}
    return found | ({"sessions": list(sessions.values())} if sessions else {})


def _events(log):
    """(source id, event name with `+` at its begin and `-` at its end, UNIX seconds, parameters) of each."""
    constants = log["constants"]
    names = {number: name for name, number in constants["logEventTypes"].items()}
    for event in log["events"]:
        time = (int(event["time"]) + int(constants["timeTickOffset"])) / 1000
        name = names[event["type"]] + ("", "+", "-")[event["phase"]]
        yield event["source"]["id"], name, time, event.get("params", {})


def _links(events, name):
    """The id that each source names as its `source_dependency` in its last event `name`."""
    return {source: parameters["source_dependency"]["id"] for source, event, _, parameters in events
            if event == name and "source_dependency" in parameters}


def _sockets(events, server):
    opened_for, connect_job = _opened_for(events), _links(events, "SOCKET_ALIVE+")
    found, opened, closed, reason = {}, {}, {}, {}
    for source, event, time, parameters in events:
        if event == "TCP_CONNECT+":
            opened[source] = time
        elif event == "TCP_CONNECT-" and parameters.get("remote_address", "").rsplit(":", 1)[0] == server:
            found[source] = parameters["local_address"], parameters["remote_address"]
        elif event == "SOCKET_POOL_CLOSING_SOCKET":
            reason[source] = parameters["reason"]
        elif event == "SOCKET_ALIVE-":
            closed[source] = time
    sockets = {source: {
        "local": local, "remote": remote, "opened_for": opened_for.get(connect_job.get(source)),
        "opened": opened[source], "closed": closed.get(source), "close_reason": reason.get(source)}
        for source, (local, remote) in found.items()}
    of_job = _pool_groups(events)
    groups = {source: of_job.get(connect_job.get(source)) for source in sockets}
    if len(set(groups.values())) > len({remote for _, remote in found.values()}):
        for source, group in groups.items():
            sockets[source]["pool_group"] = group
    return sockets


def _pool_groups(events):
    """The pool group that each connect job was made for, by the job's id."""
    return {source: parameters["group_id"] for source, event, _, parameters in events
            if event == "SOCKET_POOL_CONNECT_JOB_CREATED"}


def _opened_for(events):
    """What each connect job was made for: `preconnect` where its pool was last asked for several sockets."""
    controller, urls, reasons, asked_for_several = _links(events, "HTTP_STREAM_JOB+"), {}, {}, {}
    for source, event, _, parameters in events:
        if event == "HTTP_STREAM_JOB_CONTROLLER+":
            urls[source] = parameters["url"]
        elif event.startswith("TCP_CLIENT_SOCKET_POOL_REQUESTED_SOCKET"):
            asked_for_several[parameters["group_id"]] = event.endswith("S")
        elif event == "SOCKET_POOL_CONNECT_JOB_CREATED" and asked_for_several.get(parameters["group_id"]):
            reasons[source] = "preconnect"
        elif event == "SOCKET_POOL_BOUND_TO_CONNECT_JOB":
            reasons.setdefault(parameters["source_dependency"]["id"], urls.get(controller.get(source)))
    return reasons


def _sessions(events, sockets, errors):
    """The sessions of HTTP/2 and HTTP/3, by the log's id; `errors`: QUIC's, by number."""
    over, found = _links(events, "HTTP2_SESSION_INITIALIZED"), {}
    for source, event, time, parameters in events:
        session = found.get(source)
        if event in ("HTTP2_SESSION+", "QUIC_SESSION+"):
            socket = sockets.get(over.get(source), {})
            found[source] = {"protocol": "h2" if event == "HTTP2_SESSION+" else "h3", "local": socket.get("local"),
                             "remote": socket.get("remote"), "opened": time, "closed": None, "close_reason": None,
                             "goaway": None}
        elif session and event == "QUIC_SESSION_PACKET_RECEIVED":
            session |= {"local": parameters["self_address"], "remote": parameters["peer_address"]}
        elif session and event in ("HTTP2_SESSION-", "QUIC_SESSION-"):
            session["closed"] = time
        elif session and event in ("HTTP2_SESSION_CLOSE", "QUIC_SESSION_CLOSED"):
            session["close_reason"] = parameters.get("description", errors.get(parameters.get("quic_error")))
        elif session and event == "HTTP2_SESSION_RECV_GOAWAY":
            session["goaway"] = parameters["last_accepted_stream_id"]
    return {source: session for source, session in found.items() if session["local"]}


def _carriers(events, sockets, sessions):
    """What carried each request, by the log's id of the request: a socket, or a session on one."""
    stream_job = _links(events, "HTTP_STREAM_REQUEST_BOUND_TO_JOB")
    socket = _links(events, "SOCKET_POOL_BOUND_TO_SOCKET")
    for name in ("IMPORTED_SESSION_FROM_SOCKET", "FOUND_EXISTING_SESSION"):
        socket |= _links(events, f"HTTP2_SESSION_POOL_{name}")
    over_quic = _links(events, "HTTP_STREAM_REQUEST_BOUND_TO_QUIC_SESSION")
    ids = {**{request: socket.get(job) for request, job in stream_job.items()}, **over_quic}
    return {request: {**sockets, **sessions}[carrier] for request, carrier in ids.items()
            if carrier in sockets or carrier in sessions}


def _requests(events, names, sockets, sessions):
    carriers, requests, sent = _carriers(events, sockets, sessions), {}, {}
    for source, event, time, parameters in events:
        if event == "URL_REQUEST_START_JOB+" and urlsplit(parameters["url"]).hostname in names:
            requests[source] = {"url": parameters["url"], "method": parameters["method"], "client_port": None,
                                "nth": None, "time": time, "status": None}
        elif event == "HTTP_TRANSACTION_SEND_REQUEST+" and source in requests:
            local = carriers[source]["local"]
            sent[local] = sent.get(local, 0) + 1
            requests[source] |= {"client_port": int(local.rsplit(":", 1)[1]), "nth": sent[local]}
        elif event == "HTTP_TRANSACTION_READ_RESPONSE_HEADERS" and source in requests:
            requests[source]["status"] = int(parameters["headers"][0].split()[1])
    return list(requests.values())
