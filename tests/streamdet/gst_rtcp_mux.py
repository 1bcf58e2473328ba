"""A real sender with RTP and RTCP on one port in both directions (RFC 5761), as WebRTC has it: GStreamer's rtpbin.

Run by the system's Python, which has GStreamer's bindings: ``gst_rtcp_mux.py PORT SECONDS``. Prints what the receiver's
reports told it, one JSON object for each, and ends with a goodbye.
"""

import json
import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gio, GLib, Gst  # noqa: E402  their versions must be chosen first

port, seconds = int(sys.argv[1]), float(sys.argv[2])
SSRC = 0x5EEDCAFE
TEXT = f"""
rtpbin name=bin
audiotestsrc is-live=true samplesperbuffer=160 num-buffers={round(seconds * 50)} ! audio/x-raw,rate=8000,channels=1
! mulawenc ! rtppcmupay ssrc={SSRC} max-ptime=20000000 min-ptime=20000000 ! bin.send_rtp_sink_0
bin.send_rtp_src_0 ! udpsink name=media host=127.0.0.1 port={port}
bin.send_rtcp_src_0 ! udpsink name=control host=127.0.0.1 port={port} sync=false async=false
udpsrc name=back ! bin.recv_rtcp_sink_0
"""

Gst.init(None)
shared = Gio.Socket.new(Gio.SocketFamily.IPV4, Gio.SocketType.DATAGRAM, Gio.SocketProtocol.UDP)
shared.bind(Gio.InetSocketAddress.new_from_string("127.0.0.1", 0), False)
pipeline = Gst.parse_launch(TEXT)
for name in ("media", "control", "back"):
    pipeline.get_by_name(name).set_property("socket", shared)
    pipeline.get_by_name(name).set_property("close-socket", False)
session = pipeline.get_by_name("bin").emit("get-internal-session", 0)
session.set_property("rtcp-min-interval", Gst.SECOND // 2)
loop = GLib.MainLoop()


def say(_: object, receiver: object) -> None:
    stats = receiver.get_property("stats")
    if stats.get_boolean("have-rb")[1]:
        lost, highest = stats.get_int("rb-packetslost")[1], stats.get_uint("rb-exthighestseq")[1]
        round_trip = stats.get_uint("rb-round-trip")[1] / 65536
        print(json.dumps({"lost": lost, "highest": highest, "round_trip": round_trip}), flush=True)


session.connect("on-ssrc-active", say)
bus = pipeline.get_bus()
bus.add_signal_watch()
bus.connect("message::eos", lambda *_: loop.quit())
bus.connect("message::error", lambda _, message: sys.exit(str(message.parse_error())))
pipeline.set_state(Gst.State.PLAYING)
# udpsrc has no end, so the end of the sound does not end the pipeline.
GLib.timeout_add(round(1000 * seconds) + 500, lambda: pipeline.send_event(Gst.Event.new_eos()) and False)
GLib.timeout_add(round(1000 * seconds) + 1500, loop.quit)
loop.run()
pipeline.set_state(Gst.State.NULL)
