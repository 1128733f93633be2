"""Cases about a page: which connections a browser opens for it, and what it does with them."""

from collections.abc import Callable, Iterable

import pandas as pd

from helpers.claims.data import BROWSERS, CLIENTS, LONG, LONG_PAGES, Data
from helpers.claims.judging import Case

ALL_PAGES = tuple(f"long-{images}-images-{client}" for client in CLIENTS for images in LONG)
SHORT_PAGES = tuple(f"short-7-images-{client}" for client in CLIENTS)
WITH_TWO_IMAGES = ("long-2-images-firefox", "long-2-images-chromium", "idle-close-quiet", "idle-close-visit",
                   "idle-close-patient")
JUST_SET_UP = "Cert verifier changed"  # Chromium's reason, in its own log
WITH_ONE_IMAGE = ("long-1-images-firefox", "long-1-images-chromium", "page-streamed-firefox", "page-streamed-chromium")


def counted(images: int, number: int) -> Callable[[Data], list[Case]]:
    """Each load of a page with `images`: whether the browser opened `number` connections for it.

    Not counted are those `flushed`: Chromium, just started, closed them itself when it had set up its certificate
    verifier, and connected anew.
    """
    def cases(data):
        counts = data.table("browser-counts").query(f"images == {images}")
        kept = counts["connections"] - counts["flushed"].fillna(0)
        return [Case(f"{row.browser}, {row.start}, load {row.repeat}", bool(kept[place] == number),
                     {"browser": row.browser, "start": row.start}) for place, row in counts.iterrows()]
    return cases


def count_as_reported(images: int, client: str, data: Data) -> bool:
    """Whether the recorded `client` opened as many connections for `images` as the article counts."""
    reported = data.table("article-2018").set_index("experiment").loc[f"long-{images}-images", "connections"]
    return len(data.page(f"long-{images}-images-{client}")) == reported


def time_waits_as_reported(images: int, client: str, data: Data) -> bool:
    """Whether the recorded `client` and its server had as many TIME_WAITs for `images` as the article counts."""
    reported = data.table("article-2018").set_index("experiment").loc[f"long-{images}-images"]
    waits = data.page(f"long-{images}-images-{client}")["time_wait"]
    found = [(waits == host).sum() for host in ("client", "server")]
    return found == list(reported[["time_wait_client", "time_wait_server"]])


def waited(images: int) -> Callable[[Data], list[Case]]:
    """Each browser's recording of `images`: whether the TIME_WAITs at both ends are as many as the article counts."""
    return lambda data: [
        Case(f"long-{images}-images-{client}", time_waits_as_reported(images, client, data),
             {"unused": int((data.page(f"long-{images}-images-{client}")["client_bytes"] == 0).sum())})
        for client in BROWSERS]


def handshakes(data: Data) -> list[Case]:
    """Each recording of a page: whether SYN, SYN ACK and ACK opened every connection."""
    def opened(name):
        segments, page = data.load(name).segments, data.page(name)
        first = segments[segments["stream"].isin(page.index)].groupby("stream")["flags"].agg(list)
        return all(flags[:3] == ["S", "SA", "A"] for flags in first)
    return [Case(name, opened(name)) for name in (*ALL_PAGES, *SHORT_PAGES)]


def own_client_ports(data: Data) -> list[Case]:
    """Each recording of a page: whether every connection took another port of the client."""
    return [Case(name, data.page(name)["client"].is_unique) for name in (*ALL_PAGES, *SHORT_PAGES)]


def ports_picked_and_fixed(data: Data) -> list[Case]:
    """Each recording of a page: whether the client's port was another each time, the server's always the same."""
    def so(page):
        ports = page["client"].str.rsplit(":", n=1).str[1]
        return ports.is_unique and "80" not in set(ports) and page["server"].nunique() == 1
    return [Case(name, so(data.page(name))) for name in (*ALL_PAGES, *SHORT_PAGES)]


def shared_with_first_image(data: Data) -> list[Case]:
    """Each page with two images: whether the first came over the page's connection, and the second over another."""
    return [shared_case(data, name) for name in WITH_TWO_IMAGES]


def shared_case(data: Data, name: str) -> Case:
    """Whether page and first image of the recording `name` shared a connection, and the second image had another.

    `second_ready`: whether another connection stood open, and idle, when the second image was asked for.
    """
    sent = data.load(name).exchanges.drop_duplicates("target").set_index("target")
    first, second, page = (sent.loc[target] for target in ("/image-1.png", "/image-2.png", "/"))
    others = data.page(name).drop(page["stream"])
    ready = bool((others["established"] < second["requested"]).any())
    return Case(name, page["stream"] == first["stream"] != second["stream"], {"second_ready": ready})


def one_connection_for_both(data: Data) -> list[Case]:
    """Each page with one image: whether both came over one connection.

    `page_first`: whether the page was complete when the image was asked for.
    """
    def case(name):
        sent = data.load(name).exchanges.drop_duplicates("target").set_index("target")
        page, image = sent.loc["/"], sent.loc["/image-1.png"]
        return Case(name, page["stream"] == image["stream"],
                    {"page_first": bool(page["finished"] < image["requested"])})
    return [case(name) for name in WITH_ONE_IMAGE]


