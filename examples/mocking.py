"""Tests code that uses an API without the API: a function answers the requests.

python examples/mocking.py
"""

from collections.abc import Iterator

from geventhttpclient import UserAgent
from geventhttpclient.mock import MockRequest, MockResponse, MockTransport

BASE = "https://api.example.org"


def names_of_friends(agent: UserAgent) -> Iterator[str]:
    """Yields the names on all pages of a list. This is the code under test."""
    page: str | None = f"{BASE}/friends"
    while page:
        answer = agent.urlopen(page).json()
        yield from answer["names"]
        page = answer.get("next")


def test_finds_all_pages() -> None:
    pages = {
        "/friends": {"names": ["Ada", "Grace"], "next": f"{BASE}/friends?page=2"},
        "/friends?page=2": {"names": ["Edsger"]},
    }
    transport = MockTransport(lambda request: MockResponse(json=pages[request.target]))
    names = list(names_of_friends(UserAgent(transport=transport)))
    assert names == ["Ada", "Grace", "Edsger"]
    assert [request.url for request in transport.requests] == [f"{BASE}{target}" for target in pages]
    print(f"finds all pages: {len(names)} friends of {BASE}")


def test_tries_again_after_a_timeout() -> None:
    def answer(request: MockRequest) -> MockResponse:
        if len(transport.requests) == 1:
            raise TimeoutError("no answer")
        return MockResponse(json={"names": []})

    transport = MockTransport(answer)
    assert list(names_of_friends(UserAgent(transport=transport))) == []
    print(f"tries again after a timeout: {len(transport.requests)} requests")


if __name__ == "__main__":
    test_finds_all_pages()
    test_tries_again_after_a_timeout()
