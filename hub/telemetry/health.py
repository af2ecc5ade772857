"""Is this process alive, and can it do its work? Each part is asked by itself and named when it fails."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from hub.core.trouble import Trouble
from hub.telemetry.metrics import PART_UP

Probe = Callable[[], Awaitable[None]]
"""Asks one part; raises `Trouble` with the reason when it cannot do its work."""

_PROBE_TIMEOUT_S = 3.0


@dataclass(slots=True)
class Health:
    """What can be asked about a process.

    Attributes:
        probes: How to ask each part, by name.
        ended: Loops whose last turn was ended by a defect, with the reason.
    """

    probes: dict[str, Probe] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)

    def alive(self) -> Mapping[str, str]:
        """Name what makes a restart necessary; empty when the process is alive."""
        return dict(self.ended)

    async def ready(self) -> Mapping[str, str]:
        """Ask every part at once; gives the reason for each that fails, empty when all can work."""
        names = list(self.probes)
        reasons = await asyncio.gather(*(_ask(self.probes[name]) for name in names))
        failing = {name: reason for name, reason in zip(names, reasons, strict=True) if reason is not None}
        for name in names:
            PART_UP.labels(name).set(name not in failing)
        return failing | self.ended


async def _ask(probe: Probe) -> str | None:
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            await probe()
    except Trouble as trouble:
        return str(trouble)
    except TimeoutError:
        return f"no answer within {_PROBE_TIMEOUT_S:.0f} s"
    return None
