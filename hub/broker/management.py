"""The broker's management API, as far as the topology needs it: read all of a vhost, add to it.

It has no way to delete anything.
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import httpx2

from hub.broker.topology import Binding, Exchange, Policy, Queue, Step, Topology, User
from hub.core.trouble import Unavailable
from schemas.addresses import SUBMIT

_PAGE: Final = 500
_CHUNK: Final = 500


class Management:
    """The management API of one vhost, over connections that are kept while this is open.

    Args:
        url: Root of the API with an administrator's user and password, such as `http://user:password@host:15672`.
        vhost: Which vhost.
        timeout_s: Longest wait for an answer; the broker makes about 200 quorum queues a second, 500 in one call.
    """

    def __init__(self, url: str, vhost: str, *, timeout_s: float = 60.0) -> None:
        parts = urlsplit(url)
        self._vhost = vhost
        self._path = quote(vhost, safe="")
        self._client = httpx2.AsyncClient(
            base_url=urlunsplit(
                (parts.scheme, parts.netloc.rpartition("@")[2], f"{parts.path.rstrip('/')}/api", "", "")
            ),
            auth=(unquote(parts.username or ""), unquote(parts.password or "")),
            timeout=timeout_s,
        )

    async def topology(self) -> Topology:
        """Read everything that stands on the vhost, but for what the broker makes itself.

        Raises:
            Unavailable: When the broker does not answer or refuses.
        """
        with _translated():
            return Topology(
                exchanges=tuple([item async for item in self._exchanges()]),
                queues=tuple([item async for item in self._queues()]),
                bindings=await self._bindings(),
                policies=await self._policies(),
                users=await self._users(),
            )

    async def file_limit(self) -> int | None:
        """Ask how many files the node that may open the fewest may open; `None` where the broker does not count them.

        Raises:
            Unavailable: When the broker does not answer or refuses.
        """
        with _translated():
            version = (await self._get("/overview", columns="rabbitmq_version"))["rabbitmq_version"]
            # With the name, which is always there: of a node that has not counted yet an empty list would come.
            nodes = await self._get("/nodes", columns="name,fd_total")
        if not version.startswith("3."):  # RabbitMQ 4 reserves none
            return None
        return min((node["fd_total"] for node in nodes if node.get("fd_total")), default=None)

    async def apply(self, steps: Sequence[Step], passwords: Mapping[str, str] | None = None) -> None:
        """Carry out a plan, in order and in chunks; a repetition changes nothing.

        Args:
            steps: From `hub.broker.topology.plan`.
            passwords: Of new users by name; the others are not made. Without any at all, every new user is made
                without a password and can log in by a client certificate only (EXTERNAL).

        Raises:
            Unavailable: When the broker does not answer or refuses; what was done until then stays.
        """
        users = [step for step in steps if isinstance(step.item, User) and _may_be_made(step, passwords)]
        things = [step for step in steps if not isinstance(step.item, User)]
        with _translated():
            for chunk in _chunks(things):
                await self._post(f"/definitions/{self._path}", _definitions(chunk))
            for chunk in _chunks(users):
                await self._post("/definitions", self._user_definitions(chunk, passwords))
            for step in users:
                await self._limit(step.item)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def _exchanges(self) -> AsyncIterator[Exchange]:
        async for item in self._pages("exchanges", "name,type,arguments"):
            if item["name"] and not item["name"].startswith("amq."):
                yield Exchange(item["name"], item["type"], item["arguments"])

    async def _queues(self) -> AsyncIterator[Queue]:
        async for item in self._pages("queues", "name,arguments"):
            yield Queue(item["name"], item["arguments"])

    async def _bindings(self) -> tuple[Binding, ...]:
        found = await self._get(f"/bindings/{self._path}", columns="source,destination,routing_key")
        # The default exchange is bound to every queue by itself.
        return tuple(
            Binding(item["source"], item["routing_key"], item["destination"]) for item in found if item["source"]
        )

    async def _policies(self) -> tuple[Policy, ...]:
        found = await self._get(f"/policies/{self._path}")
        return tuple(
            Policy(item["name"], item["pattern"], item["definition"], item["apply-to"], item["priority"])
            for item in found
        )

    async def _users(self) -> tuple[User, ...]:
        names = [item["name"] for item in await self._get("/users", columns="name")]
        rights = {item["user"]: item for item in await self._get(f"/vhosts/{self._path}/permissions")}
        keys = {
            item["user"]: item["write"]
            for item in await self._get(f"/vhosts/{self._path}/topic-permissions")
            # Those of every vhost are listed here, also of vhosts that are gone.
            if item["exchange"] == SUBMIT and item["vhost"] == self._vhost
        }
        limits = {item["user"]: item["value"] for item in await self._get("/user-limits")}
        nothing: dict[str, Any] = {}
        return tuple(
            User(
                name,
                configure=rights.get(name, nothing).get("configure"),
                write=rights.get(name, nothing).get("write"),
                read=rights.get(name, nothing).get("read"),
                submit_keys=keys.get(name),
                max_connections=limits.get(name, nothing).get("max-connections"),
                max_channels=limits.get(name, nothing).get("max-channels"),
            )
            for name in names
        )

    def _user_definitions(self, steps: Sequence[Step], passwords: Mapping[str, str] | None) -> dict[str, Any]:
        users = [(step.new, step.item) for step in steps if isinstance(step.item, User)]
        return {
            "users": [{"name": user.name, "tags": "", **_credentials(user, passwords)} for new, user in users if new],
            "permissions": [
                {
                    "user": user.name,
                    "vhost": self._vhost,
                    "configure": user.configure,
                    "write": user.write,
                    "read": user.read,
                }
                for _, user in users
            ],
            "topic_permissions": [
                {
                    "user": user.name,
                    "vhost": self._vhost,
                    "exchange": SUBMIT,
                    "write": user.submit_keys,
                    "read": "^$",
                }
                for _, user in users
            ],
        }

    async def _limit(self, item: object) -> None:
        assert isinstance(item, User)
        for limit, value in (("max-connections", item.max_connections), ("max-channels", item.max_channels)):
            path = f"/user-limits/{quote(item.name, safe='')}/{limit}"
            (await self._client.put(path, json={"value": value})).raise_for_status()

    async def _pages(self, kind: str, columns: str) -> AsyncIterator[Any]:
        page, pages = 1, 1
        while page <= pages:
            found = await self._get(f"/{kind}/{self._path}", page=str(page), page_size=str(_PAGE), columns=columns)
            for item in found["items"]:
                yield item
            page, pages = page + 1, found["page_count"]

    async def _get(self, path: str, **query: str) -> Any:
        return (await self._client.get(path, params=query)).raise_for_status().json()

    async def _post(self, path: str, definitions: Mapping[str, Any]) -> None:
        """Have things made; once more when a busy broker was not done in time, as what it has made it leaves as it is."""
        try:
            answer = await self._client.post(path, json=definitions)
        except httpx2.ReadTimeout:
            answer = await self._client.post(path, json=definitions)
        answer.raise_for_status()


def _definitions(steps: Sequence[Step]) -> dict[str, list[dict[str, Any]]]:
    """Write items in the form of RabbitMQ's definitions of one vhost."""
    definitions: dict[str, list[dict[str, Any]]] = {"policies": [], "queues": [], "exchanges": [], "bindings": []}
    for step in steps:
        match step.item:
            case Policy() as item:
                definitions["policies"].append(
                    {
                        "name": item.name,
                        "pattern": item.pattern,
                        "definition": item.definition,
                        "apply-to": item.apply_to,
                        "priority": item.priority,
                    }
                )
            case Queue() as item:
                definitions["queues"].append(
                    {"name": item.name, "durable": True, "auto_delete": False, "arguments": item.arguments}
                )
            case Exchange() as item:
                definitions["exchanges"].append(
                    {
                        "name": item.name,
                        "type": item.kind,
                        "durable": True,
                        "auto_delete": False,
                        "internal": False,
                        "arguments": item.arguments,
                    }
                )
            case Binding() as item:
                definitions["bindings"].append(
                    {
                        "source": item.exchange,
                        "destination": item.queue,
                        "destination_type": "queue",
                        "routing_key": item.key,
                        "arguments": {},
                    }
                )
            case User():
                raise ValueError("a user does not belong to a vhost")
    return definitions


