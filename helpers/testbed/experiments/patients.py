"""The clinic: connections that are ill, and the same after the cure. Each is a line; `clinic` records them."""

from dataclasses import dataclass
from typing import ClassVar

FEW_PORTS = (("ip_local_port_range", "40000 40099"),)


@dataclass(frozen=True)
class Patient:
    """One incident: a program that serves (`clinic_servers`) and one that asks (`clinic_programs`).

    `server`, `client`: their kinds, with arguments. `forget_after`: seconds from the first answer after which the way
    to the server forgets the connection, in silence. `findings`: what a diagnosis must find, and nothing else. `limit`:
    seconds after the end within which the last socket must be gone; 0: not waited for. `kernel`: settings of the
    client's. `delay`: seconds each way on the wire. `proxy`: nginx stands on the client's host (`clinic_nginx`).
    `encrypted`: over TLS, with the secrets in the capture. `box`: seconds of silence after which the wire forgets a
    connection; it then drops what belongs to it, or `resets`. `vanish_after`: seconds from the first answer after which
    the server's host loses its address.
    """

    name: str
    title: str
    about: str
    server: str
    client: str
    findings: str = ""
    forget_after: float = 0
    limit: float = 150
    kernel: tuple = ()
    delay: float = 0
    proxy: bool = False
    encrypted: bool = False
    box: float = 0
    resets: bool = False
    vanish_after: float = 0
    article: str = "(not in the article)"
    recorder: ClassVar = "helpers.testbed.experiments.clinic"
    programs: ClassVar = frozenset()


