"""What the bootstrap asks: `python -m hub.dev missing` and `python -m hub.dev clean`."""

import sys

from hub.dev.processes import DevError
from hub.dev.servers import clean, missing

match sys.argv[1:]:
    case ["missing"]:
        print("\n".join(missing()))
    case ["clean"]:
        try:
            clean()
        except DevError as error:
            sys.exit(str(error))
    case _:
        sys.exit(__doc__)
