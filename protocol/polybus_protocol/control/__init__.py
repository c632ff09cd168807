"""What the control service can be asked, and what it answers."""
