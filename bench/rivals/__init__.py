"""What the gateway is measured against: each does the same job, from the market feed's socket to NATS, in its own way.

Each is a program: `python -m bench.rivals.<name> <feed's URL> <NATS URL> <file of assets>`.  It prints a line once it has subscribed,
and how many messages it has published once its standard input has ended.
"""
