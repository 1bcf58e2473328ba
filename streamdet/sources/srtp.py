"""SRTP (RFC 3711, RFC 7714): keys from an SDP (SDES, RFC 4568) or a file, and the packets they open.

libsrtp does the cryptography, through pylibsrtp, which the extra ``rtp`` installs. A key is never shown: not in a log,
an error, or the text of an object.
"""

from __future__ import annotations

import base64
import binascii
import importlib
import re
import struct
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from streamdet.errors import DependencyError, FormatError, SourceError

if TYPE_CHECKING:
    from pylibsrtp import Session

LARGEST_FILE: Final = 1 << 16
MOST_SENDERS: Final = 4096  # whose place in the key stream is remembered, so that what they sent cannot be played again
LONGEST_PACKET: Final = 1500  # libsrtp's limit here

# Roll-overs (65,536 packets each) a search leads a receiver over, and seconds between searches; see SrtpReceiver.
SHALLOW: Final = 64  # 23 hours of 20 ms packets
DEEP: Final = 2048  # a month
SHALLOW_SECONDS: Final = 0.2
DEEP_SECONDS: Final = 10.0
GIVE_UP_SECONDS: Final = 60.0
OUTAGE_SECONDS: Final = 2.0

Refusal = Literal["unauthentic", "replayed", "malformed"]


@dataclass(frozen=True, slots=True)
class _Suite:
    profile: str  # name of pylibsrtp's constant
    octets: int  # master key and salt


SUITES: Final = {
    "AES_CM_128_HMAC_SHA1_80": _Suite("SRTP_PROFILE_AES128_CM_SHA1_80", 30),
    "AES_CM_128_HMAC_SHA1_32": _Suite("SRTP_PROFILE_AES128_CM_SHA1_32", 30),
    "AEAD_AES_128_GCM": _Suite("SRTP_PROFILE_AEAD_AES_128_GCM", 28),
    "AEAD_AES_256_GCM": _Suite("SRTP_PROFILE_AEAD_AES_256_GCM", 44),
}
_ALIASES: Final = {
    "SRTP_AES128_CM_HMAC_SHA1_80": "AES_CM_128_HMAC_SHA1_80",
    "SRTP_AES128_CM_HMAC_SHA1_32": "AES_CM_128_HMAC_SHA1_32",
}
_LINE: Final = re.compile(
    r"(?:\d{1,9}\s+)?([A-Za-z0-9_]{1,40})\s+(?:inline:)?([A-Za-z0-9+/]{1,120}={0,2})(\|\S*)?(\s.*)?"
)


@dataclass(frozen=True, slots=True)
class SrtpKey:
    """A suite's name in an SDP, and its master key followed by its salt."""

    suite: str
    secret: bytes = field(repr=False)


class SrtpError(Exception):
    """A packet that was not opened; ``kind`` is the counter it belongs to."""

    def __init__(self, kind: Refusal) -> None:
        super().__init__(kind)
        self.kind: Refusal = kind


def parse_crypto(text: str) -> SrtpKey:
    """Read ``[TAG] SUITE [inline:]BASE64[|LIFETIME]``: what follows ``a=crypto:``, or a line of a key file.

    Raises:
        FormatError: the suite is unknown, the key has another length, or it comes with a key identifier (MKI). The
            message shows no key.
    """
    match = _LINE.fullmatch(text.strip().removeprefix("a=crypto:"))
    if match is None:
        raise FormatError(
            "malformed key; expected SUITE inline:BASE64, as in an SDP's a=crypto line (it is not shown here)"
        )
    name = _ALIASES.get(match[1].upper(), match[1].upper())
    suite = SUITES.get(name)
    if suite is None:
        raise FormatError(f"SRTP suite {match[1]} is unknown; there are {', '.join(SUITES)}")
    if match[3] and ":" in match[3]:
        raise FormatError("SRTP keys with an identifier (MKI) cannot be used; let the sender leave it out")
    try:
        secret = base64.b64decode(match[2], validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if len(secret) != suite.octets:
        raise FormatError(
            f"the key of {name} must be {suite.octets} octets in base64; it is {len(secret)} (not shown here)"
        )
    return SrtpKey(name, secret)


def read_keys(path: Path) -> tuple[SrtpKey, ...]:
    """Read a key file: one key a line, as in ``a=crypto`` lines; ``#`` begins a comment.

    Raises:
        SourceError: it cannot be read.
        FormatError: a line is no key, or there is none.
    """
    if parsed := _looks_like_key(str(path)):
        raise FormatError(f"rtp: srtp={parsed} must name a file that holds the key, not the key itself (masked here)")
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_FILE).decode("ascii", errors="replace")
    except OSError as error:
        raise SourceError(f"cannot read the SRTP key file {path}: {error.strerror}") from error
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    try:
        keys = tuple(parse_crypto(line) for line in lines if line)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error
    if not keys:
        raise FormatError(f"{path} holds no SRTP key")
    return keys


