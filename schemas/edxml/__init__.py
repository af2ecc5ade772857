"""The national packet format edXML (QCVN 102:2016/BTTTT) and how it becomes an envelope, a status, and back.

```
bytes ── parsing ── reader ──► Packet | StatusPacket ── documents, statuses ──► Envelope | Status
             │    (packet: which field stands where)
             │                     └── attachments ──► files with digests, to be stored as parts
             └── signature ──► level A2, A1 or A0
Packet | StatusPacket ── writer ──► bytes
```

The reader is lenient: it takes what real producers write. The writer is strict: order and form of the standard, nothing
else. What is refused is refused as a value: every problem at once, with its place in the packet.

The bytes of a packet are never changed: they travel as a part of the envelope, and the recipient's software reads them.
So whatever the envelope has no place for is not lost; `mapping` lists it.
"""
