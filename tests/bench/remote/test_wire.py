import os
import threading
import time
from collections.abc import Iterator

import pytest

from drc_deploy.bench.remote.wire import Coming, Done, Failure, LostError, Missing, Wire
from drc_deploy.errors import ArtefactError, DrcDeployError


class Ends:
    """Two wires that talk with each other."""

    def __init__(self, silence_s: float) -> None:
        there, back = os.pipe(), os.pipe()
        self.files = [*there, *back]
        self.here = Wire(back[0], there[1], "there", silence_s)
        self.there = Wire(there[0], back[1], "here", silence_s)

    def hang_up(self) -> None:
        """Close what ``here`` writes to."""
        os.close(self.files.pop(1))


@pytest.fixture
def ends() -> Iterator[Ends]:
    both = Ends(silence_s=5)
    yield both
    for file in both.files:
        os.close(file)


def test_files_of_any_content_follow_their_message_whole(ends: Ends) -> None:
    content = b"\n\n{}\n" + os.urandom(1 << 20)

    def send() -> None:
        ends.here.write(b"\n\n")  # signs of life
        ends.here.send(Coming(3))
        ends.here.write(content)
        ends.here.send(Done())

    sender = threading.Thread(target=send)
    sender.start()
    assert ends.there.receive(Coming) == Coming(3)
    assert b"".join(ends.there.content(len(content))) == content
    assert ends.there.receive(Done) == Done()
    sender.join()


def test_a_failure_there_is_an_error_here_that_names_the_machine(ends: Ends) -> None:
    ends.there.send(Failure("the disk is full.", "Make room."))
    with pytest.raises(DrcDeployError, match=r"^there: the disk is full") as caught:
        ends.here.receive(Missing)
    assert caught.value.hint == "Make room."


@pytest.mark.parametrize("line", [b"no JSON\n", b"[]\n", b'{"kind": "Done", "schema": 1}\n', b'{"kind": "Missing"}\n'])
def test_what_is_not_expected_is_refused(ends: Ends, line: bytes) -> None:
    ends.here.write(line)
    with pytest.raises(ArtefactError):
        ends.there.receive(Missing)


def test_a_closed_connection_is_lost_for_whoever_reads_or_listens(ends: Ends) -> None:
    ends.hang_up()
    with pytest.raises(LostError):
        ends.there.receive(Missing)
    with pytest.raises(LostError):
        ends.there.listen(1)


def test_a_connection_that_keeps_silent_is_lost() -> None:
    both = Ends(silence_s=0.2)
    with pytest.raises(LostError):
        both.there.receive(Missing)
    with pytest.raises(LostError):
        both.there.listen(0.3)
    with pytest.raises(LostError):
        both.here.write(bytes(1 << 20))  # nobody reads
    for file in both.files:
        os.close(file)


def test_a_side_that_works_is_not_taken_for_lost() -> None:
    both = Ends(silence_s=0.5)
    with both.here.beating(every_s=0.05):
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            both.there.listen(0.1)
    both.here.send(Done())
    assert both.there.receive(Done) == Done()
    for file in both.files:
        os.close(file)
