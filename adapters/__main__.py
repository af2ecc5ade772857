"""`truc-agency`, or `python -m adapters`."""

from adapters.cli import app


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
