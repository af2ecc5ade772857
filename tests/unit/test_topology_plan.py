"""What a directory wants on the broker, and what is to be done for it."""

import re
from dataclasses import replace
from datetime import UTC, datetime

import httpx2
import pytest

from hub.broker.management import Management
from hub.broker.topology import (
    Binding,
    Bounds,
    Exchange,
    Policy,
    Queue,
    Step,
    Topology,
    User,
    desired,
    drift,
    files_needed,
    plan,
)
from hub.core.trouble import Unavailable
from schemas.addresses import CANARY, DEAD, INTAKE, RECEIPTS, SUBMIT, Tier
from schemas.checks.directory import Agency, Directory
from schemas.identifiers import AgencyCode

H26, H26_01, H26_02, H30, OLD = (AgencyCode(code) for code in ("H26", "H26.01", "H26.02", "H30", "000.00.13.H26"))
PLATFORM = AgencyCode("lgsp-h26")


def agency(code: AgencyCode, tier: Tier, endpoint: AgencyCode | None) -> Agency:
    return Agency(code=code, name=code, tier=tier, parent=None, endpoint=endpoint, state="open")


def directory(*agencies: Agency, platforms: tuple[AgencyCode, ...] = ()) -> Directory:
    return Directory(
        epoch=1,
        as_of=datetime(2026, 1, 1, tzinfo=UTC),
        agencies={item.code: item for item in agencies},
        platforms={code: code for code in platforms},
        mandates={},
        keys={},
    )


SMALL = directory(
    agency(H26, "ministry-province", H26),
    agency(H26_01, "commune", PLATFORM),
    agency(H26_02, "department-district", PLATFORM),
    agency(H30, "ministry-province", None),
    platforms=(PLATFORM,),
)


def queue(topology: Topology, name: str) -> Queue:
    (found,) = (item for item in topology.queues if item.name == name)
    return found


def ways_to(topology: Topology, name: str) -> set[tuple[str, str]]:
    return {(item.exchange, item.key) for item in topology.bindings if item.queue == name}


class TestDesired:
    def test_every_endpoint_in_use_has_one_queue(self):
        names = [item.name for item in desired(SMALL).queues]

        assert names == [DEAD, INTAKE, RECEIPTS, CANARY, "truc.agency.H26", "truc.agency.lgsp-h26"]

    def test_a_platform_s_queue_is_bound_at_the_tier_of_each_agency_and_for_itself(self):
        assert ways_to(desired(SMALL), "truc.agency.lgsp-h26") == {
            ("truc.tier.commune", "H26.01"),
            ("truc.tier.department-district", "H26.02"),
            ("truc.tier.associate", "lgsp-h26"),
        }

    def test_an_agency_that_is_not_connected_has_nothing(self):
        wanted = desired(SMALL)

        assert not [item for item in wanted.bindings if item.key == H30]
        assert not [item for item in wanted.users if item.name == H30]

    def test_tier_exchanges_have_no_alternate_that_could_hide_a_missing_route(self):
        tiers = [item for item in desired(SMALL).exchanges if item.name.startswith("truc.tier.")]

        assert [(item.kind, item.arguments) for item in tiers] == [("direct", {})] * 4

    @pytest.mark.parametrize(("name", "letters"), [(INTAKE, "intake"), (RECEIPTS, "receipts")])
    def test_the_shared_queues_lose_nothing(self, name, letters):
        arguments = queue(desired(SMALL, Bounds(shared_queue_max_bytes=1000)), name).arguments

        assert arguments == {
            "x-queue-type": "quorum",
            "x-overflow": "reject-publish",
            "x-max-length-bytes": 1000,
            "x-delivery-limit": 20,
            "x-dead-letter-exchange": DEAD,
            "x-dead-letter-routing-key": letters,
            "x-dead-letter-strategy": "at-least-once",
        }

    def test_an_agency_s_queue_has_nothing_that_could_not_be_changed_later(self):
        assert queue(desired(SMALL), "truc.agency.H26").arguments == {
            "x-queue-type": "quorum",
            "x-delivery-limit": 100,
        }

    def test_the_safety_net_has_no_end(self):
        arguments = queue(desired(SMALL), DEAD).arguments

        assert arguments == {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000_000}

    def test_the_policy_is_for_agency_queues_and_no_others(self):
        (policy,) = desired(SMALL, Bounds(agency_queue_max_messages=5, agency_queue_max_bytes=6)).policies

        assert re.match(policy.pattern, "truc.agency.H26")
        assert not re.match(policy.pattern, "trucXagencyXH26")
        assert not re.match(policy.pattern, INTAKE)
        assert policy.definition == {
            "overflow": "reject-publish",
            "max-length": 5,
            "max-length-bytes": 6,
            "dead-letter-exchange": DEAD,
            "dead-letter-routing-key": "agency",
            "dead-letter-strategy": "at-most-once",
        }

    def test_a_user_submits_under_its_own_name_and_reads_its_own_queue(self):
        (user,) = desired(directory(agency(OLD, "ministry-province", OLD))).users

        assert re.search(user.write, SUBMIT)
        assert not re.search(user.write, "truc.tier.commune")
        assert re.search(user.read, "truc.agency.000.00.13.H26")
        assert not re.search(user.read, "truc.agency.000.00.13.H26.01")
        assert not re.search(user.read, "truc.agency.000.00.13xH26")
        assert re.search(user.submit_keys, "status.000.00.13.H26")
        assert not re.search(user.submit_keys, "document.H26")
        assert not re.search(user.configure, "anything")


