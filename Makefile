# Each target is a script of the same name under scripts/. PYTHON=/path/to/python3.12 chooses the interpreter.
.PHONY: demo test check test-all interop soak bench clean

demo test check test-all interop soak bench:
	@scripts/$@

clean:
	rm -rf .venv .venv-3.* .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
