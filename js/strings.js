/** English wording of the front end, and the lookup of its translations. */

/** Every text that the front end shows. `locales/en/main.json` holds the same under the key `mcdm`. */
export const ENGLISH = Object.freeze({
  player: "MCDM video player",
  idle: "The video grows here while the node runs. Drop a portrait or a voice anywhere on this node.",
  idleWhole: "The latest frame shows here while the node runs, then the whole video.",
  preparing: "Preparing",
  clipOf: "Clip {clip} of {clips}",
  resumed: "{count} clips taken over from an earlier run",
  framesOf: "{done} of {frames} frames",
  speed: "{fps} frames/s",
  timeLeft: "{time} left",
  finished: "Finished: {time}, {frames} frames",
  stoppedKept: "Stopped: {time}, {frames} frames kept",
  interrupted: "Interrupted: {count} finished clips kept in {folder}",
  interruptedNone: "Interrupted before the first clip was finished",
  failed: "The run failed: {count} finished clips kept in {folder}",
  failedNone: "The run failed before the first clip was finished",
  play: "Play",
  pause: "Pause",
  mute: "Turn sound off",
  unmute: "Turn sound on",
  stopAndKeep: "Stop and keep",
  stopAndKeepHint: "End soon and hand on what is finished",
  stopping: "Stopping",
  loop: "Play again and again",
  download: "Save the video as a file",
  fullScreen: "Full screen",
  largerPlayer: "Make the player larger",
  smallerPlayer: "Make the player smaller",
  faceEditor: "The face with these sliders",
  faceIdle: "Run the workflow once; then the face follows the sliders.",
  faceBusy: "A workflow is running; the face follows when it has ended.",
  faceFailed: "The face could not be drawn: {reason}",
  noteTitle: "MCDM: please look at this input",
  notRunning: "This node is not running",
  stopFailed: "The stop request failed: {reason}",
  cannotPlay: "The browser cannot play this clip; the file on disk is not affected",
  waiting: "Waiting for the next clip",
  timeline: "Position in the video: waveform and motion curves",
  position: "{time} of {total}",
  lipOpening: "Lips",
  headYaw: "Head turn",
  blink: "Blink",
  choosePortrait: "Choose a portrait",
  chooseVoice: "Choose a voice",
  dropPortrait: "or drop a picture on this node",
  dropVoice: "or drop a sound file on this node",
  uploading: "Uploading {name}",
  linked: "{name} is connected",
  wrongFile: "{name} is neither a picture nor a sound file that this node takes",
  uploadFailed: "{name} could not be uploaded: {reason}",
  noPlace: "No {node} node leads here: add one, connect it, and drop the file again",
  missingCore: "This ComfyUI has no {node} node",
  weightsMissing: "{count} weight files are missing",
  weightsHint: "Download each file, put it into its folder, and run again.",
  weightsFound: "The missing weights have been found",
  weightSource: "Source",
  weightLicence: "Licence",
  weightFolder: "Folder",
  copyName: "Copy name",
  copySource: "Copy source",
  copyFolder: "Copy folder",
  copied: "Copied",
  copyByHand: "Selected: press Ctrl+C or Cmd+C to copy",
});

/** Fill `{name}` places of `text` from `values`; a place without a value stays as it is. */
export function fill(text, values = {}) {
  return text.replace(/\{(\w+)\}/g, (place, name) => (name in values ? String(values[name]) : place));
}

/**
 * The messages for `locale` out of the server's `/i18n` answer: the exact locale, else its language, else English.
 * Only texts that `ENGLISH` knows are taken, so a foreign pack cannot add to them.
 */
export function pickMessages(i18n, locale) {
  const wanted = String(locale || "en");
  const found = i18n?.[wanted]?.mcdm ?? i18n?.[wanted.split("-")[0]]?.mcdm ?? {};
  const messages = { ...ENGLISH };
  for (const key of Object.keys(ENGLISH)) {
    if (typeof found[key] === "string" && found[key]) messages[key] = found[key];
  }
  return messages;
}

/** A translator `t(key, values)` whose messages can be replaced later by `t.use(messages)`. */
export function createTranslator(messages = ENGLISH) {
  let current = messages;
  const t = (key, values) => fill(current[key] ?? ENGLISH[key] ?? key, values);
  t.use = (next) => {
    current = next;
  };
  return t;
}

/** `75.4` becomes `1:15`, or `1:15.4` with `tenths` (rounded); anything unknown or negative becomes zero. */
export function clock(seconds, tenths = false) {
  const known = Number.isFinite(seconds) && seconds > 0 ? seconds : 0;
  const counted = tenths ? Math.round(known * 10 + 1e-6) : 10 * Math.floor(known + 1e-6);
  const whole = Math.floor(counted / 10);
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  const tail = String(whole % 60).padStart(2, "0") + (tenths ? `.${counted % 10}` : "");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${tail}` : `${minutes}:${tail}`;
}
