// Runs on the browser's audio thread: hands samples over in pieces of a tenth of a second.
class Collector extends AudioWorkletProcessor {
  constructor() {
    super();
    this.piece = new Float32Array(Math.round(sampleRate / 10));
    this.filled = 0;
  }

  process(inputs) {
    const input = inputs[0]?.[0];
    if (!input) return true;
    let at = 0;
    while (at < input.length) {
      const count = Math.min(input.length - at, this.piece.length - this.filled);
      this.piece.set(input.subarray(at, at + count), this.filled);
      this.filled += count;
      at += count;
      if (this.filled === this.piece.length) {
        this.port.postMessage(this.piece.slice());
        this.filled = 0;
      }
    }
    return true;
  }
}
registerProcessor("collector", Collector);
