"""Order books and whether they may be believed: levels, proof by hash, liveness, and the looks at all of it."""
