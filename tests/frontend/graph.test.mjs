import assert from "node:assert/strict";
import test from "node:test";
import { carriesFiles, connectFile, kindOf, kindsFor, takeFiles } from "../../js/drop.js";
import { findUpstream, nodeOfExecutionId } from "../../js/graph.js";
import { createTranslator } from "../../js/strings.js";

/** The few parts of LiteGraph that the front end touches. */
class Graph {
  constructor() { this.nodes = []; this.links = new Map(); this.lastLink = 0; }
  add(node) { node.graph = this; node.id ??= this.nodes.length + 1; this.nodes.push(node); return node; }
  getNodeById(id) { return this.nodes.find((node) => String(node.id) === String(id)) ?? null; }
}
const SCHEMAS = {
  LoadImage: { inputs: [], outputs: ["IMAGE", "MASK"], widgets: ["image"] },
  LoadAudio: { inputs: [], outputs: ["AUDIO"], widgets: ["audio"] },
  MCDMLoadModel: { inputs: [], outputs: ["MCDM_MODEL"], widgets: [] },
  MCDMEncodeReference: { inputs: [["model", "MCDM_MODEL"], ["image", "IMAGE"]], outputs: ["MCDM_REFERENCE", "IMAGE"], widgets: [] },
  MCDMEmbedAudio: { inputs: [["model", "MCDM_MODEL"], ["audio", "AUDIO"]], outputs: ["MCDM_AUDIO"], widgets: [] },
  MCDMPredictMotion: { inputs: [["reference", "MCDM_REFERENCE"], ["speech", "MCDM_AUDIO"]], outputs: ["MCDM_MOTION"], widgets: [] },
  MCDMSampleVideo: {
    inputs: [["model", "MCDM_MODEL"], ["reference", "MCDM_REFERENCE"], ["motion", "MCDM_MOTION"]], outputs: ["VIDEO"], widgets: [],
  },
};
function createNode(className) {
  const schema = SCHEMAS[className];
  if (!schema) return null;
  return {
    comfyClass: className, pos: [0, 0], size: [200, 100],
    inputs: schema.inputs.map(([name, type]) => ({ name, type, link: null })),
    outputs: schema.outputs.map((type) => ({ type })),
    widgets: schema.widgets.map((name) => ({ name, options: { values: ["old"] }, value: "old", calls: [], callback(v) { this.calls.push(v); } })),
    connect(output, target, slot) {
      const id = ++this.graph.lastLink;
      this.graph.links.set(id, { origin_id: this.id, origin_slot: output });
      target.inputs[slot].link = id;
    },
  };
}
function scene() {
  const graph = new Graph();
  const at = {};
  for (const name of ["MCDMLoadModel", "MCDMEncodeReference", "MCDMEmbedAudio", "MCDMPredictMotion", "MCDMSampleVideo"]) {
    at[name] = graph.add(createNode(name));
  }
  at.MCDMLoadModel.connect(0, at.MCDMSampleVideo, 0);
  at.MCDMEncodeReference.connect(0, at.MCDMPredictMotion, 0);
  at.MCDMEmbedAudio.connect(0, at.MCDMPredictMotion, 1);
  at.MCDMPredictMotion.connect(0, at.MCDMSampleVideo, 2);
  return { graph, at };
}

test("execution ids lead through subgraphs, and unknown ones to nothing", () => {
  const root = new Graph();
  const inner = new Graph();
  root.add({ id: 1, subgraph: inner });
  const node = inner.add({ id: 7 });
  assert.equal(nodeOfExecutionId(root, "1:7"), node);
  assert.equal(nodeOfExecutionId(root, 1), root.nodes[0]);
  for (const id of ["9", "9:7", "1:9", "1:7:1"]) assert.equal(nodeOfExecutionId(root, id), null);
  assert.equal(nodeOfExecutionId(undefined, "1"), null);
});

