/** A picture or a sound dropped on a node: upload it and connect it by ComfyUI's own LoadImage or LoadAudio. */

import { addBefore, choose, feedFrom, findUpstream, inputSlot } from "./graph.js";

/** What a kind of file becomes: the node that takes it, its input, the core node that loads it and that one's widget. */
export const ROUTES = Object.freeze({
  image: { target: "MCDMEncodeReference", input: "image", loader: "LoadImage", widget: "image", accept: "image/*" },
  audio: { target: "MCDMEmbedAudio", input: "audio", loader: "LoadAudio", widget: "audio", accept: "audio/*" },
});

const ENDINGS = {
  image: /\.(png|jpe?g|webp|bmp|gif|avif)$/i,
  audio: /\.(wav|mp3|flac|ogg|opus|m4a|aac)$/i,
};

/** "image", "audio" or null, by the media type and, where the browser gives none, by the file's ending. */
export function kindOf(file) {
  for (const kind of Object.keys(ROUTES)) {
    if (file.type?.startsWith(`${kind}/`)) return kind;
  }
  if (file.type && file.type !== "application/octet-stream") return null;
  return Object.keys(ENDINGS).find((kind) => ENDINGS[kind].test(file.name ?? "")) ?? null;
}

/** Kinds of file that a node class takes. */
export function kindsFor(className, playerClasses) {
  if (playerClasses.includes(className)) return Object.keys(ROUTES);
  return Object.keys(ROUTES).filter((kind) => ROUTES[kind].target === className);
}

/** Whether a drag carries files at all; during a drag the browser shows kinds but no names. */
export function carriesFiles(event) {
  const types = event.dataTransfer?.types;
  return types ? Array.from(types).includes("Files") : false;
}

/** Upload into ComfyUI's input folder; the answer is the value for the loader's widget. */
export async function upload(api, file) {
  const body = new FormData();
  body.append("image", file, file.name);
  const answer = await api.fetchApi("/upload/image", { method: "POST", body });
  if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
  const { name, subfolder } = await answer.json();
  return subfolder ? `${subfolder}/${name}` : name;
}

/**
 * Put an uploaded file `value` in front of `node`. Returns the loader node.
 * Throws an Error whose `key` is the message to show when there is no place for it.
 */
export function connectFile(node, kind, value, createNode) {
  const route = ROUTES[kind];
  const refuse = (key, name) => Object.assign(new Error(key), { key, values: { node: name } });
  const target = findUpstream(node, route.target) ?? addBefore(node, route.target, createNode);
  if (!target) throw refuse("noPlace", route.target);
  const loader = feedFrom(target, inputSlot(target, route.input), route.loader, createNode);
  if (!loader || !choose(loader, route.widget, value)) throw refuse("missingCore", route.loader);
  return loader;
}

/**
 * Take `files` onto `node`: one of each kind in `kinds`. `say(text, isError)` reports to the user.
 * Returns whether at least one file was of use.
 */
export async function takeFiles(node, files, kinds, { api, t, createNode, say }) {
  let used = false;
  for (const file of files) {
    const kind = kindOf(file);
    if (!kinds.includes(kind)) {
      say(t("wrongFile", { name: file.name }), true);
      continue;
    }
    say(t("uploading", { name: file.name }));
    let value;
    try {
      value = await upload(api, file);
    } catch (error) {
      say(t("uploadFailed", { name: file.name, reason: error.message }), true);
      continue;
    }
    const graph = node.graph;
    graph?.beforeChange?.();
    try {
      connectFile(node, kind, value, createNode);
      say(t("linked", { name: file.name }));
      used = true;
    } catch (error) {
      if (!error.key) throw error;
      say(t(error.key, error.values), true);
    } finally {
      graph?.afterChange?.();
      graph?.setDirtyCanvas?.(true, true);
    }
  }
  return used;
}

/** Buttons that open a file dialog: the way in for those who cannot drag. `take(files)` receives the choice. */
export function makePickers(kinds, t, take) {
  return kinds.map((kind) => {
    const input = document.createElement("input");
    input.type = "file";
    input.accept = ROUTES[kind].accept;
    input.hidden = true;
    input.addEventListener("change", () => {
      take([...input.files]);
      input.value = "";
    });
    const button = document.createElement("button");
    button.type = "button";
    button.className = "mcdm-button mcdm-pick";
    button.textContent = t(kind === "image" ? "choosePortrait" : "chooseVoice");
    button.addEventListener("pointerdown", (event) => event.stopPropagation());
    button.addEventListener("click", (event) => {
      event.stopPropagation();
      input.click();
    });
    const holder = document.createElement("span");
    holder.append(button, input);
    return holder;
  });
}

/** Let `element` take dropped files, showing it by a class while a file is over it. */
export function listenForDrops(element, take) {
  const mark = (on) => element.classList.toggle("mcdm-over", on);
  element.addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    event.stopPropagation();
    event.dataTransfer.dropEffect = "copy";
    mark(true);
  });
  element.addEventListener("dragleave", () => mark(false));
  element.addEventListener("drop", (event) => {
    mark(false);
    if (!carriesFiles(event)) return;
    event.preventDefault();
    event.stopPropagation();
    take([...event.dataTransfer.files]);
  });
}

/** Let the whole `node` take dropped files, by the per-node callbacks that ComfyUI's own loaders use. */
export function acceptOnNode(node, take) {
  const { onDragOver, onDragDrop } = node;
  node.onDragOver = function (event) {
    return carriesFiles(event) || Boolean(onDragOver?.call(this, event));
  };
  node.onDragDrop = async function (event) {
    const files = [...(event.dataTransfer?.files ?? [])];
    if (!files.length) return (await onDragDrop?.call(this, event)) ?? false;
    await take(files);
    return true;
  };
}
