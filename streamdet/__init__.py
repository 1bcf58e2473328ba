"""Tell synthetic speech from human speech while it is being spoken."""

import os

# ONNX Runtime's wheels may carry telemetry. What is heard here is nobody else's business; it reads this when imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
