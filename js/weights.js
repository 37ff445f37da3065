/** Shows weight files that are missing: name, source, licence and folder, each to copy. */

const MARKER = "MCDM-MISSING-WEIGHTS:";

/** The list of missing files at the end of an error message, or null when the error is about something else. */
export function parseMissingWeights(message) {
  const at = String(message ?? "").indexOf(MARKER);
  if (at < 0) return null;
  const text = message.slice(at + MARKER.length).trim();
  const end = text.lastIndexOf("}");
  try {
    const { files } = JSON.parse(text.slice(0, end + 1));
    if (!Array.isArray(files) || !files.length) return null;
    return files.map(({ name = "", source = "", licence = "", folder = "" }) => ({ name, source, licence, folder }));
  } catch {
    return null;
  }
}

/** Only web addresses become links; anything else is shown as plain text. */
export function isLink(source) {
  return /^https:\/\/[^\s]+$/i.test(source);
}

/**
 * Copy `text`; where the page may not use the clipboard (plain http), select `element`'s text for the user to copy.
 * Returns whether it was copied.
 */
export async function copyText(text, element) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const range = document.createRange();
    range.selectNodeContents(element);
    const selection = document.getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
    return false;
  }
}

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

export class WeightsPanel {
  constructor(t) {
    this.t = t;
    this.element = make("section", "mcdm-weights");
    this.heading = make("strong", "");
    this.hint = make("p", "");
    this.list = make("div", "mcdm-files");
    this.status = make("div", "mcdm-status");
    this.status.setAttribute("role", "status");
    this.heading.id = `mcdm-weights-${Math.random().toString(36).slice(2)}`;
    this.element.setAttribute("aria-labelledby", this.heading.id);
    this.element.append(this.heading, this.hint, this.list, this.status);
    this.element.addEventListener("pointerdown", (event) => event.stopPropagation());
  }

  /** Show `files`; an empty list says that they have been found. */
  show(files) {
    const t = this.t;
    this.element.classList.toggle("mcdm-found", !files.length);
    this.heading.textContent = files.length ? t("weightsMissing", { count: files.length }) : t("weightsFound");
    this.hint.textContent = files.length ? t("weightsHint") : "";
    this.status.textContent = "";
    this.list.replaceChildren(...files.map((file) => this.card(file)));
  }

  card(file) {
    const t = this.t;
    const card = make("div", "mcdm-file");
    const name = make("code", "mcdm-name", file.name);
    const rows = make("dl", "");
    const source = isLink(file.source) ? make("a", "", file.source) : make("span", "", file.source);
    if (isLink(file.source)) Object.assign(source, { href: file.source, target: "_blank", rel: "noopener noreferrer" });
    const folder = make("code", "", file.folder);
    for (const [key, value] of [
      ["weightSource", source],
      ["weightLicence", make("span", "", file.licence)],
      ["weightFolder", folder],
    ]) {
      const cell = make("dd", "");
      cell.append(value);
      rows.append(make("dt", "", t(key)), cell);
    }
    const buttons = make("div", "mcdm-copies");
    for (const [key, text, element] of [
      ["copyName", file.name, name],
      ["copySource", file.source, source],
      ["copyFolder", file.folder, folder],
    ]) {
      if (!text) continue;
      const button = make("button", "mcdm-button", t(key));
      button.type = "button";
      button.setAttribute("aria-label", `${t(key)}: ${file.name}`);
      button.addEventListener("click", async () => {
        this.status.textContent = t((await copyText(text, element)) ? "copied" : "copyByHand");
      });
      buttons.append(button);
    }
    card.append(name, rows, buttons);
    return card;
  }

  /** Height in pixels that the panel asks for. */
  height() {
    const count = this.list.childElementCount;
    return count ? 110 + 130 * Math.min(count, 2) : 60;
  }
}
