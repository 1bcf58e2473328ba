"""Store, evidence and a webhook on one disk that fills up, or is read-only at first, while alerts come and go."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from pathlib import Path

import pytest

from streamdet.evidence.verify import verify
from tests.streamdet.disks import remount, small_disk, stuff
from tests.waiting import until

from .daemon import ITSELF, Daemon, check_store, stored
from .kill import EAGER, in_mid_alert, sources
from .outage import Service, wanted

pytestmark = pytest.mark.timeout(600)
CONFIG = """
[[webhook]]
url = "http://127.0.0.1:{port}/"
events = ["alert", "state"]
longest_rest = 1.0

[evidence]
dir = "{disk}/evidence"
seconds = 10
free_megabytes = 0
"""


def told(daemon: Daemon) -> dict[str, list[str]]:
    """Phases that the daemon said of itself, by the part that they are about."""
    phases: dict[str, list[str]] = defaultdict(list)
    for event in daemon.printed:
        if event["type"] == "state" and event["stream"] == ITSELF:
            phases[event["reason"].partition(":")[0]].append(event["phase"])
    return dict(phases)


@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_one_disk_for_everything_stops_nothing_and_loses_nothing(tmp_path: Path, trouble: str) -> None:
    service, daemon = Service(), Daemon(tmp_path)
    service.failing = False
    config = tmp_path / "streamdet.toml"
    with small_disk(tmp_path / "disk", "24m") as disk:
        daemon.store = disk / "events.db"
        config.write_text(CONFIG.format(port=service.server_port, disk=disk))
        try:
            filler: Path | None = None
            if trouble == "full":
                daemon.start("-c", str(config), *sources("real"), *EAGER)
                daemon.wait_for(in_mid_alert)
                filler = stuff(disk)
            else:  # from the start: no file system with files open for writing lets itself be made read-only
                remount(disk, "ro")
                daemon.start("-c", str(config), *sources("real"), *EAGER)
            daemon.wait_for(lambda event: event["type"] == "state" and event["phase"] == "degraded")
            began = len(daemon.printed)
            daemon.wait_for(in_mid_alert)
            time.sleep(6.0)
            meanwhile = [event for event in daemon.printed[began:] if event["type"] == "score"]
            assert len(meanwhile) > 20  # of three streams, three a second each
            if filler is not None:
                filler.unlink()
            else:
                remount(disk, "rw")
            until(lambda: all(phases[-1] == "live" for phases in told(daemon).values()), "the end of the trouble", 60)
            time.sleep(3.0)
            daemon.stop()
        finally:
            if daemon.process is not None and daemon.process.poll() is None:
                daemon.kill()
            service.shutdown()
            service.server_close()
        for part, phases in told(daemon).items():
            assert phases == ["degraded", "live"], (part, phases)
        check_store(daemon.store)
        kept = stored(daemon.store)
        for event in daemon.printed:
            assert json.loads(kept[event["stream"]][event["seq"]]) == event
        keys = [key for keys in wanted(daemon).values() for key in keys]
        taken = set(service.took)
        assert len(taken) == len(service.took)
        # What is said while it ends may wait in the outbox for the next start.
        assert len(set(keys) - taken) <= 10
        report = verify(disk / "evidence")
        assert report.problems == []