def opened_before_images(images: int, number: int, client: str, data: Data) -> bool:
    """Whether `number` connections were opened before the first image was asked for."""
    name = f"long-{images}-images-{client}"
    asked = data.load(name).exchanges.query("target == '/image-1.png'")["requested"].iloc[0]
    return (data.page(name)["opened"] < asked).sum() == number


def three_at_first(data: Data) -> list[Case]:
    """Each load of four images by Chromium, and the recordings: whether three connections were opened in advance."""
    return [*(Case(load, number == 3) for load, number in _in_advance(data, 4)),
            *(Case(f"long-4-images-{client}", bool(opened_before_images(4, 3, client, data))) for client in BROWSERS)]


def _in_advance(data, images):
    """Name of each Chromium load, and how many connections were opened in advance and not closed at once."""
    sockets = data.table("browser-sockets").query(f"images == {images}")
    early = (sockets["opened_for"] == "preconnect") & (sockets["close_reason"] != JUST_SET_UP)
    for (start, repeat), number in early.groupby([sockets["start"], sockets["repeat"]]).sum().items():
        yield f"chromium, {start}, load {repeat}", number


def over_the_first(data: Data) -> list[Case]:
    """Each browser's recording, and each load whose first one Chromium closed unused: did the page come over the first?

    `open`: whether that connection was still open then.
    """
    def stream(name):
        return data.load(name).exchanges.query("target == '/'")["stream"].iloc[0]
    sockets = data.table("browser-sockets")
    first = sockets.loc[sockets.groupby(["start", "images", "repeat"])["opened"].idxmin()]
    closed = first[first["close_reason"] == JUST_SET_UP]
    return [*(Case(name, data.page(name)["established"].idxmin() == stream(name), {"open": True})
              for name in LONG_PAGES),
            *(Case(f"chromium, {row.start}, {row.images} images, load {row.repeat}", False, {"open": False},
                   "browser-sockets") for row in closed.itertuples())]


def one_more_when_busy(data: Data) -> list[Case]:
    """Each connection opened after images were asked for: whether more requests than connections were open then."""
    return [case for name in LONG_PAGES for case in _further(data, name)]


def _further(data: Data, name: str) -> Iterable[Case]:
    page, sent = data.page(name), data.load(name).exchanges
    wanted = sent[sent["stream"].isin(page.index) & (sent["target"] != "/")]
    asked = wanted["requested"].min()
    for stream, row in page[page["opened"] > asked].iterrows():
        missing = (wanted["finished"] > row["opened"]).sum()
        yield Case(f"{name}, connection {stream}", bool(missing > (page["opened"] < row["opened"]).sum()),
                   recording=name)


def six_from_the_beginning(data: Data) -> list[Case]:
    """Each load of seven images by Chromium, and the recordings: whether six were opened before the page was there."""
    def before_page(name):
        arrived = data.load(name).exchanges.query("target == '/'")["finished"].iloc[0]
        return (data.page(name)["opened"] < arrived).sum()
    names = [f"long-7-images-{client}" for client in BROWSERS]
    return [*(Case(load, number >= 6) for load, number in _in_advance(data, 7)),
            *(Case(name, bool(before_page(name) >= 6)) for name in names)]


def used_again(data: Data) -> list[Case]:
    """Each browser's recording: whether a connection carried a second request."""
    return [Case(name, bool((data.load(name).exchanges["nth"] > 1).any())) for name in LONG_PAGES]


def one_request_each(data: Data) -> list[Case]:
    """Each recording over short connections: whether each connection carried one request."""
    return [Case(name, bool((data.load(name).exchanges["nth"] == 1).all())) for name in SHORT_PAGES]


def closed_by_the_server(data: Data) -> list[Case]:
    """Each short connection: whether the server closed it first, and had its TIME_WAIT."""
    return [Case(f"{name}, connection {stream}", (row["closer"], row["time_wait"]) == ("server", "server"),
                 {"client": name.rsplit("-", 1)[1]}, name)
            for name in SHORT_PAGES for stream, row in data.page(name).iterrows()]


def processes(data: Data) -> list[Case]:
    """Each recorded start of a client program: whether that process made one request and no other.

    `outlives`: seconds from its first response to its end.
    """
    return [*(case for name in LONG_PAGES for case in _runs(data, name, ".* started", ".* closed")),
            *(case for name in ("closers-race", "closers-patience", "closers-end-of-file")
              for case in _runs(data, name, "visit", "loaded"))]


def _runs(data: Data, name: str, start: str, end: str) -> Iterable[Case]:
    timeline, sent = data.load(name).timeline, data.load(name).exchanges
    starts, ends = (timeline.loc[timeline["action"].str.match(action), "time"] for action in (start, end))
    for number, (began, ended) in enumerate(zip(starts, ends), 1):
        its = sent[sent["requested"].between(began, ended)]
        yield Case(f"{name}, process {number}", len(its) == 1,
                   {"outlives": round(float(ended - its["finished"].min()), 1)}, name)


def ends_that_wait(data: Data) -> list[Case]:
    """Both ends and both witnesses: whether TIME_WAIT was found there."""
    tables = {"by packets": pd.concat(data.load(name).states for name in (*ALL_PAGES, *SHORT_PAGES)),
              "by the kernel": pd.concat(data.load(name).sockets for name in (*ALL_PAGES, *SHORT_PAGES))}
    return [Case(f"{host}, {witness}", bool(((table["host"] == host) & (table["state"] == "TIME_WAIT")).any()))
            for witness, table in tables.items() for host in ("client", "server")]
