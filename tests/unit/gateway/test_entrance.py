"""Who may ask the gateway, how many at a time, and what is said to what it does not know."""

import asyncio
import hashlib

import httpx2
import pytest

from adapters.errors import Unusable
from adapters.gateway.entrance import read_tokens
from adapters.gateway.serve import bind, tokens_of
from adapters.settings import load_settings
from tests.gateways import TOKEN, open_counter


@pytest.fixture
async def guarded(tmp_path):
    async with open_counter(tmp_path, tokens=True, max_requests=3) as counter:
        yield counter


BEARER = {"Authorization": f"Bearer {TOKEN}"}


async def test_a_known_token_lets_in(guarded):
    assert (await guarded.http.get("/v1/deliveries", headers=BEARER)).status_code == 200


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer other"}, {"Authorization": "Basic eDp5"}])
@pytest.mark.parametrize("path", ["/v1/deliveries", "/v1/deliveries?limit=x", "/v1/agencies?q=a", "/v1/letters"])
async def test_without_a_known_token_nothing_is_told(guarded, path, headers):
    answer = await guarded.http.get(path, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (401, "A201")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_the_description_is_for_everybody(guarded):
    assert (await guarded.http.get("/v1/openapi.json")).json()["openapi"].startswith("3.1")


async def test_where_no_tokens_are_set_up_only_this_machine_is_answered(tmp_path):
    async with open_counter(tmp_path) as counter:
        here = [await counter.http.get(f"http://{host}/v1/deliveries") for host in ("localhost", "127.0.0.1", "[::1]")]
        rebound = await counter.http.get("http://attacker.example/v1/deliveries")

    assert [answer.status_code for answer in here] == [200] * 3
    assert (rebound.status_code, rebound.json()["pointer"]) == (401, "/header/host")


async def test_too_many_at_a_time_are_asked_to_come_back(guarded):
    async def wait() -> httpx2.Response:
        return await guarded.http.get("/v1/deliveries?wait_s=30", headers=BEARER)

    waiting = [asyncio.create_task(wait()) for _ in range(3)]
    await asyncio.sleep(0.2)
    refused = await guarded.http.get("/v1/deliveries", headers=BEARER)
    guarded.office.close()
    answers = await asyncio.gather(*waiting)
    afterwards = await guarded.http.get("/v1/deliveries", headers=BEARER)

    assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (429, "A209", "1")
    assert [answer.status_code for answer in (*answers, afterwards)] == [200] * 4


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "A202"),
        ("GET", "/", 404, "A202"),
        ("GET", "/v1/deliveries/", 404, "A202"),
        ("DELETE", "/v1/deliveries", 405, "A203"),
        ("GET", "/v1/documents", 405, "A203"),
    ],
)
async def test_an_address_or_method_that_is_unknown_is_told_in_the_same_form(tmp_path, method, path, status, code):
    async with open_counter(tmp_path) as counter:
        answer = await counter.http.request(method, path)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert status != 405 or answer.headers["allow"]


async def test_a_fault_of_our_own_shows_nothing_of_the_inside(tmp_path, monkeypatch, caplog):
    async with open_counter(tmp_path) as counter:

        async def broken(*_: object, **__: object) -> None:
            raise RuntimeError("bí mật")

        monkeypatch.setattr(counter.office.mailbox, "arrivals", broken)
        answer = await counter.http.get("/v1/deliveries")

    assert (answer.status_code, answer.json()["code"]) == (500, "A211")
    assert "bí mật" not in answer.text
    assert "bí mật" in caplog.text


def test_hashes_are_read_as_sha256sum_writes_them(tmp_path):
    digest = hashlib.sha256(b"t").hexdigest()
    (tmp_path / "tokens").write_text(f"# mã truy cập\n\n{digest}  hệ thống quản lý văn bản\n")

    assert read_tokens(tmp_path / "tokens") == {digest: "hệ thống quản lý văn bản"}


@pytest.mark.parametrize("text", ["", "# nothing\n", "secret in plain text\n", "abc  x\n", f"{'a' * 64}\n"])
def test_a_file_without_proper_hashes_is_refused(tmp_path, text):
    (tmp_path / "tokens").write_text(text)

    with pytest.raises(Unusable, match="A101"):
        read_tokens(tmp_path / "tokens")


@pytest.fixture
def settings_of(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def settings_of(**changes):
        given = {"amqp_url": "amqp://x:y@h/", "code": "x", "key_file": "k", "certificate_file": "c"}
        return load_settings(**given, directory_file="d", **changes)

    return settings_of


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "gateway.example.vn"])
def test_beyond_loopback_it_does_not_listen_without_tokens(settings_of, host):
    with pytest.raises(Unusable, match="access tokens are needed"):
        tokens_of(settings_of(gateway_host=host))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_on_loopback_tokens_are_not_needed(settings_of, host):
    assert tokens_of(settings_of(gateway_host=host)) == {}


@pytest.mark.parametrize("url", ["http://example.vn/hook", "ftp://127.0.0.1/", "https:///x", "hook", "https://h:x/"])
def test_a_webhook_beyond_loopback_is_https(settings_of, url):
    with pytest.raises(Unusable, match="webhook_url"):
        settings_of(webhook_url=url)


def test_a_port_in_use_is_told_with_its_setting():
    with bind("127.0.0.1", 0) as listener:
        listener.listen()
        with pytest.raises(Unusable, match="gateway_host, gateway_port"):
            bind("127.0.0.1", listener.getsockname()[1])
