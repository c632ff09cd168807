"""The judge of what consumers receive, which the other tests rely on: it complains, and about the right things."""

from typing import Any

import pytest

from ..support.consumer import StreamRecord


def data(epoch: int, seq: int) -> dict[str, Any]:
    return {"type": "book", "epoch": epoch, "seq": seq}


def gap(
    epoch: int,
    seq: int,
    after: tuple[int, int] | None,
    lost: int | None = None,
    reason: str = "resync",
    closed_by: str | None = None,
) -> Any:
    last_epoch, last_seq = after or (None, None)
    told = {
        "last_epoch": last_epoch,
        "last_seq": last_seq,
        "lost": lost,
        "reason": reason,
        "closed_by": closed_by,
    }
    return {"type": "gap", "epoch": epoch, "seq": seq} | told


@pytest.mark.parametrize(
    ("events", "complaint"),
    [
        ([data(5, 1), data(5, 2)], None),
        ([data(5, 1), data(5, 3)], "does not follow"),
        ([data(5, 2)], "what came before is missing"),
        ([data(5, 1), data(5, 1)], "no gap covers it"),
        ([data(5, 1), data(6, 1)], "without a gap"),
        ([data(5, 1), data(6, 2)], "what came before is missing"),
        ([data(5, 1), gap(6, 1, (5, 1)), data(6, 2)], None),
        ([data(5, 1), gap(6, 1, (5, 3)), data(6, 2)], "was the last, which is not so"),
        ([data(5, 1), gap(6, 1, (5, 1)), data(6, 3)], "does not follow"),
        ([data(5, 1), gap(6, 1, None, reason="restart"), data(6, 2)], None),
        ([data(5, 1), gap(6, 1, (5, 1), reason="unsubscribed"), data(7, 1)], None),
        ([data(5, 1), gap(5, 4, (5, 1), lost=3), data(5, 5)], None),
        ([data(5, 1), data(5, 2), data(5, 3), gap(5, 3, (5, 1), lost=2), data(5, 4)], None),
        ([data(5, 1), gap(5, 4, (5, 2), lost=2), data(5, 5)], "is missing too"),
        ([data(5, 1), gap(5, 4, (5, 1), lost=3), data(5, 2), data(5, 5)], None),
        ([data(5, 1), gap(5, 4, (5, 1), lost=3), data(5, 6)], "does not follow"),
        ([data(5, 1), gap(6, 2, (5, 1), lost=2), data(6, 3)], None),
        ([data(5, 1), gap(6, 1, (5, 1)), gap(6, 2, (5, 1), closed_by="snapshot"), data(6, 3)], None),
        ([data(5, 1), gap(6, 1, (5, 1)), gap(6, 3, (5, 1), closed_by="snapshot")], "does not follow"),
        (
            [data(5, 1), gap(6, 1, (5, 1)), gap(6, 2, (5, 1), reason="frozen", closed_by="snapshot")],
            "the one that is open has another",
        ),
    ],
)
def test_complaints(events: list[dict[str, Any]], complaint: str | None) -> None:
    """What breaks the promise is named, and what keeps it is not."""
    record = StreamRecord("key")
    for event in events:
        record.take(event)
    assert len(record.faults) == (complaint is not None), record.faults
    assert complaint is None or complaint in record.faults[0]
