"""A real RTSP server, GStreamer's, that plays a sound file at ``rtsp://127.0.0.1:PORT/live``.

Run by the system's Python, which has GStreamer's bindings: ``gst_rtsp_server.py PORT FILE ENCODER PAYLOADER``.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402  their versions must be chosen first

port, sound, encoder, payloader = sys.argv[1:]
Gst.init(None)
factory = GstRtspServer.RTSPMediaFactory()
factory.set_shared(True)
factory.set_launch(
    f"( filesrc location={sound} ! wavparse ! audioconvert ! audioresample ! {encoder} ! {payloader} name=pay0 )"
)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(port)
server.get_mount_points().add_factory("/live", factory)
if server.attach(None) == 0:
    sys.exit(f"port {port} is taken")
print("ready", flush=True)
GLib.MainLoop().run()
