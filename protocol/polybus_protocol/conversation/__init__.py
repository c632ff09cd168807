"""One connection's conversation with a feed: the session, its table of states, its clocks, and what it carries."""
