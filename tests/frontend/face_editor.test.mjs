import assert from "node:assert/strict";
import test from "node:test";
import { FaceEditor, latestOnly } from "../../js/face_editor.js";

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

/** An editor on a stand-in page whose server answers with `answers` in turn; `asked` fills with the bodies sent. */
function editorOn(answers, asked) {
  const element = () => ({ setAttribute() {}, append() {} });
  globalThis.document = { createElement: element };
  const fetchApi = async (_, { body }) => {
    asked.push(JSON.parse(body));
    const status = answers.shift();
    return { ok: status === 200, status, blob: async () => new Blob(["face"]) };
  };
  const place = () => ({ workflow: "page", node: "7" });
  return new FaceEditor({ api: { fetchApi }, t: (key) => key, values: () => ({ smile: 0.5 }), place });
}

test("a result out of the cache asks for faces under the run that made it", async () => {
  const asked = [];
  const editor = editorOn([404, 200, 200], asked);
  await editor.refresh();
  assert.equal(editor.status.textContent, "faceIdle");
  await editor.executed({ workflow: "earlier", node: "3" });
  await editor.refresh();
  assert.deepEqual(
    asked.map(({ workflow, node }) => [workflow, node]),
    [["page", "7"], ["earlier", "3"], ["earlier", "3"]],
  );
  assert.equal(editor.image.hidden, false);
  editor.destroy();
});

test("a run of its own shows its face and asks for no other", async () => {
  const asked = [];
  const editor = editorOn([], asked);
  editor.ran("data:image/jpeg;base64,");
  await editor.executed({ workflow: "page", node: "7" });
  assert.deepEqual(asked, []);
});

test("what was asked for while a workflow ran is drawn when it ends", async () => {
  const asked = [];
  const editor = editorOn([409, 200], asked);
  await editor.refresh();
  assert.equal(editor.status.textContent, "faceBusy");
  await editor.runEnded();
  await editor.runEnded();
  assert.equal(asked.length, 2);
  assert.equal(editor.image.hidden, false);
  editor.destroy();
});
