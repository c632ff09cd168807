"""What a person starts: the gateway, the simulator, the demo and the command line.

Public are the names that `client`, `consumer`, `local_book` and `replay` list in their `__all__`; all else is internal.
"""
