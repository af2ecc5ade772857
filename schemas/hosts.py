"""URLs that name several hosts of one cluster, as those of PostgreSQL do: `amqps://user:password@one,two:5671/vhost`.

User, password, path and query are the same for all hosts; each may have a port of its own. Nothing is looked up here.
"""

import re
from collections.abc import Collection, Sequence
from typing import Final
from urllib.parse import urlsplit

_PARTS: Final = re.compile(r"([^/?#]*//(?:[^/?#]*@)?)([^/?#]*)(.*)", re.DOTALL)


def urls_by_host(url: str) -> tuple[str, ...]:
    """Give one URL for each host that a URL names, in order; at least one."""
    parts = _PARTS.fullmatch(url)
    if parts is None:
        return (url,)
    before, hosts, after = parts.groups()
    return tuple(f"{before}{host}{after}" for host in hosts.split(","))


def with_hosts(urls: Sequence[str]) -> str:
    """Give one URL that names the hosts of several, which are alike otherwise; at least one."""
    split = [parts.groups() for url in urls if (parts := _PARTS.fullmatch(url))]
    before, _, after = split[0]
    return f"{before}{','.join(host for _, host, _ in split)}{after}"


def names_hosts(url: str, schemes: Collection[str], *, optional: bool = False) -> bool:
    """Tell whether a URL has one of these schemes, and each of its hosts a name and, if any, a port that can be one.

    Several URLs in a row are not one that names several hosts.

    Args:
        url: Any text.
        schemes: In lower case.
        optional: Whether the name of a host may be left out.
    """
    try:
        urls = [urlsplit(each) for each in urls_by_host(url)]
        named = all(each.scheme in schemes and (optional or each.hostname) for each in urls)
        return named and all(each.port != 0 for each in urls) and "://" not in urls[0].path
    except ValueError:  # a port that is no number, a bracket that is not closed
        return False
