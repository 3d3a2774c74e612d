"""`python -m vidprompt.cli`: what the `vidprompt` command does, for launchers of processes."""

from vidprompt.cli.main import main

main()
