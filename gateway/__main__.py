"""`python -m gateway` is `dialmark`."""

from gateway.cli import main

if __name__ == "__main__":
    main()
