"""The side of those who ask: commands, what they want, and what they are told."""
