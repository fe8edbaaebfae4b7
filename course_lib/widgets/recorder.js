/* The browser's half of recorder.py: microphone → blocks of raw samples → a level on the page, and one recording as int16.

The kernel owns `status`, `error` and `seconds`; this side tells it what happened in custom messages, because those arrive in
order, and a state that both sides write would not. What only the page knows, such as whether it is asking for permission, is
`session.phase`. */

const WISHES = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: true };

const SENTENCES = {
  insecure:
    "The browser gives the microphone only to pages that come from this computer or over https, and this page comes from " +
    "{origin}. Open it through http://localhost (with ssh: ssh -L 8888:localhost:8888 name-of-the-server) or through https.",
  unsupported: "This browser cannot record sound. Use a recent Firefox, Chrome, Edge or Safari.",
  framed:
    "This page is shown in a frame that may not use the microphone, as notebooks in VS Code are. Open the notebook in " +
    "JupyterLab, in a browser.",
  NotAllowedError:
    "The browser was not allowed to use the microphone. Click on the icon to the left of the address, allow the microphone " +
    "and press Record again. If it is allowed there, look into the privacy settings of your computer.",
  NotFoundError: "No microphone was found. Plug one in, or switch it on, and press Record again.",
  NotReadableError:
    "The microphone is there, but it does not answer. Another program may hold it: end calls and meetings, and press Record again.",
  other: "The microphone could not be opened: {detail}. Reload the page and press Record again.",
};
const LOST = "The microphone went away; what it heard until then was kept.";
const LONGEST = "Stopped by itself after {seconds} s, the longest recording here.";
const WAITING = "Sent to Python. Does nothing happen? Then another cell is still running, or this one has to be run again.";
const QUIET = "That is very quiet: come nearer to the microphone, or speak up.";
const LOUD = "That is too loud and was clipped: move away from the microphone.";

const FLOOR_DB = -60;
const QUIET_DB = -35;
/* The browser's gain control lets single samples touch full scale; a voice that is too loud has hundreds a second. */
const CLIPPED_SHARE = 0.005;
const SAMPLES_A_MESSAGE = 2 ** 19;
const COLLECTOR = `registerProcessor("collector", class extends AudioWorkletProcessor {
  process([[samples]]) {
    if (samples) this.port.postMessage(samples.slice());
    return true;
  }
});`;

const fill = (sentence, values) => sentence.replace(/\{(\w+)\}/g, (_, name) => values[name]);
const decibels = (peak) => Math.max(FLOOR_DB, 20 * Math.log10(peak));
const peakOf = (samples) => samples.reduce((peak, sample) => Math.max(peak, Math.abs(sample)), 0);

/* Why no microphone can be had here, before anybody asks for one; "" when nothing speaks against it. */
function obstacle() {
  if (!window.isSecureContext) return fill(SENTENCES.insecure, { origin: location.origin });
  if (!navigator.mediaDevices?.getUserMedia) return SENTENCES.unsupported;
  if (document.featurePolicy?.allowsFeature("microphone") === false) return SENTENCES.framed;
  return "";
}

function explain(error) {
  return SENTENCES[error.name] ?? fill(SENTENCES.other, { detail: error.message || error.name });
}

/* Open the microphone and hand every block of samples to `onBlock`; `onLost` is called when it is unplugged. */
async function openMicrophone(onBlock, onLost) {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: WISHES });
  const context = new AudioContext();
  const close = () => {
    stream.getTracks().forEach((track) => track.stop());
    context.close();
  };
  try {
    await context.resume();
    const collector = await makeCollector(context, onBlock);
    context.createMediaStreamSource(stream).connect(collector);
    // Safari runs only what leads to the loudspeaker; the collector writes nothing, so nothing is heard.
    collector.connect(context.destination);
  } catch (error) {
    close();
    throw error;
  }
  stream.getTracks().forEach((track) => track.addEventListener("ended", onLost));
  return { close, rate: context.sampleRate };
}

async function makeCollector(context, onBlock) {
  const mono = { channelCount: 1, channelCountMode: "explicit" };
  const source = URL.createObjectURL(new Blob([COLLECTOR], { type: "text/javascript" }));
  try {
    await context.audioWorklet.addModule(source);
    const worklet = new AudioWorkletNode(context, "collector", mono);
    worklet.port.onmessage = (event) => onBlock(event.data);
    return worklet;
  } catch {
    // No worklets in this browser, or a page whose rules forbid scripts from a Blob.
    const processor = context.createScriptProcessor(1024, 1, 1);
    processor.onaudioprocess = (event) => onBlock(event.inputBuffer.getChannelData(0).slice());
    return processor;
  } finally {
    URL.revokeObjectURL(source);
  }
}

