/** The panel of the Face Editor: the portrait's face, which follows the sliders. */

/** The widgets whose values make the look. */
export const LOOK = ["expression", "strength", "smile", "brows", "eyes", "gaze_x", "gaze_y", "yaw", "pitch", "roll"];
export const EDITOR_HEIGHT = 260;

/**
 * `ask()` calls `work()`, one call at a time: what is asked for meanwhile becomes one more call at the end, so that the
 * last position of a slider is always shown and no queue builds up behind it.
 */
export function latestOnly(work) {
  let running = false;
  let again = false;
  return async function ask() {
    if (running) {
      again = true;
      return;
    }
    running = true;
    try {
      do {
        again = false;
        await work();
      } while (again);
    } finally {
      running = false;
    }
  };
}

export class FaceEditor {
  /** `host`: `{api, t, values(): object, place(): {workflow, node}}`. */
  constructor(host) {
    this.host = host;
    /** The run whose face this is, where it is not the page's own: ComfyUI's cache gave its result. */
    this.made = null;
    /** Whether a face was asked for while a workflow ran. */
    this.waits = false;
    this.element = document.createElement("section");
    this.element.className = "mcdm-face";
    this.element.setAttribute("aria-label", host.t("faceEditor"));
    this.image = document.createElement("img");
    this.image.alt = host.t("faceEditor");
    this.image.hidden = true;
    this.status = document.createElement("div");
    this.status.className = "mcdm-status";
    this.status.setAttribute("role", "status");
    this.say(host.t("faceIdle"));
    this.element.append(this.image, this.status);
    this.refresh = latestOnly(() => this.draw());
  }

  say(text) {
    this.status.textContent = text;
    this.status.hidden = !text;
  }

  /** Show a picture by its address; an address of our own making is given back when the next one comes. */
  show(address, own = false) {
    const old = this.own;
    this.own = own ? address : null;
    this.image.src = address;
    this.image.hidden = false;
    this.say("");
    if (old) URL.revokeObjectURL(old);
  }

  /** A run of this node has sent its face. */
  ran(address) {
    this.made = null;
    this.show(address);
  }

  /** ComfyUI has told the node's result; `made` is the run that it is from. */
  async executed(made) {
    const { workflow, node } = this.host.place();
    if (made.workflow === workflow && made.node === node && !this.image.hidden) return;
    this.made = made;
    await this.refresh();
  }

  /** A run has ended: what had to wait for it is drawn now. */
  async runEnded() {
    if (this.waits) await this.refresh();
  }

  /** Ask the server for the face with the sliders' present values. */
  async draw() {
    const { api, t, values, place } = this.host;
    this.waits = false;
    try {
      const answer = await api.fetchApi("/mcdm/face", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ ...(this.made ?? place()), look: values() }),
      });
      if (answer.ok) return this.show(URL.createObjectURL(await answer.blob()), true);
      this.waits = answer.status === 409;
      this.say(t(this.waits ? "faceBusy" : "faceIdle"));
    } catch (error) {
      this.say(t("faceFailed", { reason: error.message }));
    }
  }

  destroy() {
    if (this.own) URL.revokeObjectURL(this.own);
    this.own = null;
  }
}
