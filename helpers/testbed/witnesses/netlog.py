"""Chromium's NetLog, trimmed to what happened between it and the server: its requests and its sockets."""

from urllib.parse import urlsplit


def trimmed(log: dict, server: str) -> dict[str, list[dict]]:
    """`requests` and `sockets` of a NetLog (a dict, as read from JSON) that concern the address `server`.

    A request: `url`, `method`, `client_port` of its socket, `nth` on that socket, `time`, `status`. A
    socket: `local` and `remote` (`address:port`), `opened_for` (`preconnect`, or the URL of the request it
    was opened for), `opened`, `closed`, `close_reason` (None where the log has none). Times are UNIX
    seconds.
    """
    events = list(_events(log))
    sockets = _sockets(events, server)
    requests = _requests(events, server, sockets)
    return {"requests": requests, "sockets": list(sockets.values())}


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
    return {source: {
        "local": local, "remote": remote, "opened_for": opened_for.get(connect_job.get(source)),
        "opened": opened[source], "closed": closed.get(source), "close_reason": reason.get(source)}
        for source, (local, remote) in found.items()}


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


def _requests(events, server, sockets):
    stream_job = _links(events, "HTTP_STREAM_REQUEST_BOUND_TO_JOB")
    socket = _links(events, "SOCKET_POOL_BOUND_TO_SOCKET")
    requests, sent = {}, {}
    for source, event, time, parameters in events:
        if event == "URL_REQUEST_START_JOB+" and urlsplit(parameters["url"]).hostname == server:
            requests[source] = {"url": parameters["url"], "method": parameters["method"], "client_port": None,
                                "nth": None, "time": time, "status": None}
        elif event == "HTTP_TRANSACTION_SEND_REQUEST+" and source in requests:
            used = socket.get(stream_job.get(source))
            sent[used] = sent.get(used, 0) + 1
            port = int(sockets[used]["local"].rsplit(":", 1)[1])
            requests[source] |= {"client_port": port, "nth": sent[used]}
        elif event == "HTTP_TRANSACTION_READ_RESPONSE_HEADERS" and source in requests:
            requests[source]["status"] = int(parameters["headers"][0].split()[1])
    return list(requests.values())
