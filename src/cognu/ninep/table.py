"""The one table that says how each message lies on the wire, in which dialects; `additions` has the rows of `.ng`."""

from __future__ import annotations

from typing import NamedTuple

from . import messages as m
from .additions import ADDED
from .messages import OLD_STYLE, Dialect, Message


class Row(NamedTuple):
    """How one message lies on the wire in some dialects, after size[4] type[1] tag[2].

    `layout` has one word per field, in the class's order: 1 2 4 8 an integer of so many bytes; s a text
    (size[2], UTF-8); q a qid; S, Q a count[2] of those; t a stat with its doubled size, u that of 9P2000.u; d data
    (count[4]), always last; F a count[2] of features, name[s] value[8]; C a count[2] of whole messages, all of the
    same tag. Fields of the class beyond the layout don't travel and take their defaults.
    """

    number: int
    message: type[Message]
    layout: str
    dialects: frozenset[Dialect]


_BOTH = frozenset(Dialect)
_PLAIN = frozenset({Dialect.LEGACY})
_U = frozenset({Dialect.U})
_NUMBERED = frozenset(Dialect) - _PLAIN
_NEW = frozenset({Dialect.L, Dialect.NG})
_L_ONLY = frozenset({Dialect.L})
_NG = frozenset({Dialect.NG})

# 6 (Tlerror) and 106 (Terror) are numbers that nobody may send.
TABLE: tuple[Row, ...] = (
    Row(7, m.Rlerror, "4", _L_ONLY),
    Row(8, m.Tstatfs, "4", _NEW),
    Row(9, m.Rstatfs, "4 4 8 8 8 8 8 8 4", _NEW),
    Row(12, m.Tlopen, "4 4", _NEW),
    Row(13, m.Rlopen, "q 4", _NEW),
    Row(14, m.Tlcreate, "4 s 4 4 4", _NEW),
    Row(15, m.Rlcreate, "q 4", _NEW),
    Row(16, m.Tsymlink, "4 s s 4", _NEW),
    Row(17, m.Rsymlink, "q", _NEW),
    Row(18, m.Tmknod, "4 s 4 4 4 4", _NEW),
    Row(19, m.Rmknod, "q", _NEW),
    Row(20, m.Trename, "4 4 s", _NEW),
    Row(21, m.Rrename, "", _NEW),
    Row(22, m.Treadlink, "4", _NEW),
    Row(23, m.Rreadlink, "s", _NEW),
    Row(24, m.Tgetattr, "4 8", _NEW),
    Row(25, m.Rgetattr, "8 q 4 4 4 8 8 8 8 8 8 8 8 8 8 8 8 8 8 8", _NEW),
    Row(26, m.Tsetattr, "4 4 4 4 4 8 8 8 8 8", _NEW),
    Row(27, m.Rsetattr, "", _NEW),
    Row(30, m.Txattrwalk, "4 4 s", _NEW),
    Row(31, m.Rxattrwalk, "8", _NEW),
    Row(32, m.Txattrcreate, "4 s 8 4", _NEW),
    Row(33, m.Rxattrcreate, "", _NEW),
    Row(40, m.Treaddir, "4 8 4", _NEW),
    Row(41, m.Rreaddir, "d", _NEW),
    Row(50, m.Tfsync, "4 4", _NEW),
    Row(51, m.Rfsync, "", _NEW),
    Row(52, m.Tlock, "4 1 4 8 8 4 s", _NEW),
    Row(53, m.Rlock, "1", _NEW),
    Row(54, m.Tgetlock, "4 1 8 8 4 s", _NEW),
    Row(55, m.Rgetlock, "1 8 8 4 s", _NEW),
    Row(70, m.Tlink, "4 4 s", _NEW),
    Row(71, m.Rlink, "", _NEW),
    Row(72, m.Tmkdir, "4 s 4 4", _NEW),
    Row(73, m.Rmkdir, "q", _NEW),
    Row(74, m.Trenameat, "4 s 4 s", _NEW),
    Row(75, m.Rrenameat, "", _NEW),
    Row(76, m.Tunlinkat, "4 s 4", _NEW),
    Row(77, m.Runlinkat, "", _NEW),
    Row(100, m.Tversion, "4 s", _BOTH),
    Row(101, m.Rversion, "4 s", _BOTH),
    Row(102, m.Tauth, "4 s s", _PLAIN),
    Row(102, m.Tauth, "4 s s 4", _NUMBERED),
    Row(103, m.Rauth, "q", _BOTH),
    Row(104, m.Tattach, "4 4 s s", _PLAIN),
    Row(104, m.Tattach, "4 4 s s 4", _NUMBERED),
    Row(105, m.Rattach, "q", _BOTH),
    Row(107, m.Rerror, "s", _PLAIN),
    Row(107, m.Rerror, "s 4", _U),
    Row(108, m.Tflush, "2", _BOTH),
    Row(109, m.Rflush, "", _BOTH),
    Row(110, m.Twalk, "4 4 S", _BOTH),
    Row(111, m.Rwalk, "Q", _BOTH),
    Row(112, m.Topen, "4 1", OLD_STYLE),
    Row(113, m.Ropen, "q 4", OLD_STYLE),
    Row(114, m.Tcreate, "4 s 4 1", _PLAIN),
    Row(114, m.Tcreate, "4 s 4 1 s", _U),
    Row(115, m.Rcreate, "q 4", OLD_STYLE),
    Row(116, m.Tread, "4 8 4", _BOTH),
    Row(117, m.Rread, "d", _BOTH),
    Row(118, m.Twrite, "4 8 d", _BOTH),
    Row(119, m.Rwrite, "4", _BOTH),
    Row(120, m.Tclunk, "4", _BOTH),
    Row(121, m.Rclunk, "", _BOTH),
    Row(122, m.Tremove, "4", _BOTH),
    Row(123, m.Rremove, "", _BOTH),
    Row(124, m.Tstat, "4", OLD_STYLE),
    Row(125, m.Rstat, "t", _PLAIN),
    Row(125, m.Rstat, "u", _U),
    Row(126, m.Twstat, "4 t", _PLAIN),
    Row(126, m.Twstat, "4 u", _U),
    Row(127, m.Rwstat, "", OLD_STYLE),
    *(Row(number, message, layout, _NG) for number, message, layout in ADDED),
)


NOT_IN_COMPOUNDS: frozenset[type[Message]] = frozenset(
    {m.Tversion, m.Rversion, m.Tauth, m.Rauth, m.Tflush, m.Rflush, m.Tcaps, m.Rcaps, m.Tcomp, m.Rcomp, m.Tmint, m.Rmint}
    | {m.Twatch, m.Rwatch, m.Tevent, m.Revent}
)
