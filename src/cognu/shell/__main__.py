"""`python -m cognu.shell`: what a node starts for `cpu`, and a shell without the rest of the command line.

With COGNU_TOKEN in its environment it is the process that the token stands for. Not an argument: those anybody on the
machine can read.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

from cognu.errors import CognuError
from cognu.files.launch import TOKEN_VARIABLE
from cognu.shell.program import Start, host_cwd, host_variables, shell
from cognu.shell.state import FAILED


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="cognu.shell", description="A shell on a node.")
    parser.add_argument("--home", default=os.environ.get("COGNU_HOME", "~/.cognu"), help="the node's home directory")
    parser.add_argument("--socket", help="the node's socket; HOME/node.sock")
    parser.add_argument("--streams", choices=("own", "fd"), default="own", help="fd: the streams of that process")
    parser.add_argument("-i", dest="prompt", action="store_true", help="a prompt, whatever the input is")
    parser.add_argument("-c", "--command", help="a text to run")
    parser.add_argument("words", nargs=argparse.REMAINDER, help="a command to run, its words as they are")
    return parser.parse_args()


def main() -> int:
    options = _arguments()
    token = os.environ.pop(TOKEN_VARIABLE, "")
    own = options.streams == "own"
    home = os.path.abspath(os.path.expanduser(options.home))
    start = Start(
        options.socket or f"{home}/node.sock",
        token,
        own_streams=own,
        terminal=options.prompt,
        publish=not token,
        cwd=host_cwd() if own else "/",
        variables=host_variables() if own else {},
        history=f"{home}/history" if own else "",
    )
    words = options.words[1:] if options.words[:1] == ["--"] else options.words
    try:
        return asyncio.run(shell(start, options.command, words, options.prompt))
    except CognuError as error:
        print(f"cognu: {error.explain()}", file=sys.stderr)
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
