"""The WebSocket below the feeds: the upgrade, the frames, and when to dial again."""
