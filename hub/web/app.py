"""One FastAPI application: `/livez`, `/readyz`, `/metrics`, and in the processes that serve it the API under `/v1`."""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse

from hub.telemetry.health import Health
from hub.telemetry.metrics import exposition
from hub.web.api import agencies, parts
from hub.web.api.answers import explain_failures
from hub.web.api.api import Api


def create_app(health: Health, refresh: Callable[[], Awaitable[None]] | None = None, api: Api | None = None) -> FastAPI:
    """Build the application.

    Args:
        health: What is asked by `/livez` and `/readyz`.
        refresh: Brings gauges up to date before `/metrics` is written.
        api: What the routes of the API work with; it is described at `/v1/openapi.json`; none in a process that does not serve it.
    """
    openapi_url = None if api is None else "/v1/openapi.json"
    app = FastAPI(title="Trục", version="1", openapi_url=openapi_url, docs_url=None, redoc_url=None)
    if api is not None:
        explain_failures(app)
        api.serve(app)
        app.include_router(parts.router)
        app.include_router(agencies.router)

    @app.get("/livez", include_in_schema=False)
    async def livez() -> JSONResponse:
        """Say whether the process needs a restart."""
        return _report(health.alive())

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> JSONResponse:
        """Say whether every part can work, and name those that cannot."""
        return _report(await health.ready())

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        """Write the metrics for Prometheus."""
        if refresh is not None:
            await refresh()
        return Response(exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return app


def _report(failing: object) -> JSONResponse:
    status = "failing" if failing else "ok"
    return JSONResponse({"status": status, "failing": failing}, status_code=503 if failing else 200)
