import assert from "node:assert/strict";
import test from "node:test";
import { latestOnly } from "../../js/face_editor.js";

test("while one picture is drawn, any number of moves become one more", async () => {
  let open;
  let calls = 0;
  const ask = latestOnly(() => {
    calls += 1;
    return calls === 1 ? new Promise((resolve) => (open = resolve)) : Promise.resolve();
  });
  const first = ask();
  for (let k = 0; k < 5; k++) ask();
  assert.equal(calls, 1);
  open();
  await first;
  assert.equal(calls, 2);
  await ask();
  assert.equal(calls, 3);
});

test("a failure does not keep the next move from being drawn", async () => {
  let calls = 0;
  const ask = latestOnly(async () => {
    calls += 1;
    if (calls === 1) throw new Error("no server");
  });
  await assert.rejects(ask(), /no server/);
  await ask();
  assert.equal(calls, 2);
});
