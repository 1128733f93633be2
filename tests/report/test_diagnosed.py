"""The report begins with the diagnosis; a list of sockets is read like a capture; --fail-on is for a pipeline."""

import pytest

from helpers import report
from helpers.captures import merge_captures
from helpers.experiments import data_folder
from helpers.report import Incident, page, summary
from tests.toys import EXCHANGE, HANDSHAKE, toy

LIST = "LISTEN 0 5 0.0.0.0:80 0.0.0.0:*\n" + "".join(
    f"CLOSE-WAIT 1 0 10.0.0.1:80 10.0.0.2:{port}\n" for port in range(40000, 40012))
LINGER = [*HANDSHAKE, *EXCHANGE, ("C", 1.0, "RA", 28, 44)]


@pytest.fixture
def ill(tmp_path):
    return toy(tmp_path / "ill.pcap", *LINGER)


@pytest.fixture
def listed(tmp_path):
    (tmp_path / "ss.txt").write_text(LIST)
    return tmp_path / "ss.txt"


def test_the_first_ten_lines_say_what_is_wrong_and_what_to_do(ill):
    first = summary(Incident(ill)).partition("\n\n")[0].splitlines()
    assert first[0] == "reset-instead-of-close: 1 × 10.0.0.1, at 1.000 s"
    assert "→ Close without SO_LINGER 0" in " ".join(map(str.strip, first)) and len(first) <= 10
    assert max(map(len, first)) <= 80


def test_a_healthy_capture_says_what_was_looked_for():
    text = summary(Incident(merge_captures([data_folder() / "long-0-images-firefox" / "capture.pcapng"])))
    assert text.startswith("Nothing wrong found.\n  Looked for: refused, syn-unanswered,")


def test_the_page_begins_with_it(ill):
    html = page(Incident(ill))
    assert "What is wrong" in html and html.index("reset-instead-of-close") < html.index("What was read")


def test_a_list_of_sockets(listed, capsys):
    assert report.main([str(listed)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("close-wait-leak: 12 × the server at 10.0.0.1:80") and "CLOSE_WAIT      12" in said


@pytest.mark.parametrize(("arguments", "status"), [
    ([], 0), (["--fail-on", "reset-instead-of-close"], 3), (["--fail-on", "any"], 3), (["--fail-on", "refused"], 0),
    (["--fail-on", "refused", "--fail-on", "any"], 3), (["--fail-on", "nonsense"], 2)])
def test_fail_on(ill, arguments, status, capsys):
    assert report.main([ill.path, *arguments]) == status
    if status == 2:
        assert "no such finding; there are: any, refused" in capsys.readouterr().err


def test_a_list_has_no_page(listed, tmp_path, capsys):
    assert report.main([str(listed), "--out", str(tmp_path / "page.html")]) == 2
    assert "a list of sockets; give one, and no --out" in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()
