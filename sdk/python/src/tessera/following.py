"""What a verifier keeps from one stream of revocations to the next, and the address of the next stream."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from google.protobuf.duration_pb2 import Duration

from tessera.addresses import Round
from tessera.connection import Connection
from tessera.errors import CallError, PermanentError
from tessera.problems import ProblemLog
from tessera.retry import Backoff
from tessera.v1 import revocation_service_pb2 as pb
from tessera.view import View

_log = logging.getLogger("tessera")
_BACKOFF = 0.05
_BACKOFF_MAX = 5.0


class End(Exception):
    """Why a session ended, in words for a log. The next one continues at the same position, or `starts_again` with a
    snapshot; the current knowledge stays in force until that is complete. If it `is_permanent`, waiting does not
    help."""

    def __init__(self, problem: str, starts_again: bool = False, is_permanent: bool = False) -> None:
        super().__init__(problem)
        self.problem = problem
        self.starts_again = starts_again
        self.is_permanent = is_permanent
        #: The authority does not have the requested position: the address is good.
        self.is_about_place = False

    @classmethod
    def of(cls, failure: CallError, what: str = "") -> End:
        """The end by a failed call. Also after SLOW_CONSUMER and DRAINING, the next session continues after the last
        applied message."""
        is_permanent = isinstance(failure, PermanentError) and not failure.asks_for_another_place
        end = cls(f"{what}{failure}", failure.asks_for_another_place, is_permanent)
        end.is_about_place = failure.asks_for_another_place
        return end


@dataclass
class Following:
    """What outlives a session."""

    view: View
    connection: Connection
    subscriber: str
    required: bool
    #: The cursor of the last message that was applied; None: a snapshot is needed.
    place: str | None = None
    #: The key set that the keys were read for; None: it may have changed.
    key_set: str | None = None
    keys_read_at: float | None = None
    backoff: Backoff = field(default_factory=lambda: Backoff(_BACKOFF, _BACKOFF_MAX))
    problems: ProblemLog = field(
        default_factory=lambda: ProblemLog("following the revocations was interrupted", "the revocations are followed")
    )

    #: The address that was left, and why, until another one works for long enough.
    left: tuple[str, str] | None = None
    round: Round = field(init=False)

    def __post_init__(self) -> None:
        self._begin()

    def resume_in_child(self) -> None:
        """After a fork."""
        self.connection.addresses.resume_in_child()
        self._begin()

    def _begin(self) -> None:
        self.round = Round(self.connection.addresses)
        self.view.at = self.round.address

    @property
    def ping_interval(self) -> float:
        """How often to ping."""
        return self.view.options.bound / 4

    def silence_max(self, has_answered: bool) -> float:
        """How long an address may be silent. If it is the only one, or each was tried, up to the bound: then the
        knowledge is stale anyway. Otherwise, short enough that each of the others can be tried within the bound: half
        of the bound for the address that is followed, and the rest for all others."""
        count, longest = len(self.connection.addresses), self.view.options.bound
        if count > 1 and not self.round.is_over:
            longest /= 2 if has_answered else 2 * (count - 1)
        # A shorter time would fail on a busy machine.
        return max(longest, 0.2)

    def explained(self, failure: CallError) -> CallError:
        """The failure of a stream, with the reason that the address can't be connected to."""
        address = self.round.address
        # Not while another one is left to try, since it takes time.
        is_last = self.round.is_at_last
        return failure.explained(address, lambda: self.connection.diagnosis(address) if is_last else None)

    def answered(self, age: float) -> None:
        """A ping was answered, on a stream of this age. A young stream does not count yet: an address that fails after
        each answer is left like one that never answers, so that streams that end at once don't cause attempts without a
        wait."""
        self.backoff.reset()
        self.problems.worked()
        if age >= self.ping_interval and self.round.worked():
            self._tell_of_move()

    def _tell_of_move(self) -> None:
        left, self.left = self.left, None
        if left and left[0] != self.round.address:
            _log.warning(
                "the revocations are followed at another address, %s: %s was left: %s", self.round.address, *left
            )

    def after(self, end: End) -> float:
        """Records how a session ended. Returns how long to wait before the next one."""
        address = self.round.address
        if end.starts_again:
            self.place = None
        if self.left is None:
            self.left = (address, end.problem)
        # A position that one node does not have, no node has. If waiting does not help, another address does not help
        # either: it is tried, as the address may be of another authority by mistake, but not at once.
        is_time_to_wait = end.is_about_place or self.round.leave() or end.is_permanent
        self.view.fail(address, end.problem, end.is_permanent)
        self.problems.failed(self.view.told)
        self.view.at = self.round.address
        return self.backoff.wait() if is_time_to_wait else 0.0

    def start(self) -> pb.WatchRequest:
        """The first message."""
        options = self.view.options
        bound = Duration()
        bound.FromMilliseconds(round(options.bound * 1000))
        start = pb.WatchStart(
            filter=pb.WatchFilter(audiences=[options.audience]),
            subscriber=self.subscriber,
            required=self.required,
            staleness_bound=bound,
        )
        if self.place is None:
            start.snapshot = True
        else:
            start.cursor = self.place
        return pb.WatchRequest(start=start)
