"""Two connections that carry the same keys: one ordered stream out of what both say."""
