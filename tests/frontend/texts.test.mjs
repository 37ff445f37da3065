import assert from "node:assert/strict";
import test from "node:test";
import { failureText, progressText, viewAddress } from "../../js/player.js";
import { createTranslator } from "../../js/strings.js";
import { isLink, parseMissingWeights } from "../../js/weights.js";

const t = createTranslator();

test("file addresses are encoded", () => {
  const address = viewAddress({ filename: "a b&c.mp4", subfolder: "mcdm/run 1", type: "output" }, 5);
  const query = new URL(address, "http://localhost").searchParams;
  assert.ok(address.startsWith("/view?"));
  assert.deepEqual(Object.fromEntries(query), { filename: "a b&c.mp4", subfolder: "mcdm/run 1", type: "output", v: "5" });
});

test("progress counts clips from one, with the speed where it was measured", () => {
  assert.equal(progressText(t, { clip: 2, clips: 12, frames_per_second: 4.25 }, 0), "Clip 3 of 12 \u00b7 4.3 frames/s");
  assert.match(progressText(t, { clip: 0, clips: 12, frames_per_second: null }, 3), /3 clips taken over/);
});

test("a failed run says what was kept and where", () => {
  assert.match(failureText(t, { reason: "interrupted", kept_clips: 3, subfolder: "mcdm/a" }), /3 finished clips kept in output\/mcdm\/a/);
  assert.equal(failureText(t, { reason: "error", kept_clips: 0 }), t("failedNone"));
});

test("missing weights are read from the end of an error message", () => {
  const files = [{ name: "m.safetensors", source: "https://example.org/m", licence: "MIT", folder: "models/mcdm" }];
  const message = `Weights are missing.\nMCDM-MISSING-WEIGHTS: ${JSON.stringify({ files }, null, 1)}\n`;
  assert.deepEqual(parseMissingWeights(message), files);
  for (const other of [undefined, "", "CUDA out of memory", "MCDM-MISSING-WEIGHTS: {broken", 'MCDM-MISSING-WEIGHTS: {"files": []}']) {
    assert.equal(parseMissingWeights(other), null);
  }
});

test("only https addresses become links", () => {
  assert.ok(isLink("https://example.org/a"));
  for (const text of ["javascript:alert(1)", "http://example.org", "see the readme", "https://a b"]) assert.ok(!isLink(text));
});
