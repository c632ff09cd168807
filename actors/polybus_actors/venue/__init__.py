"""The side of the venue: sockets, who carries what, and what is tried when something stays silent."""
