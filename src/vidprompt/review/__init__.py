"""Compare a project with a base revision, and check that its results follow from code and parameters."""
