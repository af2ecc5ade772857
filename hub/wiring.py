"""Puts the parts together and keeps the loops turning: the one place that knows them all.

`run` is a whole process. It ends when it is told to stop, after every loop has finished the turn that it was in:
what was taken is settled, or left to the broker unsettled; nothing is settled that was not carried out.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, get_args

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from hub.blobs.store import BlobStore
from hub.broker.connection import Connection
from hub.broker.inbox import DeadInbox, QueueInbox
from hub.broker.outbox import Outbox
from hub.core.trouble import Trouble, Unavailable
from hub.dispatch import Dispatch
from hub.intake import Aside, Intake
from hub.parts import Parts
from hub.receipts import Receipts
from hub.reconcile import Reconcile
from hub.replay import Replay
from hub.returns import Returns
from hub.settings import Settings, SettingsError
from hub.store.catch_up import CatchUps
from hub.store.catch_up_requests import PostgresCatchUpRequests
from hub.store.deliveries import PostgresDeliveries
from hub.store.directory import DirectoryStore, SnapshotKeeper
from hub.store.ledger import PostgresLedger
from hub.store.parked_inbox import ParkedInbox
from hub.store.parts import PostgresParts
from hub.store.pool import Pool, open_pool, ready
from hub.store.replay import PostgresReplays
from hub.store.silence import PostgresSilence
from hub.store.statistics import unfinished
from hub.sweep import Sweep
from hub.telemetry import metrics
from hub.telemetry.health import Health
from hub.web.api.api import Api, Transfers
from hub.web.app import create_app
from hub.web.server import bind, serve
from schemas.addresses import INTAKE, RECEIPTS
from schemas.signing import KeySigner, fingerprint_of

Loop = Literal["intake", "dispatch", "receipts", "returns", "reconcile", "replay", "sweep", "web"]
LOOPS: Final[tuple[Loop, ...]] = get_args(Loop)

_MIN_PAUSE_S: Final = 0.1
_MAX_PAUSE_S: Final = 5.0
_MAX_TROUBLE_PAUSE_S: Final = 120.0
"""What is taken and given back is counted by the broker, which puts a message aside after twenty times. The waits
between them add up to more than twenty minutes, so that a person can act first."""

_ASIDE_PAUSE_S: Final = 0.05
"""Between two looks for broadcasts that were set aside, which is little beside what they take."""

_LITTLE: Final = 30
"""What costs about as much as the turn itself, its statements and its commit."""

_GIVES_NOTHING_BACK: Final = ("broker", "directory")
"""Parts without which a loop does not take anything in the first place."""

log = structlog.get_logger("truc")


def clock() -> datetime:
    """Tell the time; the only clock that the loops know."""
    return datetime.now(UTC)


async def run(settings: Settings, loops: Collection[Loop], stop: asyncio.Event) -> None:
    """Run loops in this process until told to stop.

    Broker and database may come later than the hub, and go and come again: `/readyz` says what is missing.

    Raises:
        SettingsError: When the hub's key or the blob store cannot be used.
        Unavailable: When the address for health and metrics is in use.
    """
    async with AsyncExitStack() as ending:
        listener = ending.enter_context(bind(settings.http_host, settings.http_port))
        health = Health()
        parts = await ending.enter_async_context(_parts(settings, loops, health))
        tasks = await ending.enter_async_context(asyncio.TaskGroup())
        app = create_app(health, refresh=parts.refresh_metrics, api=parts.api)
        tasks.create_task(serve(app, listener, stop))
        log.info("hub.started", loops=sorted(loops), http=":".join(map(str, listener.getsockname()[:2])))
        tasks.create_task(_turn_all(parts, health, stop))
        await stop.wait()
        log.info("hub.stopping")
    log.info("hub.stopped")


async def keep_turning(
    name: str,
    turn: Callable[[], Awaitable[int]],
    stop: asyncio.Event,
    *,
    pause_s: float = 0.0,
    linger_s: float = 0.0,
    store_is_back: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Turn a loop until told to stop; trouble is logged and waited out, ever longer while turn after turn fails.

    Args:
        name: What the loop is called in logs and metrics.
        turn: One turn; returns how many things it settled.
        stop: Ends the loop after the turn it is in.
        pause_s: Wait after a turn that settled nothing; a loop that waits by itself needs none.
        linger_s: Wait after a turn that settled little, so that the next one has more to settle.
        store_is_back: Returns when the database answers again. What a loop had taken was given back when it went, and
            the broker counts that: to take again before would spend the few returns that a message has.
    """
    trouble_pause_s = _MIN_PAUSE_S
    while not stop.is_set():
        began = time.perf_counter()
        try:
            settled = await turn()
        except Trouble as trouble:
            part = trouble.part if isinstance(trouble, Unavailable) else "content"
            metrics.TROUBLES.labels(name, part).inc()
            log.warning("loop.trouble", loop=name, part=part, reason=str(trouble), again_in_s=trouble_pause_s)
            await _pause(trouble_pause_s, stop)
            longest_s = _MAX_PAUSE_S if part in _GIVES_NOTHING_BACK else _MAX_TROUBLE_PAUSE_S
            trouble_pause_s = min(trouble_pause_s * 2, longest_s)
            if part == "database" and store_is_back is not None:
                await store_is_back()
            continue
        trouble_pause_s = _MIN_PAUSE_S
        if settled:
            metrics.TURN_SECONDS.labels(name).observe(time.perf_counter() - began)
            metrics.BATCH_SIZE.labels(name).observe(settled)
            if linger_s and settled < _LITTLE:
                await _pause(linger_s, stop)
        elif pause_s:
            await _pause(pause_s, stop)


