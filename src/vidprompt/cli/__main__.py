"""`python -m vidprompt.cli`: the command `vidprompt`, for launchers of processes."""

from vidprompt.cli.main import main

main()
