/** Registers the front end of the MCDM nodes. The only file here with side effects; all others only export. */

import { app } from "/scripts/app.js";
import { api } from "/scripts/api.js";
import { acceptOnNode, kindsFor, listenForDrops, makePickers, takeFiles } from "./drop.js";
import { EDITOR_HEIGHT, FaceEditor, LOOK } from "./face_editor.js";
import { nodeOfExecutionId } from "./graph.js";
import { LARGE_HEIGHT, Player, PLAYER_HEIGHT } from "./player.js";
import { PLAYER_EVENTS, Runs } from "./runs.js";
import { createTranslator, pickMessages } from "./strings.js";
import { parseMissingWeights, WeightsPanel } from "./weights.js";

const PLAYER_CLASSES = [
  "MCDMSampleVideo",
  "MCDMSampleClip",
  "MCDMAssembleVideo",
  "MCDMUpscaleVideo",
  "MCDMTalkingPortrait",
  "MCDMDubVideo",
];
const SAMPLER_CLASSES = ["MCDMSampleVideo", "MCDMSampleClip"];
/** A single clip is done in one piece. */
const CANNOT_STOP = ["MCDMSampleClip"];
/** Colours of our sockets and their links. */
const SOCKET_COLOURS = {
  MCDM_MODEL: "#b39ddb",
  MCDM_REFERENCE: "#ffab91",
  MCDM_AUDIO: "#80cbc4",
  MCDM_MEMORY: "#f48fb1",
  MCDM_MOTION: "#fff176",
};
const PICKER_HEIGHT = 100;

const t = createTranslator();
const players = new WeakMap();
const livePlayers = new Set();
const weightPanels = new WeakMap();
const noteLines = new WeakMap();
const faceEditors = new WeakMap();
const liveEditors = new Set();

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

/** Let a node grow to what its widgets ask for. */
function growToFit(node, width = 0) {
  const size = node.computeSize?.();
  if (size) node.setSize?.([Math.max(node.size[0], size[0], width), Math.max(node.size[1], size[1])]);
  node.graph?.setDirtyCanvas?.(true, true);
}

function addPlayer(node) {
  const kinds = kindsFor(node.comfyClass, SAMPLER_CLASSES);
  const say = (text, isError) => player.say(text, isError);
  const take = (files) => takeFiles(node, files, kinds, { api, t, createNode, say });
  const idle = t(kinds.length ? "idle" : "idleWhole");
  let grown = [0, 0];
  const resize = (larger) => {
    const [width, height] = node.size;
    if (larger) {
      node.setSize?.([width + LARGE_HEIGHT - PLAYER_HEIGHT, height]);
      growToFit(node);
      grown = [node.size[0] - width, node.size[1] - height];
    } else {
      // What the person has given the node, before or meanwhile, stays.
      node.setSize?.([width - grown[0], height - grown[1]]);
      growToFit(node);
    }
  };
  const host = { api, t, setting, resize };
  const player = new Player(host, idle, makePickers(kinds, t, take), !CANNOT_STOP.includes(node.comfyClass));
  addPanel(node, "mcdm_player", player.element, () => (player.large ? LARGE_HEIGHT : PLAYER_HEIGHT));
  players.set(node, player);
  livePlayers.add(player);
  onRemoved(node, () => {
    livePlayers.delete(player);
    player.destroy();
  });
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
  noteLines.set(node, say);
  const take = (files) => takeFiles(node, files, kinds, { api, t, createNode, say });
  element.append(...makePickers(kinds, t, take), hint, status);
  addPanel(node, "mcdm_picker", element, () => PICKER_HEIGHT);
  listenForDrops(element, take);
  acceptOnNode(node, take);
}

function addFaceEditor(node) {
  let executionId = null;
  const sliders = () => (node.widgets ?? []).filter(({ name }) => LOOK.includes(name));
  const values = () => Object.fromEntries(sliders().map(({ name, value }) => [name, value]));
  const place = () => ({ workflow: rootGraph()?.id ?? "", node: executionId ?? String(node.id) });
  const editor = new FaceEditor({ api, t, values, place });
  addPanel(node, "mcdm_face", editor.element, () => EDITOR_HEIGHT);
  for (const widget of sliders()) {
    const { callback } = widget;
    widget.callback = function (...args) {
      const result = callback?.apply(this, args);
      editor.refresh();
      return result;
    };
  }
  const take = ({ node: id, image }) => {
    executionId = String(id);
    if (image?.startsWith("data:image/")) editor.ran(image);
  };
  faceEditors.set(node, { editor, take });
  liveEditors.add(editor);
  onRemoved(node, () => {
    liveEditors.delete(editor);
    editor.destroy();
  });
  // A loaded workflow sets its values after the node was made; the server may still know the face of an earlier page.
  setTimeout(() => editor.refresh(), 200);
}

function showFace(detail) {
  const node = runs.isShown(detail.workflow) ? nodeOfExecutionId(rootGraph(), detail.node) : null;
  if (node) faceEditors.get(node)?.take(detail);
}

