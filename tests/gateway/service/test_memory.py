"""What was freed goes back to the operating system."""

import platform

import psutil
import pytest

from symbiosis.gateway.service import memory


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what was freed, and is asked")
def test_what_was_freed_goes_back() -> None:
    assert memory.share_arenas()
    # Smaller than what malloc maps by itself, and with a last piece that keeps the heap's end in use.
    size, count = 60_000, 2_000
    pieces = [bytearray(size) for _ in range(count)]
    kept = pieces[-1]
    del pieces
    before = psutil.Process().memory_info().rss
    assert memory.give_back()
    assert before - psutil.Process().memory_info().rss > size * count / 2
    assert not any(kept)


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_libc", lambda: None)
    assert not memory.share_arenas()
    assert not memory.give_back()
