"""The figures for every day, in less than a minute; prints one line of JSON last.

`vs_naive`: documents a second of the whole path, agencies included, to those of a forwarder that checks nothing.
`vs_shovel`: its deliveries a second to the messages a second of RabbitMQ's own shovel.
"""

import json
import sys

from tests.bench import full_path, others

_SHARE = 0.006
_MESSAGES = 1000


def main() -> int:
    ours = full_path.measure(_SHARE)
    theirs = others.measure(_MESSAGES, rounds=1)["per_s"]
    print(json.dumps({"ours": ours, "others_per_s": theirs}))
    print(
        json.dumps(
            {
                "documents_per_s": ours["documents_per_s"],
                "deliveries_per_s": ours["deliveries_per_s"],
                "p99_ms": ours["to_arrival_ms"]["p99"],
                "vs_naive": round(ours["documents_per_s"] / theirs["naive_three_publishes"], 3),
                "vs_shovel": round(ours["deliveries_per_s"] / theirs["shovel"], 3),
                "audit": ours["audit"] and ours["finished"] and not ours["twice"],
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
