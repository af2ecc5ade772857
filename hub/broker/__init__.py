"""RabbitMQ, and the only place in the hub that speaks to it.

The hub uses aiormq, the layer beneath aio-pika: its messages are cheap, it hides nothing, and it reconnects nothing
behind our back. Its exceptions end in `errors.py`.
"""
