"""The datasheet of the recordings: `data/README.md`, written from what is in `data`."""

import hashlib
import json
from pathlib import Path

INTRODUCTION = """\
# The recordings

Each folder here is one experiment: a real server, a client and the kernel's TCP between them, watched from
the first packet until the last TIME_WAIT had gone. The course reads these files only, so it runs on any
system; nothing is recorded anew when you open a notebook.

Two hosts, `client` (10.77.0.1) and `server` (10.77.0.2), stood on one machine as network namespaces joined by
a virtual cable. nginx served a page that the testbed had made (an HTML file, its images, an icon; the same
bytes in every recording), and the client opened it; in `closers-…`, curl fetched a text of 1,000 bytes
instead; in `timers-…`, `protection`, `new-syn` and `lost-last-ack…` the client was the testbed itself, through
ordinary sockets, and in `old-duplicate-…` the server too was a small program, which writes down what it reads.
Nothing was filtered, cut or edited afterwards; only Chromium's log is shortened. A recording was kept if no frame
was lost and no two looks at the sockets lay more than 0.35 s apart.

IPv6 is switched off, and so are the interfaces' offloads (sg, tso, gso, gro, tx, rx): no frame is longer than
1,514 bytes, and each checksum is right. A machine of yours shows longer frames, unless you do the same.

Time stamps (TCP option 8) of two connections can't be compared. The kernel adds an offset to its clock, and each
connection has its own, even between the same two hosts; only connections between the same two ports share one. Every
recording with several connections shows the first, `new-syn` and `protection` the second (the SYN-ACKs). All hosts
here share one kernel and its secret, so that two of them with the same address would count alike: two clients behind
one NAT, whose time stamps differ, can't be had here, and `new-syn` sends what such a client would.

In `page-streamed-…` nginx sends the HTML at 8 kB a second, so that it is still arriving when its image is asked for.
In `spare-asked-after-…` nginx has `client_header_timeout` 1000, or it would close what was never used after 60 s.
In `pool-groups-…` it sends each file at 100 kB a second, so that all images are wanted at the same time.
In `new-syn`, scapy sends a SYN into each TIME_WAIT but one, as another host behind the same NAT would.

In `clinic-…` two small Python programs, written as people write them, have one fault each (`findings` in
`experiment.json` names what a diagnosis must find, `said` counts the answers and errors that the client saw), and
`clinic-…-cured` is the same after the cure. In `clinic-proxy-race…` nginx stands on the client's host, between the
programs; the capture has its connections to the server, and `proxy` in `experiment.json` counts the lines of its logs.
In `clinic-idle-drop-reset…` and `clinic-idle-drop-h2…` the wire ran through a program that forgets idle connections, as
a NAT or a firewall does; its RST is the testbed's own, with a TTL of 255. In `clinic-dead-peer` the server's host loses
its address. Over TLS the secrets are in the capture.

In `client-…` a program of a few lines, as people write them (helpers/testbed/clients/programs), asks for a text of
1,000 bytes with 4 workers, 10 times each (`client-go-unread-large`: of 20,000 bytes). Then it is idle for a minute, in
which nginx closes what is idle for 3 s, and ends; `client-curl-…` and `client-wrk` end at once. Over TLS
(`client-httpx-h2`, `client-node-http2`, `client-go-h2`) name, certificate and secrets are as in `h2-…`. Node asks
through `undici` where its program calls `fetch`.

In `idle-close-quiet`, `idle-close-visit` and `idle-close-patient` Chromium's window was incognito, where no
request of its own disturbs the silence. Elsewhere it was an ordinary one, which opens 2 connections in
advance (an incognito one opens 1). A visit or fetch on port 8080 is there only to make Chromium look at its
idle connections.

In `https-…`, `h2-…`, `h3-…` and `resumption` the server has a name (`www.example.test`), which the clients
resolve, and a certificate of the testbed's own authority, which they trust. The secrets of their connections
are in the capture itself (a Decryption Secrets Block), so Wireshark shows what was said. HTTP/3 is served by
Caddy, whose log numbers neither connections nor requests. In `https-close` curl asks nginx and Caddy, each with TLS 1.3
on one port and with TLS 1.2 on another.

**What these recordings can't tell.** There was one version of Linux, no loss and a round trip of some 20 µs (in
`lost-last-ack…`, `old-duplicate-…` and `closers-rtt.csv`, whose wire ran through a program, 40 ms, and what
was lost or late is what the experiment says); Chromium and Firefox ran headless on two\
 processor cores, without internet. How
many connections a browser opens depends on timing and differs from run to run: see `browser-counts.csv`. The
clients called `replay` are no browser but a small program that keeps the rules which the browser of 2018
seems to have kept.

## How to read a recording

| file | who speaks | what it holds |
|---|---|---|
| `experiment.json` | the testbed | page, settings, versions, and the time line of what was done |
| `capture.pcapng` | the wire | every frame at the client's interface, whole; opens in Wireshark |
| `capture-client.pcapng`, `capture-server.pcapng` | the wire | what the other end of a long wire saw |
| `sockets.csv` | the kernel | what `ss` listed at both ends, 5 times a second |
| `requests.csv` | nginx (in `closers-race`, Python's http.server) | its access log, with the client's port |
| `answers.csv` | the testbed | `protection`, `new-syn`: what was sent into each TIME_WAIT, and what came of it |
| `sent.csv`, `received.csv` | client and server programs | `old-duplicate-…`: the lines written, and read |
| `udp.csv` | the kernel | `h3-…`: the UDP sockets at both ends, as `sockets.csv` has those of TCP |
| `browser.json` | Chromium | its own log (NetLog), shortened to its requests and sockets (Chromium only) |

In `old-duplicate-…` and `lost-last-ack-no-time-wait`, `capture.pcapng` is the server's: `capture` in
`experiment.json` names the host. All times are UNIX time in seconds. All sizes are bytes. `address:port`
names an end of a connection.

**`sockets.csv`**: one row for each stay of one end of one connection in one state.

| column | meaning |
|---|---|
| `host` | `client` or `server` |
| `local`, `peer` | this end and the other end, `address:port` |
| `state` | RFC 9293's name, such as `TIME_WAIT` |
| `first_seen` | just after the first listing that had it: the state had begun by then |
| `last_seen` | just before the last listing that had it: the state hadn't ended then |

A stay seen in one listing only has `last_seen` a few milliseconds before `first_seen`. A stay shorter than
0.2 s may have been missed.

**`requests.csv`**: one row for each request that nginx answered.

| column | meaning |
|---|---|
| `time` | when nginx had handed the response to the kernel (millisecond steps) |
| `client_port` | the client's port |
| `connection` | nginx's serial number of the connection |
| `nth` | which request on this connection, from 1 |
| `request`, `status` | request line and status code |
| `bytes_sent`, `body_bytes_sent` | the response with and without its headers |

**`browser.json`**: `requests` (`url`, `method`, `client_port`, `nth` on that socket, `time`, `status`) and
`sockets` (`local`, `remote`, `opened_for`: `preconnect` or the URL it was opened for, `opened`, `closed`,
`close_reason` and, in `pool-groups-chromium`, `pool_group` in Chromium's words).

**`experiment.json`**: `timeline` lists what the testbed did; `sampling` says how regular the looks at the
sockets were; `kernel` holds the client's TCP settings, null where that kernel has none of the name, and
`kernel_server` the server's where they differ; `witnesses` names the hosts whose kernel alone made their
packets, which were captured where it saw them (both, if it isn't there).

**`answers.csv`**: one row for each connection of `protection` or `new-syn`.

| column | meaning |
|---|---|
| `case` | the packet that scapy sent; `nothing`: none |
| `client` | the client's end of the connection |
| `kernel` | whether the client's kernel `answers` what comes back, as it would, or is kept `silent` |
| `sent_at`, `sent` | when, and with which flags |
| `sent_seq` | its sequence number, counted from the one that the TIME_WAIT expects |
| `answer` | flags of the server's answer; empty: none |
| `answer_seq`, `answer_ack` | its numbers, counted from those of the TIME_WAIT |
| `reaction` | flags of what the client's kernel said to that |
| `time_wait_after` | whether the TIME_WAIT was there 0.5 s later |
| `time_wait_until` | when `ss` listed it last |

**`sent.csv`**, **`received.csv`**: one row for each line of text: `time`, `client_port`, which connection
from there (`nth`) and `text`. The server answers each line that it reads.

## Tables of their own

**`article-2018.csv`**: what the article reports; empty where it doesn't say. Columns `experiment` (our name
for it), `images`, `connections`, `time_wait_client`, `time_wait_server` (how many TIME_WAITs there), and
how many connections were `closed_by_client` and `closed_by_server` first.

**`browser-counts.csv`**: how many connections a browser opened for a page, 10 times each. Columns
`browser`, `start` (`warm`: it had long started; `cold`: started for this page, with a fresh profile;
`incognito`: warm, in an incognito window), `images`, `repeat`, `connections` (from the packets, until 2.5 s
after the page), `used` (those that carried a request, from nginx's log), `flushed` (those that Chromium closed
itself with the reason "Cert verifier changed", which only pages with `start` `cold` have; empty for Firefox, which
gives no reasons). Each page had a port of its own, so that no earlier connection could be used.

**`browser-sockets.csv`**: what Chromium's own log (NetLog) says of the same pages, one row for each socket.

| column | meaning |
|---|---|
| `browser`, `start`, `images`, `repeat` | the page, as in `browser-counts.csv` |
| `client_port` | the client's port |
| `opened`, `closed` | seconds since the page's first socket began to open |
| `opened_for` | `preconnect`: opened in advance; `request`: for a request |
| `close_reason` | in Chromium's words |

"Remote side closed connection": nginx closed first. "Socket pool destroyed": the browser ended.

**`clients.csv`**: how 20 workers of a program make 20 requests each of nginx, and then are idle for a minute, in
which nginx (`keepalive_timeout 65`, `client_header_timeout 1000`) closes nothing; one row for each of 21 programs and
of ten repeats. nginx answers at once, so two workers may get by with one connection in turn. Each run had a port of
its own, and no two asked at the same time.

| column | meaning |
|---|---|
| `client` | the program; `client-…` is its recording, whose `experiment.json` says how it asks |
| `library`, `version` | what speaks HTTP in it; for Java, Node and Go that of the language |
| `protocol` | `http/1.1`, or `h2`, which is over TLS |
| `repeat`, `workers` | from 1 to 10; how many ask at the same time |
| `requests` | those answered with 200, from nginx's log; wrk stops after 400 answers, with others on the way |
| `connections` | from the packets |
| `never_used` | those of them that carried no request, from nginx's log |
| `closed_at_work` | those closed until a second after the last answer |
| `closed_idle` | those closed later, in the idle minute |
| `open` | those still open when the program was told to end |
| `closed_by_client`, `closed_by_server`, `closed_by_both` | who closed first (both: at once), where one can tell |
| `resets` | closed by a RST; one that follows a FIN is counted here too |
| `time_wait_client`, `time_wait_server` | closed connections that went into TIME_WAIT at this end, from the packets |
| `ss_client`, `ss_server` | those that `ss` listed in TIME_WAIT at this end, looking once a second |
| `idle_seconds` | when those of `closed_idle` closed: seconds after the last answer, median; empty: none |

The programs that end with their last answer (`curl-loop`, `curl-urls`, `wrk`) have no idle minute. `….json` beside it
has both kernels' settings and the versions.

**`closers.csv`**: who closed first, one row for each connection, which carried one request; 100 connections
in every cell of `server`, `client`, `version` and `framing`.

| column | meaning |
|---|---|
| `server` | `nginx`, `http.server`, `http.server/1.0` or `raw`, see below |
| `client` | `curl` or `ab`, started anew for each connection |
| `version` | of the request, and the `Connection: keep-alive` or `close` that it has |
| `framing` | the end of the body on the wire: `content-length`, `chunked`, or neither: `until-close` |
| `closer` | `client`, `server` or `both` at once, from the packets |
| `time_wait_client`, `time_wait_server` | whether this end went into TIME_WAIT, from the packets |
| `ss_client`, `ss_server` | whether `ss` listed it in TIME_WAIT at this end |

`http.server` is Python's own, told to speak HTTP/1.1, and `http.server/1.0` the same as it is by default;
`raw`, a few lines of Python, never closes while its patience lasts. Every server's patience is 3 s.
Left out, since there is no such thing: ab with HTTP/1.1 (it speaks HTTP/1.0 only), and chunked with a request
or server of HTTP/1.0. Each cell had a port of its own, so that no TIME_WAIT could disturb another; its
connections were made one after the other, or all at once where each had to wait for the server. Where both
ends may close, microseconds decide: those shares differ from run to run.

**`closers-rtt.csv`**: those cells of curl in which both ends may close, once more, over a wire whose round
trip is 40 ms; columns and numbers as in `closers.csv`. The wire was a program, which handed on each packet
20 ms after it was sent, and kept the gaps between packets to some 25 µs. When the last byte arrives, the
server's FIN is on its way. `both` means here that it was so far behind that byte (0.1 ms or more) that curl
had closed before it came: how often that is differs from run to run.

**`ports.csv`**: a client with 100 local ports makes 200 attempts a second for 68 s; a connection that it gets
carries a byte each way and ends. One row for each setting and tenth of a second; every setting had hosts of
its own.

| column | meaning |
|---|---|
| `setting` | `plain` (tcp_tw_reuse 0, the client closes first), or what differs from it, see below |
| `time` | when the tenth of a second begins, in seconds since the setting began |
| `succeeded`, `failed` | how many of its attempts did |
| `error` | the name of the error of those that failed |
| `time_wait_client`, `time_wait_server` | how many TIME_WAITs `ss` listed at this end, once a second |

`tcp_tw_reuse 1` and `tcp_tw_reuse 2`: of the client's kernel. `another port`, `another address`: after 5 s
the attempts go to another port of the server, or come from a second address of the client. `SO_LINGER 0`:
the client closes with a reset.

**`buckets.csv`**: the same client makes 50 attempts a second for 10 s; its kernel keeps at most as many TIME_WAITs as
`setting` says: `tcp_max_tw_buckets 131072` (the kernel's own), `100` or `50`. Columns as in `ports.csv`.

**`range.csv`**: the local ports of 40 connections that are open at once, one row for each. Columns `low` and `high`
(the client's range of local ports), `how` (`connect`: connect() alone; `bind`: bind() with port 0 before it), `nth`
(in the order in which they were opened) and `port`.

**`bind.csv`**: a client has one local port; it has closed its first connection itself, and wants a second one.

| column | meaning |
|---|---|
| `way` | what both sockets call before connect(): nothing (`connect alone`), or see below |
| `to` | where the second one goes: `another port` of the server, or `the same` |
| `reuse_before`, `reuse_after` | whether the first and the second socket set SO_REUSEADDR |
| `time_wait_client` | how many TIME_WAITs `ss` listed at the client before the second socket |
| `bind_error`, `connect_error` | the name of the second one's error; empty: none |

`bind to the port`: bind() to the client's address and that port. `bind to the address`: the same with port 0, so that
the kernel chooses. `IP_BIND_ADDRESS_NO_PORT`: as before, but with this option the kernel chooses in connect().

**`rebind.csv`**: a server whose one connection `closer` closed first has ended, and its successor tries to
bind() the port, 20 times a second. Columns `closer`, `reuse_before` and `reuse_after` (whether the old and
the new server set SO_REUSEADDR), `time_wait_server` (how many `ss` listed there then), `attempts`, `error`
(of the first attempt; empty: none) and `seconds` until bind() succeeded.

**`load.csv`**: connections with one request each begin at a steady rate for 150 s; nginx has
`keepalive_timeout 0` and closes each. One row for each second. Columns `rate` (connections a second),
`addresses` (of the client, used in turn), `time` (seconds since the first), `connections` and `failed` (how
many had been made and had failed by then), `time_wait_client`, `time_wait_server` (how many `ss` listed).

**`weight.csv`**: what TIME_WAITs take in the kernel's memory. A first connection is closed, the objects are counted,
5,000 connections follow one after the other, and the objects are counted again.

| column | meaning |
|---|---|
| `closer` | who closes each connection first: `server` or `client` |
| `time_wait_client`, `time_wait_server` | how many TIME_WAITs `ss` listed at this end after that |
| `slab` | a kind of kernel object: `tw_sock_TCP` (a TIME_WAIT), `tcp_bind_bucket`, `tcp_bind2_bucket` (ports in use) |
| `bytes_each` | bytes of one object (`slab_size` in /sys/kernel/slab) |
| `objects_before`, `objects_with` | how many were in use before the 5,000 connections, and after them |

The kernel counts objects on the whole machine, and may keep other objects of the same size in the same slab.

**`thread-per-connection.csv`**: what idle connections take of a server. Columns `server` (`nginx`, or Python's
`http.server`), `connections` (how many `ss` listed as established; each had one request), `processes` and `threads`
(of the server at that moment).

**`fin-wait-2-counted.csv`**: five connections that nginx has closed and whose clients don't close, so the server has
them in FIN_WAIT_2, orphaned (no process has them any more). Columns `seconds` (since they were closed), `source` (`ss
-s`, `/proc/net/sockstat`, or `ss -tan`: its lines counted by state), `what` that source calls them, and `number`.

**`unread-close.csv`**: a client uploads 1,000,000 bytes to a server that refuses them with status 413, one row for
each of 20 uploads. Nothing of the body is kept: what matters is whether the server closes while data is unread.

| column | meaning |
|---|---|
| `server` | `nginx, lingering_close on`, `off` or `always`; `raw, all` (reads the whole body) or `raw, unread` |
| `nth` | which upload, from 1 |
| `sent` | bytes, headers too, that the client could hand to its kernel |
| `status` | status code that the client read; empty: none |
| `error` | the name of the first error of the client's socket; empty: none |
| `ending` | how the connection ended, from the packets: `fin` or `reset` |
| `reset_by` | who sent the first RST, from the packets; empty: nobody |
| `time_wait_client`, `time_wait_server` | whether `ss` listed it in TIME_WAIT at this end |

nginx passes the upload on to a small server of the testbed, which refuses it. `raw` servers are a few lines of Python.

**`….json`** beside each table from `ports.csv` to `unread-close.csv`: the parameters of each part, both kernels'
settings (`kernel_lacks` names those that this kernel hasn't) and the versions. In `fin-wait-2-counted.json`, `said` is
all that the three sources printed. `load.json` holds more:

| in `bills` | meaning: one run of ab, at the end of which the counters were read |
|---|---|
| `connections` | `short` (nginx has `keepalive_timeout 0`) or `long` (65, and `ab -k`) |
| `buckets` | the server's tcp_max_tw_buckets, where it was changed |
| `answered`, `failed`, `requests_per_second` | what ab reports |
| `opened_…`, `accepted_…` | connections, at this end (TcpActiveOpens, TcpPassiveOpens) |
| `new_time_wait_…`, `overflow_…` | TcpExtTW and TcpExtTCPTimeWaitOverflow at this end |
| `time_wait_…` | how many TIME_WAITs `ss` listed at this end |

| in `memory` | meaning: `without` and `with` the connections in `state` |
|---|---|
| `time_wait`, `established` | how many of them `ss` listed at the server |
| `threads`, `rss`, `descriptors` | of nginx |
| `kernel_slab` | bytes in the kernel's slabs, for both ends and whatever else ran |
| `slabs` | objects in use and bytes of one; null where the kernel tells root only |

**`proxy.csv`**: ab makes 2,000 requests, 20 at a time over connections that it keeps (`-k`), to an nginx that
passes each on to an nginx on a third host. One row for each of six configurations of the proxy, of two ranges
of local ports there, and of five runs.

| column | meaning |
|---|---|
| `upstream` | how the proxy speaks to the server behind it; `proxy.json` has the configuration |
| `ports` | how many local ports the proxy has for connections that it opens |
| `run` | 1 to 5 |
| `requests`, `failed`, `status_502` | from the proxy's log: all, those not answered with 200, those with 502 |
| `cannot_assign` | lines "Cannot assign requested address" in the proxy's error log |
| `connects` | connections on which a request reached the upstream, from its log |
| `kernel_connects` | connections that the proxy's kernel opened (`ActiveOpens`) |
| `time_wait_client`, `time_wait_proxy_to_client` | TIME_WAITs between client and proxy, at this end (`ss`) |
| `time_wait_proxy_to_upstream`, `time_wait_upstream` | TIME_WAITs between proxy and upstream, at this end (`ss`) |
| `idle` | established connections from proxy to upstream that are left |
| `requests_per_second` | as ab says; three hosts on one machine, and a 502 costs little |

`ss` looked when nothing was closing any more. Each row had ports of its own to connect to, so that no
TIME_WAIT could disturb another. Where the upstream closes after its answer, the proxy may do so too as soon
as it has the body: those shares differ from run to run.

**`proxy.json`**: parameters, the six configurations, the proxy's kernel settings as they were before the
range was made small, versions, and `idle_connections`: how many seconds after the requests the idle
connections of a pool were gone, and at which end they left TIME_WAITs, for two `keepalive_timeout`s of the
upstream.

**`proxy-buckets.csv`**, **`proxy-buckets.json`**: the same with the configuration `http-1.1` only and 100 local ports;
the proxy's kernel keeps at most as many TIME_WAITs as the last column, `buckets` (its tcp_max_tw_buckets), says. Three
runs each. Since that limit is one for the whole host, a row began when the TIME_WAITs of the row before had gone.
"""
AGAIN = """\
## Recording them again

On Debian, as root or as an ordinary user who may have namespaces:

    apt-get install nginx-light chromium firefox-esr tshark iproute2 ethtool procps util-linux \
        curl apache2-utils libnss3-tools caddy
    pip install -e '.[testbed]'
    python -m helpers.testbed list
    python -m helpers.testbed record long-7-images-firefox
    python -m helpers.testbed record --all

The programs of `clients` and `client-…` need `nodejs` (20 or later), `golang-go`, `default-jdk-headless` and `wrk` too.

Most take two or three minutes, since a TIME_WAIT takes one; `idle-close-patient` takes seven,
`browser-counts` twenty. Each replaces the recording of its name when it is complete.

## Licence

The recordings and tables are free to use under [CC BY 4.0](https://creativecommons.org/licenses/by/4.0/).
"""


