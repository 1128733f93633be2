"""Cases about what TIME_WAIT costs: ports, threads, errors, and what is said to help."""

import pandas as pd

from helpers.claims.data import BROWSERS, CLIENTS, Data
from helpers.claims.judging import Case
from helpers.states import count

SETTINGS = {"plain": (True, False), "tcp_tw_reuse 1": (True, True), "tcp_tw_reuse 2": (True, False),
            "another port": (False, False), "another address": (False, False)}
PAIRS = ((50, 100), (100, 200), (50, 200))


def long_has_more(data: Data) -> list[Case]:
    """Seven images by each client, each run of 20,000 requests: whether long connections left more at the server."""
    def more(client):
        long, short = (data.load(f"{kind}-7-images-{client}").states for kind in ("long", "short"))
        return _most_at_server(long) > _most_at_server(short)
    left = _bills(data).pivot(index="run", columns="connections", values="new_time_wait_server")
    return [*(Case(f"7 images, {client}", bool(more(client))) for client in CLIENTS),
            *(Case(f"20,000 requests, run {run}", bool(row["long"] > row["short"])) for run, row in left.iterrows())]


def _most_at_server(states):
    return count(states[states["local"].str.endswith(":80")], "TIME_WAIT", "server").max()


def _bills(data, limited=False):
    """The runs of 20,000 requests, or those under a low `tcp_max_tw_buckets`, one row each."""
    bills = pd.DataFrame(data.details("load")["bills"])
    return bills[bills["buckets"].notna() == limited]


def many_at_server(data: Data) -> list[Case]:
    """Each load that leaves the server thousands of TIME_WAITs: whether a request or connection failed."""
    rates = data.table("load").groupby(["rate", "addresses"])["failed"].sum()
    bills = pd.concat([_bills(data).query("connections == 'short'"), _bills(data, limited=True)])
    return [*(Case(f"{rate} connections a second for 150 s from {addresses} address(es)", bool(failed))
              for (rate, addresses), failed in rates.items()),
            *(Case(f"20,000 short connections at once, tcp_max_tw_buckets {bill.buckets:.0f}, run {bill.run}"
                   if bill.buckets == bill.buckets else f"20,000 short connections at once, run {bill.run}",
                   bool(bill.failed)) for bill in bills.itertuples())]


def more_ports(data: Data) -> list[Case]:
    """Each setting of `ports`: whether a second port or address let more attempts succeed; or whether any failed.

    `client_waits`: whether TIME_WAIT is at the client.
    """
    ports = data.table("ports").groupby("setting")[["succeeded", "failed"]].sum()
    second = {name: ports.loc[name, "succeeded"] > ports.loc["plain", "succeeded"]
              for name in ("another port", "another address")}
    return [*(Case(name, bool(more), {"client_waits": True}) for name, more in second.items()),
            *(Case(name, bool(ports.loc[name, "failed"] > 0), {"client_waits": False})
              for name in ("server closes first", "SO_LINGER 0"))]


