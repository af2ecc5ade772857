"""`truc-agency gateway`."""

from typing import Annotated

import typer

from adapters.cli.output import Exit, Session, run, say


def gateway(
    context: typer.Context,
    *,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; beyond loopback access tokens are needed.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = None,
) -> None:
    """Answer REST requests of a platform that cannot speak AMQP, until SIGTERM or Ctrl-C."""
    session: Session = context.obj

    async def command() -> Exit:
        from adapters.gateway import serve

        settings = session.settings(gateway_host=host, gateway_port=port)
        serve.tokens_of(settings)  # before anything is opened
        with serve.bind(settings.gateway_host, settings.gateway_port) as listener:
            address = listener.getsockname()
            place = f"http://{settings.gateway_host}:{address[1]}"
            say(
                session.choose(
                    f"Cổng REST: {place}  mô tả: {place}/v1/openapi.json",
                    f"REST gateway: {place}  description: {place}/v1/openapi.json",
                )
            )
            await serve.run(settings, listener)
        return Exit.DONE

    run(session, command)
