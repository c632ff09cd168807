"""`python -m polybus_services` is `polybus`."""

from polybus_services.cli import main

if __name__ == "__main__":
    main()