PATIENTS = (
    Patient("clinic-no-reuse", "A connection for each request", "A program asks 40 times, each time over a new "
            "connection, which it closes when it has the answer.", "polite 65", "each-anew 40", "no-reuse"),
    Patient("clinic-no-reuse-cured", "One connection for all requests", "The same 40 requests over one connection.",
            "polite 65", "one-kept 40"),
    Patient("clinic-pool-too-small", "A pool smaller than the concurrency", "Ten workers ask 20 times each; their pool "
            "keeps two idle connections and closes the others.", "polite 65 0.01", "pool 10 20 2", "pool-too-small"),
    Patient("clinic-pool-too-small-cured", "A pool as large as the concurrency", "The same, with room for ten.",
            "polite 65 0.01", "pool 10 20 10"),
    Patient("clinic-keepalive-race", "A request crosses the server's FIN", "The server closes after a second of "
            "idleness; 25 clients ask again after 0.99 to 1.01 s, and write without looking.", "polite 1",
            "ask-again 25 0.99 1.01", "keep-alive-race"),
    Patient("clinic-keepalive-race-cured", "The asked end is the more patient one", "The same clients; the server "
            "waits for five seconds.", "polite 5", "ask-again 25 0.99 1.01"),
    Patient("clinic-gave-up", "The client gave up", "The answer takes 2.5 s, the client waits for one, three times.",
            "polite 65 2.5", "impatient 3 1", "client-gave-up slow-server"),
    Patient("clinic-gave-up-cured", "The client waits", "The same with a server that takes 0.2 s.",
            "polite 65 0.2", "impatient 3 1"),
    Patient("clinic-unread", "Answers closed unread", "A program asks for 400 kB, reads the first bytes of the answer "
            "and closes, six times.", "polite 65 0 400000", "unread 6", "reset-with-unread-data"),
    Patient("clinic-unread-cured", "Answers read to their end", "The same program reads each answer to its end.",
            "polite 65 0 20000", "each-anew 6"),
    Patient("clinic-linger", "SO_LINGER 0", "A program that sets SO_LINGER to 0 asks once and closes, five times.",
            "polite 65", "linger 5", "reset-instead-of-close"),
    Patient("clinic-linger-cured", "close() without SO_LINGER", "The same program without the option.",
            "polite 65", "each-anew 5"),
    Patient("clinic-close-wait", "A program that does not close", "The server closes after a second; the client keeps "
            "its six answered connections for eight seconds.", "polite 1", "keep 6 8", "close-wait"),
    Patient("clinic-close-wait-cured", "A program that closes", "The client closes each connection after its answer.",
            "polite 1", "each-anew 6"),
    Patient("clinic-refused", "Nobody listens", "Three attempts at a port that no program listens on.",
            "elsewhere", "try 3 2", "refused"),
    Patient("clinic-backlog", "A full accept queue", "A server with a backlog of one never accepts; eight clients try "
            "to connect for five seconds.", "deaf 1", "try 8 5", "syn-unanswered close-wait"),
    Patient("clinic-slow-server", "A slow server", "Each of four answers takes 1.5 s.",
            "polite 65 1.5", "one-kept 4", "slow-server"),
    Patient("clinic-slow-reader", "A slow reader", "The client asks for 200 kB and reads nothing for three seconds.",
            "polite 65 0 200000", "slow-reader 3", "slow-reader"),
    Patient("clinic-idle-drop", "The way forgets an idle connection", "Three seconds after the first answer the way to "
            "the server drops what belongs to the connection; the client then asks again, and waits for ten seconds.",
            "polite 65", "ask-after 5 10", "path-silent", forget_after=3, limit=0),
    Patient("clinic-ports", "The client's ports run out", "A client with 100 local ports asks five times a second for "
            "66 seconds, each time over a new connection, and closes it first.", "polite 65 0 100", "steadily 5 66",
            "ports-running-out no-reuse", kernel=FEW_PORTS),
    Patient("clinic-ports-cured", "One port is enough", "The same client keeps its connection, and asks for 20 s.",
            "polite 65 0 100", "steadily 5 20 kept", kernel=FEW_PORTS),
    Patient("clinic-proxy-race", "502 Bad Gateway: the backend closes first", "nginx on the client's host keeps "
            "connections to a backend that closes after a second of idleness. 24 clients ask through it twice, half of "
            "them with POST, with 0.85 to 0.97 s between; the wire takes 50 ms each way.", "polite 1",
            "post-again 24 0.85 0.97", "keep-alive-race", delay=0.05, proxy=True),
    Patient("clinic-proxy-race-cured", "The backend is the more patient one", "The same; the backend waits for ten "
            "seconds.", "polite 10", "post-again 24 0.85 0.97", delay=0.05, proxy=True),
    Patient("clinic-goaway", "Requests cross the server's GOAWAY", "nginx takes four requests on a connection of "
            "HTTP/2 (keepalive_requests 4), over a wire of 20 ms each way. A client sends a POST every 5 ms, and does "
            "not repeat what GOAWAY leaves out.", "nginx 4", "post-in-a-row 12 0.005", "goaway-race", delay=0.02,
            encrypted=True),
    Patient("clinic-goaway-cured", "What GOAWAY leaves out is asked again", "The same; the client repeats these "
            "requests on a new connection.", "nginx 4", "post-in-a-row 12 0.005 repeats", delay=0.02, encrypted=True),
    Patient("clinic-idle-drop-reset", "The way forgets an idle connection, and resets", "A box on the way (the "
            "testbed's wire, 5 ms each way) forgets what has been silent for three seconds, and answers what comes "
            "then with a RST. The client asks, and asks again after five seconds.", "polite 65", "ask-after 5 10",
            "reset-by-a-box", delay=0.005, box=3, resets=True),
    Patient("clinic-idle-drop-reset-cured", "Probes keep the way's memory alive", "The same; the client's kernel "
            "sends a keep-alive probe after each second of silence.", "polite 65", "ask-after 5 10 probes",
            delay=0.005, box=3, resets=True),
    Patient("clinic-idle-drop-h2", "One dead connection for all", "A box on the way (the testbed's wire, 5 ms each "
            "way) forgets what has been silent for three seconds, and drops what comes then. Over HTTP/2 the client "
            "asks once, after five seconds twice six times at once, each request for three seconds, and once on a new "
            "connection.", "nginx 1000", "ask-together 6 5 3", "path-silent one-dead-connection", delay=0.005, box=3,
            limit=0, encrypted=True),
    Patient("clinic-idle-drop-h2-cured", "PING keeps the connection alive", "The same; the client sends a PING each "
            "second.", "nginx 1000", "ask-together 6 5 3 pings", delay=0.005, box=3, encrypted=True),
    Patient("clinic-dead-peer", "The other host vanishes", "Three seconds after the first answers the server's host "
            "loses its address. One connection of the client probes it (TCP keep-alive), another asks again.",
            "polite 65", "outlive 5 10", "path-silent probes-unanswered", vanish_after=3, limit=0),
    Patient("clinic-tls-close", "An answer over TLS that is cut off", "The end of each answer is the end of the "
            "connection. The server's program sends half and closes its socket, without close_notify; the client "
            "notices nothing.", "until-close in-the-middle", "read-to-end 5",
            "tls-answer-cut tls-closed-before-close-notify", encrypted=True),
    Patient("clinic-tls-close-cured", "close_notify says that the answer was whole", "The server sends all, and "
            "close_notify.", "until-close whole", "read-to-end 5", encrypted=True))
