"""Writes `adapters/published/gateway.openapi.json` from the code that answers, so that it cannot say anything else.

python -m adapters.gateway.publish            write the file
python -m adapters.gateway.publish --check    fail when it differs from the code
"""

import argparse
import json
from pathlib import Path
from typing import Final

from adapters.gateway.app import create_app

PUBLISHED: Final = Path(__file__).parents[1] / "published" / "gateway.openapi.json"


def document() -> str:
    """Write the OpenAPI description."""
    return json.dumps(create_app(None, None).openapi(), ensure_ascii=False, indent=2) + "\n"


def main() -> int:
    """Write the file, or check it."""
    parser = argparse.ArgumentParser(prog="python -m adapters.gateway.publish")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when it differs from the code")
    if parser.parse_args().check:
        stale = not PUBLISHED.is_file() or PUBLISHED.read_text(encoding="utf-8") != document()
        print(f"{PUBLISHED.name} differs from the code" if stale else "no drift")  # noqa: T201
        return int(stale)
    PUBLISHED.parent.mkdir(exist_ok=True)
    PUBLISHED.write_text(document(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
