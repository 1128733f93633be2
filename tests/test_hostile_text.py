"""Text from a capture is hostile: it must not become markup, mathematics, a terminal's command or reversed text."""

import io
import re
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from toys import EXCHANGE, HANDSHAKE, toy

from helpers import figures, report
from helpers.captures import CaptureError, merge_captures, read_capture
from helpers.exchanges import exchanges
from helpers.report import Incident, page, pictures, summary, visible

TARGETS = {
    "script": b"/<script>alert(1)</script><img/src=x/onerror=alert(1)>\"'&lt;",
    "mathematics": b"/$\\frac{1}{0}$$^{$\\undefined{",
    "escapes": b"/\x1b[31m\x1b]0;title\x07\x1b[2J\x9b31m",
    "right to left": "/\u202egnp.exe\u2066\u200f".encode(),
    "nul": b"/\x00\x01\x7f",
    "surrogates": b"/\xed\xa0\x80\xed\xbf\xbf\xff\xfe",
    "long": b"/" + b"x" * 60000,
    "percent": b"/%s%(x)s{0}{x!r}"}
NAMES = ["esc\x1b[31m.pcap", "rlo\u202ecap.pcap", "<script>alert(1)<", "$x$.pcap", "new\nline.pcap", "sur\udcff.pcap"]
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
FORBIDDEN = {"script", "img", "b", "svg", "iframe"}


def capture_of(path, target):
    asked = ("C", 0.3, "PA", 1, 1, b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    answered = ("S", 0.9, "PA", 1, 1 + len(asked[5]), b"HTTP/1.1 200 <b>\x1b[1m$x$\r\nContent-Length: 0\r\n\r\n")
    return toy(path, *HANDSHAKE, asked, answered)


@pytest.fixture(params=TARGETS)
def incident(request, tmp_path):
    incident = Incident(capture_of(tmp_path / "toy.pcap", TARGETS[request.param]))
    assert len(incident.exchanges) == 1, "the hostile text is in the table"
    return incident


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)


def test_in_a_notebook_it_is_no_markup(incident):
    assert not FORBIDDEN & set(Tags(incident.exchanges._repr_html_()).tags)
    with pd.option_context("display.max_colwidth", None):
        assert not FORBIDDEN & set(Tags(incident.exchanges._repr_html_()).tags)


def test_in_a_notebook_it_is_no_mathematics(incident):
    """MathJax, in JupyterLab and in pages made of notebooks, leaves alone what has this class."""
    for html in (incident.exchanges._repr_html_(), incident.exchanges.head().to_html(notebook=True)):
        assert "mathjax_ignore" in re.search('<table[^>]*class="([^"]*)"', html)[1].split()


def test_as_text_it_commands_nothing(incident):
    """`print` of the table, or of one of its cells."""
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", str(incident.exchanges) + incident.exchanges.to_string())
    assert not re.search("[\x00-\x1f\x7f-\x9f]", "".join(incident.exchanges["target"]))


def test_controls_are_escapes(tmp_path):
    target = exchanges(capture_of(tmp_path / "toy.pcap", TARGETS["escapes"] + b"\x00\x7f\x80\x9f\xa0\\"))["target"][0]
    assert target == "/\\x1b[31m\\x1b]0;title\\x07\\x1b[2J\\x9b31m\\x00\\x7f\\x80\\x9f\xa0\\"


def test_in_figures_it_is_plain_text(incident):
    for draw in (lambda ax: figures.ladder(incident.capture, 0, ax, exchanges=incident.exchanges, states=incident.states),
                 lambda ax: figures.waterfall(incident, ax, (0.2, 1.2))):
        fig, ax = figures.figure(4)
        draw(ax)
        texts = [text for text in ax.findobj(lambda artist: hasattr(artist, "get_text")) if text.get_text()]
        assert not any(CONTROLS.search(text.get_text()) or len(text.get_text()) > 200 for text in texts)
        assert not any(text.get_parse_math() for text in ax.texts)
        for kind in ("png", "svg"):
            with plt.rc_context(figures.STYLE | {"svg.fonttype": "none"}):
                fig.savefig(file := io.BytesIO(), format=kind)
            assert kind == "png" or b"<script" not in file.getvalue()
        plt.close(fig)


def test_in_a_terminal_it_commands_nothing(incident):
    assert not CONTROLS.search(summary(incident))


def test_in_the_report_it_is_no_markup(tmp_path, monkeypatch):
    """All texts in one capture; the page may run nothing and fetch nothing."""
    monkeypatch.setattr(pictures, "pictures", lambda incident: [])
    for name, target in TARGETS.items():
        text = page(Incident(capture_of(tmp_path / "toy.pcap", target)))
        tags = Tags(text).tags
        assert not FORBIDDEN & set(tags) and not CONTROLS.search(text), name
        assert tags.count("meta") == 3 and "default-src 'none'" in text and "script-src" not in text


@pytest.mark.parametrize("name", NAMES)
def test_names_of_files(tmp_path, capsys, name):
    """In the report's terminal and page they are text; a `CaptureError` keeps the path, the report shows it safely."""
    path = tmp_path / name
    path.write_bytes(b"?")
    with pytest.raises(CaptureError):
        read_capture(path)
    assert report.main([str(path)]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and not CONTROLS.search(line) and visible(name) in line
    toy(tmp_path / "toy.pcap", *HANDSHAKE, *EXCHANGE)
    path.write_bytes((tmp_path / "toy.pcap").read_bytes())
    incident = Incident(merge_captures([path]))
    assert not CONTROLS.search(summary(incident))


def test_surrogates_and_bytes_that_are_no_text(tmp_path):
    assert figures.plain("\ud800\u202e\x00$") == r"\ud800\u202e\x00$"
    assert exchanges(capture_of(tmp_path / "toy.pcap", TARGETS["surrogates"]))["target"][0].isascii() is False