def _looks_like_key(text: str) -> str:
    return (
        "***" if re.search(r"inline:|[A-Za-z0-9+/]{37,}={0,2}$", text.rpartition("/")[2]) and not _exists(text) else ""
    )


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except OSError:  # too long for a name
        return False


def require_srtp() -> None:
    """Check at the start that SRTP can be opened here.

    Raises:
        DependencyError: pylibsrtp is not installed.
    """
    _library()


@cache
def _library() -> Any:
    try:
        return importlib.import_module("pylibsrtp")
    except ImportError as error:
        raise DependencyError("SRTP needs pylibsrtp: pip install 'streamdet[rtp]'") from error


def _session(key: SrtpKey, *, outbound: bool = False) -> Session:
    library = _library()
    policy = library.Policy
    profile = getattr(policy, SUITES[key.suite].profile)
    kind = policy.SSRC_ANY_OUTBOUND if outbound else policy.SSRC_ANY_INBOUND
    try:
        made: Session = library.Session(policy(key=key.secret, ssrc_type=kind, srtp_profile=profile))
    except library.Error as error:
        raise DependencyError(f"this build of libsrtp has no {key.suite}") from error
    return made


@dataclass(slots=True)
class _Sender:
    """A sender whose packets are authentic: who opens them, and where it stands (roll-overs and sequence number)."""

    session: Session
    key: SrtpKey
    index: int
    heard: float

    def follow(self, sequence: int, now: float) -> None:
        self.index = max(self.index, _nearest(sequence, self.index))
        self.heard = now


def _nearest(sequence: int, index: int) -> int:
    """Count a sequence number with its roll-overs, knowing a count near it."""
    return index + ((sequence - index + 0x8000) & 0xFFFF) - 0x8000


class _Patience:
    """How often searches may be: for each sender, and for all together, so that those without a key cost little."""

    def __init__(self) -> None:
        self._senders: OrderedDict[int, tuple[int, float]] = OrderedDict()  # searches so far, and when the next may be
        self._shallow_at = self._deep_at = float("-inf")

    def depth(self, ssrc: int, now: float) -> int:
        """How many roll-overs may be tried now; 0 for none."""
        times, due = self._senders.get(ssrc, (0, now))
        if now < due or now < (self._deep_at if times else self._shallow_at):
            return 0
        if times:
            self._deep_at = now + DEEP_SECONDS
        else:
            self._shallow_at = now + SHALLOW_SECONDS
        self._senders[ssrc] = times + 1, now + (GIVE_UP_SECONDS if times else OUTAGE_SECONDS)
        self._senders.move_to_end(ssrc)
        if len(self._senders) > MOST_SENDERS:
            self._senders.popitem(last=False)
        return DEEP if times else SHALLOW

    def forget(self, ssrc: int) -> None:
        """Begin anew for a sender that was found."""
        self._senders.pop(ssrc, None)


