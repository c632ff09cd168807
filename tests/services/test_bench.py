"""The benches themselves: that they run, and find what they are to find."""

import random
import sys
from pathlib import Path

import anyio
import pytest
from bench import burst, frames
from bench.trend import Limit, trend

FEW_SOCKETS = f"assets_per_connection = 20\n{burst.SETTINGS}"


@pytest.mark.anyio
@pytest.mark.skipif(sys.platform != "linux", reason="the benches read /proc")
async def test_a_burst_harms_nobody(tmp_path: Path) -> None:
    """Snapshots of most assets at once, and then their sockets made anew: no other socket is lost or too slow."""
    path = tmp_path / "frames.jsonl"
    path.write_text("\n".join(frames.make("venue", 300, 100)), encoding="ascii")
    with anyio.fail_after(120):
        found = await burst.measure(
            path, frames.read(path), rate=200, snapshots=80, quiet_s=0.3, settings=FEW_SOCKETS
        )
    assert (found.paced, found.bursting, found.snapshots) == (1, 4, 80)
    assert [each.name for each in found.phases] == ["quiet", "snapshots", burst.ANEW]
    assert [each.gaps for each in found.phases] == [0, 0, 80]
    assert found.is_sound, found


@pytest.mark.parametrize(
    ("what", "values", "is_sound"),
    [
        ("stands still", [50.0] * 60, True),
        ("wavers", [50 + n % 7 for n in range(60)], True),
        ("has peaks", [50 + 500 * (n % 5 == 0) for n in range(60)], True),
        ("has a peak in the end", [50.0] * 45 + [500.0] * 15, True),
        ("falls", [110 - n for n in range(60)], True),
        ("rises", [50 + n / 8 for n in range(60)], False),
        ("rises among peaks", [50 + n / 4 + 300 * (n % 5 == 0) for n in range(60)], False),
        ("rises in steps", [50 + n // 12 * 3 for n in range(60)], False),
    ],
)
def test_a_rise_is_found(what: str, values: list[float], is_sound: bool) -> None:
    """What rises from beginning to end by more than it may is found, however it wavers, and nothing else is."""
    found = trend(what, "MB", [float(n) for n in range(60)], values, Limit(share=0.05, least=4.0))
    assert found.is_sound is is_sound, found


def test_noise_is_no_rise() -> None:
    """A third of noise on what stands still is no rise."""
    dice = random.Random(1)
    values = [dice.uniform(40, 60) for _ in range(60)]
    assert trend("noise", "MB", list(range(60)), values, Limit(share=0.2, least=0.0)).is_sound
