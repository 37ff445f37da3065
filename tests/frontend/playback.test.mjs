import assert from "node:assert/strict";
import test from "node:test";
import { Playback, segmentAt } from "../../js/playback.js";

/** A video element that loads at once and plays only by hand. */
class FakeVideo extends EventTarget {
  constructor() {
    super();
    Object.assign(this, { attributes: {}, readyState: 0, muted: false, ended: false, running: false, position: 0 });
    this.classes = new Set();
    this.classList = { add: (c) => this.classes.add(c), remove: (c) => this.classes.delete(c) };
  }
  getAttribute(name) { return this.attributes[name]; }
  removeAttribute(name) { delete this.attributes[name]; }
  set src(url) { this.attributes.src = url; }
  get src() { return this.attributes.src; }
  load() { this.readyState = this.src ? 4 : 0; this.position = 0; this.ended = false; }
  get currentTime() { return this.position; }
  set currentTime(value) { this.position = value; this.ended = false; this.dispatchEvent(new Event("seeked")); }
  play() { this.running = true; this.dispatchEvent(new Event("play")); return Promise.resolve(); }
  pause() { if (this.running) { this.running = false; this.dispatchEvent(new Event("pause")); } }
  end(at) { this.position = at; this.ended = true; this.pause(); this.dispatchEvent(new Event("ended")); }
}

const parts = (n) => Array.from({ length: n }, (_, i) => ({ start: i, end: i + 1, url: `/view?clip=${i}` }));
const fresh = () => new Playback([new FakeVideo(), new FakeVideo()]);

test("segmentAt", () => {
  assert.deepEqual([-1, 0, 0.99, 1, 5].map((time) => segmentAt(parts(2), time)), [0, 0, 0, 1, 1]);
  assert.equal(segmentAt([], 1), -1);
});

test("the first clip is shown at rest, and growth leaves it alone", () => {
  const playback = fresh();
  playback.setSegments(parts(1));
  const shown = playback.active;
  assert.equal(shown.src, "/view?clip=0");
  assert.ok(shown.classes.has("mcdm-shown") && !shown.running);
  playback.play();
  shown.position = 0.4;
  playback.setSegments(parts(2));
  assert.equal(playback.active, shown);
  assert.ok(shown.running);
  assert.equal(playback.standby.src, "/view?clip=1");
  assert.equal(playback.time, 0.4);
});

test("clips follow each other, wait for the next one, and go on when it comes", () => {
  const playback = fresh();
  playback.setSegments(parts(2));
  playback.play();
  playback.active.end(1);
  assert.equal(playback.index, 1);
  assert.ok(playback.active.running);
  assert.equal(playback.time, 1);
  playback.active.end(1);
  assert.ok(playback.waiting && playback.playing);
  playback.setSegments(parts(3));
  assert.equal(playback.time, 2);
  assert.ok(playback.active.running && !playback.waiting);
});

test("the whole video takes over at the same position and keeps playing", () => {
  const playback = fresh();
  playback.setSegments(parts(3));
  playback.play();
  playback.seek(1.5);
  playback.setSegments([{ start: 0, end: 3, url: "/view?whole" }], true);
  assert.equal(playback.active.src, "/view?whole");
  assert.equal(playback.active.currentTime, 1.5);
  assert.ok(playback.active.running);
  playback.active.end(3);
  assert.ok(!playback.playing && !playback.waiting);
  playback.play();
  assert.equal(playback.time, 0);
  assert.ok(playback.active.running);
});

test("while the whole video loads the last clip plays on, and its end does not end the playback", () => {
  const playback = fresh();
  playback.setSegments(parts(3));
  playback.play();
  playback.seek(2.2);
  const { active, standby } = playback;
  standby.load = function () { this.readyState = 0; };
  playback.setSegments([{ start: 0, end: 4, url: "/view?whole" }], true);
  assert.equal(playback.active, active);
  active.end(1);
  assert.ok(playback.playing);
  assert.equal(playback.time, 3);
  standby.readyState = 4;
  standby.dispatchEvent(new Event("loadeddata"));
  assert.equal(playback.active, standby);
  assert.equal(playback.time, 3);
  assert.ok(standby.running);
});

test("seeking goes across clips and stays within what is finished", () => {
  const playback = fresh();
  playback.setSegments(parts(3));
  playback.seek(2.25);
  assert.equal(playback.active.src, "/view?clip=2");
  assert.equal(playback.active.currentTime, 0.25);
  playback.seek(99);
  assert.equal(playback.time, 3);
  playback.seek(-1);
  assert.equal(playback.time, 0);
});

test("sound stays as the user set it when the elements take turns", () => {
  const playback = fresh();
  playback.setSegments(parts(2));
  playback.muted = true;
  playback.play();
  playback.active.end(1);
  assert.ok(playback.active.muted);
});

test("where sound needs a click the video starts silently", async () => {
  const playback = fresh();
  playback.setSegments(parts(1));
  const video = playback.active;
  video.play = () => (video.muted
    ? Promise.resolve((video.running = true))
    : Promise.reject(Object.assign(new Error(), { name: "NotAllowedError" })));
  playback.play();
  await new Promise((resolve) => setTimeout(resolve, 0));
  assert.ok(playback.muted && video.running && playback.playing);
});

test("a video stopped from outside, or a broken file, is reported", () => {
  let errors = 0;
  const playback = new Playback([new FakeVideo(), new FakeVideo()], { onError: () => errors++ });
  playback.setSegments(parts(2));
  playback.play();
  playback.active.pause();
  assert.ok(!playback.playing);
  playback.play();
  playback.active.dispatchEvent(new Event("error"));
  assert.equal(errors, 1);
  assert.ok(!playback.playing);
  playback.reset();
  assert.equal(playback.time, 0);
  assert.equal(playback.active.src, undefined);
});

test("after Cancel nothing waits for a clip that will not come", () => {
  const playback = fresh();
  playback.setSegments(parts(1));
  playback.play();
  playback.active.end(1);
  assert.ok(playback.waiting && playback.playing);
  playback.end();
  assert.ok(!playback.waiting && !playback.playing);
});

test("a looped video begins again at its end", () => {
  const playback = fresh();
  playback.loop = true;
  playback.setSegments([{ start: 0, end: 2, url: "/view?whole" }], true);
  playback.play();
  playback.active.end(2);
  assert.ok(playback.playing && playback.active.running);
  assert.equal(playback.time, 0);
});
