"""The virtual kernel for other processes: system calls over a UNIX socket, from the library that preload.c becomes.

Messages are packets of a head (kind, result, two 64-bit numbers; see preload.c) and data. A connection is an open
device file; each call arrives with a channel of its own, on which a thread answers it.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from rocketnpu.virtual.objects import Buffer, failure
from rocketnpu.virtual.system import Killed, OpenFile, System

HEAD = struct.Struct("<IiQQ")
CHUNK_BYTES = 32768
"""Most bytes of a program's memory in one message; preload.c has the same."""
_END, _MAPPED = b"e", b"m"
"""What wakes the server's thread."""
_MESSAGE_BYTES = HEAD.size + CHUNK_BYTES


class Kind(IntEnum):
    """What a message is."""

    OPEN = 1
    IOCTL = 2
    MMAP = 3
    READ = 4
    WRITE = 5
    DONE = 6


class _Gone(Exception):
    """The program has ended or closed its channel."""


class RemoteMemory:
    """The memory of the program that makes a call; see UserMemory."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def read(self, address: int, size_bytes: int) -> bytes:
        """See UserMemory."""
        chunks = [
            self._ask(Kind.READ, address + start, min(CHUNK_BYTES, size_bytes - start), b"")
            for start in range(0, size_bytes, CHUNK_BYTES)
        ]
        return b"".join(chunks)

    def write(self, address: int, data: bytes) -> None:
        """See UserMemory."""
        for start in range(0, len(data), CHUNK_BYTES):
            chunk = data[start : start + CHUNK_BYTES]
            self._ask(Kind.WRITE, address + start, len(chunk), chunk)

    def interrupted(self) -> bool:
        """See UserMemory: the library shuts its half of the channel down when a signal comes."""
        try:
            return not self._channel.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _ask(self, kind: Kind, address: int, size_bytes: int, data: bytes) -> bytes:
        try:
            self._channel.sendall(HEAD.pack(kind, 0, address % (1 << 64), size_bytes) + data)
            answer = self._channel.recv(_MESSAGE_BYTES)
        except OSError:
            raise _Gone from None
        if len(answer) < HEAD.size:
            raise _Gone
        result = HEAD.unpack_from(answer)[1]
        if result:
            raise failure(result)
        content = answer[HEAD.size :]
        if kind is Kind.READ and len(content) != size_bytes:
            raise failure(errno.EFAULT)
        return content


@dataclass(eq=False)
class _Connection:
    """An open file once OPEN has succeeded; it stays open while a call is at work, as in a kernel."""

    socket: socket.socket
    file: OpenFile | None = None
    calls: int = 0
    ended: bool = False


@dataclass(frozen=True, eq=False)
class _Mapping:
    """A buffer that a program has mapped, until every process has closed the other end of its token."""

    file: OpenFile
    buffer: Buffer


class Server:
    """Serves `system` on a socket at `path` until `close`, or until a planned fault kills it."""

    def __init__(self, system: System, path: Path) -> None:
        self._system = system
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen()
        self._wake, self._woken = socket.socketpair()
        self._connections: set[_Connection] = set()
        self._tokens: dict[socket.socket, _Mapping] = {}
        self._mapped: deque[tuple[socket.socket, _Mapping]] = deque()
        self._channels: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._serve, name="rocketnpu-server", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End all connections."""
        self._wake.send(_END)
        self._thread.join()
        self._wake.close()
        self._woken.close()

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while True:
                ready = [key for key, _ in selector.select()]
                if any(key.fileobj is self._woken for key in ready):
                    if _END in self._woken.recv(_MESSAGE_BYTES):
                        self._end()
                        return
                    while self._mapped:
                        token, mapping = self._mapped.popleft()
                        self._tokens[token] = mapping
                        selector.register(token, selectors.EVENT_READ, mapping)
                    continue  # one of them may have been closed already, before calls that are ready, too
                # What a program unmaps is unmapped for its next call.
                for key in sorted(ready, key=lambda key: not isinstance(key.data, _Mapping)):
                    self._serve_one(selector, key)

    def _serve_one(self, selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
        if key.fileobj is self._listener:
            connection = _Connection(self._listener.accept()[0])
            self._connections.add(connection)
            selector.register(connection.socket, selectors.EVENT_READ, connection)
        elif isinstance(key.data, _Mapping) and isinstance(key.fileobj, socket.socket):
            selector.unregister(key.fileobj)
            self._unmap(key.fileobj)
        elif isinstance(key.data, _Connection) and not self._receive(key.data):
            selector.unregister(key.data.socket)
            self._connections.discard(key.data)
            self._leave(key.data, ended=True)

    def _end(self) -> None:
        self._listener.close()
        with self._lock:
            for channel in self._channels:
                channel.shutdown(socket.SHUT_RDWR)
        for token, mapping in self._mapped:
            self._tokens[token] = mapping
        for token in list(self._tokens):
            self._unmap(token)
        for connection in self._connections:
            self._leave(connection, ended=True)

    def _unmap(self, token: socket.socket) -> None:
        mapping = self._tokens.pop(token)
        self._system.unmap(mapping.file, mapping.buffer)
        token.close()

    def _leave(self, connection: _Connection, *, ended: bool) -> None:
        """The connection, or a call on it, has ended: with the last one the file is closed."""
        with self._lock:
            connection.ended |= ended
            connection.calls -= not ended
            if connection.calls or not connection.ended:
                return
        if connection.file is not None:
            self._system.close(connection.file)
        connection.socket.close()

    def _receive(self, connection: _Connection) -> bool:
        """Take one call and let a thread answer it; False if the last descriptor has been closed."""
        try:
            data, descriptors, _, _ = socket.recv_fds(connection.socket, _MESSAGE_BYTES, 1)
        except OSError:
            return False
        if not descriptors:
            return bool(data)
        channel = socket.socket(fileno=descriptors[0])
        with self._lock:
            self._channels.add(channel)
            connection.calls += 1
        threading.Thread(target=self._answer, args=(connection, channel, data), daemon=True).start()
        return True

    def _answer(self, connection: _Connection, channel: socket.socket, data: bytes) -> None:
        try:
            if len(data) < HEAD.size:
                return
            kind, _, first, second = HEAD.unpack_from(data)
            argument = bytearray(data[HEAD.size :])
            answers: dict[int, Callable[[], tuple[int, list[int]]]] = {
                Kind.OPEN: lambda: self._open(connection),
                Kind.IOCTL: lambda: self._ioctl(connection, first, argument, RemoteMemory(channel)),
                Kind.MMAP: lambda: self._map(connection, first, second),
            }
            result, offset, descriptors = errno.EINVAL, 0, list[int]()
            try:
                if kind in answers:
                    offset, descriptors = answers[kind]()
                    result = 0
            except OSError as error:
                result = error.errno or errno.EIO
            try:
                socket.send_fds(channel, [HEAD.pack(Kind.DONE, result, offset, 0), argument], descriptors)
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
        except Killed:
            self._wake.send(_END)
        except (_Gone, OSError):
            pass  # nobody is left to answer
        finally:
            with self._lock:
                self._channels.discard(channel)
            channel.close()
            self._leave(connection, ended=False)

    def _open(self, connection: _Connection) -> tuple[int, list[int]]:
        connection.file = self._system.open()
        return 0, []

    def _ioctl(
        self, connection: _Connection, request: int, argument: bytearray, memory: RemoteMemory
    ) -> tuple[int, list[int]]:
        self._system.ioctl(_file(connection), request, argument, memory)
        return 0, []

    def _map(self, connection: _Connection, length: int, offset: int) -> tuple[int, list[int]]:
        file = _file(connection)
        buffer = self._system.map(file, length, offset)
        own, token = socket.socketpair()
        self._mapped.append((own, _Mapping(file, buffer)))
        self._wake.send(_MAPPED)
        return buffer.offset, [os.dup(self._system.board.pages.descriptor), token.detach()]


def _file(connection: _Connection) -> OpenFile:
    if connection.file is None:
        raise failure(errno.EBADF)
    return connection.file
