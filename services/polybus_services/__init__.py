"""What a person starts: the gateway, the simulator, the demo and the command line."""