class TestPlan:
    def test_on_an_empty_broker_everything_is_made_the_safety_net_first(self):
        steps = plan(desired(SMALL), Topology())

        assert [str(step) for step in steps[:3]] == [
            "make exchange truc.dead (topic)",
            "make queue truc.dead",
            "make binding truc.dead ─ # → truc.dead",
        ]
        assert all(step.new for step in steps)
        assert len(steps) == 6 + 6 + 9 + 1 + 2

    def test_a_queue_is_born_under_its_policy_and_bound_after_that(self):
        steps = [step.item for step in plan(desired(SMALL), Topology())]
        order = [
            next(number for number, item in enumerate(steps) if str(item) == text)
            for text in (
                "policy truc-agency on ^truc\\.agency\\.",
                "queue truc.agency.H26",
                "binding truc.tier.ministry-province ─ H26 → truc.agency.H26",
                "user H26",
            )
        ]

        assert order == sorted(order)

    def test_when_all_is_there_nothing_is_to_be_done(self):
        assert plan(desired(SMALL), desired(SMALL)) == []
        assert not drift(desired(SMALL), desired(SMALL))

    def test_only_what_is_missing_is_made(self):
        wanted = desired(SMALL)
        actual = replace(wanted, bindings=wanted.bindings[:-1])

        assert plan(wanted, actual) == [Step(wanted.bindings[-1])]

    def test_a_policy_with_other_numbers_is_changed(self):
        actual, wanted = desired(SMALL), desired(SMALL, Bounds(agency_queue_max_messages=7))

        assert [str(step) for step in plan(wanted, actual)] == ["change policy truc-agency on ^truc\\.agency\\."]

    def test_a_user_with_other_rights_is_changed_not_made(self):
        wanted = desired(SMALL)
        lax = replace(wanted.users[0], write=".*")
        actual = replace(wanted, users=(lax, *wanted.users[1:]))

        assert plan(wanted, actual) == [Step(wanted.users[0], new=False)]


