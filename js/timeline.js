/** What is known of one run: clips, frames, peaks of the sound, curves of the motion. No page, no network. */

export const CURVES = Object.freeze(["lip_opening", "head_yaw", "blink"]);
export const PEAKS_PER_FRAME = 4;

/** Numbers as they are; null, which stands for "no number" in JSON, as NaN. */
const numbers = (values) => values.map((value) => value ?? NaN);

/** Copy `source` into a longer array so that index `length - 1` exists. Values never set are NaN. */
function grown(source, length) {
  if (source.length >= length) return source;
  const next = new Float32Array(Math.max(length, source.length * 2)).fill(NaN);
  next.set(source);
  return next;
}

export class Timeline {
  constructor() {
    this.start({});
  }

  /** Begin anew with the data of `mcdm.start`; all fields may be missing when a page joins a run late. */
  start({ clips = 0, frames = 0, fps = 25, peaks = [], resumed = 0 }) {
    this.clipCount = clips;
    this.frames = frames;
    this.fps = fps > 0 ? fps : 25;
    this.resumed = resumed;
    this.peaks = new Float32Array(frames * PEAKS_PER_FRAME).fill(NaN);
    this.setPeaks(0, peaks);
    this.curves = Object.fromEntries(CURVES.map((name) => [name, new Float32Array(frames).fill(NaN)]));
    this.clips = [];
    this.lastClip = null;
    this.whole = null;
  }

  /** Put peaks (4 a video frame) at the place of video frame `firstFrame`. */
  setPeaks(firstFrame, values) {
    const at = firstFrame * PEAKS_PER_FRAME;
    this.peaks = grown(this.peaks, at + values.length);
    this.peaks.set(numbers(values), at);
  }

  /** Add the data of `mcdm.clip`. The same clip sent twice replaces itself; order does not matter. */
  addClip(clip) {
    const entry = { ...clip, first_frame: clip.first_frame ?? 0, frames: clip.frames ?? 0 };
    const end = entry.first_frame + entry.frames;
    if (clip.fps > 0) this.fps = clip.fps;
    if (clip.clips > this.clipCount) this.clipCount = clip.clips;
    if (end > this.frames) this.frames = end;
    if (Array.isArray(clip.peaks)) this.setPeaks(entry.first_frame, clip.peaks);
    for (const name of CURVES) {
      const values = clip.curves?.[name];
      if (!Array.isArray(values)) continue;
      this.curves[name] = grown(this.curves[name], entry.first_frame + values.length);
      this.curves[name].set(numbers(values), entry.first_frame);
    }
    this.clips = this.clips.filter((other) => other.clip !== entry.clip);
    this.clips.push(entry);
    this.clips.sort((a, b) => a.first_frame - b.first_frame);
    this.lastClip = entry;
  }

  /** The whole video of `mcdm.done`; its length may be shorter than planned after "stop and keep". */
  finish(done) {
    this.whole = done;
    if (done.frames > 0) this.frames = done.frames;
    if (done.fps > 0) this.fps = done.fps;
  }

  /** Seconds of the whole video, finished or not. */
  get duration() {
    return this.frames / this.fps;
  }

  /** Number of frames at the beginning that are finished without a gap. */
  get readyFrames() {
    if (this.whole) return this.frames;
    let end = 0;
    for (const clip of this.clips) {
      if (clip.first_frame > end) break;
      end = Math.max(end, clip.first_frame + clip.frames);
    }
    return end;
  }

  /** Finished clips in order as `{start, end, clip}` in seconds, up to the first gap after the first clip. */
  segments() {
    const out = [];
    for (const clip of this.clips) {
      const start = clip.first_frame / this.fps;
      if (out.length && start > out[out.length - 1].end + 0.5 / this.fps) break;
      out.push({ start, end: (clip.first_frame + clip.frames) / this.fps, clip });
    }
    return out;
  }
}
