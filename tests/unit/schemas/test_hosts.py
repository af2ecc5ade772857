"""URLs that name several hosts."""

import pytest

from schemas.hosts import urls_by_host, with_hosts


@pytest.mark.parametrize(
    ("url", "urls"),
    [
        ("amqp://u:p@one/", ("amqp://u:p@one/",)),
        ("amqp://u:p@one:1,two:2/v?a=1", ("amqp://u:p@one:1/v?a=1", "amqp://u:p@two:2/v?a=1")),
        ("amqp://u:a,b@one,two", ("amqp://u:a,b@one", "amqp://u:a,b@two")),
        ("amqp://u:p@q@one/a,b@c", ("amqp://u:p@q@one/a,b@c",)),
        ("amqp://[::1]:1,[::2]/", ("amqp://[::1]:1/", "amqp://[::2]/")),
        ("postgresql:///truc?host=/run", ("postgresql:///truc?host=/run",)),
        ("no url, at all", ("no url, at all",)),
    ],
)
def test_each_host_has_what_all_have_in_common(url: str, urls: tuple[str, ...]) -> None:
    assert urls_by_host(url) == urls


def test_urls_that_differ_in_their_host_become_one_that_names_all() -> None:
    urls = ("amqp://u:p@one:1/v?a=1", "amqp://u:p@two:2/v?a=1")
    assert with_hosts(urls) == "amqp://u:p@one:1,two:2/v?a=1"
    assert urls_by_host(with_hosts(urls)) == urls
