# In an environment with the extras test and dev; `lock` also needs uv.
.PHONY: test lint types bench verify demo lock

test: ; python -m pytest -n auto
lint: ; ruff check . && ruff format --check . && lint-imports
types: ; pyright
bench: ; python -m benchmarks
verify: ; python -m benchmarks.verify_models
demo: ; rocketnpu demo
lock: ; uv pip compile --quiet --custom-compile-command "make lock" --output-file requirements.lock pyproject.toml
