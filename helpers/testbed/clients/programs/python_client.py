"""Python's ways to ask, a function each: `python python_client.py WAY URL WORKERS TIMES`.

So many workers ask so many times each. Then the program says `done` and does nothing until its input ends.
"""

import asyncio
import sys
import urllib.request
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import aiohttp
import httpx
import requests
from requests.adapters import HTTPAdapter

URL, WORKERS, TIMES = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])


def requests_get() -> None:
    """requests.get: a session, and so a pool, for each request."""
    work(lambda: requests.get(URL).content)


def requests_session() -> None:
    """One session: its pool keeps 10 connections."""
    with requests.Session() as session:
        work(lambda: session.get(URL).content)


def requests_session_20() -> None:
    """One session whose pool keeps as many as there are workers."""
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(pool_maxsize=20))
        work(lambda: session.get(URL).content)


def httpx_client() -> None:
    """One client: its pool keeps 20 connections, and opens 100 at most."""
    with httpx.Client() as client:
        work(lambda: client.get(URL).content)


def httpx_client_20() -> None:
    """One client that opens as many as there are workers at most."""
    with httpx.Client(limits=httpx.Limits(max_connections=20, max_keepalive_connections=20)) as client:
        work(lambda: client.get(URL).content)


def httpx_h2() -> None:
    """One client that speaks HTTP/2, in one thread: with several, nginx now and then ends it (PROTOCOL_ERROR)."""
    asyncio.run(ask_with_httpx())


async def ask_with_httpx() -> None:
    """The workers, as tasks of one event loop, and the idle time in it."""
    async with httpx.AsyncClient(http2=True) as client:
        await work_in_tasks(lambda: client.get(URL))


def urllib_request() -> None:
    """urllib.request: it asks for `Connection: close`."""
    work(lambda: urllib.request.urlopen(URL).read())


def aiohttp_session() -> None:
    """One session: 100 connections at most."""
    asyncio.run(ask_with_aiohttp())


async def ask_with_aiohttp() -> None:
    """The same, with aiohttp."""
    async with aiohttp.ClientSession() as session:
        async def ask() -> bytes:
            async with session.get(URL) as answer:
                return await answer.read()

        await work_in_tasks(ask)


async def work_in_tasks(ask: Callable[[], Awaitable]) -> None:
    """Let each worker, a task, await `ask` so often; then be idle, while the event loop runs on."""
    async def worker() -> None:
        for _ in range(TIMES):
            await ask()

    await asyncio.gather(*(worker() for _ in range(WORKERS)))
    await asyncio.to_thread(idle)


def work(ask: Callable[[], object]) -> None:
    """Let each worker, a thread, call `ask` so often; then be idle."""
    def worker(_: int) -> None:
        for _ in range(TIMES):
            ask()

    with ThreadPoolExecutor(WORKERS) as workers:
        list(workers.map(worker, range(WORKERS)))
    idle()


def idle() -> None:
    """Say that all is answered, and do nothing until the input ends."""
    print("done", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    globals()[sys.argv[1]]()
