"""REST for platforms that cannot speak AMQP: it runs at the platform, next to its key, and speaks AMQP to the axis.

What comes in, and what the platform does with it:

| effect                                             | if the process dies after it                                   |
|----------------------------------------------------|----------------------------------------------------------------|
| 1 the broker hands a message out, it is proven     | handed out again                                               |
| 2 `mailbox.keep`: written down under its number    | handed out again; its delivery id shows that it is there       |
| 3 `client.keep`: the message is acknowledged       | – (the axis has no receipt yet and sends it again if need be)  |
| 4 the platform answers, `mailbox.answer`           | the answer is sent at the next start                           |
| 5 `client.reply`: guard marked, receipt confirmed  | sent again: the same receipt                                   |
| 6 `mailbox.mark_told`                              | –                                                              |

The receipt goes out only after the platform's own answer, since only then it has the document. If the disk of the
gateway dies before, the axis sends everything again that was not answered. Letters are written down with what they
say about submissions in one transaction, then acknowledged (rows 1 to 3).

What the platform hands in:

| effect                                             | if the process dies after it                                   |
|----------------------------------------------------|----------------------------------------------------------------|
| 1 the document is signed                           | nothing was promised: the platform repeats its request         |
| 2 `mailbox.submit`: written down under its key     | published at the next start; a repetition finds it by its key  |
| 3 the platform is answered (202)                   | –                                                              |
| 4 `client.submit`: published, confirmed            | published again: the same bytes, the same document             |
| 5 `mailbox.mark_confirmed`                         | –                                                              |

What is announced to a webhook is only a hint to come for it; `webhook.py` has a table of its own.
"""
