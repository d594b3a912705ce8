"""Measures each operation of URL and Headers in nanoseconds, ours and the reference's (geventhttpclient 2.6.1).

    python benchmarks/micro.py --reference /path/to/reference/python

Each side runs in its own process, the reference in its own interpreter: use the same version of Python for both. The
sides take turns, operation by operation, so a busy machine slows both. The output has medians over all turns; a ratio
above 1 means that ours is slower. The exit status is 1 if any ratio is above `--limit`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import timeit
from statistics import median
from typing import Any

SECONDS_PER_SAMPLE = 0.002

URL_TEXT = "http://user:secret@www.Example.org:8080/search/deep/page.html?q=gevent&lang=en&page=2#top"
FIELDS = [(f"X-Header-{number}", f"value {number}") for number in range(8)]
HEAD = [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", "615"), ("Server", "nginx"), *FIELDS]
COOKIES = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Set-Cookie", "c=3")]

# Name, statement, and the reference's statement where its vocabulary has none like it: the nearest there is.
# `{n}` is a number that is another one in each sample, and `texts` a stream of URLs that were never seen before.
OPERATIONS: list[tuple[str, str, str | None]] = [
    ("URL(text seen before)", "URL(URL_TEXT)", None),
    ("URL(new text)", "URL(next(texts))", None),
    ("URL('http://h/')", "URL('http://h/')", None),
    ("URL(url)", "URL(url)", None),
    ("URL(text, params=dict)", "URL('http://h/p', params=params)", None),
    ("URL(text, params=str)", "URL('http://h/p', params='a=1&b=2')", None),
    ("url.scheme", "url.scheme", None),
    ("url.netloc", "url.netloc", None),
    ("url.path", "url.path", None),
    ("url.params", "url.params", None),
    ("url.query", "url.query", None),
    ("url.fragment", "url.fragment", None),
    ("url.host", "url.host", None),
    ("url.hostname", "url.hostname", None),
    ("url.port", "url.port", None),
    ("url.port, scheme's", "plain.port", None),
    ("url.username", "url.username", None),
    ("url.user", "url.user", None),
    ("url.password", "url.password", None),
    ("url.host, first read", "URL(URL_TEXT).host", None),
    ("url.query_string", "url.query_string", "url.request_uri"),
    ("url.query_string, and 2.x's", "url.query_string", None),
    ("url.request_uri", "url.request_uri", None),
    ("url.quoted", "url.quoted", None),
    ("url.quoted, work to do", "odd.quoted", None),
    ("url.quoted_uri", "url.quoted_uri", None),
    ("str(url)", "str(url)", None),
    ("url.geturl()", "url.geturl()", None),
    ("repr(url)", "repr(url)", None),
    ("tuple(url)", "tuple(url)", None),
    ("url == url", "url == same", None),
    ("url == text", "url == URL_TEXT", None),
    ("url.redirect(relative)", "url.redirect('../b?x=1')", None),
    ("url.redirect(absolute)", "url.redirect('https://example.org/b')", None),
    ("url.redirect(url)", "url.redirect(plain)", None),
    ("url['q']", "url['q']", "parse_qs(url.query)['q']"),
    ("url.get('none')", "url.get('none')", "parse_qs(url.query).get('none')"),
    ("'q' in url", "'q' in url", "'q' in parse_qs(url.query)"),
    ("url['page'] = number", "url['page'] = 3", "URL('http://h/p', params={'page': 3})"),
    ("url['page'] = list", "url['page'] = many", "URL('http://h/p', params={'page': many})"),
    ("url.append_to_path", "URL(plain).append_to_path('x')", "URL(urlparse(str(plain) + '/x'))"),
    ("url.path = text", "scratch.path = '/x'", "URL('http://h/x')"),
    ("copy.copy(url)", "copy.copy(url)", None),
    ("pickle url", "pickle.loads(pickle.dumps(url))", None),
    (
        "parse, edit, target",
        "u = URL('http://h/p'); u['a'] = 1; u.query_string",
        "URL('http://h/p', {'a': 1}).request_uri",
    ),
    ("requote_uri", "requote_uri('/a b?c=%7Ed')", None),
    ("unquote_unreserved", "unquote_unreserved('/a%7Eb%20c')", None),
    ("to_key_val_list", "to_key_val_list(params)", None),
    ("Headers()", "Headers()", None),
    ("Headers(dict)", "Headers(fields)", None),
    ("Headers(int values)", "Headers(numbers)", None),
    ("Headers(pairs)", "Headers(HEAD)", None),
    ("Headers(pairs), repeated", "Headers(COOKIES)", None),
    ("Headers(headers)", "Headers(headers)", None),
    ("Headers(a=, b=)", "Headers(a='1', b='2')", None),
    ("Headers._from_pairs", "Headers._from_pairs(HEAD)", "Headers(HEAD)"),
    ("headers[name]", "headers['Content-Type']", None),
    ("headers[name], several", "several['Set-Cookie']", None),
    ("headers[name] = value", "headers['X-Header-1'] = 'v'", None),
    ("headers[name] = list", "several['Set-Cookie'] = many", None),
    ("del headers[name]", "headers['New'] = 'v'; del headers['New']", None),
    ("name in headers", "'Content-Type' in headers", None),
    ("name not in headers", "'None' in headers", None),
    ("headers.get(name)", "headers.get('Content-Type')", None),
    ("headers.get(none)", "headers.get('None')", None),
    ("headers.get(none, default)", "headers.get('None', 'd')", None),
    ("headers.getlist", "headers.getlist('Content-Type')", None),
    ("headers.get_all", "several.get_all('Set-Cookie')", None),
    ("headers.setdefault, there", "headers.setdefault('Server', 'v')", None),
    ("headers.pop(name)", "headers['New'] = 'v'; headers.pop('New')", None),
    ("headers.pop(none, default)", "headers.pop('None', None)", None),
    ("headers.discard", "headers.discard('None')", None),
    ("headers.add, a new name", "headers.add('New', 'v'); headers.discard('New')", None),
    ("headers.add, again", "h = Headers(); h.add('A', 'v'); h.add('A', 'w')", None),
    ("for line in items()", "for line in headers.items(): pass", None),
    ("for line in items(), several", "for line in several.items(): pass", None),
    ("for line in iterlower()", "for line in headers.iterlower(): pass", None),
    ("for line in itermerged()", "for line in headers.itermerged(): pass", None),
    ("compatible_dict()", "headers.compatible_dict()", None),
    ("for name in headers", "for name in headers: pass", None),
    ("list(keys())", "list(headers.keys())", None),
    ("list(values())", "list(headers.values())", None),
    ("dict(headers)", "dict(headers)", None),
    ("len(headers)", "len(headers)", None),
    ("bool(headers)", "bool(headers)", None),
    ("headers == headers", "headers == equal", None),
    ("headers == dict", "headers == fields", None),
    ("headers.copy()", "headers.copy()", None),
    ("headers.copy(), several", "several.copy()", None),
    ("copy.copy(headers)", "copy.copy(headers)", None),
    ("headers.update(dict)", "scratch_headers.update(fields)", None),
    ("headers.update(headers)", "scratch_headers.update(headers)", None),
    ("headers.update(pairs)", "scratch_headers.update(HEAD)", None),
    ("headers.extend(dict)", "h = Headers(); h.extend(fields)", None),
    ("headers | dict", "headers | params", None),
    ("str(headers)", "str(headers)", None),
    ("repr(headers)", "repr(headers)", None),
    ("pickle headers", "pickle.loads(pickle.dumps(headers))", None),
    ("parse_content_type_charset", "parse_content_type_charset('text/html; charset=UTF-8')", None),
    ("parse_content_type_charset, none", "parse_content_type_charset('application/json')", None),
]

SETUP = """
import copy, itertools, pickle
from urllib.parse import parse_qs, urlparse
from geventhttpclient.url import URL, requote_uri, to_key_val_list, unquote_unreserved
from geventhttpclient.header import Headers, parse_content_type_charset
url, same, plain, scratch = URL(URL_TEXT), URL(URL_TEXT), URL("http://example.org/a/b"), URL(URL_TEXT)
odd = URL("http://example.org/caf\\u00e9 %7Ex?q=a b")
texts = (f"http://www.example.org:8080/search/{n}?q={n}&lang=en#top" for n in itertools.count())
params = {"a": "1", "b": "x y", "c": 3}
many = ["1", "2"]
fields = dict(HEAD)
numbers = {name: number for number, (name, _) in enumerate(HEAD)}
headers, equal, several, scratch_headers = Headers(HEAD), Headers(HEAD), Headers(COOKIES), Headers(HEAD)
"""


def work(reference: bool) -> None:
    """Runs one side: reads numbers of operations, and prints the nanoseconds of each."""
    names: dict[str, Any] = {"URL_TEXT": URL_TEXT, "HEAD": HEAD, "COOKIES": COOKIES}
    exec(SETUP, names)
    timers: dict[int, tuple[timeit.Timer, int]] = {}
    for line in sys.stdin:
        number = int(line)
        if number not in timers:
            _, ours, theirs = OPERATIONS[number]
            timer = timeit.Timer(theirs if reference and theirs else ours, globals=names)
            seconds = min(timer.repeat(5, 50)) / 50
            timers[number] = timer, max(1, int(SECONDS_PER_SAMPLE / seconds))
        timer, times = timers[number]
        print(timer.timeit(times) / times * 1e9, flush=True)


class Side:
    def __init__(self, python: str, *arguments: str) -> None:
        command = [python, __file__, "--work", *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.samples: dict[int, list[float]] = {}

    def sample(self, number: int) -> None:
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{number}\n")
        stdin.flush()
        self.samples.setdefault(number, []).append(float(stdout.readline()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", help="interpreter with geventhttpclient 2.6.1")
    parser.add_argument("--turns", type=int, default=21)
    parser.add_argument("--limit", type=float, default=1.0, help="highest allowed ratio")
    parser.add_argument("--only", default="", help="operations whose name contains this")
    parser.add_argument("--work", choices=["ours", "reference"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work == "reference")
        return 0
    if options.reference is None:
        parser.error("--reference is needed")
    ours, theirs = Side(sys.executable, "ours"), Side(options.reference, "reference")
    numbers = [number for number, operation in enumerate(OPERATIONS) if options.only in operation[0]]
    for turn in range(options.turns):
        for number in numbers:
            for side in (ours, theirs) if turn % 2 else (theirs, ours):
                side.sample(number)
    print(f"{'operation':34}{'ours ns':>9}{'2.6.1 ns':>10}{'ratio':>7}")
    slower = 0
    for number in numbers:
        name, _, nearest = OPERATIONS[number]
        mine, other = median(ours.samples[number]), median(theirs.samples[number])
        slower += mine / other > options.limit
        print(f"{name:34}{mine:9.0f}{other:10.0f}{mine / other:7.2f}{'  compared with ' + nearest if nearest else ''}")
    print(f"{slower} of {len(numbers)} above {options.limit}")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
