"""A project of a user's: its skeleton, the link to the installed package's code, upgrades."""