test("kinds of file by media type, else by ending", () => {
  assert.equal(kindOf({ type: "image/png", name: "a" }), "image");
  assert.equal(kindOf({ type: "audio/x-wav", name: "a.png" }), "audio");
  assert.equal(kindOf({ type: "", name: "VOICE.FLAC" }), "audio");
  assert.equal(kindOf({ type: "application/json", name: "a.png" }), null);
  assert.equal(kindOf({ type: "video/mp4", name: "a.mp4" }), null);
  assert.deepEqual(kindsFor("MCDMSampleVideo", ["MCDMSampleVideo"]), ["image", "audio"]);
  assert.deepEqual(kindsFor("MCDMEmbedAudio", []), ["audio"]);
  assert.deepEqual(kindsFor("KSampler", []), []);
  assert.ok(carriesFiles({ dataTransfer: { types: ["Files"] } }) && !carriesFiles({ dataTransfer: { types: ["text/plain"] } }));
});

test("a voice dropped on the sampler reaches the node that embeds it; a second one reuses its loader", () => {
  const { graph, at } = scene();
  const loader = connectFile(at.MCDMSampleVideo, "audio", "a.wav", createNode);
  assert.equal(findUpstream(at.MCDMEmbedAudio, "LoadAudio"), loader);
  assert.deepEqual([loader.widgets[0].value, ...loader.widgets[0].calls], ["a.wav", "a.wav"]);
  assert.deepEqual(loader.widgets[0].options.values, ["old", "a.wav"]);
  const count = graph.nodes.length;
  assert.equal(connectFile(at.MCDMSampleVideo, "audio", "b.wav", createNode), loader);
  assert.equal(graph.nodes.length, count);
  assert.equal(loader.widgets[0].value, "b.wav");
});

test("a portrait on a bare sampler brings its encoder, with the model it already has", () => {
  const { graph, at } = scene();
  at.MCDMSampleVideo.inputs[2].link = null;
  connectFile(at.MCDMSampleVideo, "image", "p.png", createNode);
  const encoder = findUpstream(at.MCDMSampleVideo, "MCDMEncodeReference");
  assert.notEqual(encoder, at.MCDMEncodeReference);
  assert.equal(findUpstream(encoder, "MCDMLoadModel"), at.MCDMLoadModel);
  assert.equal(findUpstream(encoder, "LoadImage").widgets[0].value, "p.png");
  assert.ok(graph.nodes.includes(encoder));
});

test("nodes made by a drop cover no other node", () => {
  const { graph, at } = scene();
  Object.assign(at.MCDMEncodeReference, { pos: [500, 100] });
  Object.assign(at.MCDMEmbedAudio, { pos: [500, 230] });
  connectFile(at.MCDMEncodeReference, "image", "p.png", createNode);
  connectFile(at.MCDMEmbedAudio, "audio", "a.wav", createNode);
  const [one, two] = graph.nodes.slice(-2);
  assert.ok(one.pos[1] + 100 < two.pos[1]);
});

test("no place for a file is said, and nothing is changed", async () => {
  const { graph, at } = scene();
  at.MCDMSampleVideo.inputs[2].link = null;
  const count = graph.nodes.length;
  assert.throws(() => connectFile(at.MCDMSampleVideo, "audio", "a.wav", createNode), { key: "noPlace" });
  assert.equal(graph.nodes.length, count);
});

test("files are uploaded once each; errors of the server and wrong files reach the user", async () => {
  const { at } = scene();
  const said = [];
  const sent = [];
  const tools = (answer) => ({
    t: createTranslator(), createNode, say: (text, isError) => said.push([text, Boolean(isError)]),
    api: { fetchApi: async (path, options) => (sent.push([path, options.body.get("image").name]), answer) },
  });
  const good = { ok: true, json: async () => ({ name: "v.wav", subfolder: "" }) };
  const voice = new File(["x"], "v.wav", { type: "audio/wav" });
  const note = new File(["x"], "n.txt", { type: "text/plain" });
  assert.ok(await takeFiles(at.MCDMEmbedAudio, [note, voice], ["audio"], tools(good)));
  assert.deepEqual(sent, [["/upload/image", "v.wav"]]);
  assert.equal(said[0][1], true);
  assert.deepEqual(said.at(-1), ["v.wav is connected", false]);
  const bad = { ok: false, status: 413, statusText: "Too large" };
  assert.ok(!(await takeFiles(at.MCDMEmbedAudio, [voice], ["audio"], tools(bad))));
  assert.match(said.at(-1)[0], /413 Too large/);
});
