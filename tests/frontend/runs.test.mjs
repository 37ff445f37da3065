import assert from "node:assert/strict";
import test from "node:test";
import { Runs } from "../../js/runs.js";

/** A page that shows workflow `graph`, with players by node id and a server that answers by path. */
function page(graph, players, answers = {}) {
  const asked = [];
  const fetchApi = async (path) => {
    asked.push(path);
    const found = Object.entries(answers).find(([begin]) => path.startsWith(begin));
    return { ok: Boolean(found), json: async () => found?.[1] ?? {} };
  };
  const host = { api: { fetchApi }, graphId: () => graph.id, playerOf: (id) => players[String(id).split(".")[0]] };
  return { runs: new Runs(host), asked };
}

const player = () => ({
  seq: -1, running: false, got: [], file: null,
  handle(name, data) { this.got.push([name, data.node]); },
  shows(file) { return this.file === file.filename; },
  address: (file) => file.filename,
});

const event = (seq, workflow, extra = {}) => ({ node: "7", workflow, prompt_id: `p of ${workflow}`, seq, ...extra });

test("a run of another workflow with the same node ids leaves the players alone", () => {
  const seven = player();
  const { runs } = page({ id: "A" }, { 7: seven });
  runs.take("start", event(1, "B"));
  assert.deepEqual(seven.got, []);
  runs.take("start", event(2, "A"));
  runs.take("clip", event(3, "A"));
  assert.deepEqual(seven.got, [["start", "7"], ["clip", "7"]]);
});

test("what a node has expanded into plays on that node", () => {
  const seven = player();
  const { runs } = page({ id: "A" }, { 7: seven });
  runs.take("start", event(1, "A", { node: "7.0.0.4" }));
  assert.equal(seven.got.length, 1);
});

test("after a reload the server tells what has happened; what came live meanwhile is not taken twice", async () => {
  const seven = player();
  const told = { runs: [[["start", event(1, "A")], ["clip", event(2, "A")], ["clip", event(3, "A")]]] };
  const { runs } = page({ id: "A" }, { 7: seven }, { "/mcdm/runs?workflow=A": told });
  const telling = runs.catchUp();
  runs.take("clip", event(3, "A"));
  assert.equal(seven.got.length, 0, "a live event waits for what was before it");
  await telling;
  assert.equal(seven.got.length, 3);
  runs.take("clip", event(4, "A"));
  assert.equal(seven.got.length, 4);
});

test("a cached result fills an empty player from the run that made it", async () => {
  const seven = player();
  const file = { filename: "v.mp4", subfolder: "mcdm", type: "output" };
  const answers = {
    "/mcdm/workflow": { workflow: "A" },
    "/mcdm/runs?filename=v.mp4": { runs: [[["start", event(1, "B")], ["done", event(2, "B", file)]]] },
  };
  const { runs } = page({ id: "A" }, { 7: seven }, answers);
  await runs.executed({ node: "7", display_node: "7", prompt_id: "p", output: { video: [file] } });
  assert.deepEqual(seven.got.map(([name]) => name), ["start", "done"]);
  seven.file = "v.mp4";
  await runs.executed({ node: "7", display_node: "7", prompt_id: "p", output: { video: [file] } });
  assert.equal(seven.got.length, 2, "it is shown already");
});

test("a cached result of another workflow is not shown", async () => {
  const seven = player();
  const { runs, asked } = page({ id: "A" }, { 7: seven }, { "/mcdm/workflow": { workflow: "B" } });
  await runs.executed({ node: "7", prompt_id: "p", output: { video: [{ filename: "v.mp4" }] } });
  assert.equal(seven.got.length, 0);
  assert.equal(asked.length, 1);
});
