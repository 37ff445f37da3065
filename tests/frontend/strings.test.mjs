import assert from "node:assert/strict";
import test from "node:test";
import { ENGLISH, clock, createTranslator, fill, pickMessages } from "../../js/strings.js";

test("fill puts values in and leaves unknown places alone", () => {
  assert.equal(fill("Clip {clip} of {clips}", { clip: 0, clips: 4 }), "Clip 0 of 4");
  assert.equal(fill("{a} {b}", { a: "{b}" }), "{b} {b}");
});

test("messages come from the exact locale, then its language, then English", () => {
  const i18n = { zh: { mcdm: { play: "Z", foreign: "x" } }, "zh-TW": { mcdm: { play: "TW" } } };
  assert.equal(pickMessages(i18n, "zh-TW").play, "TW");
  assert.equal(pickMessages(i18n, "zh-CN").play, "Z");
  assert.equal(pickMessages(i18n, "fr").play, ENGLISH.play);
  assert.equal(pickMessages(undefined, undefined).pause, ENGLISH.pause);
  assert.ok(!("foreign" in pickMessages(i18n, "zh")));
});

test("a translator's messages can be replaced and an unknown key shows itself", () => {
  const t = createTranslator();
  assert.equal(t("play"), "Play");
  t.use({ play: "Los" });
  assert.equal(t("play"), "Los");
  assert.equal(t("pause"), ENGLISH.pause);
  assert.equal(t("nothing"), "nothing");
});

test("clock", () => {
  assert.deepEqual([0, 59.9, 60, 3599, 3725, -1, NaN].map((s) => clock(s)), ["0:00", "0:59", "1:00", "59:59", "1:02:05", "0:00", "0:00"]);
  assert.deepEqual([0, 1.3, 59.96, 3600.5].map((s) => clock(s, true)), ["0:00.0", "0:01.3", "1:00.0", "1:00:00.5"]);
});