/** ComfyUI's own `executed` of a Face Editor: the only word of one whose result came out of the cache. */
async function faceExecuted({ node: executed, display_node: displayed, prompt_id: promptId, output }) {
  const made = output?.face?.[0];
  if (!made?.node || !runs.isShown(await runs.workflowOf(promptId))) return;
  const node = nodeOfExecutionId(rootGraph(), displayed ?? executed);
  if (node) await faceEditors.get(node)?.editor.executed(made);
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
  growToFit(node, 380);
  // It grows over what lies below; a neighbour must not hide a part of the list.
  app.canvas?.bringToFront?.(node);
}

/** Show what a model that is not there needs as soon as it is chosen, not only when a run has failed. */
function watchModelChoice(node) {
  const widget = node.widgets?.find(({ name }) => name === "model_name");
  if (!widget) return;
  const show = async () => {
    const { needs = {} } = await runs.ask("/mcdm/info");
    // Another workflow may have been opened meanwhile: a panel on a node that is gone would stay in the page.
    if (node.graph?.getNodeById(node.id) !== node) return;
    const files = needs[widget.value];
    if (files) showMissingWeights(node, files);
    else if (weightPanels.has(node)) removeWeightsPanel(node);
  };
  const { callback } = widget;
  widget.callback = function (...args) {
    show();
    return callback?.apply(this, args);
  };
  // A loaded workflow sets its values after the node was made.
  setTimeout(show);
}

function removeWeightsPanel(node) {
  const index = node.widgets?.findIndex(({ name }) => name === "mcdm_weights") ?? -1;
  if (index < 0) return;
  const [widget] = node.widgets.splice(index, 1);
  widget.onRemove?.();
  widget.element?.remove();
  weightPanels.delete(node);
  node.graph?.setDirtyCanvas?.(true, true);
}

function playerOf(executionId) {
  const node = nodeOfExecutionId(rootGraph(), executionId);
  return node ? players.get(node) : undefined;
}

const runs = new Runs({ api, graphId: () => rootGraph()?.id, playerOf });

function listen() {
  for (const name of [...PLAYER_EVENTS, "frame"]) {
    api.addEventListener(`mcdm.${name}`, ({ detail }) => runs.take(name, detail));
  }
  api.addEventListener("mcdm.face", ({ detail }) => showFace(detail));
  api.addEventListener("mcdm.note", ({ detail }) => showNote(detail));
  api.addEventListener("executed", ({ detail }) => {
    runs.executed(detail ?? {});
    faceExecuted(detail ?? {});
  });
  // The server takes a run off its list a moment after its end, and says so to the page that began it alone.
  const facesRunEnded = () => liveEditors.forEach((editor) => editor.runEnded());
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
    if (executing === null) facesRunEnded();
  });
  // The queue's own events end a run whose last event was lost (page offline, node ended without a word).
  for (const name of ["execution_success", "execution_error", "execution_interrupted"]) {
    api.addEventListener(name, ({ detail }) => {
      if (name === "execution_success") passed();
      executing = null;
      for (const player of livePlayers) if (player.promptId === detail?.prompt_id) player.endRun();
      setTimeout(facesRunEnded, 500);
      const files = parseMissingWeights(detail?.exception_message);
      const node = files && nodeOfExecutionId(rootGraph(), detail.node_id);
      if (node) showMissingWeights(node, files);
    });
  }
}

function showNote({ node: executionId, workflow, text }) {
  app.extensionManager?.toast?.add?.({ severity: "warn", summary: t("noteTitle"), detail: text, life: 12000 });
  const node = runs.isShown(workflow) ? nodeOfExecutionId(rootGraph(), executionId) : null;
  if (node) noteLines.get(node)?.(text);
}

/** Give our sockets and links colours of their own, by the table that ComfyUI's canvas uses for its own types. */
function colourSockets() {
  const tables = [app.canvas?.default_connection_color_byType, globalThis.LGraphCanvas?.link_type_colors];
  for (const table of tables) if (table) Object.assign(table, SOCKET_COLOURS);
}

function addStyles() {
  for (const name of ["mcdm.css", "panels.css"]) {
    const link = document.createElement("link");
    link.rel = "stylesheet";
    link.href = new URL(`./styles/${name}`, import.meta.url).href;
    document.head.append(link);
  }
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
    addStyles();
    listen();
    await loadStrings();
  },
  setup: colourSockets,
  nodeCreated(node) {
    if (PLAYER_CLASSES.includes(node.comfyClass)) return addPlayer(node);
    if (node.comfyClass === "MCDMFaceEditor") return addFaceEditor(node);
    if (node.comfyClass === "MCDMLoadModel") return watchModelChoice(node);
    const kinds = kindsFor(node.comfyClass, []);
    if (kinds.length) addPicker(node, kinds);
  },
  afterConfigureGraph() {
    colourSockets();
    return runs.catchUp();
  },
});