def _may_be_made(step: Step, passwords: Mapping[str, str] | None) -> bool:
    return not step.new or passwords is None or (isinstance(step.item, User) and step.item.name in passwords)


def _credentials(user: User, passwords: Mapping[str, str] | None) -> dict[str, str]:
    if passwords is None:
        return {"password_hash": "", "hashing_algorithm": "rabbit_password_hashing_sha256"}
    return {"password": passwords[user.name]}


def _chunks(steps: Sequence[Step]) -> Iterator[Sequence[Step]]:
    """Cut a plan into calls; what `truc.dead` needs is never behind it, as a plan begins with that."""
    for start in range(0, len(steps), _CHUNK):
        yield steps[start : start + _CHUNK]


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except httpx2.HTTPStatusError as error:
        request, response = error.request, error.response
        if response.status_code == 401:
            raise Unavailable("broker", "it refuses the user or password in TRUC_AMQP_MANAGEMENT_URL") from error
        if response.status_code == 404:
            raise Unavailable("broker", "it does not know the vhost in TRUC_AMQP_URL") from error
        answer = f"{response.status_code} {response.text[:300]}"
        raise Unavailable("broker", f"{request.method} {request.url.path} answered {answer}") from error
    except httpx2.RequestError as error:
        request = error.request
        failed = " ".join(filter(None, (type(error).__name__, str(error))))
        raise Unavailable("broker", f"management API, {request.method} {request.url.path}: {failed}") from error