def write_datasheet(data: Path) -> None:
    """Write the datasheet of the folder `data` as its `README.md`."""
    draft = data / ".README.md"
    draft.write_text(datasheet(data), encoding="utf-8")
    draft.replace(data / "README.md")


def datasheet(data: Path) -> str:
    """The text of the datasheet of the folder `data`, about every recording there."""
    recordings = {file.parent: json.loads(file.read_text(encoding="utf-8"))
                  for file in sorted(data.glob("[!.]*/experiment.json"))}
    return "\n".join((INTRODUCTION, _experiments(recordings), _versions(recordings.values()), AGAIN,
                      _files(data, recordings)))


def _experiments(recordings):
    rows = [(f"`{about['name']}`", about["about"], about["article"], about["recorded"][:16].replace("T", " "),
             about["capture"]["frames"]) for about in recordings.values()]
    columns = "name", "what happened", "what it repeats of the article", "recorded (UTC)", "frames"
    return _section("The experiments", columns, rows)


def _versions(abouts):
    versions = {}
    for about in abouts:
        for program, version in about["versions"].items():
            versions.setdefault(program, {}).setdefault(version)
    rows = [(program, ", ".join(found)) for program, found in sorted(versions.items())]
    return _section("Versions", ("program", "version"), rows)


def _files(data, recordings):
    files = sorted(data.glob("*.csv")) + sorted(data.glob("*.json"))
    files += [file for folder in recordings for file in sorted(folder.iterdir())]
    rows = [(f"`{file.relative_to(data).as_posix()}`", f"{file.stat().st_size:,}",
             f"`{hashlib.sha256(file.read_bytes()).hexdigest()}`") for file in files]
    return _section("Every file", ("file", "bytes", "SHA-256"), rows)


def _section(title, columns, rows):
    lines = (f"| {' | '.join(map(str, row))} |" for row in (columns, ["---"] * len(columns), *rows))
    return f"## {title}\n\n" + "\n".join(lines) + "\n"
