# For work on the package itself: what its repository has beside a project's Makefile.
.PHONY: test slow lint coverage wheel docs

INSTALL := -e '.[dev]' -c constraints.txt
REQUIREMENTS := pyproject.toml constraints.txt

# two files of tests at a time, a thread each, the longest first (tests/conftest.py)
test: env
	OMP_NUM_THREADS=1 pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder

slow: env
	pytest -m slow $(SLOW)

# lines that the quick tests reach; the floor is in pyproject.toml
coverage: env
	OMP_NUM_THREADS=1 pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder --cov --cov-report=

# dist/: the package's wheel and sdist, and the demo's data as the wheel of vidprompt-demo
wheel: env
	uv build --out-dir dist
	uv build --wheel --out-dir dist tools/demo_package

# the documentation's site, in cache/site; a broken link or an unknown page is an error (mkdocs.yml)
docs: export NO_MKDOCS_2_WARNING := 1
docs: env
	mkdocs build

lint: env docs
	ruff check .
	ruff format --check .
	mypy
	vidprompt activate --check
	vidprompt check-store
