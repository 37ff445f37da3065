/** Registers the front end of the MCDM nodes. The only file here with side effects; all others only export. */

import { app } from "/scripts/app.js";
import { api } from "/scripts/api.js";
import { acceptOnNode, kindsFor, listenForDrops, makePickers, takeFiles } from "./drop.js";
import { nodeOfExecutionId } from "./graph.js";
import { Player, PLAYER_HEIGHT } from "./player.js";
import { createTranslator, pickMessages } from "./strings.js";
import { parseMissingWeights, WeightsPanel } from "./weights.js";

const PLAYER_CLASSES = ["MCDMSampleVideo", "MCDMSampleClip", "MCDMAssembleVideo", "MCDMUpscaleVideo"];
const SAMPLER_CLASSES = ["MCDMSampleVideo", "MCDMSampleClip"];
const EVENTS = ["start", "clip", "done", "failed"];
const PICKER_HEIGHT = 100;

const t = createTranslator();
const players = new WeakMap();
const weightPanels = new WeakMap();
/** Events of the last run by execution id, to fill the players again when the user comes back to a workflow's tab. */
const history = new Map();

const rootGraph = () => app.rootGraph ?? app.graph?.rootGraph ?? app.graph;
const setting = (name) => app.extensionManager?.setting?.get(`MCDM.Player.${name}`);
const createNode = (className) => globalThis.LiteGraph.createNode(className);

/** Add `element` to `node` as a widget that is saved neither in the workflow nor in the prompt. */
function addPanel(node, name, element, height) {
  const widget = node.addDOMWidget(name, name, element, { serialize: false, hideOnZoom: false, getMinHeight: height });
  widget.serialize = false;
  return widget;
}

function onRemoved(node, callback) {
  const previous = node.onRemoved;
  node.onRemoved = function (...args) {
    callback();
    return previous?.apply(this, args);
  };
}

function addPlayer(node) {
  const kinds = kindsFor(node.comfyClass, SAMPLER_CLASSES);
  const say = (text, isError) => player.say(text, isError);
  const take = (files) => takeFiles(node, files, kinds, { api, t, createNode, say });
  const idle = t(kinds.length ? "idle" : "idleWhole");
  const player = new Player({ api, t, setting }, idle, makePickers(kinds, t, take));
  addPanel(node, "mcdm_player", player.element, () => PLAYER_HEIGHT);
  players.set(node, player);
  onRemoved(node, () => player.destroy());
  if (kinds.length) {
    listenForDrops(player.element, take);
    acceptOnNode(node, take);
  }
}

function addPicker(node, kinds) {
  const element = document.createElement("section");
  element.className = "mcdm-picker";
  const hint = document.createElement("span");
  hint.textContent = t(kinds[0] === "image" ? "dropPortrait" : "dropVoice");
  const status = document.createElement("div");
  status.className = "mcdm-status";
  status.setAttribute("role", "status");
  const say = (text, isError = false) => {
    status.textContent = text;
    status.classList.toggle("mcdm-error", isError);
  };
  const take = (files) => takeFiles(node, files, kinds, { api, t, createNode, say });
  element.append(...makePickers(kinds, t, take), hint, status);
  addPanel(node, "mcdm_picker", element, () => PICKER_HEIGHT);
  listenForDrops(element, take);
  acceptOnNode(node, take);
}

function showMissingWeights(node, files) {
  let panel = weightPanels.get(node);
  if (!panel) {
    panel = new WeightsPanel(t);
    weightPanels.set(node, panel);
    panel.show(files);
    addPanel(node, "mcdm_weights", panel.element, () => panel.height());
  } else {
    panel.show(files);
  }
  const size = node.computeSize?.();
  if (size) node.setSize?.([Math.max(node.size[0], size[0], 380), Math.max(node.size[1], size[1])]);
  node.graph?.setDirtyCanvas?.(true, true);
}

function playerOf(executionId) {
  const node = nodeOfExecutionId(rootGraph(), executionId);
  return node ? players.get(node) : undefined;
}

function listen() {
  for (const name of EVENTS) {
    api.addEventListener(`mcdm.${name}`, ({ detail }) => {
      if (!detail?.node) return;
      if (name === "start" || !history.has(detail.node)) history.set(detail.node, { graph: rootGraph()?.id, events: [] });
      history.get(detail.node).events.push([name, detail]);
      playerOf(detail.node)?.handle(name, detail);
    });
  }
  api.addEventListener("mcdm.frame", ({ detail }) => {
    if (detail?.node) playerOf(detail.node)?.handle("frame", detail);
  });
  // A node with a panel that ran without raising again has its weights: the next node begins, or the run succeeds.
  let executing = null;
  const passed = () => {
    const node = executing ? nodeOfExecutionId(rootGraph(), executing) : null;
    if (node) weightPanels.get(node)?.show([]);
    executing = null;
  };
  api.addEventListener("executing", ({ detail }) => {
    passed();
    executing = (typeof detail === "object" ? detail?.node : detail) ?? null;
  });
  // The queue's own events end a run whose last event was lost (page offline, node ended without a word).
  for (const name of ["execution_success", "execution_error", "execution_interrupted"]) {
    api.addEventListener(name, ({ detail }) => {
      if (name === "execution_success") passed();
      executing = null;
      for (const [executionId, run] of history) {
        run.over = true;
        playerOf(executionId)?.endRun();
      }
      const files = parseMissingWeights(detail?.exception_message);
      const node = files && nodeOfExecutionId(rootGraph(), detail.node_id);
      if (node) showMissingWeights(node, files);
    });
  }
}

function addStyle() {
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = new URL("./mcdm.css", import.meta.url).href;
  document.head.append(link);
}

async function loadStrings() {
  try {
    const answer = await api.fetchApi("/i18n");
    if (answer.ok) t.use(pickMessages(await answer.json(), app.extensionManager?.setting?.get("Comfy.Locale")));
  } catch (error) {
    console.warn("MCDM: texts stay in English:", error);
  }
}

app.registerExtension({
  name: "mcdm.talkingface",
  settings: [
    {
      id: "MCDM.Player.Autoplay",
      category: ["MCDM", "MCDM Player", "Autoplay"],
      name: "Play clips as soon as they are finished",
      tooltip: "Off: the player waits for the play button. Systems that ask for reduced motion never play by themselves.",
      type: "boolean",
      defaultValue: true,
    },
    {
      id: "MCDM.Player.Muted",
      category: ["MCDM", "MCDM Player", "Muted"],
      name: "Begin without sound",
      tooltip: "The speaker button on the player turns the sound on.",
      type: "boolean",
      defaultValue: true,
    },
  ],
  async init() {
    addStyle();
    listen();
    await loadStrings();
  },
  nodeCreated(node) {
    if (PLAYER_CLASSES.includes(node.comfyClass)) return addPlayer(node);
    const kinds = kindsFor(node.comfyClass, []);
    if (kinds.length) addPicker(node, kinds);
  },
  afterConfigureGraph() {
    const graph = rootGraph();
    for (const [executionId, run] of history) {
      const player = run.graph === graph?.id ? playerOf(executionId) : undefined;
      if (!player || player.executionId !== null) continue;
      for (const [name, data] of run.events) player.handle(name, data);
      if (run.over) player.endRun();
    }
  },
});
