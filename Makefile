# Each target is a script of the same name under scripts/. PYTHON=/path/to/python3.12 chooses the interpreter.
.PHONY: demo test check test-all interop soak bench compile clean

demo test check test-all interop soak bench compile:
	@scripts/$@

clean:
	rm -rf src/cognu/_compiled .venv .venv-3.* .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