class TestDrift:
    def test_a_queue_with_other_arguments_is_a_person_s_work(self):
        wanted, actual = desired(SMALL), desired(SMALL, Bounds(shared_queue_max_bytes=5))
        found = drift(wanted, actual)

        assert found.missing == ()
        assert found.wrong[0] == (
            "queue truc.intake has other arguments (x-max-length-bytes 5 ≠ 4294967296): "
            "a person must empty and replace it"
        )

    def test_an_alternate_exchange_is_a_person_s_work(self):
        wanted = desired(SMALL)
        hiding = Exchange("truc.tier.commune", "direct", {"alternate-exchange": "amq.fanout"})
        actual = replace(
            wanted, exchanges=tuple(hiding if item.name == hiding.name else item for item in wanted.exchanges)
        )

        assert "alternate-exchange" in drift(wanted, actual).wrong[0]
        assert plan(wanted, actual) == []

    def test_after_a_change_of_tier_the_new_binding_is_made_and_the_old_one_only_reported(self):
        actual = desired(directory(agency(H26, "commune", H26)))
        wanted = desired(directory(agency(H26, "department-district", H26)))
        found = drift(wanted, actual)

        assert [str(step) for step in found.missing] == [
            "make binding truc.tier.department-district ─ H26 → truc.agency.H26"
        ]
        (sentence,) = found.surplus
        assert sentence.startswith("binding truc.tier.commune ─ H26 → truc.agency.H26 is still bound to old tier")

    def test_what_nothing_wants_any_more_is_reported(self):
        actual = desired(SMALL)
        stranger = replace(
            actual,
            exchanges=(*actual.exchanges, Exchange("test", "fanout")),
            queues=(*actual.queues, Queue("test", {})),
            policies=(*actual.policies, Policy("ttl", ".*", {"message-ttl": 1})),
            bindings=(*actual.bindings, Binding("truc.submit", "#", "test")),
            users=(*actual.users, User("H99", submit_keys=".*"), User("administrator", write=".*")),
        )

        assert drift(desired(SMALL), stranger).surplus == (
            "exchange test (fanout) is not in the plan",
            "queue test is not in the plan",
            "binding truc.submit ─ # → test is not in the plan",
            "policy ttl on .* is not in the plan",
            "user H99 is not in the plan and may submit",
        )

    def test_an_agency_that_is_not_connected_any_more_keeps_its_queue(self):
        actual, wanted = desired(SMALL), desired(directory(platforms=(PLATFORM,)))
        found = drift(wanted, actual)

        assert found.missing == ()
        assert "queue truc.agency.H26 is not in the plan" in found.surplus


def test_each_queue_and_each_agency_that_connects_takes_files_of_a_node() -> None:
    small = desired(SMALL)
    more = desired(directory(*SMALL.agencies.values(), agency(OLD, "commune", OLD), platforms=(PLATFORM,)))
    assert files_needed(more) - files_needed(small) == 3 + 2
    assert files_needed(small) > 3 * len(small.queues)


class PlayedClient:
    """Answers the management API after so many calls that it was too slow for."""

    def __init__(self, too_slow: int) -> None:
        self.too_slow = too_slow
        self.calls: list[str] = []

    async def post(self, path: str, **_: object) -> httpx2.Response:
        self.calls.append(path)
        request = httpx2.Request("POST", f"http://broker/api{path}")
        if len(self.calls) <= self.too_slow:
            raise httpx2.ReadTimeout("", request=request)
        return httpx2.Response(204, request=request)

    async def aclose(self) -> None:
        return


@pytest.mark.parametrize(("too_slow", "succeeds"), [(0, True), (1, True), (2, False)])
async def test_a_broker_that_is_not_done_in_time_is_asked_once_more(too_slow: int, succeeds: bool) -> None:
    client = PlayedClient(too_slow)
    async with Management("http://guest:guest@127.0.0.1:1", "/") as management:
        await management._client.aclose()
        management._client = client  # type: ignore[assignment]
        applying = management.apply([Step(Queue("truc.x", {}))])
        if succeeds:
            await applying
        else:
            with pytest.raises(Unavailable, match="ReadTimeout"):
                await applying

    assert client.calls == ["/definitions/%2F"] * min(too_slow + 1, 2)