def load_signer(settings: Settings) -> KeySigner:
    """Read the hub's key and certificate.

    Raises:
        SettingsError: When one is missing, unreadable, or they do not belong together.
    """
    if settings.hub_key_file is None or settings.hub_certificate_file is None:
        raise SettingsError(
            "TRUC_HUB_KEY_FILE and TRUC_HUB_CERTIFICATE_FILE: both are needed, the hub signs its notices"
        )
    try:
        key = load_pem_private_key(settings.hub_key_file.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise SettingsError(f"TRUC_HUB_KEY_FILE: {_why(error, 'no unencrypted private key in PEM')}") from error
    try:
        certificate = x509.load_pem_x509_certificate(settings.hub_certificate_file.read_bytes())
    except (OSError, ValueError) as error:
        raise SettingsError(f"TRUC_HUB_CERTIFICATE_FILE: {_why(error, 'no certificate in PEM')}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise SettingsError("TRUC_HUB_KEY_FILE: neither an RSA nor a P-256 key")
    if key.public_key() != certificate.public_key():
        raise SettingsError("TRUC_HUB_CERTIFICATE_FILE: the certificate does not belong to TRUC_HUB_KEY_FILE")
    return KeySigner(key, fingerprint_of(certificate))


def _why(error: Exception, otherwise: str) -> str:
    return f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else otherwise


@dataclass(frozen=True, slots=True)
class _Turning:
    """A loop and its waits, see `keep_turning`."""

    name: Loop | Literal["broadcasts"]
    turn: Callable[[], Awaitable[int]]
    pause_s: float = 0.0
    linger_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a process is made of, as far as its loops need it."""

    pool: Pool
    keeper: SnapshotKeeper
    turns: Sequence[_Turning]
    api: Api | None

    async def refresh_metrics(self) -> None:
        """Bring the gauges up to date; a database that is away leaves them as they were."""
        try:
            found = await unfinished(self.pool, clock())
        except Trouble as trouble:
            log.info("metrics.not_refreshed", reason=str(trouble))
            return
        metrics.UNFINISHED.labels("pending").set(found.pending)
        metrics.UNFINISHED.labels("routed").set(found.routed)
        metrics.UNFINISHED.labels("held").set(found.held)
        metrics.UNFINISHED.labels("dead").set(found.dead)
        metrics.OVERDUE.set(found.overdue)


@asynccontextmanager
async def _parts(settings: Settings, loops: Collection[Loop], health: Health) -> AsyncIterator[_Parts]:
    async with AsyncExitStack() as ending:
        pool = await ending.enter_async_context(
            open_pool(settings.database_url.get_secret_value(), max_size=settings.database_connections, by_key=True)
        )
        keeper = SnapshotKeeper(
            DirectoryStore(pool), max_age_s=settings.directory_max_age_s, refresh_s=settings.directory_refresh_s
        )
        amqp_url = settings.amqp_url.get_secret_value()
        consuming = Connection(amqp_url, name="truc-hub consuming")
        ending.push_async_callback(consuming.close)
        publishing = Connection(amqp_url, name="truc-hub publishing")
        ending.push_async_callback(publishing.close)
        outbox = Outbox(publishing, channels=settings.publish_channels, confirm_timeout_s=settings.confirm_timeout_s)

        async def directory_is_fresh() -> None:
            keeper.current()

        async def database_answers() -> None:
            await ready(pool)

        health.probes["database"] = database_answers
        health.probes["directory"] = directory_is_fresh
        health.probes["broker"] = outbox.answers
        turns = _turns(
            settings,
            loops,
            pool=pool,
            keeper=keeper,
            consuming=consuming,
            publishing=publishing,
            outbox=outbox,
            ending=ending,
        )
        api = None
        if {"sweep", "web"} & set(loops):
            blobs = await asyncio.to_thread(BlobStore, settings.blobs_url)
            health.probes["blobs"] = blobs.ready
            register = PostgresParts(pool)
            if "web" in loops:
                parts = Parts(blobs, register, settings.part_max_bytes, clock)
                api = _api(settings, parts, keeper, pool)
            if "sweep" in loops:
                unused = settings.part_unreferenced_s
                sweep = Sweep(register, blobs, unused, settings.part_unfinished_s, clock)
                turns.append(_Turning("sweep", sweep.turn, pause_s=settings.sweep_pause_s))
        yield _Parts(pool, keeper, turns, api)


def _api(settings: Settings, parts: Parts, keeper: SnapshotKeeper, pool: Pool) -> Api:
    return Api(
        parts=parts,
        directories=keeper,
        silence=PostgresSilence(pool),
        catch_ups=PostgresCatchUpRequests(pool, settings.catch_up_limits()),
        uploads=Transfers(settings.part_uploads),
        downloads=Transfers(settings.part_downloads),
        max_part_bytes=settings.part_max_bytes,
        clock=clock,
    )


def _turns(
    settings: Settings,
    loops: Collection[Loop],
    *,
    pool: Pool,
    keeper: SnapshotKeeper,
    consuming: Connection,
    publishing: Connection,
    outbox: Outbox,
    ending: AsyncExitStack,
) -> list[_Turning]:
    """Build the loops that are asked for."""
    policy = settings.policy()
    ledger = PostgresLedger(pool, pace=settings.pace(), policy=policy)
    turns: list[_Turning] = []

    def inbox(queue: str, max_batch: int, linger_s: float) -> QueueInbox:
        made = QueueInbox(consuming, queue, prefetch=2 * max_batch, max_batch=max_batch, linger_s=linger_s)
        ending.push_async_callback(made.stop)
        return made

    if "intake" in loops:
        arriving = inbox(INTAKE, settings.intake_batch, settings.linger_s)
        taking = Intake(arriving, ledger, keeper, load_signer(settings), policy, clock, Aside())
        turns.append(_Turning("intake", taking.turn))
        turns.append(_Turning("broadcasts", taking.turn_aside, pause_s=_ASIDE_PAUSE_S))
    if "dispatch" in loops:
        deliveries = PostgresDeliveries(
            pool,
            max_batch=settings.dispatch_batch,
            max_share=settings.dispatch_share,
            wait_s=settings.dispatch_wait_s,
            policy=policy,
        )
        handing_over = Dispatch(deliveries, outbox, keeper, policy, clock)
        turning = _Turning("dispatch", handing_over.turn, linger_s=settings.linger_s)
        turns += [turning, turning]  # one marks while the other one claims and publishes
    if "receipts" in loops:
        answers = inbox(RECEIPTS, settings.receipts_batch, settings.receipts_linger_s)
        recording = Receipts(answers, ledger, keeper, load_signer(settings), policy, clock)
        turns.append(_Turning("receipts", recording.turn))
    if "returns" in loops:
        dead = DeadInbox(
            consuming,
            prefetch=2 * settings.returns_batch,
            max_batch=settings.returns_batch,
            linger_s=settings.linger_s,
        )
        ending.push_async_callback(dead.stop)
        turns.append(_Turning("returns", Returns(dead, ledger, policy, clock).turn))
    if "reconcile" in loops:
        reconcile = Reconcile(ledger, keeper, load_signer(settings), policy, clock)
        turns.append(_Turning("reconcile", reconcile.turn, pause_s=settings.reconcile_pause_s))
    if "replay" in loops:
        again = Outbox(publishing, channels=1, confirm_timeout_s=settings.confirm_timeout_s)
        turns.append(_Turning("replay", _replay_turn(settings, pool, keeper, again), pause_s=settings.replay_pause_s))
    return turns


def _replay_turn(
    settings: Settings, pool: Pool, keeper: SnapshotKeeper, outbox: Outbox
) -> Callable[[], Awaitable[int]]:
    """Build the loop of replays, and the ways by which what it releases goes in and out again."""
    policy = settings.policy()
    ledger = PostgresLedger(pool, pace=settings.pace(), policy=policy)
    documents = ParkedInbox(pool, "document", max_batch=settings.intake_batch, clock=clock)
    answers = ParkedInbox(pool, "answer", max_batch=settings.receipts_batch, clock=clock)
    catch_ups = CatchUps(pool, max_batch=settings.dispatch_batch)
    ways: Sequence[Callable[[], Awaitable[int]]] = (
        Replay(PostgresReplays(pool), keeper, policy, clock).turn,
        Intake(documents, ledger, keeper, load_signer(settings), policy, clock).turn,
        Receipts(answers, ledger, keeper, load_signer(settings), policy, clock).turn,
        Dispatch(catch_ups, outbox, keeper, policy, clock).turn,  # the last: it alone needs the broker
    )

    async def turn() -> int:
        return sum([await way() for way in ways])

    return turn


async def _turn_all(parts: _Parts, health: Health, stop: asyncio.Event) -> None:
    """Keep the directory and turn the loops, from the moment the database can be used until told to stop."""
    await _until(lambda: ready(parts.pool), stop)
    await _until(parts.keeper.refresh, stop)
    keeping = asyncio.create_task(parts.keeper.run())

    async def store_is_back() -> None:
        await _until(lambda: ready(parts.pool), stop)

    loops = [
        keep_turning(
            each.name,
            _guarded(each.name if parts.turns.index(each) == number else f"{each.name} {number}", each.turn, health),
            stop,
            pause_s=each.pause_s,
            linger_s=each.linger_s,
            store_is_back=store_is_back,
        )
        for number, each in enumerate(parts.turns)
    ]
    try:
        await asyncio.gather(stop.wait(), *loops)
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def _until(succeeds: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
    pause_s = _MIN_PAUSE_S
    while not stop.is_set():
        try:
            await succeeds()
        except Unavailable as trouble:
            log.warning("hub.waiting", part=trouble.part, reason=str(trouble), again_in_s=pause_s)
            await _pause(pause_s, stop)
            pause_s = min(pause_s * 2, _MAX_PAUSE_S)
        else:
            return


def _guarded(name: str, turn: Callable[[], Awaitable[int]], health: Health) -> Callable[[], Awaitable[int]]:
    """Make a defect in a turn a trouble of that loop alone, loudly: `/livez` asks for a restart until a turn succeeds.

    A loop that ended instead would keep what it has taken from every other process.
    """

    async def guarded() -> int:
        try:
            settled = await turn()
        except Trouble:
            raise
        except Exception as error:
            health.ended[name] = f"ended by {type(error).__name__}"
            log.exception("loop.ended", loop=name)
            raise Trouble(f"unexpected {type(error).__name__}") from error
        health.ended.pop(name, None)
        return settled

    return guarded


async def _pause(seconds: float, stop: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