function concatenate(blocks, length) {
  const samples = new Float32Array(length);
  let start = 0;
  for (const block of blocks) {
    samples.set(block.subarray(0, length - start), start);
    start += Math.min(block.length, length - start);
  }
  return samples;
}

function judgeLoudness(samples) {
  const clipped = samples.filter((sample) => Math.abs(sample) >= 0.999).length;
  if (clipped > CLIPPED_SHARE * samples.length) return LOUD;
  return decibels(peakOf(samples)) < QUIET_DB ? QUIET : "";
}

const toInt16 = (samples) => Int16Array.from(samples, (s) => Math.max(-32768, Math.min(32767, Math.round(s * 32768))));

/* One recorder, however many views of it are open: `phase` is idle, asking, recording or sending. */
class Session {
  phase = "idle";
  note = "";
  problem = "";
  level = FLOOR_DB;
  recorded = 0;
  sound = null;
  player = null;
  views = new Set();

  constructor(model) {
    this.model = model;
    model.on("change:status", () => this.hear());
    for (const trait of ["error", "seconds", "disabled"]) model.on(`change:${trait}`, () => this.paint());
  }

  enter(phase, note = "") {
    Object.assign(this, { phase, note });
    this.paint();
  }

  paint() {
    for (const view of this.views) view(this);
  }

  /* The kernel has taken the recording, or says why not. */
  hear() {
    const settled = ["recorded", "failed"].includes(this.model.get("status"));
    if (this.phase === "sending" && settled) this.enter("idle", this.verdict);
    else this.paint();
  }

  press() {
    if (this.phase === "recording") this.finish();
    else if (this.phase === "idle" && !this.model.get("disabled")) this.start();
  }

  async start() {
    this.stopPlaying();
    if (obstacle()) return this.fail(obstacle());
    Object.assign(this, { blocks: [], problem: "", recorded: 0, level: FLOOR_DB });
    this.enter("asking");
    try {
      const microphone = await openMicrophone((block) => this.collect(block), () => this.finish(LOST));
      if (this.phase !== "asking") return microphone.close();
      this.microphone = microphone;
    } catch (error) {
      return this.fail(explain(error));
    }
    this.model.send({ kind: "recording" });
    this.enter("recording");
  }

  /* Said here at once, and to the kernel, which may be busy. */
  fail(reason) {
    this.problem = reason;
    this.model.send({ kind: "failed", reason });
    this.enter("idle");
  }

  get trouble() {
    return this.problem || this.model.get("error") || (this.model.get("status") === "idle" ? obstacle() : "");
  }

  collect(block) {
    if (this.phase !== "recording") return;
    this.blocks.push(block);
    this.recorded += block.length;
    this.level = Math.max(decibels(peakOf(block)), this.level - 30 * (block.length / this.microphone.rate));
    const longest = this.model.get("max_seconds");
    if (this.recorded >= longest * this.microphone.rate) this.finish(fill(LONGEST, { seconds: longest }));
  }

  get seconds() {
    return this.recorded / this.microphone.rate;
  }

  finish(remark = "") {
    if (this.phase !== "recording") return;
    const { rate } = this.microphone;
    this.discard();
    const length = Math.min(this.recorded, Math.floor(this.model.get("max_seconds") * rate));
    this.sound = { samples: concatenate(this.blocks, length), rate };
    this.verdict = [remark, judgeLoudness(this.sound.samples)].filter(Boolean).join(" ");
    this.enter("sending");
    const pcm = toInt16(this.sound.samples);
    // A long recording is larger than the 10 MB that Jupyter's server takes in one message at the highest of rates.
    for (let start = 0; start < pcm.length; start += SAMPLES_A_MESSAGE) {
      this.model.send({ kind: "samples" }, undefined, [pcm.slice(start, start + SAMPLES_A_MESSAGE).buffer]);
    }
    this.model.send({ kind: "end", sample_rate: rate });
    setTimeout(() => this.phase === "sending" && this.enter("sending", WAITING), 3000);
  }

