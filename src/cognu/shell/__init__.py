"""The shell: a language (`lexer`, `parser`, `expand`, `interpreter`) and small commands (`commands`).

It runs in an OS process of its own and reaches files through a `System` (`system.py`) and nothing else.
"""
