// The browser's microphone, as it is: what makes calls sound nicer would hide what we look for.
import { wav } from "./wav.js";

const PLAIN = { audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1 } };
const REASONS = {
  NotAllowedError: "The browser was not allowed to use the microphone.",
  NotFoundError: "There is no microphone.",
  NotReadableError: "The microphone is in use by another program.",
};

export class Recorder {
  static get possible() {
    return isSecureContext && Boolean(navigator.mediaDevices?.getUserMedia) && "AudioWorkletNode" in globalThis;
  }

  constructor(onpiece) {
    this.onpiece = onpiece;
    this.pieces = [];
    this.count = 0;
  }

  get seconds() {
    return this.context ? this.count / this.context.sampleRate : 0;
  }

  async start() {
    try {
      this.stream = await navigator.mediaDevices.getUserMedia(PLAIN);
    } catch (error) {
      throw new Error(REASONS[error.name] ?? `The microphone cannot be used: ${error.message}`);
    }
    this.context = new AudioContext();
    await this.context.audioWorklet.addModule("/static/collector.js");
    const collector = new AudioWorkletNode(this.context, "collector", { numberOfOutputs: 0 });
    collector.port.onmessage = ({ data }) => {
      this.pieces.push(data);
      this.count += data.length;
      this.onpiece(data, this.seconds);
    };
    this.context.createMediaStreamSource(this.stream).connect(collector);
  }

  async stop() {
    const rate = this.context.sampleRate;
    this.stream.getTracks().forEach((track) => track.stop());
    await this.context.close();
    return wav(this.pieces, rate);
  }
}
