"""One module per feed: what the venue says on it, and how to say things to it."""
