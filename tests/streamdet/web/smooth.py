"""Whether the page stays smooth: ``python -m tests.streamdet.web.smooth [--streams 50] [--rounds 3] [--seconds 10]``.

A real ``streamdet listen`` hears files at the pace of real time, and a headless Chromium shows its page. In turns an
empty page and the live one are watched; printed are the times from one animation frame to the next, tasks of the main
thread that took over 50 ms (what a person notices), and the share of a core that thread needed. Chromium draws without
a GPU here, so a desk's machine does better.
"""

from __future__ import annotations

import argparse
import shutil
import threading
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import CDPSession, Page, sync_playwright

from tests.streamdet.web.load import listening

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WATCH = """
() => {
  window.frames_ = []; window.tasks_ = [];
  const frame = (at) => { window.frames_.push(at); requestAnimationFrame(frame); };
  requestAnimationFrame(frame);
  new PerformanceObserver((list) => list.getEntries().forEach((e) => window.tasks_.push(e.duration)))
    .observe({ type: "longtask" });
}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    process, url = listening(options.streams)
    assert process.stdout is not None
    threading.Thread(target=process.stdout.read, daemon=True).start()  # nobody may wait for a full pipe
    frames: dict[str, list[float]] = {"empty page": [], "live page": []}
    tasks: dict[str, list[float]] = {name: [] for name in frames}
    busy: dict[str, list[float]] = {name: [] for name in frames}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for _ in range(options.rounds):
            for name, address in (("empty page", "about:blank"), ("live page", url)):
                page = browser.new_page(reduced_motion="no-preference")
                page.goto(address)
                time.sleep(4)
                seen, long, share = watch(page, options.seconds)
                frames[name] += seen
                tasks[name] += long
                busy[name].append(share)
                page.close()
        browser.close()
    process.terminate()
    process.wait()
    load = Path("/proc/loadavg").read_text().split()[0]
    for name, gaps in frames.items():
        p50, p95, p99 = np.percentile(gaps, (50, 95, 99))
        print(
            f"{name}: {len(gaps)} frames, ms from one to the next p50 {p50:.1f}, p95 {p95:.1f}, p99 {p99:.1f}, "
            f"longest {max(gaps):.0f}; {len(tasks[name])} tasks over 50 ms, longest "
            f"{max(tasks[name], default=0):.0f} ms; main thread {100 * np.median(busy[name]):.1f} % of a core"
        )
    print(f"{options.streams} streams; load of the machine at the end {load}")


def watch(page: Page, seconds: float) -> tuple[list[float], list[float], float]:
    """Times between frames (ms), long tasks (ms), and the share of a core that the page's main thread took."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.evaluate(WATCH)
    began, before = time.monotonic(), task_seconds(session)
    page.wait_for_timeout(1e3 * seconds)
    share = (task_seconds(session) - before) / (time.monotonic() - began)
    return np.diff(page.evaluate("window.frames_")).tolist(), page.evaluate("window.tasks_"), share


def task_seconds(session: CDPSession) -> float:
    metrics = session.send("Performance.getMetrics")["metrics"]
    return float(next(m["value"] for m in metrics if m["name"] == "TaskDuration"))


if __name__ == "__main__":
    main()
