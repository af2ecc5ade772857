"""The folder adapter: packets that are put into `outbox/` go out, what arrives lies in `inbox/`.

```
outbox/ ─► sending/ ─► sent/    with NAME.status/ beside NAME: receipts and statuses of the recipients
                  └──► failed/  with NAME.reason.txt and .json: what was wrong, where, what to do
arriving/ ─► inbox/             DELIVERY.edxml, with DELIVERY.status/ beside it when the sender asks for it back
         └──► unpacked/         DELIVERY/: documents that no packet can hold
```

All lie on one file system, so that every move is one rename. `journal` remembers what renames cannot say.

Going out (`outgoing`):

| effect                                             | if the process dies after it                                     |
|----------------------------------------------------|------------------------------------------------------------------|
| 1 renamed from outbox to sending                   | found there at the next start                                    |
| 2 the parts are uploaded                           | uploaded again: the same parts                                   |
| 3 signed, `journal.draw`: the token is on disk     | found there by the packet's digest, and published                |
| 4 published, confirmed                             | published again: the same bytes, the same document               |
| 5 `journal.confirm`                                | not published any more                                           |
| 6 renamed from sending to sent                     | –                                                                |

A token that could not be published for a day is too old for the axis, and nobody knows whether an earlier try came
through. The same envelope is signed anew then: under its id the axis takes one document, and refuses the second (E603).

What cannot be sent, and what the axis refuses later:

| effect                                             | if the process dies after it                                     |
|----------------------------------------------------|------------------------------------------------------------------|
| 1 `journal.refuse`, when a notice says so          | the notice comes again                                           |
| 2 the reason is written in failed                  | written again, under the same name                               |
| 3 renamed from sending or sent to failed           | –                                                                |
| 4 the notice is acknowledged                       | it comes again; the packet lies in failed already                |

Coming in (`incoming`):

| effect                                             | if the process dies after it                                     |
|----------------------------------------------------|------------------------------------------------------------------|
| 1 the packet is fetched to arriving, on disk       | the delivery comes again; fetched again                          |
| 2 `journal.keep`                                   | comes again; known, so only renamed                              |
| 3 renamed from arriving to inbox                   | comes again; it is not in arriving any more, so nothing is done  |
| 4 status 01 is published                           | published again: the same bytes                                  |
| 5 guard marked, receipt published, message acked   | as in `adapters.client`                                          |

Row 3 is the hand-over. What has left arriving was handed over, so an application may take its packets away at once, and
a document never comes twice, wherever the process dies. Letters are written beside what they are about, under names
that they decide themselves, then acknowledged.
"""
