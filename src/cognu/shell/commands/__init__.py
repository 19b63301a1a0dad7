"""The shell's own commands: the one table."""

from __future__ import annotations

from cognu.errors import E, FileError
from cognu.shell.commands import (
    caps,
    control,
    copying,
    cpu,
    files,
    following,
    grants,
    manual,
    mesh,
    modes,
    namespace,
    network,
    peers,
    processes,
    removing,
    services,
    testing,
    text,
    top,
)
from cognu.shell.commands.command import ANY, Command, invoke
from cognu.shell.state import Call

_JOIN = ("a", "b", "c", "r")
_RUN = (
    "run [--on NODE] [--isolate] [--handle INTERFACE] [--serve NAME] [--grant PATH[:rwx]|net] [--grants FILE] "
    "[--dir HOST[::GUEST]] [--env K=V] [--memory SIZE] [--cpu SECONDS] PROGRAM [ARG...]"
)


FORMS = """\
lists      a | b   a && b   a || b   ! a   a; b   a &   { a; }   ( a )
choices    if a; then b; elif c; then d; else e; fi   case WORD in PATTERN | PATTERN) a;; esac
loops      for NAME in WORDS; do a; done   while a; do b; done   until a; do b; done
functions  name() { a; }
streams    < > >> 2> 2>&1 &>   << WORD (lines up to WORD)   <<- WORD (without their tabs)
values     x=1   $x ${x} ${#x} ${x:-y} ${x:=y} ${x:?y} ${x:+y} ${x%y} ${x%%y} ${x#y} ${x##y}
           $1 $@ $* $# $? $! $$   $(a) `a`   $((1 + x))
names      * ? [a-z] ~   quoted: 'a' "$a" \\a
scripts    a file that begins with #!/bin/sh or #!cognu is a command"""


async def _help(call: Call) -> int:
    if call.operands:
        for name in call.operands:
            if name not in COMMANDS:
                raise FileError(E.NOTFOUND, name)
            await call.print(COMMANDS[name].help())
        return 0
    width = max(map(len, COMMANDS))
    for kind, commands in KINDS.items():
        await call.print(f"{kind}:", *(f"  {command.name:{width}}  {command.summary}" for command in commands), "")
    await call.print(
        "help COMMAND, like COMMAND --help, shows usage and an example.",
        "Any other word is a program or script: a path, a name in /bin, or a hash.",
        "",
        FORMS,
    )
    return 0


