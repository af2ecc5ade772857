"""One FastAPI application: `/livez`, `/readyz`, `/metrics`."""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse

from hub.telemetry.health import Health
from hub.telemetry.metrics import exposition


def create_app(health: Health, refresh: Callable[[], Awaitable[None]] | None = None) -> FastAPI:
    """Build the application.

    Args:
        health: What is asked by `/livez` and `/readyz`.
        refresh: Brings gauges up to date before `/metrics` is written.
    """
    app = FastAPI(title="Trục", openapi_url=None, docs_url=None, redoc_url=None)

    @app.get("/livez")
    async def livez() -> JSONResponse:
        """Say whether the process needs a restart."""
        return _report(health.alive())

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        """Say whether every part can work, and name those that cannot."""
        return _report(await health.ready())

    @app.get("/metrics")
    async def metrics() -> Response:
        """Write the metrics for Prometheus."""
        if refresh is not None:
            await refresh()
        return Response(exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return app


def _report(failing: object) -> JSONResponse:
    status = "failing" if failing else "ok"
    return JSONResponse({"status": status, "failing": failing}, status_code=503 if failing else 200)
