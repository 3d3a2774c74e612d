"""What the flows need: a Prefect server, its work pool and limits, a worker, and the reports on a port.

`make up`, `make down` and `make status` are `python -m flows.services up|down|status`.
"""