KINDS: dict[str, tuple[Command, ...]] = {
    "files": (
        Command(
            "ls", files.ls, "list directories", "ls [-1adlrtS] [--json] [PATH...]", "ls -l /n/pi", (*"1adlrtS", "json")
        ),
        Command(
            "stat",
            files.stat,
            "say what is known of a file",
            "stat [--json] PATH...",
            "stat --json notes.txt",
            ("json",),
            (1, ANY),
        ),
        Command(
            "cp", copying.cp, "copy files", "cp [-r] FILE... TARGET", "cp -r notes /n/pi/home/me", ("r",), (2, ANY)
        ),
        Command("mv", copying.mv, "move or rename files", "mv FILE... TARGET", "mv draft.txt notes/", (), (2, ANY)),
        Command("rm", removing.rm, "remove files", "rm [-rf] PATH...", "rm -r old", ("r", "f")),
        Command("chmod", modes.chmod, "change permissions", "chmod MODE PATH...", "chmod go-w notes.txt", (), (2, ANY)),
        Command("mkdir", files.mkdir, "make directories", "mkdir [-p] PATH...", "mkdir -p a/b/c", ("p",), (1, ANY)),
        Command(
            "touch",
            files.touch,
            "make empty files, or set their time to now",
            "touch PATH...",
            "touch done",
            (),
            (1, ANY),
        ),
    ),
    "text": (
        Command("cat", text.cat, "copy files to the output", "cat [FILE...]", "cat a b > both"),
        Command("echo", text.echo, "print words", "echo [-n] [WORD...]", "echo $HOME *", None),
        Command(
            "head",
            text.head,
            "print the first lines",
            "head [-n LINES | -c BYTES] [FILE...]",
            "head -n 3 log",
            ("n=", "c=", *"0123456789"),
        ),
        Command(
            "tail",
            text.tail,
            "print the last lines",
            "tail [-f] [-n [+]LINES | -c [+]BYTES] [FILE...]",
            "tail -n 3 log",
            ("f", "n=", "c="),
        ),
        Command(
            "watch",
            following.watch,
            "print what happens to files and directories",
            "watch [--json] [-n COUNT] PATH...",
            "watch /n/pi/home/me",
            ("n=", "json"),
            (1, ANY),
        ),
        Command("wc", text.wc, "count lines, words and bytes", "wc [-lwc] [FILE...]", "ls | wc -l", (*"lwc",)),
        Command(
            "grep",
            text.grep,
            "print lines that match",
            "grep [-EFcilnqrv] PATTERN [FILE...]",
            "grep -rn 'TODO' src",
            (*"EFcilnqrv",),
            (1, ANY),
            status="0 if a line matched; 1 if none did, or a file could not be read; 2 if used wrongly",
        ),
        Command("sort", text.sort, "sort lines", "sort [-nru] [FILE...]", "sort -u names", (*"nru",)),
    ),
    "namespace": (
        Command(
            "bind",
            namespace.bind,
            "make a file or directory appear at another name",
            "bind [-a|-b] [-c|-r] NEW OLD",
            "bind -b /n/pi/net /net",
            _JOIN,
            (2, 2),
        ),
        Command(
            "mount",
            namespace.mount,
            "mount a posted 9P service",
            "mount [-a|-b] [-c|-r] SERVICE OLD [ANAME]",
            "mount /srv/photos /mnt/photos",
            _JOIN,
            (2, 3),
        ),
        Command(
            "unmount",
            namespace.unmount,
            "undo a bind or mount",
            "unmount [NEW] OLD",
            "unmount /n/pi/net /net",
            (),
            (1, 2),
        ),
        Command(
            "peers",
            peers.peers,
            "list the machines that were joined, and those near",
            peers.USAGE,
            "peers -w",
            ("w", "near", "json"),
            plain="label",
        ),
        Command(
            "services",
            services.services,
            "services of this machine and of others, by attribute",
            services.USAGE,
            "services kind notes",
            ("json",),
        ),
        Command(
            "grants",
            grants.grants,
            "what other machines may do here, and programs use",
            grants.USAGE,
            "grants set wc.wasm notes.txt",
            ("json", "never"),
        ),
        Command(
            "caps",
            caps.caps,
            "who holds what, and why",
            "caps [--json] [show [PID] | why PID PATH [RIGHTS] | check [POLICY]]",
            "caps why 42 /etc/passwd",
            ("json",),
            (0, 4),
            status="0; 1 if something was refused, or differs from the policy; 2 if it was used wrongly",
        ),
        Command(
            "ns",
            namespace.ns,
            "print a namespace as the commands that make it",
            "ns [--json] [PID]",
            "ns",
            ("json",),
            (0, 1),
        ),
        Command("cd", namespace.cd, "change the working directory", "cd [DIRECTORY | -]", "cd /n/pi", (), (0, 1)),
        Command("pwd", namespace.pwd, "print the working directory", "pwd", "pwd", (), (0, 0)),
    ),
    "processes": (
        Command(
            "run",
            processes.run,
            "run a program in a sandbox",
            _RUN,
            "run --on pi wc.wasm notes.txt",
            ("on=", "isolate", "handle=", "serve=", "grant=", "grants=", "dir=", "env=", "memory=", "cpu="),
            (1, ANY),
            mixed=False,
            status="the program's; 128 + n if signal n ended it; 126 if it can't be run, 127 if there is none",
        ),
        Command("ps", processes.ps, "list processes", "ps [--waits] [--json]", "ps", ("waits", "json"), (0, 0)),
        Command(
            "top",
            top.top,
            "what processes use, live",
            "top [--json] [-n TIMES] [-d SECONDS]",
            "top -n 1",
            ("n=", "d=", "json"),
            (0, 0),
        ),
        Command("kill", processes.kill, "end processes or jobs", "kill [-SIGNAL] PID|%JOB...", "kill 42", None),
        Command(
            "wait",
            processes.wait,
            "wait for jobs or processes",
            "wait [PID|%JOB...]",
            "wait %1",
            status="that of the last one waited for; 1 if there is none; 2 if used wrongly",
        ),
        Command("jobs", processes.jobs, "list what runs in the background", "jobs", "jobs", (), (0, 0)),
        Command(
            "env",
            processes.env,
            "print variables, or run a command with more of them",
            "env [K=V...] [COMMAND [ARG...]]",
            "env LANG=C date.wasm",
            (),
            mixed=False,
            status="that of the command; 0 without one; 2 if used wrongly",
        ),
    ),
    "the shell": (
        Command("unset", processes.unset, "forget variables", "unset NAME...", "unset x", (), (1, ANY)),
        Command("exit", processes.leave, "end this shell", "exit [STATUS]", "exit 1", (), (0, 1)),
        Command("true", processes.true, "succeed", "true", "true || echo never", None, status="0"),
        Command("false", processes.false, "fail", "false", "false || echo so", None, status="1"),
        Command("clear", top.clear, "clear the terminal's window", "clear", "clear", (), (0, 0)),
        Command("sleep", processes.sleep, "wait some seconds", "sleep SECONDS", "sleep 0.5", (), (1, 1)),
        Command("man", manual.man, "print a page of the manual", "man [SECTION] [NAME]", "man 3 proc", (), (0, 2)),
        Command("help", _help, "list the commands", "help [COMMAND...]", "help ls"),
        Command(
            ".",
            control.source,
            "run a script in this shell",
            ". PATH [ARG...]",
            ". ./settings",
            (),
            (1, ANY),
            mixed=False,
            status="that of the script's last command; 1 if it can't be read",
        ),
        Command(":", control.nothing, "do nothing", ": [WORD...]", ": ${x:=1}", None),
        Command(
            "[",
            testing.bracket,
            "whether a condition holds",
            "[ CONDITION ]",
            "[ -f notes.txt ]",
            None,
            status="0 if it holds; 1 if not; 2 if it is no condition",
        ),
        Command("break", control.leave_loop, "leave a loop", "break [LEVELS]", "break", (), (0, 1)),
        Command(
            "continue", control.next_round, "begin a loop's next round", "continue [LEVELS]", "continue", (), (0, 1)
        ),
        Command(
            "eval",
            control.evaluate,
            "run words as a script",
            "eval [WORD...]",
            'eval "$x=1"',
            None,
            status="that of the last command",
        ),
        Command("history", control.history, "list the lines typed", "history [COUNT]", "history 10", (), (0, 1)),
        Command(
            "local", control.local, "variables of a function's own", "local NAME[=VALUE]...", "local x=1", (), (1, ANY)
        ),
        Command(
            "read",
            control.read,
            "read a line into variables",
            "read [-r] NAME...",
            "read -r line",
            ("r",),
            (1, ANY),
            status="0; 1 at the end of the input; 2 if used wrongly",
        ),
        Command(
            "return",
            control.leave_function,
            "end a function or a script read with .",
            "return [STATUS]",
            "return 1",
            (),
            (0, 1),
        ),
        Command(
            "set",
            control.set_arguments,
            "set arguments; -e: stop at failures, -u: unset variables are errors",
            "set [-eu] [+eu] [--] [WORD...]",
            "set -e",
            None,
        ),
        Command("shift", control.shift, "drop the first arguments", "shift [COUNT]", "shift", (), (0, 1)),
        Command(
            "test",
            testing.evaluate,
            "whether a condition holds",
            "test CONDITION",
            'test -n "$x"',
            None,
            status="0 if it holds; 1 if not; 2 if it is no condition",
        ),
    ),
    "the network": (
        Command(
            "fetch",
            mesh.fetch,
            "print a web page, through /net",
            "fetch URL",
            "fetch http://pi.local/ | head",
            (),
            (1, 1),
        ),
        Command(
            "dial",
            network.dial_address,
            "call an address, through /net",
            network.DIAL,
            "echo hello | dial tcp!pi!7000",
            (),
            (1, ANY),
            mixed=False,
            status="that of the command; 0 without one; 1 if the call was refused; 2 if it was used wrongly",
        ),
        Command(
            "listen1",
            network.listen1,
            "take calls, and run a command for each",
            network.LISTEN1,
            "listen1 tcp!*!7000 cat",
            ("1",),
            (2, ANY),
            mixed=False,
            status="with -1 that of the command; 1 if no calls can be taken there; 2 if it was used wrongly",
        ),
        Command(
            "csquery", network.csquery, "ask what to dial for an address", "csquery [ADDRESS...]", "csquery net!pi!http"
        ),
        Command(
            "dnsquery",
            network.dnsquery,
            "ask for addresses and names",
            "dnsquery [NAME [TYPE]]",
            "dnsquery pi ip",
            (),
            (0, 2),
        ),
    ),
    "store and other machines": (
        Command(
            "put",
            mesh.put,
            "store a file; prints its hash",
            "put [--json] FILE [--name NAME]",
            "put wc.wasm --name word-count",
            ("name=", "json"),
            (1, 1),
        ),
        Command("get", mesh.get, "print what has a hash", "get HASH", "get bafkr4ih2 > wc.wasm", (), (1, 1)),
        Command(
            "os",
            network.os,
            "run a command of a host, which its owner named for that",
            network.OS,
            "os -m /n/pi/cmd uptime",
            ("d=", "m=", "n="),
            (1, ANY),
            mixed=False,
            status="that of the command; 128 + n if signal n ended it; 1 if it was refused; 2 if it was used wrongly",
        ),
        Command(
            "import",
            mesh.import_tree,
            "mount another node's tree",
            "import [-r] [--token FILE] NODE PATH [AT]",
            "import pi /home/me",
            ("token=", "r"),
            (2, 3),
        ),
        Command(
            "export",
            mesh.export_tree,
            "let other nodes use a tree",
            "export [--json] [--token] [--uses N] [--for SECONDS] [--hide PATTERN] [--show PATTERN] PATH [NODE] [:rw]",
            "export /home/me pi",
            ("json", "token", "uses=", "for=", "hide=", "show="),
            (1, 3),
        ),
        Command(
            "cpu",
            cpu.cpu,
            "a shell or a command on another node",
            cpu.USAGE,
            "cpu pi",
            cpu.OPTIONS,
            (0, ANY),
            mixed=False,
            status="that of the shell or command there; 128 + n if signal n ended it; 126 if refused; 2 if misused",
        ),
    ),
}

COMMANDS: dict[str, Command] = {command.name: command for commands in KINDS.values() for command in commands}

__all__ = ["COMMANDS", "KINDS", "Command", "invoke"]