class SrtpReceiver:
    """Opens the packets of any number of senders that use one of a few keys.

    A packet is sealed with a counter of 48 bits, of which 32 are not in it: how often the sequence number has rolled
    over. Whoever joins late, or was away for more than half a roll-over, has to find that out (RFC 3711 section 3.3.1
    leaves it to key management, and SDES does not tell). So for a sender that no key opens a fresh receiver is led over
    roll-overs, one by one, by packets sealed here with the same key, until the sender's packet is authentic. It never
    goes back behind what the sender was heard with, so that nothing can be played again.

    Raises:
        DependencyError: the library is missing, or lacks the suite.
    """

    def __init__(self, keys: Sequence[SrtpKey]) -> None:
        self._shared = [(key, _session(key)) for key in keys]
        self._error: type[Exception] = _library().Error
        self._senders: OrderedDict[int, _Sender] = OrderedDict()
        self._patience = _Patience()

    def rtp(self, data: bytes, now: float) -> bytes:
        """Open an RTP packet that arrived at monotonic time ``now``.

        Raises:
            SrtpError: it is not authentic, was played again, or is no packet.
        """
        if not 12 <= len(data) <= LONGEST_PACKET:
            raise SrtpError("malformed")
        ssrc, sequence = int.from_bytes(data[8:12]), int.from_bytes(data[2:4])
        sender = self._senders.get(ssrc)
        if sender is None:
            return self._meet(ssrc, sequence, data, now)
        try:
            opened = self._open(sender.session, data)
        except SrtpError as error:
            if error.kind == "malformed" or now - sender.heard < OUTAGE_SECONDS:
                raise  # seconds of silence alone leave room for roll-overs that went unheard
            return self._search(ssrc, data, now, [sender.key], sender.index)
        sender.follow(sequence, now)
        return opened

    def rtcp(self, data: bytes) -> bytes:
        """Open an RTCP packet.

        Raises:
            SrtpError: it is not authentic, was played again, or is no packet.
        """
        if not 8 <= len(data) <= LONGEST_PACKET:
            raise SrtpError("malformed")
        refused = SrtpError("unauthentic")
        for _, session in self._shared:
            try:
                opened: bytes = session.unprotect_rtcp(data)
            except self._error as error:
                refused = SrtpError(_kind(error))
            else:
                return opened
        raise refused

    def _meet(self, ssrc: int, sequence: int, data: bytes, now: float) -> bytes:
        for key, session in self._shared:
            try:
                opened = self._open(session, data)
            except SrtpError as error:
                if error.kind != "unauthentic":
                    raise
                continue
            self._remember(ssrc, _Sender(session, key, sequence, now))
            return opened
        return self._search(ssrc, data, now, [key for key, _ in self._shared], (sequence - 1) & 0xFFFF)

    def _open(self, session: Session, data: bytes) -> bytes:
        try:
            opened: bytes = session.unprotect(data)
        except self._error as error:
            raise SrtpError(_kind(error)) from error
        return opened

    def _remember(self, ssrc: int, sender: _Sender) -> None:
        self._patience.forget(ssrc)
        self._senders[ssrc] = sender
        if len(self._senders) > MOST_SENDERS:
            old, of = self._senders.popitem(last=False)
            with suppress(self._error):  # the session may be its own
                of.session.remove_stream(old)

    def _search(self, ssrc: int, data: bytes, now: float, keys: Sequence[SrtpKey], index: int) -> bytes:
        depth = self._patience.depth(ssrc, now)
        for key in keys if depth else ():
            session = _session(key)
            found = self._lead(session, key, data, index, depth)
            if found is not None:
                opened, at = found
                place = _nearest(int.from_bytes(data[2:4]), at)
                if place <= index:  # a fresh receiver knows not that it had this one
                    raise SrtpError("replayed")
                self._remember(ssrc, _Sender(session, key, place, now))
                return opened
        raise SrtpError("unauthentic")

    def _lead(self, session: Session, key: SrtpKey, data: bytes, index: int, most: int) -> tuple[bytes, int] | None:
        """Lead a fresh receiver to ``index`` and on by up to ``most`` roll-overs, until it opens the packet."""
        leader = _session(key, outbound=True)
        head, tail = bytes([0x80, data[1]]), data[4:12]
        for at in range(index & 0xFFFF, index + (most << 16) + 1, 0x4000):
            session.unprotect(leader.protect(head + struct.pack("!H", at & 0xFFFF) + tail))
            if at >= index and (at - index) & 0xFFFF == 0:
                try:
                    return self._open(session, data), at
                except SrtpError:
                    continue
        return None


def _kind(error: Exception) -> Refusal:
    text = str(error)
    if "replay" in text or "too old" in text:
        return "replayed"
    return "unauthentic" if "auth" in text else "malformed"
