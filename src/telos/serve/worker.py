"""The thread that runs a model, and what waits for it.

A model has one thread, and all that runs its network runs there: so nothing has to be locked, and what two
requests want of it never happens at the same time. Between two runs of the network the thread looks at what
has come in:

    texts that are to grow     join those that are growing: their prompts are read on their own, and from then
                               on all advance together, a token each in every run (Yu et al., 2022: Orca)
    a client that hung up      its rows leave, and their places are free
    whole jobs                 scoring, embedding, translating: a step of each, in turn, between two runs

Each row has its own random generator and sees no other, so company changes nothing of what it says.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from telos.errors import TelosError
from telos.generate._base import Decoder
from telos.generate._rows import Row
from telos.models._base import Network
from telos.serve.mail import Mail

__all__ = ["Job", "Meter", "Ticket", "Worker"]

log = logging.getLogger("telos.serve")


class Meter(Protocol):
    """Whoever counts what a model does."""

    def ran(self, rows: int) -> None:
        """The network was run once for so many texts."""

    def waiting(self, requests: int) -> None:
        """So many requests wait for their turn."""


@dataclass(eq=False)
class Ticket:
    """A request for text: its rows, which have not begun to grow, and where the finished ones go."""

    growing: Decoder
    mail: Mail
    rows: list[Row] = field(init=False)

    def __post_init__(self) -> None:
        self.rows = list(self.growing.rows)

    @property
    def done(self) -> bool:
        """Every row is finished, or nobody waits for them."""
        return self.mail.gone or all(row.finished for row in self.rows)


@dataclass(eq=False)
class Job:
    """A request that is done in steps, the last of which returns the answer."""

    steps: Callable[[], Iterator[Any]]
    mail: Mail
    begun: Iterator[Any] | None = None


class _Group:
    """Rows that advance together, and whose they are."""

    def __init__(self, tickets: list[Ticket]) -> None:
        self.tickets = tickets
        self.growing = tickets[0].growing
        for ticket in tickets[1:]:
            self.growing.join(ticket.growing)

    def goes_with(self, ticket: Ticket) -> bool:
        return self.growing.goes_with(ticket.growing)

    def advance(self) -> list[Ticket]:
        """Run the network once for all rows; tickets that are done leave, with their rows."""
        self.growing.advance()
        return self.tidy()

    def tidy(self) -> list[Ticket]:
        """Rows that are finished, or that nobody waits for, make room."""
        gone = {id(row) for ticket in self.tickets if ticket.mail.gone for row in ticket.rows}
        rows = self.growing.rows
        kept = [i for i, row in enumerate(rows) if not row.finished and id(row) not in gone]
        if kept and len(kept) < len(rows):
            self.growing.keep(kept)
        done = [ticket for ticket in self.tickets if ticket.done]
        self.tickets = [ticket for ticket in self.tickets if not ticket.done]
        return done

    def join(self, others: "_Group") -> None:
        self.growing.join(others.growing)
        self.tickets += others.tickets


class Worker:
    """A model's thread.

    Args:
        batch: rows that grow side by side. A request that alone has more runs alone.
    """

    def __init__(self, name: str, network: Network, batch: int, meter: Meter) -> None:
        self.network, self.batch, self.meter = network, batch, meter
        self._tickets: deque[Ticket] = deque()
        self._jobs: deque[Job] = deque()
        self._groups: list[_Group] = []
        self._change = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name=f"model {name}", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def close(self) -> None:
        """Stop after the run that is under way; what was not done is not done."""
        with self._change:
            self._closing = True
            self._change.notify()
        if self._thread.is_alive():
            self._thread.join()

    def submit(self, wanted: Ticket | Job) -> None:
        """From any thread."""
        with self._change:
            (self._tickets if isinstance(wanted, Ticket) else self._jobs).append(wanted)  # type: ignore[arg-type]
            self._count()
            self._change.notify()

    @property
    def rows(self) -> int:
        """Texts that are growing now."""
        return sum(len(group.growing.rows) for group in self._groups)

    # ---- the thread

    def _work(self) -> None:
        with self.network.at_rest():
            while self._wait():
                self._admit()
                for group in list(self._groups):
                    self._advance(group)
                self._step()

    def _wait(self) -> bool:
        """Until there is something to do; false if it is time to stop."""
        with self._change:
            while not (self._closing or self._tickets or self._jobs or self._groups):
                self._change.wait()
            return not self._closing

    def _admit(self) -> None:
        """Requests that wait join in the order in which they came, as long as there is room."""
        new: list[list[Ticket]] = []
        for ticket in self._taken():
            fitting = (several for several in new if several[0].growing.goes_with(ticket.growing))
            found = next(fitting, None)
            if found is None:
                new.append(found := [])
            found.append(ticket)
        for tickets in new:
            group = _Group(tickets)
            self._groups.append(group)
            if self._advance(group) and group.tickets:
                self._merge(group)

    def _taken(self) -> list[Ticket]:
        with self._change:
            taken, rows = [], self.rows
            while self._tickets:
                needed = len(self._tickets[0].rows)
                if rows and rows + needed > self.batch:
                    break
                ticket = self._tickets.popleft()
                if not ticket.mail.gone:
                    taken.append(ticket)
                    rows += needed
            self._count()
            return taken

    def _merge(self, group: _Group) -> None:
        """What has just begun grows on with what goes with it."""
        for other in self._groups:
            if other is not group and other.growing.goes_with(group.growing):
                other.join(group)
                self._groups.remove(group)
                return

    def _advance(self, group: _Group) -> bool:
        """One run of the network for a group; false if it failed, and its requests with it."""
        try:
            done = group.tidy()
            if group.tickets:
                self.meter.ran(len(group.growing.rows))
                done += group.advance()
        except Exception as error:
            self._fail(group.tickets, error)
            self._groups.remove(group)
            return False
        for ticket in done:
            if not ticket.mail.gone:
                ticket.mail.answer(ticket.rows)
        if not group.tickets:
            self._groups.remove(group)
        return True

    def _step(self) -> None:
        """One step of the job whose turn it is."""
        with self._change:
            job = self._jobs.popleft() if self._jobs else None
            self._count()
        if job is None or job.mail.gone:
            return
        try:
            job.begun = job.begun or job.steps()
            next(job.begun)
        except StopIteration as end:
            job.mail.answer(end.value)
        except Exception as error:
            self._fail([job], error)
        else:
            with self._change:
                self._jobs.append(job)

    def _fail(self, requests: list[Any], error: Exception) -> None:
        if not isinstance(error, TelosError):
            log.error("a model's thread: a request failed", exc_info=error)
        for request in requests:
            request.mail.fail(error)

    def _count(self) -> None:
        self.meter.waiting(len(self._tickets) + len(self._jobs))