  /* Let go of the microphone: the browser's own red sign goes out. */
  discard() {
    this.phase = "idle";
    this.microphone?.close();
    this.microphone = null;
  }

  togglePlaying() {
    if (this.player) return this.stopPlaying();
    const { samples, rate } = this.sound;
    const context = new AudioContext();
    const buffer = context.createBuffer(1, samples.length, rate);
    buffer.copyToChannel(samples, 0);
    const source = new AudioBufferSourceNode(context, { buffer });
    source.connect(context.destination);
    source.onended = () => this.player === context && this.stopPlaying();
    source.start();
    this.player = context;
    this.paint();
  }

  stopPlaying() {
    this.player?.close();
    this.player = null;
    this.paint();
  }
}

const LAYOUT = `
  <div class="recorder-row">
    <button type="button" class="recorder-record"><span class="recorder-dot" aria-hidden="true"></span><span class="recorder-word"></span></button>
    <div class="recorder-meter" role="meter" title="level, −60 to 0 dB" aria-label="level in decibels" aria-valuemin="${FLOOR_DB}" aria-valuemax="0">
      <div class="recorder-bar"></div>
    </div>
    <output class="recorder-time" role="timer" aria-label="seconds recorded"></output>
    <button type="button" class="recorder-play"><span aria-hidden="true"></span><span class="recorder-word"></span></button>
  </div>
  <p class="recorder-message" role="status"></p>`;

function saying(session) {
  const { model, phase, note } = session;
  if (phase === "asking") return "Your browser asks whether it may use the microphone.";
  if (phase === "recording") return "Speak now. Press the button, or Space, when you are done.";
  if (phase === "sending") return note || "Sending the recording to Python.";
  if (session.trouble) return session.trouble;
  if (model.get("status") === "recorded") return `${model.get("seconds").toFixed(1)} s recorded. ${note}`.trim();
  return `Press Record and speak, at most ${model.get("max_seconds")} s.`;
}

function makeView(session, el) {
  const { model } = session;
  el.classList.add("course-recorder");
  // JupyterLab would take Enter and Space for its own while a button in an output has the focus.
  el.dataset.lmSuppressShortcuts = "true";
  el.innerHTML = LAYOUT;
  const [record, play] = el.querySelectorAll("button");
  const [meter, bar, time, message] = ["meter", "bar", "time", "message"].map((name) => el.querySelector(`.recorder-${name}`));
  record.addEventListener("click", () => session.press());
  play.addEventListener("click", () => session.togglePlaying());
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;

  const paintClock = () => {
    const seconds = session.microphone ? session.seconds : model.get("seconds");
    time.textContent = `${seconds.toFixed(1)} s`;
    const level = session.phase === "recording" ? session.level : FLOOR_DB;
    bar.style.setProperty("--unlit", `${(100 * level) / FLOOR_DB}%`);
    meter.setAttribute("aria-valuenow", level.toFixed(0));
  };
  const paint = () => {
    const { phase } = session;
    el.dataset.phase = phase === "idle" && session.trouble ? "failed" : phase;
    const word = phase === "recording" ? "Stop" : session.sound ? model.get("again") : "Record";
    record.lastElementChild.textContent = word;
    record.setAttribute("aria-label", { Stop: "stop recording", Record: "record" }[word] ?? "record again");
    // Not `disabled`: a button that is loses the focus, and the next Space would scroll the page.
    record.setAttribute("aria-disabled", String(model.get("disabled") || ["asking", "sending"].includes(phase)));
    play.hidden = !session.sound || phase !== "idle";
    play.lastElementChild.textContent = session.player ? "Stop" : "Play";
    play.dataset.playing = String(session.player !== null);
    play.setAttribute("aria-label", session.player ? "stop playing" : "play the recording");
    message.textContent = saying(session);
    paintClock();
  };
  const timer = setInterval(() => session.phase === "recording" && paintClock(), calm ? 500 : 50);

  session.views.add(paint);
  paint();
  return () => {
    clearInterval(timer);
    session.views.delete(paint);
    // Nobody can press Stop any more.
    if (session.views.size === 0) {
      session.discard();
      session.stopPlaying();
    }
  };
}

export default () => {
  let session;
  return {
    initialize({ model }) {
      session = new Session(model);
      return () => session.discard();
    },
    render({ el }) {
      return makeView(session, el);
    },
  };
};
