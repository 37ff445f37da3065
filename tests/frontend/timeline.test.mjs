import assert from "node:assert/strict";
import test from "node:test";
import { Timeline } from "../../js/timeline.js";
import { curveHeight, curveRuns, drawTimeline, frameTime, keyTarget, maxBetween, waveColumns } from "../../js/waveform.js";

const clip = (index, first, frames, extra = {}) => ({
  clip: index, clips: 3, first_frame: first, frames, fps: 25, filename: `${index}.mp4`, ...extra,
});

test("clips in any order give the ready frames up to the first gap", () => {
  const timeline = new Timeline();
  timeline.start({ clips: 3, frames: 40, fps: 25 });
  timeline.addClip(clip(1, 16, 16));
  assert.equal(timeline.readyFrames, 0);
  timeline.addClip(clip(0, 0, 16));
  assert.equal(timeline.readyFrames, 32);
  timeline.addClip(clip(0, 0, 16));
  assert.equal(timeline.clips.length, 2);
  assert.deepEqual(timeline.segments().map(({ start, end }) => [start, end]), [[0, 0.64], [0.64, 1.28]]);
  assert.equal(timeline.duration, 1.6);
});

test("a page that joins late builds its arrays from the clips", () => {
  const timeline = new Timeline();
  timeline.addClip(clip(2, 32, 4, { curves: { lip_opening: [0, 0.5, 1, 0.25] }, peaks: new Array(16).fill(0.5) }));
  assert.equal(timeline.frames, 36);
  assert.equal(timeline.clipCount, 3);
  assert.deepEqual([...timeline.curves.lip_opening.slice(32, 36)], [0, 0.5, 1, 0.25]);
  assert.ok(Number.isNaN(timeline.curves.lip_opening[31]));
  assert.equal(timeline.peaks[4 * 32], 0.5);
});

test("null in a curve is a gap, not zero", () => {
  const timeline = new Timeline();
  timeline.addClip(clip(0, 0, 3, { curves: { head_yaw: [0.1, null, 0.3] } }));
  assert.ok(Number.isNaN(timeline.curves.head_yaw[1]));
});

test("stop and keep shortens the video; a new start forgets it", () => {
  const timeline = new Timeline();
  timeline.start({ clips: 3, frames: 48, fps: 24 });
  timeline.addClip(clip(0, 0, 16, { fps: 24 }));
  timeline.finish({ frames: 16, fps: 24, stopped: true, filename: "all.mp4" });
  assert.equal(timeline.duration, 16 / 24);
  assert.equal(timeline.readyFrames, 16);
  timeline.start({ clips: 1, frames: 8, fps: 24 });
  assert.equal(timeline.readyFrames, 0);
  assert.equal(timeline.whole, null);
});

test("wave columns keep every peak whatever the width", () => {
  const peaks = new Float32Array(400);
  peaks[123] = 0.9;
  for (const width of [7, 100, 400, 1000]) {
    assert.ok(Math.abs(Math.max(...waveColumns(peaks, 100, width)) - 0.9) < 1e-6, String(width));
  }
  assert.deepEqual([...waveColumns(new Float32Array(8).fill(NaN), 2, 3)], [0, 0, 0]);
  assert.ok(Number.isNaN(maxBetween([1, 2], 2, 5)));
});

test("curves have gaps where frames are not finished, and keep a one-frame blink", () => {
  const values = new Float32Array(1000).fill(0);
  values[501] = 1;
  values.fill(NaN, 200, 400);
  const runs = curveRuns("blink", values, 1000, 100, 0, 50);
  assert.equal(runs.length, 2);
  assert.equal(Math.min(...runs.flat().map(([, y]) => y)), 0);
  assert.ok(runs.flat().every(([x]) => x > 0 && x < 100));
});

test("curve heights: rest in the middle for the head, at the bottom for the lips, clipped", () => {
  assert.equal(curveHeight("head_yaw", 0), 0.5);
  assert.equal(curveHeight("lip_opening", 0), 0);
  assert.equal(curveHeight("lip_opening", 7), 1);
});

test("drawing tells finished sound from pending sound", () => {
  const timeline = new Timeline();
  timeline.start({ clips: 2, frames: 10, fps: 25, peaks: new Array(40).fill(1) });
  timeline.addClip(clip(0, 0, 5, { curves: { blink: [0, 0, 1, 0, 0] } }));
  const bars = [];
  let strokes = 0;
  const context = {
    clearRect() {}, beginPath() {}, moveTo() {}, lineTo() {}, stroke: () => strokes++,
    fillRect(x) { bars.push([x, this.fillStyle]); },
  };
  drawTimeline(context, timeline, 20, 60, { wave: "W", pending: "P", rest: "R", blink: "B" });
  assert.deepEqual(bars.slice(0, 20).map(([, colour]) => colour).join(""), "W".repeat(10) + "P".repeat(10));
  assert.equal(strokes, 1);
});

test("keys move by a frame, a second, or to the ends, and stay inside", () => {
  assert.equal(keyTarget("ArrowRight", 1, 4, 25), 1.06);
  assert.equal(keyTarget("ArrowLeft", 0.01, 4, 25), 0.02);
  assert.equal(keyTarget("PageUp", 3.5, 4, 25), 4);
  assert.equal(keyTarget("Home", 3.5, 4, 25), 0);
  assert.equal(keyTarget("a", 3.5, 4, 25), null);
});

test("seeking goes to the middle of a frame, each frame once, and never beyond the last", () => {
  const timeline = { duration: 2, fps: 25 };
  const seen = [];
  let time = frameTime(0, timeline);
  for (let step = 0; step < 60; step++) {
    seen.push(Math.floor(time * 25));
    time = keyTarget("ArrowRight", time, timeline.duration, timeline.fps);
  }
  assert.deepEqual(seen.slice(0, 50), Array.from({ length: 50 }, (_, i) => i));
  assert.ok(seen.slice(50).every((frame) => frame === 49));
  assert.equal(frameTime(2, timeline), 1.98);
});
