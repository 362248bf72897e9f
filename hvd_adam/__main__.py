"""`python -m hvd_adam` is `hvd-adam`."""

from hvd_adam.cli import main

main()
