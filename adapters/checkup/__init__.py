"""What `truc-agency doctor` looks at: small checks, each of one thing, in the order in which a connection breaks.

- `finding`: what a check says, and what it is given.
- `papers`: key, certificate, directory.
- `network`: names, ports, TLS of broker and hub.
- `axis`: what broker and hub say to us: permissions, clock, store.
- `machine`: files, folders and disks.

Nothing is sent, taken or left behind.
"""