def fewer_on_each(data: Data) -> list[Case]:
    """Two or four servers that share a rate: whether TIME_WAITs become fewer, on each of them and in all of them."""
    load = data.table("load").query("addresses == 1")
    most = load.groupby("rate")["time_wait_server"].max()
    return [Case(f"{rate // part} servers, {part}/s each, {'on each' if each else 'in all'}",
                 bool((1 if each else rate // part) * most[part] < most[rate]), {"on_each": each})
            for part, rate in PAIRS for each in (True, False)]


def balanced(data: Data) -> list[Case]:
    """Each run behind a proxy: whether all its requests were answered; facts as `upstream_runs` has them."""
    return [Case(name, failed == 0, facts) for name, failed, facts in upstream_runs(data)]


def ports_used_up(data: Data) -> list[Case]:
    """Each run behind a proxy: whether requests failed; facts as `upstream_runs` has them."""
    return [Case(name, failed > 0, facts) for name, failed, facts in upstream_runs(data)]


def upstream_runs(data: Data) -> list[tuple[str, int, dict]]:
    """Name, failed requests and facts of each run behind a proxy.

    `held`: TIME_WAITs that the proxy holds towards its upstream when the run is over; `at_once`: requests at a time;
    `ports`: of the proxy.
    """
    at_once = data.details("proxy")["concurrency"]
    few = data.table("proxy-buckets")
    few = few.assign(upstream=few["upstream"] + ", tcp_max_tw_buckets " + few["buckets"].astype("string"))
    return [(f"{row.upstream}, {row.ports} ports, run {row.run}", int(row.failed),
             {"held": int(row.time_wait_proxy_to_upstream), "at_once": at_once, "ports": int(row.ports)})
            for row in pd.concat([data.table("proxy"), few]).itertuples()]


def held_for_a_minute(data: Data) -> list[Case]:
    """Each setting of `ports`, way of `bind`, and visit B: was a port refused whose last connection is in TIME_WAIT?

    `same_server`: it goes to the same address and port again; `tw_reuse`: the kernel may use such a port
    (`tcp_tw_reuse` 1; 2 is for the loopback only); `bound`: by bind(), before connect(); `reuseaddr`: to a port by its
    number, with SO_REUSEADDR on both sockets; `stamps`: TCP's time stamps are on (`tcp_twsk_unique` asks for them).
    """
    ports = data.table("ports")
    quiet = ports[ports["time"].between(2, 55)].groupby("setting")["succeeded"].sum() == 0
    return [*(Case(name, bool(quiet[name]), _way(same, reuse)) for name, (same, reuse) in SETTINGS.items()),
            *(Case(f"{row.way}, to {row.to}, SO_REUSEADDR {row.reuse_before} and {row.reuse_after}",
                   not (pd.isna(row.bind_error) and pd.isna(row.connect_error)),
                   _way(row.to == "the same", False, row.way.startswith("bind to"),
                        bool(row.way == "bind to the port" and row.reuse_before and row.reuse_after)))
              for row in data.table("bind").itertuples()),
            _visit_b(data.load("old-duplicate-refused").about)]


def _visit_b(about):
    """Visit B of `old-duplicate-refused`: its port by number, SO_REUSEADDR on both sockets, and no time stamps."""
    refused = any("visit B can't begin" in event["action"] for event in about["timeline"])
    return Case(f"{about['name']}: visit B", refused,
                _way(True, False, True, True, about["kernel"]["tcp_timestamps"] != "0"), about["name"])


def _way(same, reuse, bound=False, reuseaddr=False, stamps=True):
    return {"same_server": same, "tw_reuse": reuse, "bound": bound, "reuseaddr": reuseaddr, "stamps": stamps}


def used_again_by_client(data: Data) -> list[Case]:
    """Each SYN into a server's TIME_WAIT, and 13,600 from a range of 100 ports: whether it was answered as a new one.

    `higher`: its number is above those of the old connection. `stamp`: its time stamp is 1 newer, -1 older, 0 none.
    """
    ports = data.table("ports").query("setting == 'server closes first'")
    return [Case("13,600 from a range of 100 ports", bool(ports["failed"].sum() == 0), {"higher": True, "stamp": 1}),
            *(Case(f"new-syn: {row.case}", row.answer == "SA",
                   {"higher": "higher" in row.case, "stamp": ("newer" in row.case) - ("older" in row.case)}, "new-syn")
              for row in data.answers("new-syn").itertuples())]


def accepted(data: Data) -> list[Case]:
    """5,000 connections at once, and each page with several: whether all came to one port of the server."""
    pages = [f"long-{images}-images-{client}" for images in (4, 7) for client in BROWSERS]
    return [Case("5,000 at once to nginx's port 80", memory(data, "ESTABLISHED")["with"]["established"] == 5000),
            *(Case(name, len(data.page(name)) > 1 and data.page(name)["server"].nunique() == 1) for name in pages)]


def takes_no_port(data: Data) -> list[Case]:
    """Each load with TIME_WAIT at the server's one port: whether no later connection was refused."""
    ports = data.table("ports").query("setting == 'server closes first'")
    return [Case("13,600 from a range of 100 ports", bool(ports["failed"].sum() == 0)),
            *(Case(case.name, not case.right) for case in many_at_server(data))]


def memory(data: Data, state: str) -> dict:
    """What the server took `without` and `with` many sockets in `state`."""
    return next(memory for memory in data.details("load")["memory"] if memory["state"] == state)


def own_thread(data: Data) -> list[Case]:
    """Each server with 200 or 5,000 idle connections: whether it had one more thread or process for each.

    `threaded`: whether it is built so (socketserver's ThreadingMixIn), and not as a loop over all its sockets.
    """
    table = data.table("thread-per-connection").set_index(["server", "connections"])
    def grown(server, number):
        return (table.loc[(server, number)] - table.loc[(server, 0)])[["processes", "threads"]].sum() >= number
    nginx = memory(data, "ESTABLISHED")
    return [Case("nginx, 5,000 connections", nginx["with"]["threads"] - nginx["without"]["threads"] >= 5000,
                 {"threaded": False}),
            Case("nginx, 200 connections", bool(grown("nginx", 200)), {"threaded": False}),
            Case("http.server, 200 connections", bool(grown("http.server", 200)), {"threaded": True})]


def taken_by_time_wait(data: Data) -> list[Case]:
    """Threads, descriptors and memory of nginx's process: whether thousands of TIME_WAITs took more of them."""
    waiting = memory(data, "TIME_WAIT")
    return [Case(f"{kind} of nginx", waiting["with"][kind] > waiting["without"][kind], recording="load")
            for kind in ("threads", "descriptors", "rss")]


def errors_at_limit(data: Data) -> list[Case]:
    """Each limit that was reached: whether requests failed. `needed`: whether a request needs what had run out."""
    runs = [run for run in upstream_runs(data) if run[2]["held"] + run[2]["at_once"] > run[2]["ports"]]
    return [*(Case(f"ports of a proxy: {name}", failed > 0, {"needed": True}) for name, failed, _ in runs),
            *(Case(f"tcp_max_tw_buckets 2000, run {bill.run}", bill.failed > 0, {"needed": False})
              for bill in _bills(data, limited=True).itertuples())]


def harm(data: Data) -> list[Case]:
    """Many TIME_WAITs: where a server acts as a client, whether they blocked something; elsewhere, whether nothing.

    `restart`: whether the server was started anew, `reuseaddr`: with SO_REUSEADDR before and after.
    """
    proxied = data.table("proxy").query("upstream == 'http-1.1' and ports == 100")
    return [*(Case(f"as a client: HTTP/1.1 without a pool, 100 ports, run {row.run}", bool(row.failed > 0),
                   {"restart": False, "reuseaddr": False}) for row in proxied.itertuples()),
            *(Case(f"as a server: {case.name}", case.right, {"restart": False, "reuseaddr": False})
              for case in takes_no_port(data)),
            *(Case(f"as a server: restart, SO_REUSEADDR {before} before and {after} after", bool(seconds < 1),
                   {"restart": True, "reuseaddr": bool(before and after)})
              for before, after, seconds in _restarts(data))]


def _restarts(data):
    table = data.table("rebind").query("closer == 'server'")
    return zip(table["reuse_before"], table["reuse_after"], table["seconds"])

